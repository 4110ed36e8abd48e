"""`kerastl distill`: have a small network learn what a large one answers."""

from typing import Any

import click

from kerastl_cli import output
from kerastl_cli.options import options_of, out_options, settings
from kerastl_cli.progress import Progress
from kerastl_cli.start import start_tensorflow


@click.command(
    short_help="Have a small network learn what a large one answers.",
    epilog="Example: kerastl distill saved_models/flowers-efficientnet_b3 flowers/ "
    "--student mobilenet_v3_small --unlabelled more_flowers/",
)
@click.argument("teacher", type=click.Path())
@click.argument("data", type=click.Path())
@click.option(
    "--and-teacher",
    "others",
    type=click.Path(),
    multiple=True,
    help="One more teacher, as often as you like: the mean of their answers is learnt.",
)
@options_of(settings.DistillSettings, without=("backbone",))
@out_options()
def distill(
    teacher: str,
    data: str,
    others: tuple[str, ...],
    out: str | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Have --student learn what TEACHER, a run folder or a .keras file, answers to DATA.

    DATA is as for tune, with the classes of the teacher. The teacher answers each example once,
    prepared as its run says. Where there are labels they are learnt too; of the examples in
    --unlabelled, as predict takes them, the answers alone.

    The run folder is that of tune. Its tables have the teacher, the student's probe, which is what
    a regression on labels alone gives, and the trained student. A run that was stopped goes on when
    the same command is given again.
    """
    start_tensorflow()
    from kerastl import distill as run

    teachers = [teacher, *others]
    with Progress() as progress:
        result = run(teachers, data, out, progress=progress, overwrite=overwrite, **options)
    if as_json:
        output.print_json({**result.metrics, "folder": str(result.folder)})
        return
    output.notices(result.metrics["notices"])
    output.metrics_table(result.metrics, result.folder)
    _beside_teacher(result.metrics)


def _beside_teacher(metrics):
    """The table of the student beside its teacher."""
    told, further = metrics["teacher"], metrics["unlabelled"]
    rows = [
        ("of the teacher", output.score(told["score"], metrics), f"{told['num_weights']:,}"),
        ("of the student", output.score(metrics["score"], metrics), f"{metrics['num_weights']:,}"),
    ]
    more = f", and {further['num_examples']} without labels" if further else ""
    title = f"{', '.join(told['names'])} taught {metrics['num_train']} {metrics['examples']}{more}"
    output.print_table(title, ("", output.score_name(metrics), "weights"), rows)

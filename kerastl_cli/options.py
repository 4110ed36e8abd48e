"""Options of the command line, made from the fields of the settings."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import click

from kerastl_cli.beside import beside

settings = beside("tasks.settings")


def options_of(cls: type, *, without: Collection[str] = ()) -> Callable[[Any], Any]:
    """Decorator that gives a command an option for each field of the settings class `cls`.

    Args:
        cls: A dataclass of `tasks.settings`.
        without: Names of fields that get none.
    """
    fields = [field for field in _in_order(cls) if field.name not in without]

    def decorate(command):
        for field in reversed(fields):
            command = _option(field)(command)
        return command

    return decorate


def _in_order(cls):
    """The fields of `cls` in their order, those on how data are read last."""
    last = {field.name for field in dataclasses.fields(settings.ReadSettings)}
    return sorted(dataclasses.fields(cls), key=lambda field: field.name in last)


def _option(field):
    said, name = field.metadata, f"--{field.name.replace('_', '-')}"
    if field.default is False:
        return click.option(name, is_flag=True, help=said["help"])
    shown = field.default is not None and said["count"] is None
    return click.option(
        name,
        type=_type(field),
        nargs=said["count"] or 1,
        default=field.default,
        show_default=shown,
        help=said["help"],
        callback=_none_by_name if field.name == "weights" else None,
    )


class _Words(click.Choice):
    """One of several words; `few-shot` is `few_shot`, too."""

    def convert(self, value, param, ctx):
        return super().convert(str(value).replace("-", "_"), param, ctx)


def _type(field):
    """What click makes of the words given; the range is checked by the settings themselves."""
    if field.metadata["choices"]:
        return _Words(list(field.metadata["choices"]))
    if field.metadata["count"]:
        return int
    kinds = {"int": int, "float": float}
    named = getattr(field.type, "__name__", str(field.type)).split(" | ")[0]
    return kinds.get(named, str)


def _none_by_name(context, option, value):
    return None if value.lower() == "none" else value


def out_options(
    what: str = "Run folder.", default: str = "a new one in saved_models"
) -> Callable[[Any], Any]:
    """`--out`, `--overwrite` and `--json`, of verbs that write something."""

    def decorate(command):
        out = click.option("--out", type=click.Path(), help=f"{what}  [default: {default}]")
        overwrite = click.option("--overwrite", is_flag=True, help="Replace what lies at --out.")
        return out(overwrite(json_option(command)))

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
input_range_option = click.option("--input-range", type=float, nargs=2, help=settings.TAKES)

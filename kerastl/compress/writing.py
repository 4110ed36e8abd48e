"""What a compression writes down besides its device files."""

import dataclasses
import importlib.metadata

from kerastl.data import write_skipped
from kerastl.report import draw_stages

PACKAGES = (
    "kerastl",
    "tensorflow",
    "keras",
    "tf-keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
)


def write_run(run, model, finished, images, config, histories):
    """Write all but the device files and what was measured.

    Args:
        run: `RunFolder`.
        model: The Keras model after all stages.
        finished: `Finished`, where it came from.
        images: `ImageData`.
        config: `CompressConfig`.
        histories: Dict from stage to the history of its training.
    """
    model.save(run.file("model.keras"))
    run.write_lines("labels.txt", images.class_names)
    run.write_json(
        "config.json",
        {
            "config": dataclasses.asdict(config),
            "source": str(finished.path.resolve()),
            "split_seed": config.seed if finished.seed is None else finished.seed,
            "image_size": images.image_size,
            "resize": images.resize,
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "history": histories,
        },
    )
    if images.skipped:
        write_skipped(run.file("skipped.csv"), images.skipped)


def lost(rows, config):
    """Lines that say so where the last file lost more than it might on the pictures held out."""
    before, last = [row for row in rows if row["name"] != "qat"][-2:]
    drop = before["accuracy"] - last["accuracy"]
    if drop <= config.max_drop:
        return []
    return [
        f"model.tflite loses {100 * drop:.1f} points of accuracy on the pictures held out, more "
        f"than the {100 * config.max_drop:.1f} it may, which was judged on other pictures."
    ]


def draw(run, rows, finished, images):
    """Draw `stages.png`."""
    count = len(images.test)
    title = f"{finished.name}: accuracy on {count} pictures held out, against bytes"
    known = [{**row, "num_examples": count} for row in rows]
    draw_stages(known, run.file("stages.png"), title=title)

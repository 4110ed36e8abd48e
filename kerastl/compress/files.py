"""The device file that a compression ends with."""

from kerastl import export
from kerastl.tune.device_file import some_of
from kerastl.tune.file_rows import rung_name


def write_int8(run, model, trail, images, config):
    """Write `model.tflite` in 8 bits into `run`, and add it to `trail`.

    Args:
        run: `RunFolder`.
        model: The Keras model after all stages.
        trail: `Trail` of the stages.
        images: `ImageData`.
        config: `CompressConfig`.

    Returns:
        List of lines for the user.

    Raises:
        RuntimeError: If no file keeps the accuracy.
    """
    path = run.file("model.tflite")
    if config.qat:
        name, notices = "int8", []
        export.to_litert(model, path, quantization="int8", labels=images.class_names)
    else:
        name, notices = _within(path, model, images, config)
    trail.add_file(name, path, model)
    return notices


def _within(path, model, images, config):
    """Write the first file of the ladder that keeps the accuracy; its name, and what to say."""
    judged = images.val if len(images.val) else images.train
    ladder = export.to_litert_within(
        model,
        path,
        *some_of(judged),
        max_drop=config.max_drop,
        representative_data=some_of(images.train),
        class_names=images.class_names,
    )
    chosen = ladder.chosen
    if chosen.name == "int8":
        return "int8", []
    kept = [entry.layer for entry in chosen.kept]
    notice = f"int8 lost more than {config.max_drop:g} of the accuracy. Taken: {ladder.verdict()}"
    if kept:
        notice += f" In float: {', '.join(kept)}."
    return rung_name(chosen), [notice]

"""`export_model`: a finished model in, a device file that was measured beside the float one out."""

import dataclasses
import os
import pathlib
import tempfile

import numpy as np

from kerastl import export
from kerastl.compression.quantize import is_quantized
from kerastl.export.calibration import expected_ranges
from kerastl.export.naming import graph_of
from kerastl.recipes.device_files import Entry, file_rows, in_turn, rung_name, sizes_of, some_of
from kerastl.recipes.finished import open_finished, read_pictures
from kerastl.recipes.run_folder import Silent
from kerastl.recipes.settings import LADDERS, ExportConfig


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What was written, and what it gives and costs.

    Attributes:
        path: String.
        rows: List of dicts as `file_rows` gives them, of the float32 file and of this one; empty
            for other formats than LiteRT. Accuracy and agreement are None without data.
        ladder: `export.Ladder` with `max_drop`, else None.
        judged_on: String, the pictures that the ladder judged on, or None.
        notices: List of lines for the user.
    """

    path: str
    rows: list
    ladder: object = None
    judged_on: str | None = None
    notices: list = dataclasses.field(default_factory=list)


def export_model(
    model, out=None, *, data=None, config=None, progress=None, overwrite=False, **settings
):
    """Write the model of a run as a file for a device, and measure it beside the float32 file.

    int8 is calibrated on training pictures; accuracy is that on the pictures held out. With
    `max_drop` the ways to quantize are judged on `val/` where `data` has one, else on the
    pictures held out.

    Args:
        model: A run folder or a `.keras` file.
        out: File to write, a folder for a SavedModel. None puts it beside the model.
        data: Folder of pictures as `fine_tune` takes it. int8, int16x8 and `max_drop` need it.
        config: `ExportConfig`. None makes one from `settings`.
        progress: Object with the methods of `tune.progress.Silent`; None for silence.
        overwrite: Boolean, whether what lies at `out` is replaced.
        **settings: Fields of `ExportConfig`, such as `quantize="int8", max_drop=0.01`.

    Returns:
        `ExportResult`.

    Raises:
        ValueError, OSError: For settings, a model or data that cannot be used.
        RuntimeError: If no file keeps the accuracy, or one does not repeat the model. In each case
            nothing is written.
    """
    if config is not None and settings:
        raise ValueError(f"Give either `config` or settings. Received both: {sorted(settings)}")
    config = config or ExportConfig(**settings)
    progress = progress or Silent()
    progress.stage("Loading the model")
    finished = open_finished(model)
    config.check_data(data, has_ranges=is_quantized(finished.model))
    out = free(out or default_out(finished.path, config), config, overwrite)
    if config.format != "litert":
        return _portable(finished, out, config, progress)
    images = None
    if data is not None:
        progress.stage("Reading pictures")
        images = read_pictures(finished, data, seed=config.seed, progress=progress.count)
    return _litert(finished, images, out, config, progress)


def _litert(finished, images, out, config, progress):
    labels = finished.labels if images is None else images.class_names
    keep_labels(out, labels)
    notices = _notices(finished) if images else []
    with tempfile.TemporaryDirectory() as work:
        progress.stage("Converting to float32, to compare with")
        files = _float_file(finished, work)
        progress.stage(f"Writing and checking {out.name}")
        ladder, judged_on = _written(finished.model, images, out, labels, config)
        progress.stage("Measuring")
        name = rung_name(ladder.chosen) if ladder else config.quantization or out.name
        files[name] = str(out)
        measure = _made_up_rows if images is None else _rows
        rows = measure(files, images)
    return ExportResult(str(out), rows, ladder, judged_on, notices)


def _float_file(finished, work):
    """The network in float32 as a dict from name to path, empty where it cannot be had."""
    if not is_quantized(finished.model):
        path = os.path.join(work, "float.tflite")
        return {"float32": export.to_litert(finished.model, path)}
    beside = finished.path.with_name("float.tflite")  # what was trained with rounding has no other
    return {"float32": str(beside)} if beside.is_file() else {}


def _written(model, images, out, labels, config):
    """Write the file; return the `Ladder` and what it judged on, or twice None."""
    calibration = None
    if images is not None and config.quantization and not is_quantized(model):
        calibration = some_of(images.train)
    if config.max_drop is None:
        export.to_litert(
            model,
            out,
            quantization=config.quantization,
            io_dtype=config.io_dtype,
            representative_data=calibration,
            labels=labels,
        )
        return None, None
    judged_on = "val/" if len(images.val) else "the pictures held out"
    ladder = export.to_litert_within(
        model,
        out,
        *some_of(images.val if len(images.val) else images.test),
        max_drop=config.max_drop,
        representative_data=calibration,
        ladder=LADDERS[config.quantize],
        class_names=labels,
    )
    return ladder, judged_on


def _portable(finished, out, config, progress):
    progress.stage(f"Writing and checking {out.name}")
    write = export.to_onnx if config.format == "onnx" else export.to_saved_model
    return ExportResult(write(finished.model, out), [])


def _rows(files, images):
    entries = [Entry.of_file(name, path) for name, path in files.items()]
    return file_rows(entries, images.test.images, images.test.labels)


def _made_up_rows(files, _):
    """Rows without accuracy: nobody gave pictures to measure it on."""
    runners = [export.LiteRTModel(path, threads=1) for path in files.values()]
    example = {tensor.name: _zeros(tensor) for tensor in runners[0].inputs}
    times = in_turn(runners, example)
    unknown = {"accuracy": None, "agreement": None, "max_abs_error": None}
    return [
        {"name": name, **unknown, **sizes_of(path), "ms": time}
        for (name, path), time in zip(files.items(), times, strict=True)
    ]


def _zeros(tensor):
    return np.zeros([size or 1 for size in tensor.shape], tensor.dtype)


def _notices(finished):
    """What a user whose pictures are prepared outside the model must know."""
    if is_quantized(finished.model) or expected_ranges(graph_of(finished.model)):
        return []
    return [
        f"{finished.path} has no layer that rescales pixels: it was measured on pixels 0 to 255."
    ]


ENDINGS = {"litert": ".tflite", "onnx": ".onnx", "saved_model": ""}


def default_out(path, config):
    """The path beside the model at `path` that says what the file is."""
    stem = path.with_suffix("")
    if config.format == "saved_model":
        return stem.with_name(f"{stem.name}-saved_model")
    kind = "" if config.format == "onnx" else f"-{config.quantization or 'float'}"
    return stem.with_name(f"{stem.name}{kind}{ENDINGS[config.format]}")


def free(out, config, overwrite):
    """`out` as a path that may be written; told before any work.

    Raises:
        ValueError: If it has not the ending of its format.
        FileExistsError: If something is there and is not to be replaced.
        OSError: If one may not write there.
    """
    out, ending = pathlib.Path(out), ENDINGS[config.format]
    if not out.name.endswith(ending):
        raise ValueError(f"`out` must end in {ending} (--out). Received: out={str(out)!r}")
    if not os.access(out.resolve().parent, os.W_OK | os.X_OK):
        raise OSError(f"{out} cannot be written: {out.parent} is no folder one may write in.")
    if os.path.lexists(out) and not overwrite:
        raise FileExistsError(
            f"{out} exists already. Pass --overwrite to replace it, or choose another with --out."
        )
    return out


def keep_labels(out, labels):
    """Refuse to put `labels` beside `out` where other ones lie.

    Raises:
        FileExistsError: If they do.
    """
    file = out.with_name("labels.txt")
    if labels is None or not file.is_file():
        return
    if tuple(file.read_text(encoding="utf-8").splitlines()) != tuple(labels):
        raise FileExistsError(
            f"{file} holds other classes than the model's, whose names lie beside its file. "
            "Choose another folder with --out."
        )

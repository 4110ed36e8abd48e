"""Where an export goes: a path that is free, and says what lies there."""

import os
import pathlib

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

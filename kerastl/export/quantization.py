"""The ways to quantize a file, and what each of them asks for."""

import dataclasses
from typing import Literal, TypeAlias

from kerastl._base.checks import listed, one_of
from kerastl.compression.quantize import ranges_of
from kerastl.export.naming import AnyModel

# Keys of `MODES` beside None, and the dtypes that one or another allows at the ends of a file.
Quantization: TypeAlias = Literal["float16", "dynamic", "int8", "int16x8"]
IoDtype: TypeAlias = Literal["float32", "int8", "uint8", "int16"]


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way to quantize.

    Args:
        io_dtypes: Tuple of the dtypes that the file's inputs and outputs may have.
        calibrated: Bool, whether activations are quantized too, so that their ranges
            must be measured on data.
        arithmetic: Dtype of the activations.
        floor_db: Float, decibels of signal over error that every sound file has; far below it
            the weights are lost. See `verify.check_outputs`.
    """

    io_dtypes: tuple[str, ...]
    calibrated: bool
    arithmetic: str
    floor_db: float


MODES = {
    None: Mode(("float32",), False, "float32", 60.0),
    "float16": Mode(("float32",), False, "float32", 30.0),
    "dynamic": Mode(("float32",), False, "float32", 5.0),
    "int8": Mode(("float32", "int8", "uint8"), True, "int8", 5.0),
    "int16x8": Mode(("float32", "int16"), True, "int16", 5.0),
}


def checked(quantization: Quantization | None, io_dtype: IoDtype) -> "Mode":
    """The `Mode` called `quantization`.

    Raises:
        ValueError: If there is none, or its files cannot have inputs of `io_dtype`.

    Example:
        >>> checked("dynamic", "int8")
        Traceback (most recent call last):
        ValueError: `io_dtype` must be one of float32 with quantization='dynamic'. \
Received: io_dtype='int8'. A file with int8 inputs needs quantization='int8'.
    """
    mode = MODES[one_of(quantization, tuple(MODES), "quantization")]
    if io_dtype not in mode.io_dtypes:
        raise ValueError(
            f"`io_dtype` must be one of {listed(mode.io_dtypes)} with "
            f"quantization={quantization!r}. Received: io_dtype={io_dtype!r}.{_hint(io_dtype)}"
        )
    return mode


def require_int8(graph: AnyModel, quantization: Quantization | None) -> None:
    """Refuse to write a model from `quantize_aware` in other numbers than it learned to use.

    Raises:
        ValueError: If `graph` is one, and `quantization` not `"int8"`.
    """
    if quantization != "int8" and ranges_of(graph):
        raise ValueError(
            "`quantization` must be 'int8' for a model from `quantize_aware`, which learned to "
            f"compute so. Received: quantization={quantization!r}. For another file bring what it "
            "learned back by `compression.restore(quantized, model)` and export that model."
        )


def require_float(graph: AnyModel) -> None:
    """Refuse to look for the best numbers for a model from `quantize_aware`, which has them.

    Raises:
        ValueError: If `graph` is one.
    """
    if ranges_of(graph):
        raise ValueError(
            "`model` must be a float one for a ladder of quantizations. Received: "
            f"{graph.name!r}, a model from `quantize_aware`. Write it with "
            "`to_litert(model, path, quantization='int8')`."
        )


def _hint(io_dtype):
    able = [name for name, mode in MODES.items() if io_dtype in mode.io_dtypes]
    if not able:
        return ""
    return f" A file with {io_dtype} inputs needs quantization={able[0]!r}."

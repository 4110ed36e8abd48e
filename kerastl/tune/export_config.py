"""What `export_model` is to write, checked before any work is done."""

import dataclasses

from kerastl import _checks
from kerastl.export.quantization import MODES, checked

FORMATS = ("litert", "saved_model", "onnx")
QUANTIZE = ("none", "float16", "dynamic", "int8", "int16x8")
# What is tried when one way to quantize loses too much.
LADDERS = {
    "float16": ("float16",),
    "dynamic": ("dynamic", "float16"),
    "int8": ("int8", "int8_mixed", "dynamic", "float16"),
    "int16x8": ("int16x8", "dynamic", "float16"),
}


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """How to export. Plain data: equal when equal.

    Attributes:
        quantize: `"none"`, `"float16"`, `"dynamic"`, `"int8"` or `"int16x8"`.
        max_drop: Float in [0, 1], how much lower the accuracy of the file may be. Where a file
            loses more, others are tried by `export.to_litert_within`. None takes the file as it is.
        io_dtype: Dtype of the file's inputs and outputs, as in `export.to_litert`.
        format: `"litert"`, `"saved_model"` or `"onnx"`.
        seed: Int that divides the pictures of a model of unknown seed.
    """

    quantize: str = "none"
    max_drop: float | None = None
    io_dtype: str = "float32"
    format: str = "litert"
    seed: int = 0

    def __post_init__(self):
        _checks.one_of(self.quantize, QUANTIZE, "quantize")
        _checks.one_of(self.format, FORMATS, "format")
        _checks.whole(self.seed, 0, 2**31 - 1, "seed")
        checked(self.quantization, self.io_dtype)
        if self.max_drop is not None:
            _checks.in_range(self.max_drop, 0.0, 1.0, "max_drop")
            self._check_ladder()
        if self.format != "litert" and (self.quantize, self.io_dtype) != ("none", "float32"):
            raise ValueError(
                "`quantize` and `io_dtype` are for the format 'litert'. Received: "
                f"format={self.format!r}, quantize={self.quantize!r}, io_dtype={self.io_dtype!r}"
            )

    def _check_ladder(self):
        if self.quantize == "none":
            raise ValueError(
                "`max_drop` is for a quantized file. Received: quantize='none'. "
                "Pass quantize='int8' (--quantize int8), say."
            )
        if self.io_dtype != "float32":
            raise ValueError(
                "With `max_drop` the file takes and gives float32, since it need not become int8. "
                f"Received: io_dtype={self.io_dtype!r}. Leave one of the two out."
            )

    def check_data(self, data, has_ranges=False):
        """Refuse settings that need pictures where `data` is None.

        Args:
            data: Folder, or None.
            has_ranges: Boolean, whether the model brings the ranges that int8 needs.
        """
        if data is not None:
            return
        if MODES[self.quantization].calibrated and not (self.quantize == "int8" and has_ranges):
            raise ValueError(
                f"`quantize={self.quantize!r}` needs `data` (--data), a folder of pictures as in "
                "training, to measure the ranges of activations on. Received: None. "
                "About 100 pictures are enough."
            )
        if self.max_drop is not None:
            raise ValueError(
                "`max_drop` needs `data` (--data), a folder of pictures to measure the accuracy "
                "on. Received: None"
            )

    @property
    def quantization(self):
        """`quantize` as `export.to_litert` names it."""
        return None if self.quantize == "none" else self.quantize

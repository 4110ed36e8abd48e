"""Quantization-aware training on Keras 3 models."""

from kerastl.compression.quantize.fold import Folded, fold
from kerastl.compression.quantize.quantize_aware import quantize_aware, restore
from kerastl.compression.quantize.ranges import FakeQuantize, as_converted, ranges_of
from kerastl.compression.quantize.report import (
    LayerNumbers,
    QuantizationReport,
    is_quantized,
    quantization_report,
)

__all__ = [
    "FakeQuantize",
    "Folded",
    "LayerNumbers",
    "QuantizationReport",
    "as_converted",
    "fold",
    "is_quantized",
    "quantization_report",
    "quantize_aware",
    "ranges_of",
    "restore",
]

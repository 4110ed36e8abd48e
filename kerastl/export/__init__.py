"""A trained model as a LiteRT (`.tflite`) file that was checked, run and compared."""

from kerastl.export.litert_file import to_litert
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.parity import Parity, parity

__all__ = ["LiteRTModel", "Parity", "parity", "to_litert"]

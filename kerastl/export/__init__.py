"""A trained model as a file that was checked, run and compared: LiteRT, SavedModel, ONNX."""

from kerastl.export.ladder import Ladder, Rung, to_litert_within
from kerastl.export.litert_file import to_litert
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.parity import Parity, parity
from kerastl.export.portable import to_onnx, to_saved_model
from kerastl.export.selective import LayerReport, layer_errors
from kerastl.export.sizes import FileSize, SizeTable, file_sizes
from kerastl.export.transformers_files import to_transformers
from kerastl.export.vocabulary import add_vocabulary

__all__ = [
    "FileSize",
    "Ladder",
    "LayerReport",
    "LiteRTModel",
    "Parity",
    "Rung",
    "SizeTable",
    "add_vocabulary",
    "file_sizes",
    "layer_errors",
    "parity",
    "to_litert",
    "to_litert_within",
    "to_onnx",
    "to_saved_model",
    "to_transformers",
]

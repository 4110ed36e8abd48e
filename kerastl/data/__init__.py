"""Data that can be read again: pictures and texts found, verified, read, divided, augmented."""

from kerastl.data.images.augment import LEVELS as AUGMENTATIONS
from kerastl.data.images.augment import Augmenter, RandomAffine, augmentation_layers
from kerastl.data.images.checks import write_skipped
from kerastl.data.images.dataset import make_dataset
from kerastl.data.images.decode import ImageError, load_image
from kerastl.data.images.folder import ImageData, Split, load_image_folder, read_scanned
from kerastl.data.images.read import decode_files, find_images, load_image_paths
from kerastl.data.images.scan import ScannedImages, scan_images
from kerastl.data.images.table import scan_table
from kerastl.data.split import UNBALANCED, class_weights, imbalance
from kerastl.data.texts.lines import ScannedLines, scan_lines
from kerastl.data.texts.table import ScannedTexts, read_texts, scan_texts

__all__ = [
    "AUGMENTATIONS",
    "UNBALANCED",
    "Augmenter",
    "ImageData",
    "ImageError",
    "RandomAffine",
    "ScannedImages",
    "ScannedLines",
    "ScannedTexts",
    "Split",
    "augmentation_layers",
    "class_weights",
    "decode_files",
    "find_images",
    "imbalance",
    "load_image",
    "load_image_folder",
    "load_image_paths",
    "make_dataset",
    "read_scanned",
    "read_texts",
    "scan_images",
    "scan_lines",
    "scan_table",
    "scan_texts",
    "write_skipped",
]

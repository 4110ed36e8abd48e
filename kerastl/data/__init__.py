"""Images for training and prediction: found, verified, decoded, divided, augmented."""

from kerastl.data.affine import RandomAffine
from kerastl.data.augment import LEVELS as AUGMENTATIONS
from kerastl.data.augment import Augmenter, augmentation_layers
from kerastl.data.cache import decode_files
from kerastl.data.dataset import make_dataset
from kerastl.data.decode import ImageError, load_image
from kerastl.data.epochs import Epochs
from kerastl.data.image_data import ImageData, Split, load_image_folder
from kerastl.data.paths import find_images, load_image_paths
from kerastl.data.scan import ImageFolder, scan_images
from kerastl.data.skipped import write_skipped
from kerastl.data.weights import UNBALANCED, class_weights, imbalance

__all__ = [
    "AUGMENTATIONS",
    "UNBALANCED",
    "Augmenter",
    "Epochs",
    "ImageData",
    "ImageError",
    "ImageFolder",
    "RandomAffine",
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
    "scan_images",
    "write_skipped",
]

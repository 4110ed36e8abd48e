"""Types that signatures of many rooms share, each name with what it stands for."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias

import keras
import numpy as np

# A path as `open` takes it.
PathLike: TypeAlias = str | os.PathLike[str]

# What selects layers: one, an index or slice of the flat list, a path, a group name, a regex.
Part: TypeAlias = keras.Layer | SupportsIndex | slice | str
Where: TypeAlias = Part | Sequence[Part]

# What a batch normalization does in a group that trains.
BatchNormPolicy: TypeAlias = Literal["inference", "frozen", "train"]

# A tensor of TensorFlow, a symbolic one of Keras, or an array or number that becomes one. Keras
# says of none of its functions which of them it returns, so that a checker cannot either.
TensorLike: TypeAlias = Any

# One array of examples; for several inputs a dict by name or a list in order.
Arrays: TypeAlias = np.ndarray | dict[str, np.ndarray] | Sequence[np.ndarray]

# Sides of a picture in pixels, `(height, width)`, or one int for a square.
ImageSize: TypeAlias = int | tuple[int, int]

# Called as `progress(done, total)`; what it returns is not looked at.
OnProgress: TypeAlias = Callable[[int, int], object]

# Whether the outputs of frozen layers are cached in `fit`, and in which numbers.
CacheFrozen: TypeAlias = bool | Literal["auto"]
CacheDtype: TypeAlias = Literal["float32", "float16"]

"""Pictures as a network takes them, read by rows."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.data import decode_files, make_dataset
from kerastl.data.images.augment import Augment
from kerastl.data.ranges import PIXELS, Range, scaled
from kerastl.data.rows import Rows


class PictureExamples:
    """Pictures of one size with their targets.

    Args:
        images: uint8 array, memory map or `Rows` of shape `(n, height, width, 3)`.
        targets: int64 array of class indices, or float32 array of shape `(n, k)`.
        num_classes: Int for one-hot targets in `batches`, or None for targets as they are.
        paths: Sequence of the files.
        input_range: As in `PreparePictures`.
    """

    def __init__(
        self,
        images: np.ndarray | Rows,
        targets: np.ndarray,
        num_classes: int | None = None,
        paths: Sequence[pathlib.Path] = (),
        input_range: Range = PIXELS,
    ) -> None:
        self.images, self.targets, self.paths = images, targets, paths
        self.input_range = input_range
        self._num_classes = num_classes

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, rows: Any = slice(None)) -> np.ndarray:
        """float32 pixels of some rows, 0 to 255 or in the `input_range`."""
        return scaled(self.images[rows], self.input_range)

    def sample(self, count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """At most `count` pictures drawn at random: what is measured on them needs no more."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return self.inputs(rows), self.targets[rows]

    def for_device(self, prepare: Any) -> "PictureExamples":
        """The same: a device file takes what the network takes."""
        return self

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        augment: Augment = None,
        one_hot: bool = True,
    ) -> tf.data.Dataset:
        """Dataset of `(pixels, targets)`: shuffled and augmented by `seed`, or in order."""
        return make_dataset(
            self.images,
            self.targets,
            batch_size=batch_size,
            seed=seed,
            augment=augment,
            num_classes=self._num_classes if one_hot else None,
        )

    def at(self, rows: np.ndarray) -> "PictureExamples":
        """The pictures of some rows, an int array; none is copied."""
        rows = np.asarray(rows, np.int64)
        images: Any = self.images
        if isinstance(images, Rows):
            some = Rows(images.array, images.index[rows])
        else:
            some = Rows(images, rows)
        return PictureExamples(
            some,
            self.targets[rows],
            self._num_classes,
            [self.paths[row] for row in rows] if len(self.paths) else (),
            self.input_range,
        )

    def with_targets(self, targets: np.ndarray) -> "PictureExamples":
        """The same pictures with other targets."""
        return PictureExamples(
            self.images, targets, self._num_classes, self.paths, self.input_range
        )

    def with_further(self, raw: Sequence[Any], prepare: Any) -> tuple["PictureExamples", list[int]]:
        """These pictures and further ones behind them, and which of the files `raw` are readable.

        Targets of further ones are zeros: give them others.
        """
        pixels, records = decode_files(raw, image_size=prepare.image_size, resize=prepare.resize)
        kept = [i for i, record in enumerate(records) if not record["reason"]]
        images = np.concatenate([np.asarray(self.images[:]), pixels[kept]])
        none = np.zeros((len(kept), *self.targets.shape[1:]), self.targets.dtype)
        paths = [*self.paths, *(raw[i] for i in kept)]
        targets = np.concatenate([self.targets, none])
        return PictureExamples(images, targets, None, paths, self.input_range), kept

    def prepared(self, prepare: Any, rows: np.ndarray) -> "PictureExamples":
        """The pictures of some rows, read again from their files at another size."""
        paths = [self.paths[row] for row in rows]
        pixels = decode_files(paths, image_size=prepare.image_size, resize=prepare.resize)[0]
        targets = self.targets[np.asarray(rows)]
        return PictureExamples(pixels, targets, self._num_classes, paths, prepare.input_range)

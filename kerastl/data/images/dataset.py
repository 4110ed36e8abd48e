"""Pictures in memory or on disk as a `tf.data.Dataset` of batches."""

import hashlib
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.data.images.augment import Augment, Augmenter
from kerastl.data.passes import Passes, dataset_of, hash_of_arrays
from kerastl.data.rows import Rows
from kerastl.data.split import check_seed


def make_dataset(
    images: np.ndarray | Rows,
    labels: Sequence[int] | np.ndarray,
    *,
    batch_size: int = 32,
    seed: int | None = None,
    augment: Augment = None,
    num_classes: int | None = None,
) -> tf.data.Dataset:
    """Batches of float32 pixels 0 to 255 and labels, for `fit`, `evaluate` and `predict`.

    For training give a `seed`: every pass then has its own order and its own augmentation, and
    both are the same in every run with this seed. For validation, test and prediction leave
    `seed` and `augment` out: pictures come in order, as they are.

    Args:
        images: uint8 array, memory map or `Rows` of shape `(n, height, width, 3)`. It is read
            batch by batch, never copied as a whole.
        labels: `n` class indices, counted from 0, as integers or whole floats; or targets of shape
            `(n, num_classes)`, such as one-hot rows, given as float32 as they are. Without
            `num_classes` floats of any shape `(n, ...)`, which are given as float32.
        batch_size: Pictures a batch; the last one of a pass may be smaller.
        seed: Int in [0, 2**31) to shuffle by, or None to keep the order.
        augment: What `Augmenter` takes: `"none"`, `"light"`, `"medium"`, `"strong"`, a Keras
            layer, a callable of (images, labels), a list of them. Needs `seed`.
        num_classes: Number of classes for one-hot float32 labels, which mixing layers need;
            None gives int64 class indices.

    Returns:
        A `tf.data.Dataset` of `(images, labels)` with a known number of batches. Its attribute
        `repeatable` holds its `Passes`, by which `FineTuner.fit` reads pass by pass.

    Raises:
        ValueError: If lengths differ, labels are no class indices below `num_classes` or no finite
            numbers, `augment` comes without `seed`, or it mixes pictures and `num_classes` is
            missing.

    Example:
        >>> images = np.zeros((5, 4, 4, 3), "uint8")
        >>> dataset = make_dataset(images, range(5), batch_size=2, seed=1)
        >>> len(dataset), sorted(int(y) for _, labels in dataset for y in labels)
        (3, [0, 1, 2, 3, 4])
    """
    if num_classes is not None:
        checks.whole(operator.index(num_classes), 1, 2**31 - 1, "num_classes")
    augmenter = Augmenter(augment)
    targets = _targets(labels, num_classes)
    _check(images, targets, seed, augmenter, num_classes)
    passes = ImagePasses(
        images,
        targets,
        augmenter,
        batch_size=batch_size,
        seed=None if seed is None else check_seed(seed),
        num_classes=num_classes if targets.ndim == 1 else None,
    )
    return dataset_of(passes)


def _targets(labels, num_classes):
    """`labels` as the int64 or float32 array that is read, refused where it tells no targets."""
    labels = _numbers(labels)
    is_column = labels.shape[1:] == (1,)
    if num_classes is not None:
        if is_column and num_classes > 1:
            labels = labels[:, 0]
        elif labels.shape[1:] == (num_classes,):
            return labels.astype(np.float32, copy=False)
        elif labels.ndim > 1:
            raise ValueError(
                f"With num_classes={num_classes}, `labels` must be class indices, of shape (n,), "
                f"or rows of targets, of shape (n, {num_classes}). Received: shape {labels.shape}. "
                "Without `num_classes` targets are given as they are."
            )
    floats = labels.dtype.kind == "f" and num_classes is None
    if not floats and (labels.ndim == 1 or is_column):
        _check_classes(labels, num_classes)
    return labels.astype(np.float32 if floats else np.int64, copy=False)


def _numbers(labels):
    """`labels` as an array of finite numbers with a row for each picture."""
    try:
        labels = np.asarray(labels)
        if labels.dtype == object:  # Python's own numbers, or something else among them
            labels = np.asarray(labels.tolist())
    except ValueError as error:  # NumPy's, of rows of different lengths
        raise ValueError(f"`labels` must be one array of numbers. Received: {error}") from error
    if labels.dtype.kind not in "biufO" or labels.ndim == 0:
        raise ValueError(
            "`labels` must be an array of numbers, one row a picture. Received: "
            f"{str(labels.dtype)!r} of shape {labels.shape}. Of names, `np.unique(names, "
            "return_inverse=True)` makes class names and class indices."
        )
    is_object = labels.dtype == object
    is_number = [isinstance(one, numbers.Real) for one in labels.flat] if is_object else ()
    wrong = ~(np.reshape(is_number, labels.shape) if is_object else np.isfinite(labels))
    if (place := _first(wrong)) is not None:
        raise ValueError(
            f"`labels` must be finite numbers. Received: {labels[place]} at {_place(place)}. Leave "
            "pictures without a label out, or give them a number that your loss knows."
        )
    return labels


def _check_classes(labels, num_classes):
    outside = (labels < 0) | (labels != np.floor(labels))
    if num_classes is not None:
        outside |= labels >= num_classes
    if (wrong := _first(outside)) is None:
        return
    classes = ">= 0" if num_classes is None else f"from 0 to {num_classes - 1}"
    raise ValueError(
        f"`labels` must be class indices {classes}. Received: {labels[wrong]} at {_place(wrong)}; "
        f"they range from {labels.min()} to {labels.max()}. Subtract 1 from labels that count from "
        "1; give numbers to be learnt as floats, without `num_classes`."
    )


def _first(wrong):
    """The index of the first element that is True, or None."""
    return tuple(np.argwhere(wrong)[0].tolist()) if wrong.any() else None


def _place(index):
    return f"row {index[0]}" if len(index) == 1 else f"index {index}"


def _check(images, labels, seed, augmenter, num_classes):
    if len(images) != len(labels):
        raise ValueError(
            "`images` and `labels` must have one length. "
            f"Received: len(images)={len(images)}, len(labels)={len(labels)}"
        )
    if augmenter.steps and seed is None:
        raise ValueError(
            "`augment` is for training and needs `seed`. Received: seed=None. "
            "Leave `augment` out for validation and test."
        )
    if augmenter.mixes and num_classes is None and labels.ndim < 2:
        raise ValueError(
            "`augment` mixes pictures and their labels, which must be one-hot: give `num_classes` "
            "and compile with keras.losses.CategoricalCrossentropy. Received: num_classes=None"
        )


class ImagePasses(Passes):
    """Passes over pictures and their class indices; what `make_dataset` is made of.

    Args:
        images: uint8 array, memory map or `Rows` of shape `(n, height, width, 3)`.
        labels: int64 array of shape `(n,)`, or float32 of shape `(n, ...)`.
        augmenter: `Augmenter`.
        batch_size: Int > 0.
        seed: Int, or None to keep the order.
        num_classes: Int for one-hot float32 labels, or None.
    """

    def __init__(
        self,
        images: np.ndarray | Rows,
        labels: np.ndarray,
        augmenter: Augmenter,
        *,
        batch_size: int,
        seed: int | None,
        num_classes: int | None,
    ) -> None:
        super().__init__(len(labels), batch_size, seed)
        self._images, self._labels = images, labels
        if isinstance(images, Rows):
            self.rows_of = images.array, images.index
        else:
            self.rows_of = images, np.arange(len(images))
        self._augmenter, self._num_classes = augmenter, num_classes
        self.changes_targets = augmenter.sees_labels
        if augmenter.sees_labels:
            self.random = "augmentation of pictures together with their labels"
        elif augmenter.steps:
            self.random = "augmentation"

    def inputs(self, rows: tf.Tensor) -> Any:
        images = self._images
        pixels = tf.numpy_function(lambda index: np.asarray(images[index]), [rows], images.dtype)
        return tf.cast(tf.ensure_shape(pixels, (None, *images.shape[1:])), tf.float32)

    def targets(self, rows: tf.Tensor) -> tuple[Any, ...]:
        chosen = tf.gather(self._labels, rows)
        return (chosen if self._num_classes is None else tf.one_hot(chosen, self._num_classes),)

    def augment(self, element: tuple[Any, ...], key: tf.Tensor) -> tuple[Any, ...]:
        images, labels = element
        return self._augmenter(images, labels, key)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(hash_of_arrays([self._images, self._labels]).encode())
        digest.update(repr((self._augmenter.description(), self._num_classes)).encode())
        return digest.hexdigest()

"""Passes over pictures: read by rows, augmented by key."""

import hashlib

import numpy as np
import tensorflow as tf

from kerastl.passes import Passes, hash_of_arrays


class ImagePasses(Passes):
    """Passes over pictures and their class indices; what `make_dataset` is made of.

    Args:
        images: uint8 array, memory map or `Rows` of shape `(n, height, width, 3)`.
        labels: int64 array of shape `(n,)`.
        augmenter: `Augmenter`.
        batch_size: Int > 0.
        seed: Int, or None to keep the order.
        num_classes: Int for one-hot float32 labels, or None.
    """

    def __init__(self, images, labels, augmenter, *, batch_size, seed, num_classes):
        super().__init__(len(labels), batch_size, seed)
        self._images, self._labels = images, labels
        self._augmenter, self._num_classes = augmenter, num_classes
        if augmenter.sees_labels:
            self.random = "augmentation of pictures together with their labels"
        elif augmenter.steps:
            self.random = "augmentation"

    def inputs(self, rows):
        images = self._images
        pixels = tf.numpy_function(lambda index: np.asarray(images[index]), [rows], images.dtype)
        return tf.cast(tf.ensure_shape(pixels, (None, *images.shape[1:])), tf.float32)

    def targets(self, rows):
        chosen = tf.gather(self._labels, rows)
        return (chosen if self._num_classes is None else tf.one_hot(chosen, self._num_classes),)

    def augment(self, element, key):
        return self._augmenter(*element, key)

    def fingerprint(self):
        digest = hashlib.blake2b(digest_size=16)
        digest.update(hash_of_arrays([self._images, self._labels]).encode())
        digest.update(repr((self._augmenter.description(), self._num_classes)).encode())
        return digest.hexdigest()

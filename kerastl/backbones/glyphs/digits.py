"""Real handwritten digits as the target of a transfer: few labels, everything else held out."""

from typing import Any

import numpy as np

from kerastl._base.checks import in_range
from kerastl.backbones.glyphs.rendering import IMAGE_SIZE, bilinear_matrix, resample

FEWEST_OF_A_CLASS = 174  # the digit 8; one at least must be left to test on


def digits(
    seed: int = 0, *, labels_per_class: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scanned digits of 43 writers, split into a small labelled set and a large held-out one.

    The 1,797 pictures of `sklearn.datasets.load_digits` (8×8 pixels, ink 0 to 16) enlarged
    to 32×32 and scaled to pixels 0 to 255, three equal channels, white ink on black.

    Args:
        seed: Int, which pictures are labelled.
        labels_per_class: Int in [1, 173], how many labelled pictures each digit has.

    Returns:
        Tuple `(train_images, train_labels, test_images, test_labels)`: `float32` images of
        shape `(n, 32, 32, 3)` and `int32` labels 0 to 9.

    Example:
        >>> train, train_labels, test, test_labels = digits(seed=0, labels_per_class=10)
        >>> train.shape, test.shape
        ((100, 32, 32, 3), (1697, 32, 32, 3))

    References:
        Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998,
        https://doi.org/10.24432/C50P49
    """
    from sklearn.datasets import load_digits

    scanned: Any = load_digits()
    labelled = ~held_out_digits(seed, labels_per_class=labels_per_class)
    images = resample(scanned.images.astype("float32"), bilinear_matrix(8, IMAGE_SIZE))
    images = np.repeat(images[..., None] * (255 / 16), 3, axis=-1)
    labels = scanned.target.astype("int32")
    return images[labelled], labels[labelled], images[~labelled], labels[~labelled]


def held_out_digits(seed: int = 0, *, labels_per_class: int = 10) -> np.ndarray:
    """Which of the 1,797 pictures `digits` holds out: booleans, in the order of `load_digits`."""
    from sklearn.datasets import load_digits

    in_range(labels_per_class, 1, FEWEST_OF_A_CLASS - 1, "labels_per_class", "an int")
    labels = np.asarray(load_digits(return_X_y=True)[1])
    held_out, rng = np.ones(len(labels), bool), np.random.default_rng(seed)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out[rng.choice(members, labels_per_class, replace=False)] = False
    return held_out

"""Changes of resolution as small matrices: an image `x` becomes `a @ x @ a.T`."""

import numpy as np


def area_matrix(source, target):
    """Weights that average `source` pixels into `target` equal, adjoining cells.

    Example:
        >>> area_matrix(4, 2)
        array([[0.5, 0.5, 0. , 0. ],
               [0. , 0. , 0.5, 0.5]], dtype=float32)
    """
    edges = np.arange(target + 1) * source / target
    pixels = np.arange(source)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (np.clip(high - low, 0, None) * target / source).astype("float32")


def bilinear_matrix(source, target):
    """Weights that interpolate `source` pixels at `target` points, pixel centres aligned.

    Points outside the outermost centres take the border pixel's value.

    Example:
        >>> bilinear_matrix(2, 4)
        array([[1.  , 0.  ],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.  , 1.  ]], dtype=float32)
    """
    points = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    distance = np.abs(points[:, None] - np.arange(source))
    return np.clip(1 - distance, 0, None).astype("float32")


def blur_matrix(size, sigma):
    """Weights of a Gaussian blur of `sigma` pixels; each row sums to 1 at the borders too."""
    offsets = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * np.square(offsets / max(sigma, 1e-3)))
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def resample(images, matrices):
    """Apply a matrix, or one matrix an image, to rows and columns of `(n, height, width)`."""
    return matrices @ images @ np.swapaxes(matrices, -1, -2)

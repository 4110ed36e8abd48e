"""Random glyphs: letters and digits, bent, thickened, blurred and seen at low resolution."""

import numpy as np

from kerastl._base.checks import in_range
from kerastl.backbones.glyphs.fonts import CHARACTERS, GLYPH_SIZE, MASTER_SIZE, class_names, masters

IMAGE_SIZE = 32
CHUNK = 2048  # images made at once, so that memory stays near 100 MB

# The sides, in pixels, at which a glyph is seen before it is enlarged to IMAGE_SIZE. Half
# are 8, the resolution of the classic sets of scanned digits.
RESOLUTIONS = (8, 8, 8, 8, 10, 12, 16, 32)
BLURS = (0.6, 0.9, 1.3)  # standard deviations in pixels before the edge is sharpened
WARP_KNOTS = 4  # control points a side of the smooth random deformation


def render_glyphs(
    num_images: int, seed: int | tuple[int, ...] = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `num_images` random glyphs, the same ones for the same seed.

    Every class is equally likely, then every character of it and every font. A glyph is
    turned, sheared, scaled, shifted and bent, its stroke made thinner or thicker, and the
    image brought down to a random resolution and up again, with noise and random contrast.

    Args:
        num_images: Int, how many; at least 1.
        seed: Int or tuple of ints, for `np.random.default_rng`.

    Returns:
        Tuple `(images, labels)`: `uint8` of shape `(num_images, 32, 32, 3)`, white ink on
        black with equal channels, and `int32` labels into `class_names()`.

    Raises:
        ValueError: If `num_images` is not positive.

    Example:
        >>> images, labels = render_glyphs(3, seed=7)
        >>> images.shape, images.dtype, labels.shape
        ((3, 32, 32, 3), dtype('uint8'), (3,))
    """
    in_range(num_images, 1, 10_000_000, "num_images", "an int")
    rng = np.random.default_rng(seed)
    starts = range(0, num_images, CHUNK)
    parts = [_render(min(CHUNK, num_images - start), rng) for start in starts]
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.repeat(images[..., None], 3, axis=-1), labels


def _render(size, rng):
    labels, glyphs = _pick(size, rng)
    images = _sample(glyphs, _coordinates(size, rng))
    images = _restroke(images, rng)
    images = _lower_resolution(images, rng)
    return _expose(images, rng), labels


def _pick(size, rng):
    """Random labels and, for each, a master of one of the class's characters."""
    names = class_names()
    counts = np.array([len(name) for name in names])
    members = np.array([CHARACTERS.index(character) for character in "".join(names)])
    labels = rng.integers(len(names), size=size).astype("int32")
    which = (np.cumsum(counts) - counts)[labels] + rng.integers(counts[labels])
    fonts, _, strokes = masters().shape[:3]
    index = rng.integers(fonts, size=size), members[which], rng.integers(strokes, size=size)
    return labels, masters()[index]


def _coordinates(size, rng):
    """Where in its master, in pixels, each output pixel looks: `(size, 32, 32, 2)` as (x, y)."""
    angle = rng.normal(0, 0.16, size)
    shear = rng.normal(0, 0.2, size)
    # The glyph's longer side spans 0.75 to 1.1 of the image; its width varies more, as by hand.
    scale = rng.uniform(0.75, 1.1, (size, 1)) * rng.uniform([0.65, 0.9], [1.25, 1.1], (size, 2))
    shift = rng.normal(0, 0.06, (size, 1, 1, 2))
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    slant = np.array([[np.ones(size), shear], [np.zeros(size), np.ones(size)]])
    inverse = np.einsum("ikn,kjn,ni->nij", slant, turn, 1 / scale)
    axis = (np.arange(IMAGE_SIZE) + 0.5) / IMAGE_SIZE * 2 - 1
    grid = np.stack(np.meshgrid(axis, axis), -1)
    places = np.einsum("nij,hwj->nhwi", inverse, grid) + shift + _warp(size, rng)
    return (places.astype("float32") * GLYPH_SIZE + MASTER_SIZE - 1) / 2


def _warp(size, rng):
    """Smooth random displacements between a few knots, in units of half an image."""
    strength = rng.uniform(0, 0.14, (size, 1, 1, 1))
    knots = rng.normal(0, 1, (size, 2, WARP_KNOTS, WARP_KNOTS)) * strength
    spread = bilinear_matrix(WARP_KNOTS, IMAGE_SIZE)
    smooth = blur_matrix(IMAGE_SIZE, 3.0) @ spread
    return np.moveaxis(resample(knots, smooth), 1, -1)


def _sample(glyphs, places):
    """Bilinear interpolation of each master at its own places, as ink in [0, 1]."""
    places = np.clip(places, 0, MASTER_SIZE - 1.001)
    corner = places.astype("int32")
    x, y = np.moveaxis(places - corner, -1, 0)
    first = np.arange(len(glyphs), dtype="int32")[:, None, None] * MASTER_SIZE**2
    index = first + corner[..., 1] * MASTER_SIZE + corner[..., 0]
    flat = glyphs.reshape(-1)
    upper = flat[index] * (1 - x) + flat[index + 1] * x
    lower = flat[index + MASTER_SIZE] * (1 - x) + flat[index + MASTER_SIZE + 1] * x
    return (upper * (1 - y) + lower * y) / 255


def _restroke(images, rng):
    """Blur, then sharpen about a random level: low levels thicken a stroke, high ones thin it."""
    blurs = np.stack([blur_matrix(IMAGE_SIZE, sigma) for sigma in BLURS])
    images = resample(images, blurs[rng.integers(len(blurs), size=len(images))])
    level = rng.uniform(0.3, 0.6, (len(images), 1, 1))
    gain = rng.uniform(1.5, 8, (len(images), 1, 1))
    return np.clip((images - level) * gain + 0.5, 0, 1)


def _lower_resolution(images, rng):
    seen = np.stack(
        [bilinear_matrix(side, IMAGE_SIZE) @ area_matrix(IMAGE_SIZE, side) for side in RESOLUTIONS]
    )
    return resample(images, seen[rng.integers(len(seen), size=len(images))])


def _expose(images, rng):
    """Random ink, paper and noise, as pixels 0 to 255."""
    shape = (len(images), 1, 1)
    paper = rng.uniform(0, 0.12, shape)
    ink = rng.uniform(0.65, 1, shape)
    noise = rng.standard_normal(images.shape, "float32") * rng.uniform(0, 0.06, shape)
    return np.rint(np.clip(paper + images * (ink - paper) + noise, 0, 1) * 255).astype("uint8")


def area_matrix(source: int, target: int) -> np.ndarray:
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


def bilinear_matrix(source: int, target: int) -> np.ndarray:
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


def blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Weights of a Gaussian blur of `sigma` pixels; each row sums to 1 at the borders too."""
    offsets = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * np.square(offsets / max(sigma, 1e-3)))
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def resample(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Apply a matrix, or one matrix an image, to rows and columns of `(n, height, width)`."""
    return matrices @ images @ np.swapaxes(matrices, -1, -2)

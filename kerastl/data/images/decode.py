"""One picture file to RGB pixels: the same way in training, evaluation and prediction."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from kerastl._base.checks import one_of
from kerastl._base.files import may_be_read
from kerastl._base.types import ImageSize, PathLike

Resize: TypeAlias = Literal["stretch", "crop", "pad"]
RESIZES = get_args(Resize)

# Named rather than all that Pillow knows: some of its plugins (EPS) start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF")


class ImageError(ValueError):
    """A file that cannot be read as an image; `reason` says why in a few words."""

    def __init__(self, reason: str, path: PathLike | None = None) -> None:
        self.reason = reason
        super().__init__(f"{path or 'The data'} is not a readable image ({reason}).")


def load_image(path: PathLike, image_size: ImageSize, resize: Resize = "stretch") -> np.ndarray:
    """Read one picture file as RGB pixels of a given size.

    Training, evaluation and prediction all come through here, so a network sees in use what
    it saw in training. The EXIF orientation is applied; grey, palette and CMYK pictures become
    RGB; transparent ones are laid over white; of 16-bit grey the high byte is kept, as Pillow
    does for 16-bit colour; of an animation the first frame counts. Resizing is bilinear with
    antialiasing. A large JPEG is decoded at a half, quarter or eighth of its size where that is
    still at least twice what is asked for.

    Args:
        path: Path of a JPEG, PNG, WebP, GIF, BMP or TIFF file. The content decides, not the
            extension.
        image_size: `(height, width)`, or one int for a square.
        resize: `"stretch"` (the default here and in `keras.utils`: the whole picture, its
            aspect ratio lost), `"crop"` (the largest centred part of the right aspect ratio) or
            `"pad"` (the whole picture centred on black).

    Returns:
        uint8 array of shape `(height, width, 3)`, 0 to 255.

    Raises:
        ImageError: If the file is empty, truncated, damaged, too large or no image.
        OSError: If the file cannot be opened.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.NamedTemporaryFile(suffix=".png") as file:
        ...     Image.new("L", (40, 20), 7).save(file.name)
        ...     pixels = load_image(file.name, (8, 16))
        >>> pixels.shape, pixels[0, 0].tolist()
        ((8, 16, 3), [7, 7, 7])
    """
    size = as_size(image_size)
    one_of(resize, RESIZES, "resize")
    try:
        with pillow_quiet():
            return decode_image(encoded(path), size, resize)
    except ImageError as error:
        raise ImageError(error.reason, path) from error


def encoded(path: PathLike) -> bytes:
    """The bytes of the file at `path`.

    Raises:
        ImageError: If it is a pipe, a socket or a device.
        OSError: If it cannot be opened.
    """
    path = Path(path)
    if not may_be_read(path):
        raise ImageError("no file but a pipe, a socket or a device", path)
    return path.read_bytes()


def decode_image(
    data: bytes, image_size: tuple[int, int], resize: Resize = "stretch"
) -> np.ndarray:
    """The pixels of one encoded picture, given as `bytes`; call it in `pillow_quiet()`."""
    from PIL import Image

    if not data:
        raise ImageError("empty file")
    try:
        _check_sums(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            turn = _turn(image)
            _decode_small(image, image_size)
            image.load()
            upright = image if turn is None else image.transpose(turn)
            return np.asarray(_resized(_to_rgb(upright), image_size, resize))
    except ImageError:
        raise
    # Damaged files make Pillow's plugins raise nearly anything; each becomes a stated reason.
    except Exception as error:
        raise ImageError(_reason(error, data)) from error


@contextmanager
def pillow_quiet() -> Iterator[None]:
    """Without Pillow's warnings: what counts is whether the pixels come.

    It warns of damaged metadata and of pictures between one and two times its size limit. The
    filter is the whole process's, so threads are started and awaited inside.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def as_size(image_size: ImageSize) -> tuple[int, int]:
    """`image_size` as `(height, width)`, from a pair or one int.

    Example:
        >>> as_size(224)
        (224, 224)
    """
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pair)
    if len(pair) != 2 or not whole or min(pair) < 1:
        raise ValueError(
            "`image_size` must be a positive int or a pair (height, width) of them. "
            f"Received: image_size={image_size!r}"
        )
    return int(pair[0]), int(pair[1])


def _check_sums(data):
    """Compare the checksums of a PNG, which decoding skips; the other formats have none."""
    from PIL import Image

    if data.startswith(b"\x89PNG"):
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()


def _turn(image):
    """The transposition that stands the picture upright, None where it is.

    `PIL.ImageOps.exif_transpose` also writes the EXIF block anew, which fails on damaged ones.
    """
    from PIL import ExifTags, Image

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error, OSError):
        return None  # an unreadable EXIF block says nothing about the pixels
    return {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)


def _decode_small(image, image_size):
    """Let a JPEG decoder leave out detail that resizing would throw away anyway."""
    longest = max(image_size)  # both ways round: the picture may still be turned
    image.draft(None, (2 * longest, 2 * longest))


def _to_rgb(image):
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray(_high_byte(np.asarray(image)))
    elif image.mode == "F":
        raise ImageError("its pixels are floats with no set white; save it with 8 bits a channel")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def _high_byte(values):
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("its pixels have more than 16 bits; save it with 8 bits a channel")
    return (values.astype(np.uint16) >> 8).astype(np.uint8)


def _resized(image, image_size, resize):
    from PIL import Image, ImageOps

    size = image_size[1], image_size[0]  # Pillow's sizes are (width, height)
    if resize == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if resize == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color="black")
    return image.resize(size, Image.Resampling.BILINEAR)


def _reason(error, data):
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"no image format known here: it starts with {data[:12]!r}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    text = str(error) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated JPEG" if data.startswith(b"\xff\xd8") else "truncated file"
    return f"damaged: {text}"

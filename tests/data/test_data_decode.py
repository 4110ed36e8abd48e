"""One picture to pixels: modes, orientation, formats, sizes, damage."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kerastl.data import ImageError, load_image
from kerastl.data.images.decode import as_size, decode_image, pillow_quiet

QUADRANTS = np.kron(np.array([[10, 80], [150, 220]], np.uint8), np.ones((8, 8), np.uint8))
# How a camera stores an upright picture under each EXIF orientation (EXIF 2.3, tag 0x0112).
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: np.rot90,
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, -1),
}


def encoded(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels(image, file_format="PNG", size=(16, 16), resize="stretch", **options):
    return decode_image(encoded(image, file_format, **options), size, resize)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF", "TIFF"])
def test_lossless_formats_keep_every_pixel(file_format):
    out = pixels(Image.fromarray(QUADRANTS), file_format)
    assert out.dtype == np.uint8 and out.shape == (16, 16, 3)
    np.testing.assert_array_equal(out, np.repeat(QUADRANTS[..., None], 3, axis=2))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(file_format):
    out = pixels(Image.new("RGB", (16, 16), (200, 100, 50)), file_format, quality=95)
    # Both store YCbCr in whole numbers: a few grey levels a channel are lost.
    np.testing.assert_allclose(out.astype(int), np.broadcast_to([200, 100, 50], out.shape), atol=4)


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    tall = np.vstack([QUADRANTS, QUADRANTS[:8] // 2])
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](tall)))
    out = decode_image(encoded(stored, exif=exif), tall.shape)
    np.testing.assert_array_equal(out[..., 0], tall)


def test_damaged_exif_does_not_cost_the_picture():
    image = Image.fromarray(QUADRANTS)
    for file_format, block in (("PNG", b"not a block"), ("JPEG", b"II*\x00\xff\xff\xff\xff")):
        with pillow_quiet():
            damaged = pixels(image, file_format, exif=b"Exif\x00\x00" + block)
        np.testing.assert_array_equal(damaged, pixels(image, file_format))


def test_a_camera_s_multi_picture_file_is_a_jpeg():
    frames = [Image.new("L", (16, 16), grey) for grey in (40, 90)]
    out = pixels(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert (out == 40).all()


def test_transparency_is_laid_over_white():
    # alpha 0.2 of 0 over 255 is 204; fully transparent is white, whatever colour lies below.
    rgba = Image.new("RGBA", (16, 16), (0, 0, 0, 51))
    assert (pixels(rgba) == 204).all()
    assert (pixels(Image.new("LA", (16, 16), (9, 0))) == 255).all()
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert (pixels(palette, transparency=1) == 255).all()
    assert pixels(palette)[0, 0].tolist() == [10, 20, 30]
    assert (pixels(Image.new("L", (16, 16), 7), transparency=7) == 255).all()


def test_cmyk_bilevel_and_16_bit():
    cmyk = pixels(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    np.testing.assert_allclose(cmyk.astype(int), np.broadcast_to([255, 0, 0], cmyk.shape), atol=4)
    assert (pixels(Image.new("1", (16, 16), 1)) == 255).all()
    deep = Image.fromarray(QUADRANTS.astype(np.uint16) * 256 + 200)
    np.testing.assert_array_equal(pixels(deep)[..., 0], QUADRANTS)
    np.testing.assert_array_equal(pixels(deep, "TIFF")[..., 0], QUADRANTS)


def test_16_bit_grey_agrees_with_16_bit_colour():
    """Pillow keeps the high byte of 16-bit colour; grey must not come out otherwise."""

    def png(colour_type, row):
        def chunk(name, body):
            crc = struct.pack(">I", zlib.crc32(name + body))
            return struct.pack(">I", len(body)) + name + body + crc

        header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row))
        return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")

    value = struct.pack(">H", 0x80FF)
    grey, colour = (decode_image(png(t, value * n), (1, 1)) for t, n in ((0, 1), (2, 3)))
    assert grey.tolist() == colour.tolist() == [[[0x80] * 3]]


def test_first_frame_of_an_animation():
    frames = [Image.new("L", (16, 16), grey) for grey in (40, 90)]
    for file_format in ("GIF", "WEBP"):
        options = {"save_all": True, "append_images": frames[1:]}
        if file_format == "WEBP":
            options["lossless"] = True
        assert (pixels(frames[0], file_format, **options) == 40).all()


def test_resizes_by_hand():
    # Left half 0, right half 200, twice as wide as high, into a square.
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 8:] = 200
    image = Image.fromarray(wide)
    stretched = pixels(image, size=(8, 8))[..., 0]
    assert stretched[0, 0] == 0 and stretched[0, -1] == 200
    cropped = pixels(image, size=(8, 8), resize="crop")[..., 0]
    np.testing.assert_array_equal(cropped, wide[:, 4:12])
    padded = pixels(image, size=(16, 16), resize="pad")[..., 0]
    np.testing.assert_array_equal(padded[4:12], wide)
    assert not padded[:4].any() and not padded[12:].any()


def test_shrinking_is_antialiased():
    """A fine chessboard becomes grey, not a sample of its fields."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    out = pixels(Image.fromarray(board), size=(8, 8)).astype(int)
    assert abs(out - 127.5).max() <= 8


def test_large_jpeg_is_decoded_small_and_alike():
    smooth = np.add.outer(np.arange(600), np.arange(800)) * 255 // 1398
    image = Image.fromarray(smooth.astype(np.uint8)).convert("RGB")
    fast = pixels(image, "JPEG", size=(24, 32), quality=95).astype(int)
    full = np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR)).astype(int)
    assert abs(fast - full).max() <= 4


def test_damage_is_named(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    jpeg, png = encoded(noise, "JPEG"), encoded(noise)
    for data, words in {
        b"": "empty file",
        b"hello, this is text": "no image format",
        jpeg[: len(jpeg) // 2]: "truncated JPEG",
        jpeg[:100]: "JPEG|damaged|no image format|truncated",
        png[: len(png) // 2]: "truncated file",
        png[:200] + bytes(100) + png[300:]: "damaged",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n": "no image format",
    }.items():
        with pytest.raises(ImageError, match=words):
            decode_image(data, (8, 8))
    (tmp_path / "a.jpg").write_bytes(jpeg[:-50])
    with pytest.raises(ImageError, match=r"a\.jpg is not a readable image \(truncated JPEG\)"):
        load_image(tmp_path / "a.jpg", 8)


def test_truncation_is_seen_when_decoded_small():
    noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")
    with pytest.raises(ImageError, match="truncated JPEG"):
        decode_image(data[: len(data) * 9 // 10], (32, 32))


def test_decompression_bomb_and_undefined_range(monkeypatch):
    bomb = encoded(Image.new("1", (200, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ImageError, match="more than 20,000 pixels"):
        decode_image(bomb, (8, 8))
    for mode, words in (("F", "floats"), ("I", "more than 16 bits")):
        with pytest.raises(ImageError, match=words):
            pixels(Image.new(mode, (4, 4), 70_000), "TIFF")


def test_arguments_are_checked(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="Closest: 'crop'"):
        load_image(tmp_path / "a.png", 8, resize="crops")
    for wrong in (0, (8, 0), (8,), (1.5, 2), True, (8, 8, 3)):
        with pytest.raises(ValueError, match="image_size="):
            as_size(wrong)
    assert as_size(np.array([3, 5])) == (3, 5)
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "none.png", 8)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"pipe\.jpg is not a readable image \(no file but a pipe"):
        load_image(tmp_path / "pipe.jpg", 8)

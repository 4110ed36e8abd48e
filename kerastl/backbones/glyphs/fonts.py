"""Letters and digits as master bitmaps, one for every font, character and stroke."""

import functools
from pathlib import Path

import numpy as np

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# Characters that cannot be told apart once a glyph is cropped and scaled share one class.
ALIKE = ("0Oo", "1Il", "Cc", "Kk", "Pp", "Ss", "Uu", "Vv", "Ww", "Xx", "Zz")

# The text fonts inside matplotlib. Its other files hold symbols, or fallback boxes under
# the codes of Latin letters (LastResortHE); cmmi10 and cmsy10 hold them only in part.
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)
STROKES = (0, 1, 2, 3)  # outline added on each side, in pixels at DRAWN_SIZE
BOLDEST = 1  # the widest outline for a bold face, whose holes close beyond it
DRAWN_SIZE = 56  # the em, in pixels, at which a glyph is drawn
GLYPH_SIZE = 48  # the longer side of a glyph inside its master, in pixels
MASTER_SIZE = 64  # the side of a master, so that 8 black pixels surround the glyph


def class_names() -> tuple[str, ...]:
    """The characters of each class, in order of label: '0Oo', '1Il', '2', ...

    Example:
        >>> names = class_names()
        >>> len(names), names[:4]
        (49, ('0Oo', '1Il', '2', '3'))
    """
    names = {character: character for character in CHARACTERS}
    names |= {character: group for group in ALIKE for character in group}
    return tuple(dict.fromkeys(names.values()))


@functools.lru_cache(maxsize=1)
def masters() -> np.ndarray:
    """Every character drawn in every font and stroke, white ink on black, cropped and centred.

    Returns:
        `uint8` array of shape `(fonts, characters, strokes, MASTER_SIZE, MASTER_SIZE)`,
        read-only because it is drawn once a process (about two seconds) and shared.
    """
    shape = (len(FONTS), len(CHARACTERS), len(STROKES), MASTER_SIZE, MASTER_SIZE)
    drawn = np.zeros(shape, "uint8")
    for font, name in enumerate(FONTS):
        face = _load(name)
        widest = BOLDEST if "Bol" in name or name == "cmb10" else max(STROKES)
        for character, text in enumerate(CHARACTERS):
            for stroke, width in enumerate(STROKES):
                drawn[font, character, stroke] = _draw(face, text, min(width, widest))
    drawn.flags.writeable = False
    return drawn


def _load(name):
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    # BASIC layout draws the same with and without the optional raqm library.
    return ImageFont.truetype(str(path), DRAWN_SIZE, layout_engine=ImageFont.Layout.BASIC)


def _draw(face, text, stroke_width):
    """One glyph, cropped to its ink and scaled so that its longer side is GLYPH_SIZE."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = face.getbbox(text, stroke_width=stroke_width)
    ink = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(ink).text((-left, -top), text, 255, face, stroke_width=stroke_width)
    ink = ink.crop(ink.getbbox())
    scale = GLYPH_SIZE / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    ink = ink.resize((width, height), Image.Resampling.BILINEAR)
    master = Image.new("L", (MASTER_SIZE, MASTER_SIZE))
    master.paste(ink, ((MASTER_SIZE - width) // 2, (MASTER_SIZE - height) // 2))
    return np.asarray(master)

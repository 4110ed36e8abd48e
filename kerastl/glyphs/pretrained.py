"""The glyph network with the weights that this project trained and ships."""

from pathlib import Path

import keras

from kerastl.glyphs.fonts import class_names
from kerastl.glyphs.network import glyphnet

# A link to saved_models/glyphnet/ in a checkout, the file itself in an installed package.
WEIGHTS = Path(__file__).with_name("glyphnet.weights.h5")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def load_glyphnet(*, include_top=False):
    """Load the glyph network, pretrained on rendered letters and digits.

    It ships with kerastl, so nothing is downloaded. `saved_models/glyphnet/MODEL_CARD.md`
    says what it was trained on and how well it does.

    Args:
        include_top: Bool, whether to keep the softmax head over `class_names()`.

    Returns:
        A functional `keras.Model` of RGB pixels 0 to 255, white ink on black, 32×32: the
        features of shape `(batch, 96)`, or the probabilities of the 49 classes.

    Raises:
        FileNotFoundError: If the weights are missing or the link to them was not followed.

    Example:
        >>> load_glyphnet().output_shape
        (None, 96)
    """
    if not WEIGHTS.is_file() or WEIGHTS.read_bytes()[:8] != HDF5_SIGNATURE:
        raise FileNotFoundError(
            f"The glyph weights must be an HDF5 file. Received: {WEIGHTS}, which is missing or "
            "a link that this checkout could not follow. Install kerastl from a wheel, or make "
            "the weights with `python examples/pretrain_glyphs.py`."
        )
    model = glyphnet(classes=len(class_names()))
    model.load_weights(WEIGHTS)
    if include_top:
        return model
    return keras.Model(model.input, model.get_layer("features").output, name="glyphnet")

"""The prose network: a small BERT for lower-cased English."""

from pathlib import Path
from typing import Any

import keras

from kerastl._base.types import ImageSize, PathLike
from kerastl.backbones import hub
from kerastl.backbones.local import text_backbone
from kerastl.backbones.pooling import Pooling
from kerastl.backbones.weights import load_weights

NAME = "prosenet"
LAYERS, HEADS, WIDTH, INNER = 3, 4, 128, 256
LONGEST = 128  # positions
WEIGHTS = Path(__file__).with_name("prosenet.weights.h5")
VOCABULARY = Path(__file__).with_name("vocab.txt")


def prosenet(vocabulary_size: int | None = None, *, dtype: str = "float32") -> keras.Model:
    """Build the prose network with fresh weights.

    A BERT of KerasHub: embeddings of 128, three layers of four heads, 256 wide inside, 128
    positions. About 880,000 weights.

    Args:
        vocabulary_size: Int, how many pieces it reads; None for those it ships with.
        dtype: String, of its weights.

    Returns:
        `keras_hub.models.BertBackbone`, a functional `keras.Model` of `token_ids`,
        `padding_mask` and `segment_ids`.

    Example:
        >>> prosenet(100).output["sequence_output"].shape
        (None, None, 128)
    """
    return hub.import_keras_hub().models.BertBackbone(
        vocabulary_size=vocabulary_size or len(vocabulary()),
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=INNER,
        dropout=0.1,
        max_sequence_length=LONGEST,
        dtype=dtype,
        name=NAME,
    )


def vocabulary() -> list[str]:
    """The word pieces it reads, in the order of their ids."""
    return VOCABULARY.read_text(encoding="utf-8").splitlines()


def prose_tokenizer(words: list[str] | None = None) -> Any:
    """KerasHub's `BertTokenizer` of these pieces, which reads as its encoder was pretrained.

    Lower case, accents taken off.

    Args:
        words: List of word pieces; None for those it ships with.
    """
    made: Any = hub.import_keras_hub().models.BertTokenizer
    return made(words or vocabulary(), lowercase=True, strip_accents=True)


def load_prosenet() -> keras.Model:
    """Load the prose network, pretrained on two authors' books.

    It ships with kerastl, so nothing is downloaded. `docs/text-encoder-card.md` says what it was
    pretrained on, how, and what it is good for.

    Returns:
        `keras_hub.models.BertBackbone`.

    Raises:
        FileNotFoundError: If the weights are missing.
        ImportError: If KerasHub is not installed.

    Example:
        >>> load_prosenet().output["sequence_output"].shape
        (None, None, 128)
    """
    for path in (WEIGHTS, VOCABULARY):
        if not path.is_file():
            raise FileNotFoundError(
                f"The prose network needs the file {path}, which is missing. Install kerastl from "
                "a wheel, or make it with `python examples/pretrain_text_encoder.py`."
            )
    model = prosenet()
    model.load_weights(WEIGHTS)  # float16 in the file
    return model


def build(
    *, weights: PathLike | None, image_size: ImageSize | None, pooling: Pooling | None
) -> keras.Model:
    """The prose network, pooled; its own pooled output was never trained, and is not taken.

    Args:
        weights: `"imagenet"` for its own, None for random ones, or a path.
        image_size: None.
        pooling: As in `load`; `"auto"` is the mean over the real tokens.

    Raises:
        ValueError: For an `image_size`, or the pooled output of its own.
    """
    if image_size is not None:
        raise ValueError(
            "`image_size` is for backbones that take pictures; 'prosenet' takes texts. "
            f"Received: image_size={image_size!r}"
        )
    if pooling == "own":
        raise ValueError(
            "prosenet's own pooled output was never trained: take the mean over its tokens "
            "(pooling='avg'), or the first. Received: pooling='own'"
        )
    network = load_prosenet() if weights == "imagenet" else prosenet()
    if weights not in (None, "imagenet"):
        load_weights(network, weights)
    return text_backbone(network, "avg" if pooling == "auto" else pooling)

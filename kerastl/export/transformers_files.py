"""Files of Hugging Face: a causal language model as `transformers` loads it."""

import json
import os
import pathlib

import keras
import numpy as np

from kerastl._base import files
from kerastl._base.checks import listed
from kerastl._base.types import PathLike
from kerastl.backbones import CausalLM, load_causal
from kerastl.backbones.causal import activation_of

# Families that KerasHub 0.32 writes and that come back equal.
FAMILIES = ("GPT2", "Llama3", "Mistral", "Qwen", "Gemma")
# What config.json calls the activations of GPT-2's blocks.
_ACTIVATIONS = {"gelu_approximate": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu"}
_ALIKE = 1e-4  # logits of order 10, computed twice from the same weights
_LENGTH = 16


def to_transformers(lm: CausalLM, folder: PathLike) -> str:
    """Write `lm` as files of Hugging Face, and see that they give the same logits again.

    `config.json`, `model.safetensors`, and the tokenizer's files where `lm` has one.

    Args:
        lm: `CausalLM` of GPT-2, Llama 3, Mistral, Qwen or Gemma.
        folder: Path of a folder, made anew; older files of Hugging Face there go.

    Returns:
        The path, a string.

    Raises:
        ValueError: If KerasHub writes no such files of its family.
        FileExistsError: If there is something else than such files at `folder`.
        RuntimeError: If the files do not give its logits; nothing is written then.
    """
    _check_family(lm)
    folder = pathlib.Path(files.checked(folder, ""))
    if os.path.lexists(folder) and not (folder / "model.safetensors").is_file():
        raise FileExistsError(
            f"`folder` must be free, or hold older files of Hugging Face. Received: {folder}, "
            "which is something else."
        )
    with files.work_folder(folder) as work:
        made = pathlib.Path(work, "files")
        lm.task.export_to_transformers(str(made))
        _complete(lm.task.backbone, made / "config.json")
        _verify(lm, made)
        files.replaced(made, folder)
    return os.fspath(folder)


def _check_family(lm):
    kind = type(lm.task).__name__.removesuffix("CausalLM")
    if kind not in FAMILIES:
        raise ValueError(
            f"Files of Hugging Face are written of {listed(FAMILIES)} alone, as far as KerasHub "
            f"has them. Received: a {type(lm.task).__name__}. Its preset serves KerasHub."
        )


def _complete(backbone, path):
    """Say in config.json what KerasHub leaves out, or says of all networks of a family alike."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if (activation := activation_of(backbone)) is not None:
        config["activation_function"] = _activation_name(activation)
    if hasattr(backbone, "use_sliding_window_attention"):  # Qwen; it slides in all layers
        config["use_sliding_window"] = backbone.use_sliding_window_attention
        config["sliding_window"] = backbone.sliding_window_size
        config["max_window_layers"] = 0
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _activation_name(said):
    name = (said if isinstance(said, str) else said["config"]).rpartition(">")[2]
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"Files of Hugging Face have a name for {listed(_ACTIVATIONS)}. Received: {name!r}"
        )
    return _ACTIVATIONS[name]


def _verify(lm, folder):
    try:
        again = load_causal(folder)
    except ValueError as error:
        raise RuntimeError(
            "The files of Hugging Face cannot be read again, as KerasHub writes and reads this "
            f"family: {error}"
        ) from error
    ids = np.random.default_rng(0).integers(1, lm.task.backbone.vocabulary_size, (2, _LENGTH))
    inputs = {"token_ids": ids.astype("int32"), "padding_mask": np.ones_like(ids, "int32")}
    before, after = (_logits(each.task, inputs) for each in (lm, again))
    if not np.allclose(before, after, rtol=_ALIKE, atol=_ALIKE):
        raise RuntimeError(
            "The files of Hugging Face do not give the logits of the model: they differ by up to "
            f"{np.abs(before - after).max():.3g}. Nothing was written; please report it."
        )


def _logits(task, inputs):
    return keras.ops.convert_to_numpy(keras.ops.cast(task(inputs), "float32"))

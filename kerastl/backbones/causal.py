"""Causal language models: tokens in, the logits of the next ones out; also KerasHub's task."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import keras

from kerastl._base import files
from kerastl._base.types import PathLike
from kerastl._keras import hub_repairs
from kerastl.backbones import hub, huggingface
from kerastl.backbones import weights as weight_files
from kerastl.backbones.packing import with_documents
from kerastl.backbones.prose import network as prose
from kerastl.backbones.tokens import load_tokens, max_length, packer_of
from kerastl.graph import flatten

PRESET = "preset"  # what a run folder calls the preset of its tuned model
_ADDED = "kerastl.json"  # what a preset of KerasHub has no place for
# What a folder of Hugging Face files may call its vocabulary.
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_INPUTS = {"token_ids", "padding_mask"}


@dataclasses.dataclass(frozen=True, eq=False)
class CausalLM:
    """A causal language model twice, over the same weights.

    Attributes:
        model: Flat functional `keras.Model` from `"token_ids"` and `"padding_mask"`, int32
            `(batch, length)`, to logits, float32 `(batch, length, vocabulary)`: what a
            `FineTuner` trains. With `packed=True` it takes `"documents"`, too.
        task: KerasHub's task, a `keras_hub.models.CausalLM`: what generates and what is saved. Its
            `preprocessor` holds the tokenizer, or is None where the preset has none.
        length: Int, the longest row that the model is meant for: its learnt positions, else what
            its files say. None where nothing does.
    """

    model: keras.Model
    task: Any
    length: int | None = None


def load_causal(
    name: PathLike,
    *,
    packed: bool = False,
    weights: PathLike | None = "imagenet",
    **options: Any,
) -> CausalLM:
    """A causal language model from a preset, a folder of Hugging Face files, or a run.

    Args:
        name: The name of a preset of KerasHub, such as `"gpt2_base_en"`; `"hub:PRESET"`; a handle;
            a folder with a preset or with the files of Hugging Face; or the folder of a run that
            tuned such a model.
        packed: Boolean, whether rows hold several documents that must not read one another; see
            `packing.with_documents`.
        weights: `"imagenet"` for the preset's own, None for random ones, or the path of a weights
            file of the backbone.
        **options: `gelu`, as in `load`.

    Returns:
        `CausalLM`.

    Raises:
        ValueError: If there is no such preset, if it is of another kind of network, if its
            checkpoint fills a part of it, or if its blocks take no mask where `packed` asks for it.
        FileNotFoundError: If a file is not there.
        ConnectionError: If it could not be downloaded.
        ImportError: If KerasHub is not installed.

    Example:
        >>> from kerastl.backbones import load_causal
        >>> lm = load_causal("gpt2_base_en")  # doctest: +SKIP
        >>> lm.task.generate("My trip to Yosemite was", max_length=30)  # doctest: +SKIP
    """
    if weights not in (None, "imagenet"):
        weights = weight_files.check_path(weights)
    preset = _preset_in(os.fspath(name))
    _check_kind(preset)
    network = hub.load_network(preset, weights=weights, with_pooler=False, options=options)
    task_class = _task_of(network)
    if task_class is None:
        raise _other_kind(name, type(network).__name__)
    if "gelu" not in options:
        _restore_activation(network, preset)
    length = _length_of(network, preset)
    task = task_class(backbone=network, preprocessor=_preprocessor(preset, network, length))
    hub_repairs.mend_before_saving([network, *network.layers])
    model = _in_float32(flatten(keras.Model(task.input, task.output, name=task.name)))
    return CausalLM(with_documents(model) if packed else model, task, length)


def save_preset(task: Any, folder: PathLike) -> None:
    """Save `task` as a preset of KerasHub from which `load_causal` gives the same logits.

    `task.save_to_preset` forgets the activation of GPT-2's blocks.

    Args:
        task: `keras_hub.models.CausalLM`.
        folder: Path of a folder, made anew; what is there goes.
    """
    folder = pathlib.Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    hub_repairs.mend_before_saving([task.backbone, *task.backbone.layers])
    with files.work_folder(folder) as work:
        made = pathlib.Path(work, "preset")
        task.save_to_preset(str(made))
        added = {"activation": activation_of(task.backbone)}
        (made / _ADDED).write_text(json.dumps(added), encoding="utf-8")
        files.replaced(made, folder)


def _preset_in(name):
    """The preset that a folder of a run holds, or `name` as it is."""
    own = os.path.join(name, PRESET)
    return own if os.path.isfile(os.path.join(own, "config.json")) else name


def _check_kind(preset):
    """Refuse what is known to be no causal language model before anything is loaded."""
    models = hub.import_keras_hub().models
    if preset == prose.NAME:
        raise _other_kind(preset, "BertBackbone")
    preset = hub.checked(preset)
    kind = _class_said(preset)
    for made in vars(models).values():
        is_backbone = isinstance(made, type) and issubclass(made, models.Backbone)
        if not is_backbone or made is models.Backbone or _task_class(made) is not None:
            continue
        if made.__name__ == kind or preset in made.presets:
            raise _other_kind(preset, made.__name__)


def _class_said(preset):
    config = huggingface.read_json(preset, "config.json") if os.path.isdir(preset) else None
    return (config or {}).get("registered_name", "").split(">")[-1]


def _other_kind(name, kind):
    return ValueError(
        "`name` must be a causal language model, such as GPT-2, Llama or Gemma, that takes texts "
        f"alone. Received: {os.fspath(name)!r}, a {kind}, with which KerasHub writes no texts. An "
        "encoder serves to classify: `kerastl.backbones.load(name)`."
    )


def _task_of(network):
    """KerasHub's task of a backbone that takes tokens alone; None if there is none."""
    takes = set(network.input) if isinstance(network.input, dict) else set()
    return _task_class(type(network)) if takes == _INPUTS else None


def _task_class(backbone_class):
    models = hub.import_keras_hub().models
    for made in vars(models).values():
        is_task = isinstance(made, type) and issubclass(made, models.CausalLM)
        if (
            is_task
            and not issubclass(made, models.Seq2SeqLM)
            and made.backbone_cls is backbone_class
        ):
            return made
    return None


def _preprocessor(preset, network, length):
    if os.path.isdir(preset) and not any(huggingface.file_of(preset, n) for n in _VOCABULARIES):
        return None
    tokens = load_tokens(preset, backbone=network)
    return packer_of(tokens, length or _UNLIMITED)


_UNLIMITED = 1024  # KerasHub's own default


def _length_of(network, preset):
    learnt = max_length(network)
    if learnt is not None:
        return learnt
    said = (huggingface.read_config(preset) or {}).get("max_position_embeddings")
    if said is None:
        packing = huggingface.read_json(preset, "preprocessor.json") or {}
        said = packing.get("config", {}).get("sequence_length")
    return None if said is None else int(said)


def _in_float32(model):
    if model.output.dtype == "float32":
        return model
    cast = keras.layers.Activation("linear", dtype="float32", name="logits")
    return keras.Model(model.input, cast(model.output), name=model.name)


def activation_of(network: Any) -> Any:
    """The activation of GPT-2's blocks, serialized; None of blocks whose config says it."""
    blocks = _plain_blocks(network)
    return keras.activations.serialize(blocks[0].activation) if blocks else None


def _restore_activation(network, preset):
    said = (huggingface.read_json(preset, _ADDED) or {}).get("activation")
    if said is not None:
        hub_repairs.use_activation(_plain_blocks(network), keras.activations.deserialize(said))


def _plain_blocks(network):
    import keras_hub

    kind = keras_hub.layers.TransformerDecoder
    return [layer for layer in network.layers if isinstance(layer, kind)]

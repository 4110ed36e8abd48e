"""A folder of Hugging Face files: what it says and KerasHub does not read.

KerasHub converts such folders by itself. It leaves out which activation a checkpoint was trained
with and how its texts are to be split, and fills what it can of a model before it stops at a
tensor that is not there. docs/texts.md lists what is mended here.
"""

import contextlib
import json
import os
import pathlib
import tempfile
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import keras

from kerastl import _keras
from kerastl._base.checks import listed, one_of
from kerastl._keras import hub_repairs

Gelu: TypeAlias = Literal["checkpoint", "exact", "tanh"]
GELUS = ("checkpoint", "exact", "tanh")

# What KerasHub 0.32 computes in the blocks of each family, whatever the checkpoint says.
COMPUTES = {
    "albert": "tanh",
    "bart": "exact",
    "bert": "tanh",
    "distilbert": "exact",
    "gpt2": "tanh",
    "roberta": "exact",
    "xlm-roberta": "exact",
}
# What the names in a config.json mean (transformers, `ACT2FN`).
_MEANS = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_TOLD = {"exact": "the exact GELU", "tanh": "the tanh form of GELU"}


def read_config(preset: str) -> dict[str, Any] | None:
    """The config.json of a preset of Hugging Face files; None for a preset of KerasHub's own."""
    config = read_json(preset, "config.json")
    is_other = config is None or "registered_name" in config or "model_type" not in config
    return None if is_other else config


def read_json(preset: str, name: str) -> dict[str, Any] | None:
    """The content of a file in a preset folder or at `hf://...`; None where there is none."""
    path = file_of(preset, name)
    if path is None:
        return None
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {type(content).__name__}")
    return content


def file_of(preset: str, name: str) -> str | None:
    """The path of a file of a preset, or None: presets with a name are never of these files."""
    if preset.startswith("hf://"):
        return hub_repairs.preset_file(preset, name)
    path = os.path.join(preset, name)
    return path if os.path.isfile(path) else None


def notices(preset: str, gelu: Gelu = "checkpoint") -> tuple[str, ...]:
    """What is computed otherwise than KerasHub would, or than the checkpoint asks: a sentence each.

    Args:
        preset: Folder or handle.
        gelu: As in `use_gelu`.
    """
    config = read_config(preset)
    family = None if config is None else config["model_type"]
    if config is None or family not in COMPUTES:
        return ()
    said, usual = _said(config), COMPUTES[family]
    wanted = said if gelu == "checkpoint" else gelu
    if wanted != said:
        trained = _TOLD.get(said, said)
        return (f"This {family} was trained with {trained}; gelu={gelu!r} computes another.",)
    if wanted != usual:
        return (
            f"This {family} was trained with {_TOLD.get(wanted, wanted)}, as its config.json says, "
            f"and that is computed; KerasHub would take {_TOLD[usual]} (gelu={usual!r}).",
        )
    return ()


def use_gelu(network: keras.Model, preset: str, gelu: Gelu) -> None:
    """Have the blocks of `network` compute what the checkpoint was trained with.

    Args:
        network: Backbone of KerasHub.
        preset: Folder or handle it came from.
        gelu: `"checkpoint"`, as config.json says, where that is a family whose activation
            KerasHub fixes; `"exact"` or `"tanh"` whatever it says.

    Raises:
        ValueError: If the checkpoint asks for an activation that is not known, or `gelu` for one
            in a network without such blocks.
    """
    one_of(gelu, GELUS, "gelu")
    config = read_config(preset)
    is_known = config is not None and config["model_type"] in COMPUTES
    if gelu == "checkpoint" and not is_known:
        return
    wanted = _said(config) if gelu == "checkpoint" else gelu
    blocks = hub_repairs.blocks_with_activation(network)
    if not blocks:
        raise ValueError(
            "`gelu` needs a network of KerasHub's encoder or decoder blocks, such as BERT. "
            f"Received: gelu={gelu!r} for {network.name!r}"
        )
    hub_repairs.use_activation(blocks, _function(wanted))


def use_epsilon(network: keras.Model, preset: str) -> None:
    """Have the norms of a decoder take what config.json says, which KerasHub does not read of all.

    Args:
        network: Backbone of KerasHub.
        preset: Folder or handle it came from.
    """
    said = (read_config(preset) or {}).get("rms_norm_eps")
    if said is not None:
        hub_repairs.use_epsilon([network, *_keras.with_sublayers(network)], said)


def _said(config):
    """What the blocks were trained with; by default what the family's own code takes."""
    for key in ("hidden_act", "activation", "activation_function"):
        if key in config:
            return _MEANS[one_of(config[key], tuple(_MEANS), f"{key} in config.json")]
    return "tanh" if config["model_type"] in ("gpt2", "albert") else "exact"


def _function(name) -> Any:
    if name == "tanh":  # by the name under which every model of KerasHub saves it
        return keras.saving.get_registered_object("keras_hub>gelu_approximate")
    return keras.activations.get("gelu" if name == "exact" else name)


@contextlib.contextmanager
def whole_checkpoint(preset: str, *, with_pooler: bool = True) -> Iterator[None]:
    """Load a model entirely inside this block, or raise an error that lists what is missing.

    Args:
        preset: Folder or handle.
        with_pooler: Bool, whether the trained pooler is wanted, which a checkpoint of a language
            model lacks.

    Raises:
        ValueError: If the files are not of the model that config.json describes.
        FileNotFoundError: If there is no model.safetensors.
    """
    if read_config(preset) is None:
        yield
        return
    import safetensors

    with hub_repairs.noting_misfits() as misfits:
        try:
            yield
        except FileNotFoundError:
            raise
        except safetensors.SafetensorError as error:
            if not hub_repairs.is_missing_tensor(error):
                raise ValueError(
                    f"The tensors of {preset} could not be read ({error}). Fetch model.safetensors "
                    "again if a download was cut short."
                ) from error
            misfits[str(error).split()[-1]] = error
        except KeyError as error:
            raise ValueError(
                f"{preset}/config.json must say {error}: KerasHub needs it to make this model."
            ) from error
    lacks_pooler = all("pooler." in name for name in misfits)
    if misfits and (with_pooler or not lacks_pooler):
        raise ValueError(_told(preset, misfits, lacks_pooler)) from next(iter(misfits.values()))


def _told(preset, misfits, lacks_pooler):
    missing = [name for name, error in misfits.items() if hub_repairs.is_missing_tensor(error)]
    others = [name for name in misfits if name not in missing]
    parts = [f"{len(missing)} are missing: {listed(missing)}"] if missing else []
    parts += [f"{len(others)} have another shape: {listed(others)}"] if others else []
    remedy = "Look at config.json, and whether the file was saved from the whole model"
    if lacks_pooler:
        remedy = "Only the pooler lacks: `pooling='avg'`, 'max' or 'token' does without"
    return (
        f"{preset} does not hold all of the model that its config.json describes; it would keep "
        f"random weights. Of the tensors needed, {'; '.join(parts)}. {remedy}{_such_as(preset)}."
    )


def _such_as(preset):
    import safetensors

    path = file_of(preset, "model.safetensors")
    if path is None:
        return ""
    with safetensors.safe_open(path, framework="np") as file:
        names = sorted(file.keys())
    return f" (it has {len(names)} tensors, such as {listed(names, 3)})"


def load_tokenizer(preset: str) -> Any:
    """KerasHub's tokenizer of a preset, told what its converters do not read.

    Hugging Face's BERT strips accents wherever it lower-cases, unless `strip_accents` says
    otherwise (null is no answer); KerasHub 0.32 hands on `do_lower_case` alone, so that "Café
    naïve" becomes two unknown words.
    """
    import keras_hub

    config = read_config(preset)
    if config is None:
        return keras_hub.models.Tokenizer.from_preset(preset)
    said = {**_from_fast(preset), **(read_json(preset, "tokenizer_config.json") or {})}
    settings = {}
    if config["model_type"] in _WORD_PIECE and "XLMRoberta" not in said.get("tokenizer_class", ""):
        lower = said.setdefault("do_lower_case", True)  # as `transformers` takes it
        accents = said.get("strip_accents")
        settings["strip_accents"] = lower if accents is None else accents
        settings["split_on_cjk"] = said.get("tokenize_chinese_chars", True)
    elif config["model_type"] in _BYTE_PAIR:
        settings["add_prefix_space"] = bool(said.get("add_prefix_space"))
    with _completed(preset, config, said) as folder:
        return keras_hub.models.Tokenizer.from_preset(folder, **settings)


def cleaning(preset: str) -> tuple[str, ...]:
    """What Hugging Face does to a text before it is split and KerasHub 0.32 does not.

    BERT's control characters, zero-width ones among them, go; KerasHub makes unknown words of
    them. ALBERT's quotes, accents and capitals are put right in the code of `AlbertTokenizer`;
    KerasHub's own presets have that in their sentencepiece model, the published files have not.

    Returns:
        Tuple of steps for `clean`; empty for a preset of KerasHub's own.
    """
    config = read_config(preset)
    family = None if config is None else config["model_type"]
    if family in _WORD_PIECE:
        fast = read_json(preset, "tokenizer.json") or {}
        keeps = (fast.get("normalizer") or {}).get("clean_text") is False
        return () if keeps else ("controls",)
    if family == "albert":
        said = read_json(preset, "tokenizer_config.json") or {}
        steps = {
            "quotes": True,
            "accents": not said.get("keep_accents", False),
            "lower": said.get("do_lower_case", True),
        }
        return tuple(step for step, is_taken in steps.items() if is_taken)
    return ()


def clean(text: str, steps: tuple[str, ...]) -> str:
    r"""`text` after `steps` of `cleaning`.

    Example:
        >>> clean("``Café''", ("quotes", "accents", "lower"))
        '"cafe"'
        >>> clean("zero\u200bwidth, a\ttab", ("controls",))
        'zerowidth, a tab'
    """
    if "controls" in steps and not text.isprintable():
        signs = (" " if sign.isspace() else sign for sign in text)
        text = "".join(sign for sign in signs if unicodedata.category(sign)[0] != "C")
    if "controls" in steps:
        text = text.replace("\ufffd", "")  # what a decoder could not read
    if "quotes" in steps:
        text = text.replace("``", '"').replace("''", '"')
    if "accents" in steps:
        text = unicodedata.normalize("NFKD", text)
        text = "".join(sign for sign in text if not unicodedata.combining(sign))
    return text.lower() if "lower" in steps else text


_WORD_PIECE = ("bert", "distilbert")
_WORD_PIECE_FILES = ("vocab.txt",)
_BYTE_PAIR = ("gpt2", "roberta")
_BYTE_PAIR_FILES = ("vocab.json", "merges.txt")


def _from_fast(preset):
    """What the normalizer in tokenizer.json says, by the names of tokenizer_config.json."""
    normalizer = (read_json(preset, "tokenizer.json") or {}).get("normalizer") or {}
    names = {
        "lowercase": "do_lower_case",
        "strip_accents": "strip_accents",
        "handle_chinese_chars": "tokenize_chinese_chars",
    }
    return {names[key]: value for key, value in normalizer.items() if key in names}


@contextlib.contextmanager
def _completed(preset, config, said):
    """A folder with the files that KerasHub reads, written from tokenizer.json where they lack."""
    family = config["model_type"]
    wanted = _WORD_PIECE_FILES if family in _WORD_PIECE else ()
    wanted = _BYTE_PAIR_FILES if family in _BYTE_PAIR else wanted
    files = {name: file_of(preset, name) for name in wanted}
    is_whole = all(files.values())
    if not files or "XLMRoberta" in said.get("tokenizer_class", ""):
        yield preset
        return
    with tempfile.TemporaryDirectory() as folder:
        content = {"config.json": json.dumps(config), "tokenizer_config.json": json.dumps(said)}
        fast = {} if is_whole else _fast_files(preset, tuple(files))
        for name, path in files.items():
            content[name] = pathlib.Path(path).read_text(encoding="utf-8") if path else fast[name]
        for name, text in content.items():
            pathlib.Path(folder, name).write_text(text, encoding="utf-8", newline="\n")
        yield folder


def _fast_files(preset, names):
    """The files called `names`, as text, from tokenizer.json."""
    fast = read_json(preset, "tokenizer.json")
    if fast is None:
        raise FileNotFoundError(
            f"{preset} must hold {' and '.join(names)}, or a tokenizer.json: texts cannot be read "
            "without."
        )
    vocabulary = dict(fast["model"]["vocab"])
    vocabulary.update({token["content"]: token["id"] for token in fast.get("added_tokens", ())})
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    if sorted(vocabulary.values()) != list(range(len(ordered))):
        raise ValueError(
            f"The ids in {preset}/tokenizer.json must be 0 to {len(ordered) - 1}, each once. Put "
            f"{' and '.join(names)} beside it."
        )
    merges = [m if isinstance(m, str) else " ".join(m) for m in fast["model"].get("merges", ())]
    return {
        "vocab.txt": "".join(f"{token}\n" for token in ordered),
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "".join(f"{merge}\n" for merge in merges),
    }

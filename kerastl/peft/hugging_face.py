"""Reading a LoRA from a folder of Hugging Face's PEFT.

PEFT keeps `A` as `(rank, inputs)` and `B` as `(outputs, rank)`, each transposed to ours. GPT-2's
query, key and value are one module there: they share `A`, and `B` has a third of its rows for
each. Ours have an `A` each, which three equal ones or a block form of three times the rank hold.
"""

import json
import pathlib
import re
from typing import Any

import keras
import numpy as np

from kerastl._base import checks
from kerastl._base.types import PathLike
from kerastl.graph import check_fine_tuner, leaf_layers
from kerastl.peft.adding import Added, check_new_name, put_beside
from kerastl.peft.bank import bank_of
from kerastl.peft.fingerprint import head_of
from kerastl.peft.hugging_face_names import CONFIG, TENSORS, family_of, modules_of
from kerastl.peft.linear import linear_of
from kerastl.peft.lora import LoRA
from kerastl.training import FineTuner

_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_SAVED = re.compile(r"base_model\.model\.(\w+)\.(weight|bias)")
_READ = {
    "peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern",
    "bias", "use_dora", "modules_to_save", "init_lora_weights",
}  # fmt: skip
# What says nothing of what is computed: the tensors tell which modules there are, the layout of
# `A` and `B` does not depend on `fan_in_fan_out`, and the rest is where things came from.
_SAYS_NOTHING = {
    "auto_mapping", "base_model_name_or_path", "eva_config", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules",
    "task_type",
}  # fmt: skip
_LEAVE_THE_BASE = (
    True,
    False,
    None,
    "gaussian",
    "eva",
    "orthogonal",
)  # other ways to begin edit it


def import_huggingface(
    model: FineTuner, folder: PathLike, name: str = "default", *, head: bool = True
) -> Added:
    """Put the LoRA in a folder of Hugging Face's PEFT beside the layers of `model`.

    Read are the rank, alpha and scaling, also by pattern, and the dropout; of GPT-2's fused
    module query, key and value get `A` each, and train apart from then on. A BERT's `classifier`
    becomes the head where that is one Dense of its shape.

    Args:
        model: `FineTuner` over KerasHub's BERT, GPT-2 or Llama, with the weights that the adapter
            was trained on, such as `load_causal(folder)` of Hugging Face files gives.
        folder: Path of the folder.
        name: String, what to call the adapter.
        head: Boolean, whether a head in the folder is taken over.

    Returns:
        `Added`, a table of what trains.

    Raises:
        ValueError: If the folder asks for what would be computed otherwise, by name; if its
            tensors do not fit `model`; if the name is taken. `model` is as before then.
        FileNotFoundError: If one of the two files is not there.
    """
    check_fine_tuner(model, "`peft.import_huggingface`", "which owns the adapters")
    check_new_name(model, name)
    if model.adapter_bank is not None:
        model.adapter_bank.refuse_merged("`peft.import_huggingface`")
    family = family_of(model)
    config, tensors = _read(pathlib.Path(folder))
    _refuse_what_is_not_done(folder, config)
    modules, saved = _split(folder, tensors)
    prefix = next(p for p in family.prefixes if all(name.startswith(p) for name in modules))
    places = {f"{prefix}{name}": pairs for name, pairs in modules_of(model, family).items()}
    factors, method = _factors(folder, config, modules, places)
    own_head = head_of(model)
    values = _values_of_head(folder, family, saved, own_head) if head else []
    layers = [layer for _, layer, _, _ in factors]
    put_beside(model, method, layers, name=name, training=own_head)
    named = bank_of(model, who="`peft.import_huggingface`").named[name]
    for member, (_, _, a, b) in zip(named.members, factors, strict=True):
        member.a.assign(a)
        member.b.assign(b)
    for variable, value in values:
        variable.assign(value)
    return Added.of(model, named)


def _read(folder):
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            pickled = (folder / "adapter_model.bin").is_file()
            raise FileNotFoundError(
                f"A folder of Hugging Face's PEFT holds {CONFIG} and {TENSORS}; there is no "
                f"{folder / name}."
                + (" Its adapter_model.bin is a pickle, which could run anything: save the "
                   "adapter again with `safe_serialization=True`." if pickled else "")
            )  # fmt: skip
    import safetensors
    from safetensors.numpy import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config, load_file(folder / TENSORS)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{folder} cannot be read: {error}") from error


def _refuse_what_is_not_done(folder, config):
    others = {
        key: value
        for key, value in config.items()
        if key not in _READ | _SAYS_NOTHING and value not in (None, False, [], {})
    }
    if config.get("peft_type") != "LORA":
        others["peft_type"] = config.get("peft_type")
    if config.get("bias", "none") != "none":
        others["bias"] = config["bias"]
    if config.get("use_dora"):
        others["use_dora"] = True
    if config.get("init_lora_weights", True) not in _LEAVE_THE_BASE:
        others["init_lora_weights"] = config["init_lora_weights"]
    if others:
        said = checks.listed(f"{key}={value!r}" for key, value in others.items())
        raise ValueError(
            f"{folder} asks for what is not read from such folders: {said}. Read is plain LoRA: "
            "peft_type='LORA', bias='none', beside a base that stays as it was."
        )


def _split(folder, tensors):
    """`(module → {"A": ..., "B": ...}, module → {"weight": ..., "bias": ...})`."""
    modules, saved, odd = {}, {}, []
    for name, value in tensors.items():
        if found := _TENSOR.fullmatch(name):
            modules.setdefault(found[1], {})[found[2]] = value
        elif found := _SAVED.fullmatch(name):
            saved.setdefault(found[1], {})[found[2]] = value
        else:
            odd.append(name)
    if odd:
        raise ValueError(
            f"{folder} has tensors that are not read from such folders: {checks.listed(odd, 3)}. "
            "Read are `lora_A` and `lora_B` of linear layers, and a head."
        )
    return modules, saved


def _factors(folder, config, modules, places) -> tuple[list[tuple[str, Any, Any, Any]], LoRA]:
    """`(path, layer, a, b)` for each layer, and the `LoRA` that they are of."""
    unknown = [name for name in modules if name not in places]
    if unknown:
        raise ValueError(
            f"{folder} has factors for {checks.listed(unknown, 3)}, and a LoRA of those is not "
            f"read: the network has {checks.listed(places, 6)}."
        )
    found, ranks, alphas = [], {}, {}
    for name, pairs in places.items():
        if name not in modules:
            continue
        a, b, rank = _checked(folder, name, config, modules[name], pairs)
        alpha = _by_pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
        sizes = [linear_of(layer).num_outputs for _, layer in pairs]
        parts = np.split(b, np.cumsum(sizes)[:-1], axis=1)
        for (path, layer), part in zip(pairs, parts, strict=True):
            found.append((path, layer, a, part))
            if rank != config["r"]:
                ranks[re.escape(path)] = rank
            if alpha != config["lora_alpha"]:
                alphas[re.escape(path)] = float(alpha)
    if not found:
        raise ValueError(f"{folder} holds no factors of LoRA.")
    method = LoRA(
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        scaling="rslora" if config.get("use_rslora") else "lora",
        ranks=ranks,
        alphas=alphas,
    )
    return found, method


def _checked(folder, name, config, factors, pairs):
    """`(a, b, rank)` of one module as ours, refused where they do not fit."""
    rank = _by_pattern(config.get("rank_pattern"), name, config["r"])
    linears = [linear_of(layer) for _, layer in pairs]
    wanted = {
        "A": (rank, linears[0].num_inputs),
        "B": (sum(one.num_outputs for one in linears), rank),
    }
    shapes = {which: value.shape for which, value in factors.items()}
    if shapes != wanted:
        raise ValueError(
            f"The factors of {name!r} in {folder} do not fit the network and the rank {rank}: "
            f"needed are {wanted}. Received: {shapes}. Load the base that it was trained on."
        )
    return factors["A"].T, factors["B"].T, rank


def _by_pattern(patterns, name, otherwise):
    """As PEFT does: the first key that is the end of the name, as a regex."""
    for key, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({key})$", name) or _ends(key, name):
            return value
    return otherwise


def _ends(key, name):
    """Whether `key` is `name` with what comes before it in a file."""
    return any(
        re.fullmatch(key, f"{before}{name}") for before in ("bert.", "transformer.", "model.")
    )


def _values_of_head(folder, family, saved, own_head) -> list[tuple[keras.Variable, Any]]:
    """Pairs of a variable of the head and its value."""
    if not saved:
        return []
    dense = [leaf for layer in own_head for leaf in leaf_layers(layer) if leaf.weights]
    given = saved.get(family.head, {})
    fits = (
        len(saved) == 1
        and "weight" in given
        and len(dense) == 1
        and isinstance(dense[0], keras.layers.Dense)
        and dense[0].kernel.shape == given["weight"].T.shape
        and (dense[0].bias is not None) == ("bias" in given)
    )
    if not fits:
        shapes = {name: parts["weight"].shape for name, parts in saved.items() if "weight" in parts}
        raise ValueError(
            f"{folder} has a head (`modules_to_save`: {shapes}) that is not this model's: taken "
            "over is the `classifier` of a BERT, by a head of one Dense of its shape. For the "
            "adapter alone: `peft.import_huggingface(model, folder, head=False)`."
        )
    layer: Any = dense[0]
    values = [(layer.kernel, given["weight"].T)]
    return [*values, (layer.bias, given["bias"])] if "bias" in given else values

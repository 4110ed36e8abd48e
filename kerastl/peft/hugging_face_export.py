"""Writing a LoRA as a folder that Hugging Face's PEFT loads."""

import json
import math
import os
import pathlib
from collections import Counter

import keras
import numpy as np

from kerastl import _keras
from kerastl._base import checks, files
from kerastl._base.types import PathLike
from kerastl.graph import leaf_layers
from kerastl.peft.bank import bank_of, known
from kerastl.peft.fingerprint import head_of
from kerastl.peft.hugging_face_names import CONFIG, TENSORS, Family, family_of, modules_of
from kerastl.peft.linear import linear_of
from kerastl.peft.lora import LoRA, LowRank
from kerastl.training import FineTuner


def export_huggingface(
    model: FineTuner, folder: PathLike, name: str | None = None, *, head: bool = True
) -> str:
    """Write a LoRA of `model` as a folder that Hugging Face's PEFT loads.

    Of GPT-2, query, key and value whose `A` are alike, as they are where they came from such a
    folder, stay of their rank. Others become one module of the sum of their ranks: `A` one above
    the other, and in `B` each in rows and columns of its own, which is exact.

    Args:
        model: `FineTuner` over KerasHub's BERT, GPT-2 or Llama, with a LoRA that is not merged.
        folder: Path of a folder, made anew; an older such folder there goes.
        name: String, which adapter. None is the one that acts.
        head: Boolean, whether a head that trains is written, which can be done of one Dense
            beside BERT, the `classifier` of `BertForSequenceClassification`.

    Returns:
        The path, a string.

    Raises:
        ValueError: If the adapter is no LoRA of linear layers, or something else than it and such
            a head trains, by name.
        FileExistsError: If there is something else at `folder`.
    """
    bank = bank_of(model, who="`peft.export_huggingface`")
    bank.refuse_merged("`peft.export_huggingface`")
    if name is None and len(bank.active) != 1:
        raise ValueError(f"{len(bank.active)} adapters act. Say which to export by `name`.")
    named = bank.named[
        bank.active[0] if name is None else known(bank, name, "`peft.export_huggingface`")
    ]
    folder = pathlib.Path(files.checked(folder, ""))
    if os.path.lexists(folder) and not (folder / CONFIG).is_file():
        raise FileExistsError(
            f"`folder` must be free, or hold an older adapter. Received: {folder}, which is "
            "something else."
        )
    family = family_of(model)
    saved = _head_tensors(model, family, head)
    config, tensors = _exported(named, family, modules_of(model, family), bool(saved))
    with files.work_folder(folder) as work:
        made = pathlib.Path(work, "adapter")
        made.mkdir()
        (made / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
        from safetensors.numpy import save_file

        save_file({**tensors, **saved}, made / TENSORS, metadata={"format": "pt"})
        files.replaced(made, folder)
    return os.fspath(folder)


def _head_tensors(model, family: Family, head):
    """The head as PEFT saves it; refused where something trains that it has no place for."""
    own = {id(leaf) for layer in head_of(model) for leaf in leaf_layers(layer)}
    adapters = {id(one) for one in model.adapter_bank.variables}
    training = [
        layer
        for layer in _keras.with_sublayers(model)
        if any(v.trainable and id(v) not in adapters for v in _keras.own_trainable_variables(layer))
    ]
    others = [leaf.name for leaf in training if id(leaf) not in own]
    if others:
        raise ValueError(
            "A folder of Hugging Face's PEFT holds the adapter and a head, and more trains: "
            f"{checks.listed(dict.fromkeys(others), 3)}. Freeze it if it has not moved, or write "
            "`peft.save(model, path)`."
        )
    if not head or not training:
        return {}
    (layer, *more) = training
    if more or not family.head or not isinstance(layer, keras.layers.Dense) or layer.bias is None:
        raise ValueError(
            f"Hugging Face's {family.name} has no head like that of {model.name!r} "
            f"({checks.listed(one.name for one in training)}). For the adapter alone: "
            "`peft.export_huggingface(model, folder, head=False)`."
        )
    prefix = f"base_model.model.{family.head}"
    kernel, bias = (keras.ops.convert_to_numpy(v) for v in (layer.kernel, layer.bias))
    return {f"{prefix}.weight": np.ascontiguousarray(kernel.T), f"{prefix}.bias": bias}


def _exported(named, family: Family, places, has_head):
    members = {id(one.beside.layer): one for one in named.members}
    known_layers = {id(layer) for pairs in places.values() for _, layer in pairs}
    odd = [
        one.beside.layer.name
        for one in named.members
        if type(one) is not LowRank or id(one.beside.layer) not in known_layers
    ]
    if odd:
        raise ValueError(
            f"{named.name!r} acts on layers, or in a way, that such a folder has no place for: "
            f"{checks.listed(dict.fromkeys(odd), 3)} ({type(named.method).__name__}). Written is "
            f"LoRA of the linear layers of {family.name}."
        )
    method: LoRA = named.method
    has_prefix = has_head or not family.head
    prefix = family.prefixes[0] if has_prefix else ""
    tensors, ranks, alphas = {}, {}, {}
    for module, pairs in places.items():
        chosen = [members.get(id(layer)) for _, layer in pairs]
        if not any(chosen):
            continue
        a, b, ranks[prefix + module], alphas[prefix + module] = _fused(chosen, pairs, method)
        tensors[f"base_model.model.{prefix}{module}.lora_A.weight"] = np.ascontiguousarray(a.T)
        tensors[f"base_model.model.{prefix}{module}.lora_B.weight"] = np.ascontiguousarray(b.T)
    rank, alpha = (Counter(told.values()).most_common(1)[0][0] for told in (ranks, alphas))
    config = {
        "peft_type": "LORA",
        "task_type": family.task if has_prefix else "FEATURE_EXTRACTION",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": method.dropout,
        "use_rslora": method.scaling == "rslora",
        "rank_pattern": {key: value for key, value in ranks.items() if value != rank},
        "alpha_pattern": {key: value for key, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "modules_to_save": [family.head] if has_head else None,
        "fan_in_fan_out": family.name == "GPT-2",
        "bias": "none",
        "use_dora": False,
        "init_lora_weights": True,
    }
    return config, tensors


def _fused(members, pairs, method: LoRA):
    """`(a, b, rank, alpha)` of one module, of the adapters of the layers that it is."""
    sizes = [linear_of(layer).num_outputs for _, layer in pairs]
    factors = [one and [keras.ops.convert_to_numpy(v) for v in (one.a, one.b)] for one in members]
    first = next(one for one in members if one)
    a = next(pair[0] for pair in factors if pair)
    alike = all(one is None or one.scale == first.scale for one in members) and all(
        pair is None or np.array_equal(pair[0], a) for pair in factors
    )
    if alike:
        parts = [np.zeros((first.rank, n), "float32") if pair is None else pair[1]
                 for pair, n in zip(factors, sizes, strict=True)]  # fmt: skip
        path = next(path for (path, _), one in zip(pairs, members, strict=True) if one)
        alpha = float(method.scale(path) * _divisor(first.rank, method))
        return a, np.concatenate(parts, axis=1), first.rank, _said(alpha)
    rank = sum(one.rank for one in members if one)
    b, row, column = np.zeros((rank, sum(sizes)), "float32"), 0, 0
    for one, pair, size in zip(members, factors, sizes, strict=True):
        if pair is not None:
            rows = slice(row, row + one.rank)
            b[rows, column : column + size] = pair[1] * np.float32(one.scale / first.scale)
            row += one.rank
        column += size
    a = np.concatenate([pair[0] for pair in factors if pair is not None], axis=1)
    return a, b, rank, _said(first.scale * _divisor(rank, method))


def _divisor(rank, method):
    return math.sqrt(rank) if method.scaling == "rslora" else rank


def _said(alpha):
    """`alpha` as a person would have written it, where rounding has moved it."""
    return round(alpha) if math.isclose(alpha, round(alpha), rel_tol=1e-12) else alpha

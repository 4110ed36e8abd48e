"""One adapter as one file: a safetensors file of a few megabytes, with all that goes with it.

A single file of safetensors, not a zip: any reader of that format shows what is in it, a header
tells each tensor's place, nothing in it can be run, and a file that was cut short does not open.
What is no tensor is JSON in the header's metadata, with a hash over it and the tensors.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerastl._base import checks, files
from kerastl._base.types import PathLike
from kerastl.freezing import freezing_state, restore_freezing
from kerastl.graph import check_fine_tuner, leaf_layers
from kerastl.graph.flags import all_leaves
from kerastl.peft.adapter import Method
from kerastl.peft.adding import HEAD, Added, check_new_name, put_beside
from kerastl.peft.bank import NamedAdapter, bank_of, known
from kerastl.peft.fingerprint import (
    TRAINED,
    LayerPrint,
    all_weights,
    head_of,
    kept_variables,
    layers_by_path,
    places,
    prints_of,
)
from kerastl.peft.optimizer_state import WaitingState, capture
from kerastl.training import FineTuner

FORMAT, VERSION, SUFFIX = "kerastl.adapter", 1, ".adapter"
_BEGINNING = b'{"__metadata__"'  # of any file of safetensors with metadata, after a length


def save(
    model: FineTuner, path: PathLike, name: str | None = None, *, optimizer: bool = True
) -> None:
    """Write one adapter of `model`, with its head, to a file.

    It holds the adapter's weights, those of the head and of whatever else trains with it, their
    statistics, the random states of dropout, what is frozen, and a hash of each layer of the
    base, by which `load` knows that one again. The base itself is not in it. It is written whole
    or not at all.

    Args:
        model: `FineTuner` with adapters, not merged.
        path: Path that ends in `.adapter`.
        name: String, which adapter. None is the one that acts.
        optimizer: Boolean, whether the state of the optimizer is written, too, if the model is
            compiled: two numbers a weight for Adam. Training can go on exactly with it. The terms
            of a loss and what a plan is at are not in the file; a run's checkpoint has those.

    Raises:
        ValueError: If there is no such adapter, if it is merged, or if none or several act and no
            name is given; if the optimizer's state is mixed with that of another adapter.
        FileNotFoundError: If there is no such folder.

    Example:
        >>> import os, tempfile
        >>> from kerastl import peft
        >>> def base():
        ...     inputs = keras.Input((16,))
        ...     keras.utils.set_random_seed(0)
        ...     hidden = keras.layers.Dense(16, name="block_1_dense")(inputs)
        ...     return FineTuner(inputs, keras.layers.Dense(2, name="head")(hidden))
        >>> model = base()
        >>> added = peft.add(model, peft.LoRA(rank=2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     peft.save(model, f"{folder}/x.adapter")
        ...     print(str(peft.load(base(), f"{folder}/x.adapter")).splitlines()[0])
        adapter 'default', LoRA: 64 weights beside 1 layers; with them 34 of the base train
    """
    bank = bank_of(model, who="`peft.save`")
    bank.refuse_merged("`peft.save`")
    path = files.checked(path, SUFFIX)
    named = bank.named[_name(bank, name)]
    prints, layers = prints_of(model), layers_by_path(model)
    of_adapter = _variables_of(named, _targets(named, layers))
    variables = {**of_adapter, **kept_variables(prints, layers)}
    is_active = named.name in bank.active
    names = {id(v): key for key, v in {**all_weights(prints, layers), **of_adapter}.items()}
    state, values = capture(model, names) if optimizer and is_active else (None, [])
    tensors = {key: keras.ops.convert_to_numpy(value) for key, value in variables.items()}
    tensors |= {f"optimizer/{i}": value for i, value in enumerate(values)}
    said = {
        "name": named.name,
        "method": type(named.method).__name__,
        "settings": _plain(named.method),
        "targets": _targets(named, layers),
        "is_active": is_active,
        "layers": [dataclasses.asdict(one) for one in prints],
        "flags": _flags(model, named, layers),
        "optimizer": state,
    }
    _write(path, said, {key: _standard(value) for key, value in tensors.items()})


def load(
    model: FineTuner,
    path: PathLike,
    name: str | None = None,
    *,
    head: bool = True,
    optimizer: bool = True,
) -> Added:
    """Put the adapter in a file beside layers of `model`, a base like the one it was trained on.

    It acts alone afterwards, as after `add`, and the head and whatever else trained with it are
    as they were. Compile the model: its optimizer then goes on where the one in the file stood,
    so that a `fit` gives the numbers that it would have given, or `compile` says what differs.

    Args:
        model: `FineTuner`.
        path: Path of a file that `save` wrote.
        name: String, what to call it here. None is the name in the file.
        head: Boolean, whether the head is taken over. Without it, the head of `model` stays and
            trains, and the optimizer begins anew.
        optimizer: Boolean, whether the optimizer is to go on.

    Returns:
        `Added`, a table of what trains. Print it.

    Raises:
        ValueError: If the file is none of an adapter, damaged or of a newer version, if its base
            is another (with up to three layers that differ) or its head is, if the name is taken,
            or if adapters of `model` are merged. `model` is as before then.
        FileNotFoundError: If there is no file.
    """
    check_fine_tuner(model, "`peft.load`", "which owns the adapters")
    if model.adapter_bank is not None:
        model.adapter_bank.refuse_merged("`peft.load`")
    said, tensors = _read(path)
    name = str(said["name"] if name is None else name)
    check_new_name(model, name)
    method = _method_of(path, said["method"], said["settings"])
    prints = [LayerPrint(**one) for one in said["layers"]]
    layers = places(path, prints, model, with_head=head)
    training = [layers[one.path] for one in prints if one.part in (HEAD, TRAINED)
                and one.path in layers and one.shapes]  # fmt: skip
    if not head:
        training += [layer for layer in head_of(model) if not any(layer is o for o in training)]
    before = freezing_state(model)
    acting = model.adapter_bank.active if model.adapter_bank is not None else ()
    targets = [layers[target] for target in said["targets"]]
    put_beside(model, method, targets, name=name, training=training)
    bank = bank_of(model, who="`peft.load`")
    named = bank.named[name]
    try:
        of_adapter = _variables_of(named, said["targets"])
        variables = {**of_adapter, **kept_variables(prints, layers)}
        _check_shapes(path, of_adapter, variables, tensors)
    except ValueError:
        _take_back(model, name, acting, before)
        raise
    for key, variable in variables.items():
        variable.assign(tensors[key])
    _restore_flags(model, named, layers, said)
    if head and optimizer and said["optimizer"] is not None:
        weights = {**all_weights(prints, layers), **of_adapter}
        count = sum(key.startswith("optimizer/") for key in tensors)
        values = [tensors[f"optimizer/{i}"] for i in range(count)]
        bank.state.waiting = WaitingState(path, said["optimizer"], values, weights)
    return Added.of(model, named)


def _name(bank, name):
    if name is not None:
        return known(bank, name, "`peft.save`")
    if len(bank.active) == 1:
        return bank.active[0]
    raise ValueError(
        f"`peft.save` writes one adapter, and {len(bank.active)} act. Say which of "
        f"{checks.listed(map(repr, bank.named), 40)} by `name`."
    )


def _targets(named, layers):
    paths = {id(layer): path for path, layer in layers.items()}
    return [paths[id(one.beside.layer)] for one in named.members]


def _variables_of(named: NamedAdapter, targets: list[str]) -> dict[str, keras.Variable]:
    """All variables of an adapter, random states among them, by their names in a file.

    What is in no member, or in an earlier one too, is in the file once.
    """
    found, seen = {}, set()
    parts = [(f"adapter/{path}", one) for path, one in zip(targets, named.members, strict=True)]
    for prefix, layer in [*parts, ("shared", named)]:
        for i, variable in enumerate(v for v in layer.variables if id(v) not in seen):
            found[f"{prefix}/{i}/{variable.name}"] = variable
        seen |= {id(variable) for variable in layer.variables}
    return found


def _check_shapes(path, of_adapter, variables, tensors):
    saved = {key for key in tensors if key.startswith(("adapter/", "shared/"))}
    odd = [*sorted(saved.symmetric_difference(of_adapter))]
    odd += [
        key
        for key, variable in variables.items()
        if key in tensors and tuple(variable.shape) != tensors[key].shape
    ]
    odd += [key for key in variables if key not in tensors and key not in of_adapter]
    if odd:
        raise ValueError(
            f"{path} does not hold what this kerastl makes of its method: {checks.listed(odd, 3)}. "
            "Load it with the kerastl that wrote it."
        )


def _take_back(model, name, acting, before):
    """Have `model` be as before the adapter `name` was added to it."""
    bank = model.adapter_bank
    bank.activate(acting)
    bank.drop(name)
    if not bank.named:
        model.set_adapter_bank(None)
    restore_freezing(model, before)


# Flags of leaves, by the path of the leaf in the model or its place in the adapter.


def _flags(model, named, layers):
    state, keys = freezing_state(model), _keys_of_leaves(model, named, layers)
    return {
        "frozen": [keys[i] for i in state["frozen"] if keys[i]],
        "fixed_statistics": [keys[i] for i in state["fixed_statistics"] if keys[i]],
        "held": [[keys[i], j] for i, j in state["held"] if keys[i]],
    }


def _restore_flags(model, named, layers, said):
    now, keys = freezing_state(model), _keys_of_leaves(model, named, layers)
    told = [key is not None and (said["is_active"] or key.startswith("model/")) for key in keys]

    def merged(which):
        return [i for i, key in enumerate(keys) if (key in said["flags"][which] if told[i]
                else i in now[which])]  # fmt: skip

    held = [[keys.index(key), j] for key, j in said["flags"]["held"] if key in keys]
    state = {
        "frozen": merged("frozen"),
        "fixed_statistics": merged("fixed_statistics"),
        "held": [pair for pair in held if told[pair[0]]]
        + [pair for pair in now["held"] if not told[pair[0]]],
    }
    restore_freezing(model, state)


def _keys_of_leaves(model, named, layers) -> list[Any]:
    """A key for each leaf of `model`, None for one that a file says nothing of."""
    keys = {id(layer): f"model/{path}" for path, layer in layers.items()}
    for i, member in enumerate(named.members):
        keys |= {id(leaf): f"adapter/{i}/{j}" for j, leaf in enumerate(leaf_layers(member))}
    return [keys.get(id(leaf)) for leaf in all_leaves(model)]


# Methods by name: a class that this process has, never one that a file names a module of.


def _methods() -> dict[str, type[Method]]:
    found, waiting = {}, [Method]
    while waiting:
        cls = waiting.pop(0)
        waiting += cls.__subclasses__()
        if cls.__name__ not in found or cls.__module__.startswith("kerastl.peft."):
            found[cls.__name__] = cls
    return found


def _plain(method):
    """The settings of `method` as JSON values, from which an equal one can be made."""
    settings = json.loads(json.dumps(method.get_config()))
    if type(method).from_config(settings) != method:
        raise ValueError(
            f"The settings of {method} must be plain, for a file to hold them: numbers, strings, "
            "lists and dicts of them."
        )
    return settings


def _method_of(path, name, settings):
    known_methods = _methods()
    if name not in known_methods:
        raise ValueError(
            f"{path} holds an adapter of the method {name!r}, and known are "
            f"{checks.listed(sorted(set(known_methods) - {'Method'}), 40)}. Update kerastl, or "
            "import the module that has it."
        )
    try:
        return known_methods[name].from_config(settings)
    except TypeError as error:
        raise ValueError(
            f"{path} has settings of {name} that this kerastl does not know ({error}). Load it "
            "with the kerastl that wrote it."
        ) from error


# The file itself.


def _standard(value: Any) -> np.ndarray:
    """`value` in a type that safetensors has: bfloat16 and its kin as float32, which holds them."""
    value = np.asarray(value)
    return np.array(value, "float32" if value.dtype.kind == "V" else value.dtype, order="C")


def _write(path, said: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save as to_bytes

    text = json.dumps(said)
    metadata = {"format": FORMAT, "version": str(VERSION), "adapter": text}
    metadata["sha256"] = _digest(text, tensors)
    files.write(path, to_bytes(dict(tensors), metadata=metadata))


def _read(path: PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import safetensors

    if not pathlib.Path(path).is_file():
        near = checks.near_path(pathlib.Path(path))
        raise FileNotFoundError(f"There is no adapter file {path}.{near}")
    try:
        with safetensors.safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        with open(path, "rb") as opened:  # of which an end is missing, or which is something else
            begins_so = opened.read(8 + len(_BEGINNING))[8:] == _BEGINNING
        raise ValueError((_damaged if begins_so else _no_adapter)(path)) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(_no_adapter(path))
    if int(metadata["version"]) > VERSION:
        raise ValueError(
            f"{path} is of version {metadata['version']}, and this kerastl reads up to {VERSION}. "
            "Update kerastl."
        )
    if metadata["sha256"] != _digest(metadata["adapter"], tensors):
        raise ValueError(_damaged(path))
    return json.loads(metadata["adapter"]), tensors


def _damaged(path):
    return f"{path} is damaged: it was cut short or altered since it was written. Copy it again."


def _no_adapter(path):
    return (
        f"{path} is no adapter file of kerastl, as `peft.save` writes it. A folder of Hugging "
        "Face's PEFT is read by `peft.import_huggingface`."
    )


def _digest(text, tensors):
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        value = np.ascontiguousarray(tensors[key])
        digest.update(f"{key} {tensors[key].shape} {value.dtype.name} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()

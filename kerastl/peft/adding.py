"""Adding an adapter to a model: what it acts on, what stands still, and how many weights train."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from kerastl import _keras
from kerastl._base import checks, text_table
from kerastl._base.types import Where
from kerastl.freezing import freeze, unfreeze
from kerastl.graph import check_fine_tuner, leaf_layers, select_layers
from kerastl.graph.adapters import adapted
from kerastl.graph.flags import all_leaves, count_trainable, count_weights
from kerastl.graph.flatten import layers_at_any_depth
from kerastl.peft.adapter import Method
from kerastl.peft.bank import AdapterBank, paths_of
from kerastl.peft.quantized import check_quantized
from kerastl.training import FineTuner

HEAD = "head"


def add(
    model: FineTuner,
    method: Method,
    where: Where | None = None,
    *,
    name: str = "default",
    also_train: Where | None = None,
) -> "Added":
    """Put an adapter beside layers of `model`: it trains, and the base stands still.

    The layers of the base keep their weights and their place, and infer while the adapter trains;
    a base that is saved by itself is what it was, bit for bit. The new adapter is the one that
    acts, alone; earlier ones stay and can be activated again. Compile the model afterwards.

    Args:
        model: `FineTuner`.
        method: What to add, such as `LoRA(rank=8)`.
        where: Which layers it acts on, as in `freeze`; of what this means, those layers that the
            method can act on. None is the method's own choice, mostly all linear layers of the
            blocks.
        name: String, what to call it, without a slash.
        also_train: Which layers of the model train beside it, as in `freeze`. None is the group
            `head`, where there is one; `()` is none.

    Returns:
        `Added`, a table of what trains. Print it.

    Raises:
        TypeError: If `model` is no `FineTuner`, or `method` no method.
        ValueError: If there is an adapter of that name, or an adapter of another model acts on the
            layers, or one of this model is merged; if `where` means no layer that the method can
            act on, with what it means.
        RuntimeError: In the midst of a `fit`.

    Example:
        >>> from kerastl import peft
        >>> inputs = keras.Input((16,))
        >>> hidden = keras.layers.Dense(16, activation="relu", name="block_1_dense")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(2, name="head")(hidden))
        >>> print(peft.add(model, peft.LoRA(rank=2)))
        adapter 'default', LoRA: 64 weights beside 1 layers; with them 34 of the base train
        group    layers  adapter  base that trains
        block_1       1       64                 0
        head          0        0                34
    """
    check_fine_tuner(model, "`peft.add`", "which owns the adapters")
    if not isinstance(method, Method):
        raise TypeError(
            "`method` must be a method of `kerastl.peft`, such as `LoRA(rank=8)`. Received: "
            f"method={method!r} (of type {type(method).__module__}.{type(method).__qualname__})"
        )
    check_new_name(model, name)
    layers = _layers(model, method, where)
    training = _also_training(model, also_train)
    check_quantized(model, method, layers, training)
    paths = paths_of(model)
    method.check([(layer, paths[id(layer)]) for layer in layers])
    return put_beside(model, method, layers, name=name, training=training)


def put_beside(
    model: FineTuner,
    method: Method,
    layers: Sequence[keras.Layer],
    *,
    name: str,
    training: Sequence[keras.Layer],
) -> "Added":
    """As `add`, on `layers` and with `training` beside them, as they are."""
    if model.fit_state.is_running:
        raise RuntimeError(
            f"{model.name!r} is in the midst of a `fit`, whose optimizer does not know the weights "
            "of a new adapter. Add it before `compile`; a plan or `peft.activate` has adapters "
            "that are there act from some epoch on."
        )
    if model.adapter_bank is not None:
        model.adapter_bank.refuse_merged("A new adapter")
    check_quantized(model, method, layers, training)
    _refuse_lora_of_keras(layers)
    bank = model.adapter_bank
    if bank is None:
        bank = AdapterBank()
        bank.attach(model)
    try:
        bank.check_alone(layers)
        made = bank.put(name, method, layers)
    except ValueError:
        if not bank.named:
            model.set_adapter_bank(None)
        raise
    _hold_base(model, bank, training)
    bank.activate([name])
    _keras.uncompile(model)
    return Added.of(model, made)


def check_new_name(model: FineTuner, name: str) -> None:
    """Raise if no adapter of `model` can be called `name`."""
    named = model.adapter_bank.named if model.adapter_bank is not None else {}
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"`name` must be a string without a slash. Received: name={name!r}")
    if name in named:
        raise ValueError(
            f"{model.name!r} has an adapter of the name {name!r}. Delete it first: "
            f"`peft.delete(model, {name!r})`, or take another name."
        )


def _layers(model, method, where):
    """The layers that `method` acts on, in the order of the model, each once."""
    adapters = {id(leaf) for one, _ in adapted(model) for leaf in (one, *leaf_layers(one))}
    if where is None:
        found = [x for x in method.targets(model, model.groups) if id(x) not in adapters]
        if not found:
            raise ValueError(
                f"{type(method).__name__} found no layer to act on in the blocks of "
                f"{model.name!r} (groups {checks.listed(model.groups, 12)}). Say which by `where`."
            )
        return found
    chosen = [layer for layer in select_layers(model, where) if id(layer) not in adapters]
    fitting = method.among(model, chosen)
    if not fitting:
        kinds = dict.fromkeys(type(layer).__name__ for layer in chosen)
        raise ValueError(
            f"{type(method).__name__} acts on {method.acts_on}. Received: where={where!r}, which "
            f"means {len(chosen)} layers: {checks.listed(kinds, 6)}"
        )
    return fitting


def _also_training(model, also_train):
    if also_train is None:
        return list(model.groups[HEAD]) if HEAD in model.groups else []
    if isinstance(also_train, (tuple, list)) and not also_train:
        return []
    return select_layers(model, also_train)


def _refuse_lora_of_keras(layers):
    for layer in layers:
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                f"{layer.name!r} has a LoRA of Keras's own (`enable_lora`), which would train "
                "beside this one. Load the base without it."
            )


def _hold_base(model, bank, training):
    """Freeze everything but adapters and `training`, for as long as there are adapters."""
    trains = {id(leaf) for layer in training for leaf in leaf_layers(layer)}
    adapters = {id(leaf) for one, _ in bank.adapted for leaf in leaf_layers(one)}
    still = [
        leaf
        for leaf in all_leaves(model)
        if id(leaf) not in trains | adapters and not _keras.is_augmentation(leaf)
    ]
    freeze(model, still)
    if training:
        unfreeze(model, list(training))
    inside = {id(leaf) for leaf in still}
    bank.hold(layer for layer in layers_at_any_depth(model) if id(layer) in inside)


@dataclasses.dataclass(frozen=True)
class Added:
    """What `add` made. Print it.

    Attributes:
        name: String, the name of the adapter.
        method: `Method`.
        paths: Tuple of the paths of the layers that it acts on.
        weights: Int, the weights of the adapter.
        trainable: Int, weights of the model that train, the adapter's among them.
        total: Int, weights of the model.
        rows: Tuple of `(group, layers, weights of the adapter, weights of the base that train)`.
    """

    name: str
    method: Method
    paths: tuple[str, ...]
    weights: int
    trainable: int
    total: int
    rows: tuple[tuple[str, int, int, int], ...]

    @classmethod
    def of(cls, model: FineTuner, named: Any) -> "Added":
        """Of a `NamedAdapter` of `model`."""
        paths = paths_of(model)
        own = {id(w) for one in named.members for w in one.weights}
        layers = {id(one) for one in named.members}
        bank = {id(w) for w in model.adapter_bank.weights}
        rows = []
        for group in model.groups:
            weights = [v for v in model.groups.variables(group) if _is_weight(model, v)]
            count = sum(id(unit) in layers for unit in model.groups[group])
            of_adapter = _size(v for v in weights if id(v) in own)
            base = _size(v for v in weights if v.trainable and id(v) not in bank)
            if count or of_adapter or base:
                rows.append((group, count, of_adapter, base))
        return cls(
            named.name,
            named.method,
            tuple(paths[id(one.beside.layer)] for one in named.members),
            _size(w for one in named.members for w in one.weights),
            count_trainable(model),
            count_weights(model),
            tuple(rows),
        )

    def __str__(self) -> str:
        base = sum(row[3] for row in self.rows)
        head = (
            f"adapter {self.name!r}, {type(self.method).__name__}: {self.weights:,} weights beside "
            f"{len(self.paths)} layers; with them {base:,} of the base train"
        )
        table = [("group", "layers", "adapter", "base that trains")]
        table += [(name, *(f"{value:,}" for value in rest)) for name, *rest in self.rows]
        return f"{head}\n{text_table.in_columns(table, right=(1, 2, 3))}"


def _is_weight(model, variable):
    return any(variable is weight for weight in model.weights)


def _size(variables):
    return sum(int(keras.ops.size(variable)) for variable in variables)

"""A LoRA from what training changed: the difference of two models of one graph, by SVD."""

import dataclasses
import itertools
import json
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base import checks, text_table
from kerastl._base.types import Where
from kerastl._keras import kernel_of
from kerastl.graph import check_fine_tuner
from kerastl.graph.adapters import bank_of as adapter_bank_of
from kerastl.graph.adapters import refuse_adapters
from kerastl.graph.flatten import require_graph, walk
from kerastl.graph.quantized import mode_of, quantized_layers
from kerastl.peft.adding import add, check_new_name
from kerastl.peft.bank import paths_of
from kerastl.peft.linear import linear_of
from kerastl.peft.lora import LoRA
from kerastl.peft.low_rank import factors_and_residual, largest_rank, lora_of, write
from kerastl.training import FineTuner

# What a config says of how weights began and are called, not of what a layer computes.
_SAYS_NOTHING = ("name", "trainable", "dtype", "seed", "lora", "quantization")
_BEGINNINGS = ("_initializer", "_regularizer", "_constraint", "_range")


def extract(
    tuned: keras.Model,
    base: FineTuner,
    rank: int,
    *,
    name: str = "extracted",
    also_train: Where | None = None,
) -> "Extracted":
    """Make what `tuned` learnt beyond `base` into a LoRA of `base`.

    Of each kernel that differs, the difference becomes the nearest product of that rank: of the
    singular values of `W_tuned - W_base` the largest stay. Where it has no more, it is the
    difference itself. The LoRA acts and trains as one that `add` made. Weights that are no kernel
    (biases, scales and offsets of norms, statistics) have no place in it and are counted.

    Args:
        tuned: Model of the same graph with other weights, such as one that was fine-tuned whole.
            It stays as it is.
        base: `FineTuner` that gets the adapter.
        rank: Int >= 1, the rank at each layer; it is less where a kernel has no more. A depthwise
            convolution takes an adapter that is smaller than itself.
        name: String, what to call the adapter.
        also_train: As in `add`.

    Returns:
        `Extracted`: for each layer the rank and the norm of what is lacking, and what else
        differs. Print it.

    Raises:
        TypeError: If `base` is no `FineTuner`, or `tuned` no model.
        ValueError: If the graphs differ, with the first layer that does; if no kernel differs; if
            one of the models has adapters that act or are merged, or is quantized; or if the name
            is taken.

    Example:
        >>> import keras
        >>> from kerastl import FineTuner, peft
        >>> inputs = keras.Input((16,))
        >>> output = keras.layers.Dense(16, name="block_1_dense")(inputs)
        >>> model = keras.Model(inputs, output)
        >>> tuned = keras.models.clone_model(model)
        >>> tuned.set_weights(model.get_weights())
        >>> _ = tuned.layers[1].kernel.assign(model.layers[1].kernel + 1)
        >>> print(peft.extract(tuned, FineTuner.from_model(model), 1))
        adapter 'extracted', LoRA: 1 layers, lacks at most 0.00% of a layer's change
        layer          rank  change  lacks
        block_1_dense     1      16  0.00%

    References:
        Eckart & Young, 1936, https://doi.org/10.1007/BF02288367
    """
    check_fine_tuner(base, "`peft.extract`", "which owns the adapters")
    require_graph(tuned)
    checks.whole(rank, 1, 1_000_000, "rank")
    check_new_name(base, name)
    for model in (tuned, base):
        _refuse_other_weights(model)
    pairs = _pairs(tuned, base)
    paths = paths_of(base)
    kernels, others = {}, []
    for theirs, own in pairs:
        adaptable = _kernel(own)
        for new, old in zip(_keras.own_weights(theirs), _keras.own_weights(own), strict=True):
            if not np.any(_difference(new, old)):
                continue
            if old is adaptable:
                kernels[id(own)] = (own, new)
            else:
                others.append(f"{paths[id(own)]}/{old.name}")
    if not kernels:
        raise ValueError(
            f"`peft.extract` needs a kernel that differs, and those of {tuned.name!r} are those of "
            f"{base.name!r}. Other weights that differ: {len(others)} "
            f"({checks.listed(others, 3) or 'none'}). Train them by `peft.BitFit` or `also_train`."
        )
    layers = [own for own, _ in kernels.values()]
    ranks = {paths[id(one)]: min(rank, largest_rank(linear_of(one))) for one in layers}
    method = lora_of(ranks, {path: float(r) for path, r in ranks.items()})
    add(base, method, layers, name=name, also_train=also_train)
    rows = []
    for member in base.adapter_bank.named[name].members:
        own, new = kernels[id(member.beside.layer)]
        change = _difference(new, kernel_of(own))
        a, b, norm, lacks = factors_and_residual(member.linear, change, member.rank)
        write(member, a, b)
        rows.append((paths[id(own)], member.rank, norm, lacks))
    return Extracted(name, method, tuple(rows), tuple(others))


def _difference(new, old):
    return new.numpy().astype("float32") - old.numpy().astype("float32")


def _kernel(layer):
    """The kernel of `layer` that a LoRA can act on, or None."""
    if not LoRA().fits(layer):
        return None
    try:
        linear = linear_of(layer)
    except ValueError:  # an equation that is one matrix for each value of an axis
        return None
    return kernel_of(layer) if largest_rank(linear) else None  # an adapter must be smaller


def _refuse_other_weights(model):
    """Refuse a model whose kernels are not what its layers compute with."""
    refuse_adapters(model, "`peft.extract`")
    bank: Any = adapter_bank_of(model)
    if bank is not None:
        bank.refuse_merged("`peft.extract`")
    quantized = quantized_layers(model)
    if quantized:
        first = next(iter(quantized.values()))
        raise ValueError(
            f"`peft.extract` subtracts kernels, and that of {first.name!r} in {model.name!r} is "
            f"quantized to {mode_of(first)}. Load the model unquantized."
        )


def _pairs(tuned, base):
    """Pairs of a layer of `tuned` and the one of `base` in its place; refused where they differ."""
    graphs = [_graph(model) for model in (tuned, base)]
    for one, other in itertools.zip_longest(*graphs):
        if one is None or other is None or one[1:] != other[1:]:
            said = [
                "nothing more" if x is None else f"{x[0].name!r} {_said(x[0])}"
                for x in (one, other)
            ]
            raise ValueError(
                f"`peft.extract` needs two models of one graph. {tuned.name!r} has {said[0]} where "
                f"{base.name!r} has {said[1]}."
            )
    return [(one[0], other[0]) for one, other in zip(*graphs, strict=True) if _is_layer(one[0])]


def _graph(model):
    """`(operation, what it is, what it reads)` of everything in the graph, in its order."""
    found = walk(require_graph(model))
    places = {id(operation): i for i, operation in enumerate(found.operations)}
    rows, seen = [], set()
    for operation in [*found.operations, *found.unused]:
        read = [places.get(id(source)) for source in found.sources[id(operation)]]
        inner = _keras.with_sublayers(operation) if _is_layer(operation) else [operation]
        for one in inner:
            if id(one) not in seen:
                seen.add(id(one))
                rows.append((one, type(one), _settings(one), read))
    return rows


def _is_layer(operation):
    return isinstance(operation, keras.Layer)


def _settings(operation):
    """What a layer computes and the shapes of its weights, as text: no names, no beginnings."""
    if not _is_layer(operation) or isinstance(operation, keras.layers.InputLayer):
        return ""
    config = {
        key: value
        for key, value in operation.get_config().items()
        if not key.startswith(_SAYS_NOTHING) and not key.endswith(_BEGINNINGS) and _is_plain(value)
    }
    shapes = [tuple(weight.shape) for weight in _keras.own_weights(operation)]
    return json.dumps([config, shapes], sort_keys=True, default=str)


def _is_plain(value):
    """Whether a value of a config is no layer, policy or the like, which have own names."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(part, (int, float, str, bool, type(None))) for part in parts)


def _said(operation):
    shapes = [tuple(weight.shape) for weight in getattr(operation, "weights", ())]
    return f"({type(operation).__name__}, weights {shapes})"


@dataclasses.dataclass(frozen=True)
class Extracted:
    """What `extract` made. Print it.

    Attributes:
        name: String, the name of the adapter.
        method: `LoRA`.
        rows: Tuple of `(path, rank, norm, lacks)` a layer: the Frobenius norm of the difference
            of the kernels, and that of what the adapter lacks of it, as a share of `norm`.
        others: Tuple of the paths of weights that differ and are in no LoRA.
    """

    name: str
    method: LoRA
    rows: tuple[tuple[str, int, float, float], ...]
    others: tuple[str, ...]

    @property
    def lacks(self) -> float:
        """The largest `lacks` of a layer."""
        return max(row[3] for row in self.rows)

    def __str__(self) -> str:
        lines = [
            f"adapter {self.name!r}, LoRA: {len(self.rows)} layers, lacks at most "
            f"{self.lacks:.2%} of a layer's change"
        ]
        table = [("layer", "rank", "change", "lacks")]
        table += [
            (path, str(r), f"{norm:.4g}", f"{lacks:.2%}") for path, r, norm, lacks in self.rows
        ]
        lines.append(text_table.in_columns(table, right=(1, 2, 3)))
        if self.others:
            lines.append(
                f"{len(self.others)} other weights differ and have no place in a LoRA: "
                f"{checks.listed(self.others, 3)}. Copy them into the base, or let them train "
                "(`peft.BitFit`, or by `also_train`)."
            )
        return "\n".join(lines)

"""What trains, how fast, and what batch normalization does, group by group."""

import dataclasses

import keras

from kerastl import _keras
from kerastl._base.text_table import in_columns
from kerastl.graph import flat_layers, layer_groups, leaf_layers
from kerastl.graph.flags import has_fixed_statistics, training_ids


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """One row of a `TrainableSummary`: counts are of layers and of scalars in weights."""

    group: str
    indices: str
    layers: int
    weights: int
    trainable: int
    batch_norm: str
    rate: str


@dataclasses.dataclass(frozen=True)
class TrainableSummary:
    """Rows of `trainable_summary`, which print as a table."""

    rows: tuple[GroupRow, ...]

    def __str__(self) -> str:
        header = ("group", "indices", "layers", "weights", "trainable", "batch norm", "rate")
        lines = [header, *(tuple(map(_text, dataclasses.astuple(row))) for row in self.rows)]
        return in_columns(lines, right=(1, 2, 3, 4, 6))


def trainable_summary(model: keras.Model) -> "TrainableSummary":
    """Table of the layer groups of `model`: layers, weights, what trains, and at which rate.

    Args:
        model: Functional or Sequential `keras.Model`, or a `FineTuner`.

    Returns:
        `TrainableSummary`; print it. `rate` is the learning rate of the group's weights now,
        empty for a model that is not compiled.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> summary = trainable_summary(model)
        >>> [(row.group, row.weights) for row in summary.rows][-1]
        ('head', 8)
    """
    groups = layer_groups(model)
    visible = training_ids(model)
    order = enumerate(flat_layers(model))
    flat = {id(leaf): i for i, layer in order for leaf in leaf_layers(layer)}
    rates = _rates(model)
    rows = []
    for name, layers in groups.items():
        positions = [flat[id(layer)] for layer in layers if id(layer) in flat]
        variables = [v for layer in layers for v in _keras.own_weights(layer)]
        training = [v for v in model.trainable_weights if any(v is w for w in variables)]
        rows.append(
            GroupRow(
                name,
                f"{min(positions)}-{max(positions)}" if positions else "",
                len(layers),
                _size(variables),
                _size(training),
                _batch_norm(layers, visible),
                _spread(rates[id(v)] for v in training if id(v) in rates),
            )
        )
    return TrainableSummary(tuple(rows))


def _size(variables):
    return sum(int(keras.ops.size(v)) for v in variables)


def _batch_norm(layers, visible):
    norms = [x for x in layers if isinstance(x, _keras.NORMALIZERS_WITH_STATISTICS)]
    states = {_state(norm, visible) for norm in norms}
    return "/".join(sorted(states))


def _state(norm, visible):
    if id(norm) not in visible:
        return "frozen"
    return "statistics fixed" if has_fixed_statistics(norm) else "training"


def _rates(model):
    """The rate of each weight of `model` now, by id; empty for a model that is not compiled."""
    if not getattr(model, "compiled", False) or model.optimizer is None:
        return {}
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if not hasattr(optimizer, "rates_of"):  # no LRMultiplier: one rate for all
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        return {id(v): rate for v in model.weights}
    said = zip(model.weights, optimizer.rates_of(model.weights), strict=True)
    return {id(v): own[0] * optimizer.rate_now() for v, own in said if own is not None}


def _spread(rates):
    ordered = sorted(set(rates))
    return " to ".join(f"{r:.3g}" for r in dict.fromkeys([*ordered[:1], *ordered[-1:]]))


def _text(value):
    return f"{value:,}" if isinstance(value, int) else value

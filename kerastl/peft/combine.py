"""Several adapters made into one: exactly, by their ranks side by side, or to a rank by SVD."""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from keras import ops

from kerastl import _keras
from kerastl._base import checks, text_table
from kerastl.peft.adapter import Method
from kerastl.peft.adding import check_new_name
from kerastl.peft.bank import AdapterBank, NamedAdapter, bank_of, known, paths_of
from kerastl.peft.lora import LowRank, Rows
from kerastl.peft.low_rank import factors_and_residual, largest_rank, lora_of, write
from kerastl.training import FineTuner

CombineMethod: TypeAlias = Literal["cat", "svd"]
METHODS = ("cat", "svd")

# What acts on one layer: each adapter with its weight in the sum.
Parts: TypeAlias = Sequence[tuple[Any, float]]


def combine(
    model: FineTuner,
    names: Sequence[str],
    weights: Sequence[float] | None = None,
    *,
    name: str,
    method: CombineMethod = "cat",
    rank: int | None = None,
) -> "Combined":
    """Make one adapter that does the weighted sum of what several do.

    The sum of LoRAs, `sum(w_i * s_i * A_i @ B_i)`, is itself one whose rank is the sum of theirs:
    the `A_i` stand side by side and the `B_i`, with weights and scales in them, under one another.
    Adding `A`s and `B`s up would give products of one's `A` with another's `B` as well. `"svd"`
    takes the nearest one of a given rank and says what it lacks. Of methods such as `BitFit` the
    weights themselves add up. One adapter at weight 1 gives itself, whatever its method.

    The new adapter is the one that acts, alone, and trains, with the dropout and the kind of
    scaling of the first; those it was made of stay. A head that was trained with them is the
    model's and is not combined. Compile the model before `fit`.

    Args:
        model: `FineTuner` with adapters.
        names: Names of adapters of one method, such as two LoRAs of any ranks, scales and layers.
        weights: Finite float for each of them, its share in the sum; may be negative. None is 1
            for each.
        name: String, what to call the new one.
        method: `"cat"`, exact, or, for LoRA, `"svd"`.
        rank: Int >= 1, for `"svd"`: the rank at each layer; it is less where a kernel has no more.
            None is the largest of the ranks at that layer.

    Returns:
        `Combined`: layers, ranks and, for `"svd"`, what is lacking. Print it.

    Raises:
        ValueError: If a name is unknown or taken, if adapters are merged, if the methods differ or
            cannot be combined, or if an argument is out of its range. Nothing is changed then.

    Example:
        >>> import keras
        >>> from kerastl import FineTuner, peft
        >>> inputs = keras.Input((16,))
        >>> hidden = keras.layers.Dense(16, activation="relu", name="block_1_dense")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(2, name="head")(hidden))
        >>> for name, rank in [("news", 2), ("reviews", 3)]:
        ...     added = peft.add(model, peft.LoRA(rank=rank), name=name)
        >>> print(peft.combine(model, ["news", "reviews"], [0.5, 0.5], name="both"))
        adapter 'both', LoRA: 0.5 * 'news' + 0.5 * 'reviews', exact
        layer          rank
        block_1_dense     5

    References:
        Eckart & Young, 1936, for `"svd"`, https://doi.org/10.1007/BF02288367
    """
    bank = bank_of(model, who="`peft.combine`")
    bank.refuse_merged("`peft.combine`")
    shares = _shares(bank, names, weights)
    check_new_name(model, name)
    checks.one_of(method, METHODS, "method")
    if rank is not None and method == "cat":
        raise ValueError(
            "`rank` belongs to method='svd'; the rank of an exact combination is the sum of those "
            f"combined. Received: method='cat', rank={rank!r}"
        )
    if rank is not None:
        checks.whole(rank, 1, 1_000_000, "rank")
    sources = [bank.named[one] for one in shares]
    made, residuals = _made(bank, sources, list(shares.values()), name, method, rank)
    bank.activate([name])
    _keras.uncompile(model)
    paths = paths_of(model)
    rows = tuple(
        (paths[id(one.beside.layer)], getattr(one, "rank", None), lacks)
        for one, lacks in zip(made.members, residuals, strict=True)
    )
    return Combined(name, made.method, tuple(shares.items()), method, rows)


def _shares(bank, names, weights):
    """Dict from name to weight."""
    if isinstance(names, str) or not names or len(set(names)) != len(list(names)):
        raise ValueError(
            f"`names` must be a list of names of adapters, each once. Received: names={names!r}"
        )
    for one in names:
        known(bank, one, "`peft.combine`")
    weights = [1.0] * len(names) if weights is None else list(weights)
    if len(weights) != len(names):
        raise ValueError(
            f"`weights` must be {len(names)} numbers, one for each of `names`. Received: "
            f"weights={weights!r}"
        )
    for weight in weights:
        checks.in_range(weight, -1e9, 1e9, "weights", "numbers")
    return dict(zip(names, map(float, weights), strict=True))


def _made(bank, sources, weights, name, method, rank):
    """The new `NamedAdapter`, and for each of its members what it lacks or None."""
    if len(sources) == 1 and weights == [1.0] and method == "cat":
        return _copy(bank, sources[0], name)
    kinds = {type(source.method).__name__ for source in sources}
    if len(kinds) > 1:
        raise ValueError(
            f"`peft.combine` needs adapters of one method. Received: {checks.listed(sorted(kinds))}"
            ". They can act together as they are: `peft.activate(model, "
            f"{[source.name for source in sources]!r})`."
        )
    parts = _by_layer(bank, sources, weights)
    every = [part for _, one in parts for part, _ in one]
    if all(type(part) is LowRank for part in every):
        combination = _side_by_side if method == "cat" else _by_svd(rank)
    elif method == "svd":
        raise _refusal(sources, "method='svd' is for LoRA of kernels; take method='cat'")
    elif all(type(part) is Rows for part in every):
        combination = _rows
    elif all(part.adds_up for part in every) and all(
        source.method == sources[0].method for source in sources
    ):
        combination = _summed
    else:
        raise _refusal(
            sources,
            "only one adapter at weight 1 gives itself. "
            + (
                "LoRA with `tokens` and without do not make one"
                if kinds == {"LoRA"}
                else "What it does is no sum of what each does, or their settings differ"
            ),
        )
    try:
        return _filled(bank, parts, name, combination)
    except ValueError as error:
        if method == "cat":
            hint = " `method='svd'` with a smaller `rank` may do." if kinds == {"LoRA"} else ""
            raise ValueError(f"`peft.combine` cannot make {name!r}: {error}{hint}") from error
        raise


def _refusal(sources, why):
    names = checks.listed([repr(source.name) for source in sources])
    kind = type(sources[0].method).__name__
    return ValueError(f"{kind} cannot be combined so: {why}. Received: names={names}")


def _copy(bank, source, name):
    made = bank.put(name, source.method, [one.beside.layer for one in source.members])
    for new, old in zip(made.variables, source.variables, strict=True):
        new.assign(old)
    return made, [None] * len(made.members)


def _by_layer(bank, sources, weights):
    """Pairs of the path of a layer and its `Parts`, in the order of the model."""
    paths = paths_of(bank.state.model)
    found = collections.defaultdict(list)
    for source, weight in zip(sources, weights, strict=True):
        for member in source.members:
            found[id(member.beside.layer)].append((member, weight))
    return [(path, found[key]) for key, path in paths.items() if key in found]


# What `_filled` needs of a way to combine: the method of all layers, and a function that writes
# one new adapter and gives what it lacks.
Combination: TypeAlias = tuple[Method, Callable[[Any, Parts], float | None]]


def _filled(
    bank: AdapterBank,
    parts: Sequence[tuple[str, Parts]],
    name: str,
    combination: Callable[[Any], Combination],
) -> tuple[NamedAdapter, list[float | None]]:
    method, fill = combination(parts)
    made = bank.put(name, method, [_first(one).beside.layer for _, one in parts])
    try:
        return made, [fill(new, one) for new, (_, one) in zip(made.members, parts, strict=True)]
    except Exception:
        bank.drop(name)
        raise


def _first(parts):
    return parts[0][0]


def _side_by_side(parts):
    """LoRAs by their ranks; the scale at each layer is that of the first that acts there."""
    first = _first(parts[0][1]).beside.method
    ranks = {path: sum(part.rank for part, _ in one) for path, one in parts}
    roots = {path: math.sqrt(r) if first.scaling == "rslora" else r for path, r in ranks.items()}
    alphas = {path: _first(one).scale * roots[path] for path, one in parts}
    method = lora_of(ranks, alphas, scaling=first.scaling, dropout=first.dropout)

    def fill(new, one):
        groups = new.linear.groups
        split = [ops.split(ops.convert_to_tensor(part.a), groups, axis=1) for part, _ in one]
        # Each part of a grouped convolution has the columns of all adapters side by side.
        a = [piece for pieces in zip(*split, strict=True) for piece in pieces]
        b = [part.b * _ratio(weight * part.scale, new.scale) for part, weight in one]
        new.a.assign(ops.concatenate(a, axis=1))
        new.b.assign(ops.concatenate(b, axis=0))

    return method, fill


def _ratio(value, by):
    """`value / by`, and 1 where they differ by rounding alone, so that nothing is rounded."""
    return 1.0 if math.isclose(value, by, rel_tol=1e-12) else value / by


def _by_svd(rank):
    def combination(parts):
        ranks = {
            path: min(rank or max(part.rank for part, _ in one), largest_rank(_first(one).linear))
            for path, one in parts
        }
        dropout = _first(parts[0][1]).beside.method.dropout
        method = lora_of(ranks, {path: float(r) for path, r in ranks.items()}, dropout=dropout)

        def fill(new, one):
            change = sum(weight * part.change() for part, weight in one)
            a, b, _, lacks = factors_and_residual(new.linear, change, new.rank)
            write(new, a, b)
            return lacks

        return method, fill

    return combination


def _rows(parts):
    """LoRAs of some tokens: the rows of all of them."""
    methods = [part.beside.method for _, one in parts for part, _ in one]
    tokens = sorted({token for method in methods for token in method.tokens})

    def fill(new, one):
        rows = np.zeros(new.rows.shape, "float64")
        for part, weight in one:
            places = [tokens.index(token) for token in part.beside.method.tokens]
            np.add.at(rows, places, weight * np.asarray(part.rows, "float64"))
        new.rows.assign(rows)

    return dataclasses.replace(methods[0], tokens=tuple(tokens)), fill


def _summed(parts):
    """Adapters whose weights add up."""
    method = _first(parts[0][1]).beside.method

    def fill(new, one):
        shares = [weight for _, weight in one]
        olds = [_keras.own_trainable_variables(part) for part, _ in one]
        for variable, *of_parts in zip(_keras.own_trainable_variables(new), *olds, strict=True):
            terms = zip(shares, of_parts, strict=True)
            variable.assign(sum(share * ops.convert_to_tensor(old) for share, old in terms))

    return method, fill


@dataclasses.dataclass(frozen=True)
class Combined:
    """What `combine` made. Print it.

    Attributes:
        name: String, the name of the new adapter.
        adapter: `Method` of it.
        shares: Tuple of `(name, weight)` of those combined.
        method: String, how.
        rows: Tuple of `(path, rank, lacks)` a layer: `rank` is None where there is none, `lacks`
            the Frobenius norm of what the new adapter's change of the kernel lacks, as a share of
            that of the sum; None where it lacks nothing.
    """

    name: str
    adapter: Method
    shares: tuple[tuple[str, float], ...]
    method: str
    rows: tuple[tuple[str, int | None, float | None], ...]

    @property
    def lacks(self) -> float:
        """The largest `lacks` of a layer; 0 for an exact combination."""
        return max((row[2] or 0.0 for row in self.rows), default=0.0)

    def __str__(self) -> str:
        total = " + ".join(f"{weight:g} * {name!r}" for name, weight in self.shares)
        how = "exact" if self.method == "cat" else f"lacks at most {self.lacks:.2%} of a layer"
        head = f"adapter {self.name!r}, {type(self.adapter).__name__}: {total}, {how}"
        if all(rank is None for _, rank, _ in self.rows):
            return f"{head}, on {len(self.rows)} layers"
        if self.method == "cat":
            table = [("layer", "rank"), *((path, str(rank)) for path, rank, _ in self.rows)]
        else:
            table = [("layer", "rank", "lacks")]
            table += [(path, str(rank), f"{lacks:.2%}") for path, rank, lacks in self.rows]
        return f"{head}\n{text_table.in_columns(table, right=(1, 2))}"

"""LoRA with the rank and the scale that each layer needs, and matrices made into its factors."""

import collections
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from kerastl._keras import kernel_of
from kerastl.peft.linear import Linear, is_depthwise
from kerastl.peft.lora import LoRA, LowRank, Scaling


def lora_of(
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    *,
    scaling: Scaling = "lora",
    dropout: float = 0.0,
) -> LoRA:
    """The `LoRA` with these ranks and alphas by the path of a layer.

    What most layers have is said once, and the others by patterns.

    Example:
        >>> lora_of({"a": 2, "b": 2, "c.1": 3}, {"a": 2.0, "b": 2.0, "c.1": 2.0}).ranks
        {'c\\\\.1': 3}
    """
    rank, other_ranks = _common(ranks)
    alpha, other_alphas = _common(alphas)
    return LoRA(
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        scaling=scaling,
        ranks=other_ranks,
        alphas=other_alphas,
    )


def _common(values):
    most = collections.Counter(values.values()).most_common(1)[0][0]
    return most, {re.escape(path): value for path, value in values.items() if value != most}


def largest_rank(linear: Linear) -> int:
    """The rank above which factors of the kernel of `linear` hold no more, or may not be made."""
    width = linear.num_outputs // linear.groups
    rank = min(linear.num_inputs, width)
    if is_depthwise(linear.layer):  # its adapter must be smaller than the layer itself
        size = math.prod(kernel_of(linear.layer).shape)
        rank = min(rank, (size - 1) // (linear.num_inputs + linear.num_outputs))
    return rank


def factors_and_residual(linear: Linear, change: Any, rank: int) -> tuple[Any, Any, float, float]:
    """`(a, b, norm, residual)` of a change of the kernel of `linear`, in its shape.

    `a @ b` is of all matrices of this rank the nearest to it (`Linear.factors`); `norm` is the
    Frobenius norm of the change, and `residual` that of what `a @ b` lacks, as a share of `norm`.
    """
    matrix = ops.convert_to_tensor(linear.to_matrix(ops.cast(change, "float32")))
    a, b = linear.factors(matrix, rank)
    wanted = np.asarray(matrix, "float64")
    lacks = wanted - np.asarray(linear.product(a, b), "float64")
    norm = float(np.linalg.norm(wanted))
    return a, b, norm, float(np.linalg.norm(lacks)) / norm if norm else 0.0


def write(adapter: LowRank, a: Any, b: Any) -> None:
    """Have `adapter` compute `a @ b`, whose scale it leaves to it: `b` is divided by that."""
    adapter.a.assign(a)
    adapter.b.assign(ops.divide(b, adapter.scale) if adapter.scale != 1 else b)

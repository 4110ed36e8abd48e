"""What a pruning at once has done, layer by layer."""

import dataclasses

from kerastl._base.text_table import in_columns


@dataclasses.dataclass(frozen=True)
class PrunedLayer:
    """One kernel.

    Attributes:
        path: Path of the layer.
        zeros: Int, weights that are zero now.
        size: Int, weights.
        error_masked: Energy of what its outputs, before bias and activation, would be off by with
            the zeros alone, over how much they vary; None where it was not fitted.
        error: The same with the weights that stay fitted anew.
        note: Why it was not fitted, or an empty string.
    """

    path: str
    zeros: int
    size: int
    error_masked: float | None = None
    error: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class PruningReport:
    """What `prune_weights` did. `print` shows it.

    Attributes:
        layers: Tuple of `PrunedLayer` from input to head.
        skipped: Dict from path to the reason why a layer was left dense.
        num_examples: Int, how many examples the weights were fitted to.
    """

    layers: tuple[PrunedLayer, ...]
    skipped: dict[str, str]
    num_examples: int

    @property
    def sparsity(self) -> float:
        """Share of zeros in the pruned kernels together, in [0, 1]."""
        return sum(row.zeros for row in self.layers) / sum(row.size for row in self.layers)

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [("layer", "zeros", "error of zeros alone", "error", "")]
        for row in self.layers:
            errors = (row.error_masked, row.error)
            shown = ("-" if error is None else f"{error:.4f}" for error in errors)
            cells.append((row.path, f"{row.zeros / row.size:.3f}", *shown, row.note))
        left = [f"Left dense: {path} {why}" for path, why in self.skipped.items()]
        return "\n".join([in_columns(cells), *left])

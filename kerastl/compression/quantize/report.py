"""What of a model computes in int8, and what stays float and why."""

import dataclasses

import keras

from kerastl._base.checks import listed
from kerastl._base.text_table import in_columns
from kerastl.compression.quantize.layers import QUANTIZED
from kerastl.compression.quantize.policy import WEIGHTED, Policy
from kerastl.compression.quantize.ranges import FakeQuantize
from kerastl.graph.index import GraphIndex


@dataclasses.dataclass(frozen=True)
class LayerNumbers:
    """How one step of a model computes.

    Attributes:
        path: Name of the layer or operation.
        kind: What it does, as `"Conv2D"` or `"relu"`.
        reason: String, why it computes in float32; empty if it computes in int8.
    """

    path: str
    kind: str
    reason: str = ""

    @property
    def dtype(self) -> str:
        """`"int8"` or `"float32"`."""
        return "float32" if self.reason else "int8"


@dataclasses.dataclass(frozen=True)
class QuantizationReport:
    """What of a quantized model computes in int8. `print` shows it.

    Attributes:
        rows: Tuple of `LayerNumbers`, in the order of the network.
    """

    rows: tuple[LayerNumbers, ...]

    @property
    def int8_share(self) -> float:
        """Steps in int8 over all steps."""
        return sum(not row.reason for row in self.rows) / max(1, len(self.rows))

    @property
    def floats(self) -> dict[str, str]:
        """Dict from the name of each step in float32 to the reason."""
        return {row.path: row.reason for row in self.rows if row.reason}

    def __getitem__(self, path: str) -> LayerNumbers:
        """The `LayerNumbers` of the step called `path`."""
        return next(row for row in self.rows if row.path == path)

    def __str__(self) -> str:
        cells = [("layer", "kind", "numbers", "")]
        cells += [(row.path, row.kind, row.dtype, row.reason) for row in self.rows]
        cells.append(("int8", "", f"{self.int8_share:.0%}", ""))
        return in_columns(cells)


def quantization_report(model: keras.Model) -> QuantizationReport:
    """Say which steps of a quantized model compute in int8 and which in float32, and why.

    Args:
        model: Model from `quantize_aware`, trained or loaded from a file or not.

    Returns:
        `QuantizationReport`.

    Raises:
        ValueError: If `model` is none.
    """
    if not is_quantized(model):
        raise ValueError(
            "`model` must be one that `quantize_aware` returned. "
            f"Received: {model!r}, which has no quantized layers."
        )
    return report_of(Policy(GraphIndex(model)))


def report_of(policy: Policy) -> QuantizationReport:
    """The `QuantizationReport` of a `Policy`."""
    rows = [
        LayerNumbers(s.name, s.kind or type(s.node.operation).__name__, s.why_float or "")
        for s in policy.steps.values()
        if not s.is_idle
    ]
    return QuantizationReport(tuple(rows))


def is_quantized(model: keras.Model) -> bool:
    """Whether `model` has layers that `quantize_aware` makes, or Keras's own quantized kernels."""
    made = (FakeQuantize, *QUANTIZED.values())
    return any(
        isinstance(layer, made) or getattr(layer, "quantization_mode", None)
        for layer in getattr(model, "layers", ())
    )


def nothing_quantized(model: keras.Model, report: QuantizationReport) -> str:
    """What to say of a model without a single kernel in int8."""
    reasons = [f"{path}: {reason}" for path, reason in report.floats.items()]
    return (
        f"`model` must have a convolution or dense layer in its own graph that can compute in "
        f"int8. Received: {model.name!r}, which has none ({listed(reasons, 6) or 'no layers'}). "
        "Use `export.to_litert(model, path, quantization='dynamic')`, which rounds the weights "
        "inside composite layers, too, and needs no training."
    )


def has_int8_kernels(policy: Policy) -> bool:
    """Whether at least one kernel is rounded."""
    return any(s.kind in WEIGHTED and s.why_float is None for s in policy.steps.values())

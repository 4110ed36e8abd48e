"""What the ladder found: each rung's accuracy, size and time, and the layers that need care."""

import dataclasses

from kerastl._checks import listed
from kerastl.export.table import markdown

_SHOWN = 10  # layers of the error report in the table


@dataclasses.dataclass(frozen=True)
class Rung:
    """One way to quantize, tried.

    Args:
        name: What was tried.
        accuracy: Float in [0, 1] on the held-out examples; None if there is no file.
        size_bytes: Int, size of the file before labels were added.
        gzip_bytes: Int, the same compressed by gzip.
        median_ms: Float, milliseconds for one example on one thread, the median.
        kept: Tuple of `LayerError`, the layers kept in float.
        accepted: Bool, whether it keeps the accuracy.
        note: String, why there is no file.
    """

    name: str
    accuracy: float | None = None
    size_bytes: int = 0
    gzip_bytes: int = 0
    median_ms: float = 0.0
    kept: tuple = ()
    accepted: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Ladder:
    """What `to_litert_within` tried and took. `str(ladder)` is a table of it.

    Args:
        path: String, the file that was written.
        model_accuracy: Float in [0, 1], the Keras model on the held-out examples.
        baseline: `Rung` of the float32 file.
        rungs: Tuple of `Rung` in the order they were tried; the last is the one taken.
        layers: Tuple of `LayerError`, the worst first; empty if int8 was good enough.
    """

    path: str
    model_accuracy: float
    baseline: Rung
    rungs: tuple
    layers: tuple = ()

    @property
    def chosen(self):
        """The `Rung` that was taken, or None."""
        return next((rung for rung in self.rungs if rung.accepted), None)

    def __str__(self):
        return self.table()

    def table(self):
        """Markdown: what was decided, a table of the rungs, and the worst layers."""
        header = ("file", "accuracy", "drop", "bytes", "gzip", "ms", "speed")
        rows = [self._row(rung) for rung in (self.baseline, *self.rungs)]
        notes = [f"{rung.name}: {rung.note}" for rung in self.rungs if rung.note]
        parts = [self.verdict(), markdown(header, rows), *notes]
        if self.layers:
            errors = [(e.layer, f"{e.sqnr_db:.1f}") for e in self.layers[:_SHOWN]]
            parts.append(markdown(("layer that int8 hurts most", "dB"), errors))
        return "\n\n".join(parts)

    def verdict(self):
        """One sentence: which rung was taken, and what it costs."""
        chosen = self.chosen
        if chosen is None:
            return f"None of {listed([rung.name for rung in self.rungs])} keeps the accuracy."
        kept = f" with {len(chosen.kept)} layers in float" if chosen.kept else ""
        slow = "" if chosen.median_ms <= self.baseline.median_ms else ", slower than float32"
        return (
            f"{chosen.name}{kept}: accuracy {chosen.accuracy:.4f} "
            f"(model {self.model_accuracy:.4f}), "
            f"{chosen.size_bytes / self.baseline.size_bytes:.2f} of the size, "
            f"{chosen.median_ms:.3g} ms ({self.baseline.median_ms:.3g} in float32{slow})."
        )

    def _row(self, rung):
        name = f"{rung.name}, {len(rung.kept)} in float" if rung.kept else rung.name
        name += " (taken)" if rung is self.chosen else ""
        if rung.accuracy is None:
            return (name, *("-",) * 6)
        return (
            name,
            f"{rung.accuracy:.4f}",
            f"{self.model_accuracy - rung.accuracy:+.4f}",
            f"{rung.size_bytes:,}",
            f"{rung.gzip_bytes:,}",
            f"{rung.median_ms:.3g}",
            f"{self.baseline.median_ms / rung.median_ms:.2f}×",
        )

"""Pictures of a run."""

from kerastl.report.curves import draw_curves

__all__ = ["draw_curves"]

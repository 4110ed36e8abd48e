"""Pictures of a run."""

from kerastl.report.figures import draw_comparison, draw_curves, draw_lr_curve, draw_stages

__all__ = ["draw_comparison", "draw_curves", "draw_lr_curve", "draw_stages"]

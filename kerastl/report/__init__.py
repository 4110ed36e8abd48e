"""Pictures of a run."""

from kerastl.report.comparison import draw_comparison
from kerastl.report.curves import draw_curves
from kerastl.report.lr_curve import draw_lr_curve
from kerastl.report.stages import draw_stages

__all__ = ["draw_comparison", "draw_curves", "draw_lr_curve", "draw_stages"]

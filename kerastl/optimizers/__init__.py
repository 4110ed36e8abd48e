"""A learning rate of its own for every variable, and rules that choose the rates."""

from kerastl.optimizers.keys import resolve as resolve_multipliers
from kerastl.optimizers.lr_multiplier import LRMultiplier
from kerastl.optimizers.rates import discriminative_rates, layer_decay, no_decay

__all__ = ["LRMultiplier", "discriminative_rates", "layer_decay", "no_decay", "resolve_multipliers"]

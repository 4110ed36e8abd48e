"""Zeros in a trained network, at once, made up for by the weights that stay."""

from kerastl.compression.post_training.prune_weights import prune_weights

__all__ = ["prune_weights"]

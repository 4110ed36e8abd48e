"""Passes of a whole graph: training, in which frozen layers infer, and evaluation."""

from kerastl import _keras
from kerastl.freezing import folding, inert_inside, infer, with_own_training


def run_training(model, inputs, mask):
    """Run the graph of `model` in training mode, inert layers in inference mode."""
    with _keras.inference_mode(inert_inside(model.layers)):
        return _keras.run_graph(model, inputs, mask, folding(model, with_own_training))


def run_evaluation(model, inputs):
    """Run the graph of `model` in inference mode, in the steps of its training."""
    return _keras.run_graph(model, inputs, None, folding(model, infer))

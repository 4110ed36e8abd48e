"""Passes of a whole graph: training, in which frozen layers infer, and evaluation."""

from kerastl import _keras
from kerastl.freezing import inert_inside, infer, with_folding, with_own_training


def run_training(model, inputs, mask):
    """Run the graph of `model` in training mode, inert layers in inference mode."""
    with _keras.inference_mode(inert_inside(model.layers)):
        return _keras.run_graph(model, inputs, mask, with_folding(model, with_own_training))


def run_evaluation(model, inputs):
    """Run the graph of `model` in inference mode, in the steps of its training."""
    return _keras.run_graph(model, inputs, None, with_folding(model, infer))

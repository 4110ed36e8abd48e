"""A training pass of a whole graph in which frozen layers infer."""

from kerastl import _keras
from kerastl.freezing import inert_inside, with_own_training


def run_training(model, inputs, mask):
    """Run the graph of `model` in training mode, inert layers in inference mode."""
    with _keras.inference_mode(inert_inside(model.layers)):
        return _keras.run_graph(model, inputs, mask, with_own_training)

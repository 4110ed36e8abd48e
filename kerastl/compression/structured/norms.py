"""How much a channel counts by its weights alone."""

import keras
import numpy as np


class Norms:
    """The norms of the filters that make a channel, or the scales it is given.

    The score of a channel adds over all layers that make it, each divided by its mean in its layer,
    so that layers count alike.

    Args:
        channels: `Channels`.
        criterion: `"l1"` or `"l2"` for the norm of the filters, `"gamma"` for the magnitude of the
            scales in batch normalizations.
    """

    def __init__(self, channels, criterion):
        self._total = {}
        measured = _gammas(channels) if criterion == "gamma" else _filters(channels, criterion)
        for values, layout in measured:
            values = values / max(float(values.mean()), 1e-30)
            for choice, value in zip(channels.atoms.roots(layout).tolist(), values, strict=True):
                self._total[choice] = self._total.get(choice, 0.0) + float(value)

    def knows(self, choices):
        """Whether there is something to score each of `choices` by."""
        return all(choice in self._total for choice in choices)

    def scores(self, choices):
        """Array of the scores of `choices`, divided by their mean."""
        scores = np.array([self._total[choice] for choice in choices])
        return scores / max(float(scores.mean()), 1e-30)

    def pick(self, choices, count):
        """The `count` of `choices` that score least."""
        order = np.argsort(self.scores(choices), kind="stable")[:count]
        return [choices[i] for i in order]


def _filters(channels, criterion):
    """Norm of each filter, and the layout of the filters, of every layer that makes channels."""
    for layer in channels.makers:
        flow = channels.flows[id(layer)]
        kernel = keras.ops.convert_to_numpy(getattr(layer, flow.makes)).astype("float64")
        axis = flow.mixing_axes[1]
        filters = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        yield np.linalg.norm(filters, ord=1 if criterion == "l1" else 2, axis=1), flow.output


def _gammas(channels):
    for key, layer in channels.layers.items():
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale:
            gamma = keras.ops.convert_to_numpy(layer.gamma).astype("float64")
            yield np.abs(gamma), channels.flows[key].axes["gamma"][0]

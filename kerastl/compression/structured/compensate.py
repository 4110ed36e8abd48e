"""The channels that stay take over what those that go could be told from them."""

import keras
import numpy as np

from kerastl.compression.sinks import norms_after, sink_of


def compensate(model, channels, readers, cut):
    """Weights with which each layer does best, in least squares, without the inputs that go.

    With `x_r ≈ A x_k + b` for the inputs that go and those that stay, `W_k` becomes `W_k + W_r A`,
    and `W_r b` joins the bias, or leaves the mean of the batch normalization that follows.

    Args:
        model: Flat functional `keras.Model`.
        channels: Its `Channels`.
        readers: Dict from the id of a layer to its `Reader`.
        cut: `Cut`.

    Returns:
        Dict from the id of a weight to its new value, in the shape that it has with all channels.

    References:
        He, Zhang & Sun, 2017, section 3.1, https://arxiv.org/abs/1707.06168
    """
    after, changed = norms_after(model), {}
    for reader in readers.values():
        stay = cut.stay(reader.layout)
        leave = np.setdiff1d(np.arange(len(reader.layout)), stay)
        if not len(leave) or not reader.joint:
            continue
        sink = sink_of(reader.layer, after)
        told_by = stay if sink is None else np.append(stay, len(reader.layout))
        share = _least_squares(reader, told_by, leave)
        added = np.einsum("kr,tro->tko", share, reader.kernel[:, leave])
        kernel = reader.kernel.copy()
        kernel[:, stay] += added[:, : len(stay)]
        flow = channels.flows[id(reader.layer)]
        weight = getattr(reader.layer, flow.makes)
        changed[id(weight)] = _as_weight(kernel, tuple(weight.shape), flow.mixing_axes)
        if sink is not None:
            variable, sign = sink
            shift = added[:, -1].sum(0)
            changed[id(variable)] = keras.ops.convert_to_numpy(variable) + sign * shift
    return changed


def _least_squares(reader, stay, leave):
    known = reader.steadied[np.ix_(stay, stay)]
    return np.linalg.solve(known, reader.moments[np.ix_(stay, leave)])


def _as_weight(kernel, shape, mixing_axes):
    """Taps × inputs × outputs in the axes of the weight."""
    order = [axis for axis in range(len(shape)) if axis not in mixing_axes] + list(mixing_axes)
    return np.moveaxis(kernel.reshape([shape[axis] for axis in order]), (-2, -1), mixing_axes)

"""What structured pruning took away."""

import dataclasses

from kerastl.compression.columns import in_columns


@dataclasses.dataclass(frozen=True)
class LayerChannels:
    """Channels that one layer makes.

    Attributes:
        path: Name of the layer.
        before: Int.
        after: Int.
        reason: String, why it was not narrowed, or empty.
    """

    path: str
    before: int
    after: int
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ChannelReport:
    """What `prune_channels` took away.

    Attributes:
        layers: Tuple of `LayerChannels`, in the order of the network.
        weights_before: Int, scalars in the weights of the model.
        weights_after: Int.
    """

    layers: tuple
    weights_before: int
    weights_after: int

    @property
    def share_left(self):
        """Weights after over weights before."""
        return self.weights_after / self.weights_before

    def __getitem__(self, path):
        """The `LayerChannels` of the layer at `path`."""
        return next(row for row in self.layers if row.path == path)

    def __str__(self):
        cells = [("layer", "channels", "left", "")]
        cells += [(row.path, str(row.before), str(row.after), row.reason) for row in self.layers]
        weights = f"{self.weights_before:,}", f"{self.weights_after:,}"
        cells.append(("weights", *weights, f"{self.share_left:.1%}"))
        return in_columns(cells)

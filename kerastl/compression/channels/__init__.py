"""Structured pruning: whole channels go, and tensors become smaller."""

from kerastl.compression.channels.prune_channels import ChannelReport, LayerChannels, prune_channels

__all__ = ["ChannelReport", "LayerChannels", "prune_channels"]

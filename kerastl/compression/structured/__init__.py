"""Structured pruning: whole channels go, and tensors become smaller."""

from kerastl.compression.structured.prune_channels import prune_channels
from kerastl.compression.structured.report import ChannelReport, LayerChannels

__all__ = ["ChannelReport", "LayerChannels", "prune_channels"]

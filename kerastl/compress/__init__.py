"""A finished model made small: fewer channels, zeros, 8 bits, each stage measured."""

from kerastl.compress.compress import CompressResult, compress
from kerastl.compress.config import CompressConfig

__all__ = ["CompressConfig", "CompressResult", "compress"]

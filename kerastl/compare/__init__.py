"""Strategies side by side on the user's own data."""

from kerastl.compare.compare import CompareResult, compare
from kerastl.compare.table import as_markdown

__all__ = ["CompareResult", "as_markdown", "compare"]

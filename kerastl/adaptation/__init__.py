"""What a network learned elsewhere, brought nearer to the data at hand."""

from kerastl.adaptation.batch_norm import adapt_batch_norm

__all__ = ["adapt_batch_norm"]

"""Which layers of a network int8 hurts, found without writing a file."""

import dataclasses
import tempfile

from kerastl.export import calibration, litert_file
from kerastl.export.conversion import saved_model
from kerastl.export.naming import graph_of
from kerastl.export.quantization import require_float
from kerastl.export.selective import SelectiveQuantizer
from kerastl.export.table import markdown

CARE = 10.0  # decibels: below, an error has more than a tenth of the energy of the signal


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What int8 does to each layer. `print` shows it.

    Attributes:
        layers: Tuple of `LayerError`, the worst first.
    """

    layers: tuple

    @property
    def need_care(self):
        """The `LayerError`s under 10 dB: keep these in float, or train with rounding."""
        return tuple(entry for entry in self.layers if entry.sqnr_db < CARE)

    def table(self, count=None):
        """Markdown: one sentence, then the `count` worst layers, or all."""
        found = len(self.need_care)
        verdict = f"{found} of {len(self.layers)} layers need care (under {CARE:g} dB)."
        rows = [(e.layer, f"{e.sqnr_db:.1f}") for e in self.layers[:count]]
        return f"{verdict}\n\n{markdown(('layer, the worst first', 'dB'), rows)}"

    def __str__(self):
        return self.table()


def layer_errors(model, representative_data):
    """Measure what int8 does to each layer of a model.

    Each int8 operation is compared with its float32 twin on the same rounded inputs, so that an
    error counts where it arises: the ratio of signal to error of the median channel, in decibels.

    Args:
        model: Keras model with float kernels, as for `to_litert`.
        representative_data: As for `to_litert`: examples to measure the ranges of activations on.

    Returns:
        `LayerReport`.

    Raises:
        ValueError: If the model is quantized already, or the data do not fit it.
    """
    graph = graph_of(model)
    require_float(graph)
    samples = calibration.draw(graph, representative_data)
    with tempfile.TemporaryDirectory() as folder:
        saved = saved_model(graph, litert_file.signature_of(graph, 1), folder)
        return LayerReport(SelectiveQuantizer(saved, graph, samples).layer_errors())

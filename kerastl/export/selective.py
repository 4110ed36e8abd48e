"""Which layers suffer from int8, and int8 files that keep those in float.

`tf.lite.experimental.QuantizationDebugger` (TensorFlow 2.21) quantizes one calibrated model as
often as asked, with any operations left out, and can add to each quantized operation a float one
that works on the same inputs. The runtime it makes says that it is deprecated; nothing is run on
that one here.
"""

import collections
import dataclasses
import itertools
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from kerastl._base.text_table import markdown
from kerastl.export import calibration, flatbuffer, litert_file
from kerastl.export.conversion import (
    configured,
    explaining,
    muted,
    one_by_one,
    refuse_loops,
    saved_model,
    with_names,
)
from kerastl.export.litert_model import plain_name
from kerastl.export.naming import AnyModel, LayerNames, graph_of, in_float32, output_names
from kerastl.export.quantization import require_float

_EXAMPLES = 16  # run through the instrumented model
_VERIFY = "NumericVerify"
_SHAPES_ONLY = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD")


@dataclasses.dataclass(frozen=True)
class LayerError:
    """What int8 does to one tensor.

    Args:
        layer: Names of the Keras layers that were fused into the operation that makes it.
        tensor: Name of the tensor in the file.
        sqnr_db: Float, signal over quantization error in decibels, of the median channel.
    """

    layer: str
    tensor: str
    sqnr_db: float


class SelectiveQuantizer:
    """A calibrated model, to be quantized with any of its tensors left in float.

    Args:
        saved: Path of a SavedModel.
        graph: The model in it.
        samples: Dict from input name to calibration examples.
    """

    def __init__(self, saved: str, graph: AnyModel, samples: dict[str, np.ndarray]) -> None:
        import tensorflow as tf

        self._saved, self._graph = saved, graph
        self._rows = list(itertools.islice(one_by_one(samples), _EXAMPLES))
        self._options = tf.lite.experimental.QuantizationDebugOptions
        refuse_loops(saved, graph, "int8")
        with explaining(saved, graph), muted():
            converter = configured(saved, "int8", samples)
            self._debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=list
            )
            self._edges = flatbuffer.edges(self._debugger.calibrated_model)

    def layer_errors(self) -> tuple[LayerError, ...]:
        """Tuple of `LayerError` of every quantized operation, the worst first.

        Each operation is compared with its float twin on the same, already quantized, inputs,
        so that an error counts where it arises. In channels, because a tensor of which one
        channel is a hundred times the others loses these and keeps its energy.
        """
        with explaining(self._saved, self._graph), muted():
            content = bytes(self._debugger.get_debug_quantized_model())
            energies = _energies(content, self._rows)
        made = [name for _, _, outputs in self._edges for name in outputs]
        layers = LayerNames(self._graph)
        outputs = flatbuffer.output_tensors(self._debugger.calibrated_model)
        called = dict(zip(outputs, output_names(self._graph), strict=False))
        found = {}
        for verified, (signal, error) in energies.items():
            tensor = _original(verified, made)
            if tensor is not None and (signal > 0).any():
                found[tensor] = LayerError(
                    called.get(tensor) or layers.of(tensor), tensor, _median_db(signal, error)
                )
        return tuple(sorted(found.values(), key=lambda entry: entry.sqnr_db))

    def with_float(self, tensors: Iterable[str]) -> bytes:
        """The bytes of an int8 file in which `tensors` stay float.

        A tensor is float if both the operation that makes it and those that take it are.
        """
        with explaining(self._saved, self._graph), muted():
            self._debugger.options = self._options(denylisted_nodes=self._around(tensors))
            content = bytes(self._debugger.get_nondebug_quantized_model())
        return with_names(content, self._graph)

    def _around(self, tensors):
        chosen, nodes = set(tensors), []
        for op, inputs, outputs in self._edges:
            if chosen.intersection(outputs) or chosen.intersection(inputs):
                nodes.extend(outputs)
                if op in _SHAPES_ONLY:  # moves numbers: what it gives is as float as what it takes
                    chosen.update(outputs)
        return nodes


def _energies(content, rows) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Dict from tensor to `(signal, error)`: sums of squares a channel, over all examples."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    runner.allocate_tensors()
    details = {detail["index"]: detail for detail in runner.get_tensor_details()}
    # The runtime offers no public list of operations (ai_edge_litert 2.3).
    checks = [op["inputs"] for op in runner._get_ops_details() if op["op_name"] == _VERIFY]
    sums: dict[str, Any] = collections.defaultdict(lambda: (0.0, 0.0))
    for row in rows:
        for detail in runner.get_input_details():
            runner.set_tensor(detail["index"], row[plain_name(detail["name"])])
        runner.invoke()
        for integer, exact in checks:
            name = details[integer]["name"]
            signal, error = _channel_sums(runner, details[integer], integer, exact)
            sums[name] = (sums[name][0] + signal, sums[name][1] + error)
    return sums


def _channel_sums(runner, detail, integer, exact):
    scale, zero_point = detail["quantization"]
    wanted = runner.get_tensor(exact).astype("float64")
    wanted = wanted.reshape(-1, wanted.shape[-1] if wanted.ndim else 1)
    given = (runner.get_tensor(integer).astype("float64") - zero_point) * scale
    return np.square(wanted).sum(0), np.square(given.reshape(wanted.shape) - wanted).sum(0)


def _median_db(signal, error):
    """Decibels of the median channel, of those that carry anything."""
    live = signal > 0
    ratio = signal[live] / np.maximum(error[live], 1e-30 * signal[live])
    return float(np.median(10 * np.log10(np.maximum(ratio, 1e-30))))


def _original(verified, names):
    """The tensor that an instrumented model calls `verified`: it appends a number."""
    fitting = [n for n in names if verified.startswith(n) and verified[len(n) :].isdigit()]
    return verified if verified in names else max(fitting, key=len, default=None)


CARE = 10.0  # decibels: below, an error has more than a tenth of the energy of the signal


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What int8 does to each layer. `print` shows it.

    Attributes:
        layers: Tuple of `LayerError`, the worst first.
    """

    layers: tuple[LayerError, ...]

    @property
    def need_care(self) -> tuple[LayerError, ...]:
        """The `LayerError`s under 10 dB: keep these in float, or train with rounding."""
        return tuple(entry for entry in self.layers if entry.sqnr_db < CARE)

    def table(self, count: int | None = None) -> str:
        """Markdown: one sentence, then the `count` worst layers, or all."""
        found = len(self.need_care)
        verdict = f"{found} of {len(self.layers)} layers need care (under {CARE:g} dB)."
        rows = [(e.layer, f"{e.sqnr_db:.1f}") for e in self.layers[:count]]
        return f"{verdict}\n\n{markdown(('layer, the worst first', 'dB'), rows)}"

    def __str__(self) -> str:
        return self.table()


def layer_errors(model: AnyModel, representative_data: Any) -> "LayerReport":
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
    with tempfile.TemporaryDirectory() as folder, in_float32(graph):
        signature = litert_file.signature_of(graph, 1)
        saved = saved_model(graph, signature, folder, for_integers=True)
        return LayerReport(SelectiveQuantizer(saved, graph, samples).layer_errors())

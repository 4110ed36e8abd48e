"""The smallest file that keeps the accuracy: one way to quantize after the other, measured."""

import dataclasses
import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, get_args

import keras
import numpy as np

from kerastl._base import files
from kerastl._base.checks import in_range, listed, one_of
from kerastl._base.text_table import markdown
from kerastl._base.types import Arrays, PathLike
from kerastl.export import calibration, litert_file
from kerastl.export import labels as label_file
from kerastl.export.answers import answers_of
from kerastl.export.conversion import converted, needs_flex, saved_model
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.metadata import Carried
from kerastl.export.naming import (
    AnyModel,
    graph_of,
    in_float32,
    in_structure,
    inputs_by_name,
)
from kerastl.export.quantization import MODES, Quantization, require_float
from kerastl.export.selective import LayerError, SelectiveQuantizer
from kerastl.export.verify import check_outputs

RungName: TypeAlias = Literal["int8", "int8_mixed", "dynamic", "float16", "int16x8"]
RUNGS = get_args(RungName)
_ROUNDING = 1e-9
_SLOW = 1.1  # times the float32 file; what is less is noise
_LARGEST = 0.75  # of the float32 file: int8 with more layers in float than that is none


def to_litert_within(  # noqa: PLR0913 (those of `to_litert`, and what is measured)
    model: keras.Model,
    path: PathLike,
    data: Arrays,
    labels: Sequence[int] | np.ndarray,
    *,
    max_drop: float = 0.01,
    representative_data: Any = None,
    ladder: Sequence[RungName] = ("int8", "int8_mixed", "dynamic", "float16"),
    class_names: Sequence[str] | None = None,
    score: Callable[[np.ndarray, Any], float] | None = None,
    carried: Carried | None = None,
    slower: bool = True,
) -> "Ladder":
    """Write the first file of `ladder` that loses at most `max_drop` of the accuracy.

    Each rung is converted and measured on held-out examples: `"int8"`; `"int8_mixed"`, int8 with
    the worst 1, 2, 4, ... layers kept in float32, by the error that int8 makes in each;
    `"dynamic"`; `"float16"`. The result says what every rung reached, and which layers
    int8 hurts. Latency is measured and told too: for transformers int8 is often slower
    than float32, and dynamic the fast one.

    Args:
        model: As for `to_litert`, with one output of class scores.
        path: Where to write; must end in `.tflite`.
        data: Held-out examples: an array; for several inputs a dict by name or a list.
        labels: Their classes, as numbers or one-hot, or several labels, as in `parity`.
        max_drop: Float in [0, 1], how much lower the file's accuracy may be than the model's.
        representative_data: As for `to_litert`: examples to measure the ranges of activations
            on. Not the held-out ones, or the accuracy is not that of new examples.
        ladder: Tuple of `"int8"`, `"int8_mixed"`, `"dynamic"`, `"float16"` and `"int16x8"`, tried
            in this order.
        class_names: Sequence of class names, written into the file and beside it.
        score: Function of `(outputs, labels)`, higher for better, to take in place of accuracy.
        carried: As in `to_litert`.
        slower: Bool, whether a file with integer activations may be taken though it is slower than
            the float32 one, as int8 of encoders is on a CPU.

    Returns:
        A `Ladder`; `print(ladder)` shows a table.

    Raises:
        ValueError: If an argument is wrong.
        RuntimeError: If no rung keeps the accuracy; its text has the table. Nothing is written.

    Example:
        >>> to_litert_within(None, "model.tflite", [], [], ladder=("int4",))
        Traceback (most recent call last):
        ValueError: `ladder` must be one of int8, int8_mixed, dynamic, float16, int16x8. \
Received: ladder='int4'. Closest: 'int8'.
    """
    path = files.checked(path, ".tflite")
    in_range(max_drop, 0, 1, "max_drop", "a number")
    for name in ladder:
        one_of(name, RUNGS, "ladder")
    graph = graph_of(model)
    require_float(graph)
    signature = litert_file.signature_of(graph, 1)
    num_scores = litert_file.num_outputs(graph)
    if class_names is not None:
        class_names = label_file.checked(class_names, num_scores)
    samples = None
    if representative_data is not None:
        samples = calibration.draw(graph, representative_data)
    task = _Task(model, graph, data, labels, max_drop, score or answers_of(model)[0].accuracy)
    task.slower = slower
    with files.work_folder(path) as work, in_float32(graph):
        integers = any(_needs_samples(name) for name in ladder)
        task.saved = saved_model(graph, signature, work, for_integers=integers)
        task.work, task.samples = work, samples
        if samples is None and integers:
            litert_file.need_ranges(task.saved, "int8")
        baseline = task.baseline()
        rungs = _climb(task, ladder)
        result = Ladder(path, task.accuracy, baseline, tuple(rungs), task.layers)
        if result.chosen is None:
            raise RuntimeError(
                f"No rung of the ladder keeps the accuracy within {max_drop}. Nothing was "
                f"written. Train with quantization in the loop, or allow more.\n\n{result}"
            )
        litert_file.written(
            litert_file.described(task.made, task.content, graph, class_names, carried),
            task.made,
        )
        litert_file.put_in_place(task.made, path, class_names)
    return result


def _needs_samples(name):
    return name == "int8_mixed" or MODES[name].calibrated


def _climb(task, ladder):
    """The rungs tried, up to the first that is accepted."""
    rungs = []
    for name in ladder:
        attempts = task.mixed() if name == "int8_mixed" else [task.plain(name)]
        for rung in attempts:
            rungs.append(rung)
            if rung.accepted:
                return rungs
    return rungs


class _Task:
    """One model, the data it is measured on, and the file made last."""

    work: str  # the folder, the SavedModel in it and the samples are known once there is a folder
    saved: str
    samples: dict[str, np.ndarray] | None
    content: bytes
    made: str
    slower = True  # than the float32 file a rung may be

    def __init__(
        self,
        model: AnyModel,
        graph: AnyModel,
        data: Arrays,
        labels: Sequence[int] | np.ndarray,
        max_drop: float,
        score: Callable[[np.ndarray, Any], float],
    ) -> None:
        self._model, self._graph, self._max_drop = model, graph, max_drop
        self._data = inputs_by_name(graph, data)
        self._labels, self._score = labels, score
        scores = model.predict(in_structure(graph, self._data), verbose=0)
        self.accuracy = score(np.asarray(scores), labels)
        self.layers: tuple[LayerError, ...] = ()
        self._float_size, self._float_ms = 0, float("inf")

    def baseline(self) -> "Rung":
        """The float32 file, to compare sizes and times with."""
        content = converted(self.saved, self._graph)
        needs_flex(content, self.saved, self._graph)
        rung = self._measured("float32", content)
        self._float_size, self._float_ms = rung.size_bytes, rung.median_ms
        check_outputs(self._model, self._graph, self.made, samples=self.samples)
        return rung

    def plain(self, name: Quantization) -> "Rung":
        """One way to quantize the whole model."""
        try:
            content = converted(
                self.saved,
                self._graph,
                quantization=name,
                samples=self.samples if MODES[name].calibrated else None,
            )
            return self._measured(name, content)
        except (ValueError, RuntimeError) as error:
            return Rung(name, note=str(error))

    def mixed(self) -> Iterator["Rung"]:
        """int8 with more and more of the worst layers in float: twice as many each time.

        Until the file is hardly smaller than in float32: the rungs after this one are.
        """
        if self.samples is None:
            yield Rung("int8_mixed", note="needs `representative_data`")
            return
        try:
            quantizer = SelectiveQuantizer(self.saved, self._graph, self.samples)
            self.layers = quantizer.layer_errors()
        except (ValueError, RuntimeError) as error:
            yield Rung("int8_mixed", note=str(error))
            return
        count = 1
        while count <= max(1, len(self.layers) // 2):
            kept = self.layers[:count]
            try:
                content = quantizer.with_float([entry.tensor for entry in kept])
                rung = self._measured("int8_mixed", content, kept)
            except (ValueError, RuntimeError) as error:
                yield Rung("int8_mixed", kept=kept, note=str(error))
                return
            if rung.size_bytes > _LARGEST * self._float_size:
                yield dataclasses.replace(rung, accepted=False, note="hardly smaller than float32")
                return
            yield rung
            count *= 2

    def _measured(self, name, content, kept=()):
        self.content = content
        self.made = os.path.join(self.work, "model.tflite")
        litert_file.written(content, self.made)
        scores = next(iter(LiteRTModel(self.made).run(self._data).values()))
        sound = bool(np.isfinite(scores).all())
        reached = self._score(scores, self._labels) if sound else 0.0
        taken = LiteRTModel(self.made, threads=1).milliseconds(self._data)
        note = "" if sound else "gives what is not a number"
        is_integer = name == "int8_mixed" or (name in MODES and MODES[name].calibrated)
        is_slow = is_integer and not self.slower and taken > _SLOW * self._float_ms
        if is_slow:
            note = "slower than float32 here; for a device that wants it, leave out `max_drop`"
        return Rung(
            name,
            accuracy=reached,
            size_bytes=len(content),
            gzip_bytes=len(gzip.compress(content, mtime=0)),
            median_ms=taken,
            kept=tuple(kept),
            accepted=sound
            and not is_slow
            and self.accuracy - reached <= self._max_drop + _ROUNDING,
            note=note,
        )


_SHOWN = 10  # layers of the error report in the table


@dataclasses.dataclass(frozen=True)
class Rung:
    """One way to quantize, tried.

    Args:
        name: What was tried.
        accuracy: Float in [0, 1] on the held-out examples; None if there is no file.
        size_bytes: Int, size of the file before labels were added.
        gzip_bytes: Int, the same compressed by gzip.
        median_ms: Float, milliseconds for one example on one thread, the median.
        kept: Tuple of `LayerError`, the layers kept in float.
        accepted: Bool, whether it keeps the accuracy.
        note: String, why there is no file.
    """

    name: str
    accuracy: float | None = None
    size_bytes: int = 0
    gzip_bytes: int = 0
    median_ms: float = 0.0
    kept: tuple[LayerError, ...] = ()
    accepted: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Ladder:
    """What `to_litert_within` tried and took. `str(ladder)` is a table of it.

    Args:
        path: String, the file that was written.
        model_accuracy: Float in [0, 1], the Keras model on the held-out examples.
        baseline: `Rung` of the float32 file.
        rungs: Tuple of `Rung` in the order they were tried; the last is the one taken.
        layers: Tuple of `LayerError`, the worst first; empty if int8 was good enough.
    """

    path: str
    model_accuracy: float
    baseline: Rung
    rungs: tuple[Rung, ...]
    layers: tuple[LayerError, ...] = ()

    @property
    def chosen(self) -> Rung | None:
        """The `Rung` that was taken, or None."""
        return next((rung for rung in self.rungs if rung.accepted), None)

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Markdown: what was decided, a table of the rungs, and the worst layers."""
        header = ("file", "accuracy", "drop", "bytes", "gzip", "ms", "speed")
        rows = [self._row(rung) for rung in (self.baseline, *self.rungs)]
        notes = [f"{rung.name}: {rung.note}" for rung in self.rungs if rung.note]
        parts = [self.verdict(), markdown(header, rows), *notes]
        if self.layers:
            errors = [(e.layer, f"{e.sqnr_db:.1f}") for e in self.layers[:_SHOWN]]
            parts.append(markdown(("layer that int8 hurts most", "dB"), errors))
        return "\n\n".join(parts)

    def verdict(self) -> str:
        """One sentence: which rung was taken, and what it costs."""
        chosen = self.chosen
        if chosen is None:
            return f"None of {listed([rung.name for rung in self.rungs])} keeps the accuracy."
        kept = f" with {len(chosen.kept)} layers in float" if chosen.kept else ""
        slow = "" if chosen.median_ms <= self.baseline.median_ms else ", slower than float32"
        return (
            f"{chosen.name}{kept}: accuracy {chosen.accuracy:.4f} "
            f"(model {self.model_accuracy:.4f}), "
            f"{chosen.size_bytes / self.baseline.size_bytes:.2f} of the size, "
            f"{chosen.median_ms:.3g} ms ({self.baseline.median_ms:.3g} in float32{slow})."
        )

    def _row(self, rung):
        name = f"{rung.name}, {len(rung.kept)} in float" if rung.kept else rung.name
        name += " (taken)" if rung is self.chosen else ""
        if rung.accuracy is None:
            return (name, *("-",) * 6)
        return (
            name,
            f"{rung.accuracy:.4f}",
            f"{self.model_accuracy - rung.accuracy:+.4f}",
            f"{rung.size_bytes:,}",
            f"{rung.gzip_bytes:,}",
            f"{rung.median_ms:.3g}",
            f"{self.baseline.median_ms / rung.median_ms:.2f}×",
        )

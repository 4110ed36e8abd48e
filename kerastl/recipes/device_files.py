"""Device files of a run, and models and files measured side by side: the rows that verbs print."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import export
from kerastl._base.types import PathLike
from kerastl.export import LiteRTModel, Rung, file_sizes
from kerastl.export.parity import Parity
from kerastl.recipes.run_folder import RunFolder
from kerastl.tasks import TrainedFor
from kerastl.tasks.protocols import DeviceForm, Examples, Objective, TaskData
from kerastl.tasks.settings import EXPORTS

COMPARED = 1000  # examples at most on which file and model are compared, or ranges measured
PART = 256  # examples at once
ROUNDS = 3


def write_device_files(
    run: RunFolder, model: keras.Model, data: TaskData, mode: str
) -> dict[str, Any]:
    """Write the files of `mode`; return what `metrics.json` says of them.

    Args:
        run: `RunFolder`. It gets `model.tflite`, and beside a quantized one `float.tflite`, the
            same network in float32.
        model: `keras.Model`.
        data: `TaskData`. Files are compared with the model on examples held out, and int8
            is calibrated on examples that trained.
        mode: A key of `tasks.settings.EXPORTS`.

    Returns:
        Dict with `tflite`, and for a quantized file `float_tflite`, each as `write_device_file`
        tells it; and `notices`, lines for the user. What was trained is not lost for a file that
        cannot be written, or does not repeat the model: it is left out, and a notice says why.
    """
    deployed = Deployed.of(model, data)
    deployed.form.prepare.write_beside(run.file("model.tflite").parent)
    told: dict[str, Any] = {"notices": list(data.prepare.device_notices(data))}
    quantized: dict[str, Any] = {"quantization": EXPORTS[mode]}
    if mode == "int8":
        quantized["representative_data"] = for_ranges(deployed.data)
    files = [("tflite", "model.tflite", quantized)]
    if mode != "float":
        files.insert(0, ("float_tflite", "float.tflite", {}))
    for key, name, options in files:
        try:
            told[key] = _write(run, deployed, name, **options)
        except (ValueError, RuntimeError) as error:
            run.file(name).unlink(missing_ok=True)
            told["notices"].append(f"There is no {name}: {error}")
    return told


@dataclasses.dataclass(frozen=True, eq=False)
class Deployed:
    """A network ready to be written as a device file.

    Attributes:
        form: `DeviceForm`.
        data: `TaskData` as the file takes them.
        carried: `export.Carried`, or None.
    """

    form: DeviceForm
    data: TaskData
    carried: export.Carried | None

    @classmethod
    def of(cls, model: keras.Model, data: TaskData, form: DeviceForm | None = None) -> "Deployed":
        """Of a model and data as it takes them; `form` if that is known already."""
        known = TrainedFor(data.objective, data.prepare, data.outputs)
        form = form or known.on_device(model)
        return cls(form, form.examples(data), known.carried(form))

    def write(self, path: PathLike, **options: Any) -> None:
        """Write the file, with `options` of `export.to_litert`."""
        labels = names_inside(self.data)
        export.to_litert(self.form.model, path, labels=labels, carried=self.carried, **options)

    def write_within(
        self, path: PathLike, held: Examples, quantize: str, max_drop: float
    ) -> export.Ladder:
        """Write the first file of the ladder of `quantize` that keeps the score on `held`."""
        form = self.form
        return export.to_litert_within(
            form.model,
            path,
            *held.sample(COMPARED),
            max_drop=max_drop,
            representative_data=for_ranges(self.data),
            ladder=form.ladders[quantize],
            class_names=names_inside(self.data),
            score=self.data.objective.score,
            carried=self.carried,
            slower=form.slower,
        )

    def compared(self, path: PathLike, targets: np.ndarray | None = None) -> Parity:
        """`export.Parity` of network and file on examples held out.

        Args:
            path: Of the `.tflite`.
            targets: Of the first 1,000 examples held out, to measure the score by, or None.
        """
        objective = self.data.objective
        return export.parity(
            self.form.model,
            path,
            self.data.test.inputs(slice(0, COMPARED)),
            targets,
            score=objective.score,
            agree=objective.agreement,
        )


def write_device_file(
    run: RunFolder,
    model: keras.Model,
    data: TaskData,
    *,
    name: str = "model.tflite",
    **options: Any,
) -> dict[str, Any]:
    """Write one file into `run`, compare it with `model`, return what `metrics.json` says.

    Args:
        run: `RunFolder`.
        model: `keras.Model`.
        data: `TaskData`; the first 1,000 examples held out are compared.
        name: Of the file in `run`.
        **options: `quantization` and `representative_data` of `export.to_litert`.

    Returns:
        Dict with `quantization`; `size_bytes` and `gzip_bytes`; `score` of the file;
        `max_abs_error` and `agreement` with Keras; `median_ms` of one example at one thread;
        and `compared_on`, the number of examples.
    """
    return _write(run, Deployed.of(model, data), name, **options)


def _write(run, deployed, name="model.tflite", **options):
    path = run.file(name)
    deployed.write(path, **options)
    parity = deployed.compared(path, deployed.data.test.targets[:COMPARED])
    return {
        "quantization": options.get("quantization"),
        "size_bytes": parity.size_bytes,
        "gzip_bytes": parity.gzip_bytes,
        "score": parity.file_accuracy,
        "max_abs_error": parity.max_abs_error,
        "agreement": parity.agreement,
        "median_ms": parity.median_ms,
        "compared_on": parity.num_examples,
    }


def for_ranges(data: TaskData) -> Any:
    """Examples that trained, as `representative_data` of `export.to_litert`."""
    inputs, targets = data.train.sample(COMPARED)
    return (inputs, targets) if np.ndim(targets) == 1 else inputs


def names_inside(data: TaskData) -> tuple[str, ...] | None:
    """Names of the outputs for the inside of a device file, or None where they have none."""
    return data.objective.names_inside(data.outputs)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model or file of a comparison.

    Attributes:
        name: String.
        predict: Function from inputs to outputs.
        path: Path of its file, or None for a model that lies in none.
    """

    name: str
    predict: Callable[[Any], Any]
    path: PathLike | None = None

    @classmethod
    def of_file(cls, name: str, path: PathLike) -> "Entry":
        """The `.tflite` file at `path`."""
        return cls(name, LiteRTModel(path).predict, path)

    @classmethod
    def of_model(cls, name: str, model: keras.Model, path: PathLike | None = None) -> "Entry":
        """A Keras model; `path` is that of its `.keras` file, if it has one."""
        return cls(name, lambda x: model.predict(x, batch_size=32, verbose=0), path)


def file_rows(
    entries: Sequence["Entry"], examples: Examples, objective: Objective
) -> list[dict[str, Any]]:
    """Measure several forms of one network on the same examples.

    Args:
        entries: List of `Entry`.
        examples: `Examples`.
        objective: `Objective`.

    Returns:
        List of one dict an entry: `name`; `score`; `bytes`, `gzip`, `sparse` and `zeros` of its
        file as `export.file_sizes` measures them; `ms`, median milliseconds for one example on one
        thread, of a `.tflite`; `agreement`, how often it decides as the entry above it, and
        `max_abs_error`, its largest difference from that. None where there is no such figure.
    """
    above, rows = None, []
    for entry in entries:
        outputs = in_parts(entry.predict, examples)
        rows.append(
            {
                "name": entry.name,
                "score": objective.score(outputs, examples.targets),
                **sizes_of(entry.path),
                **_difference(above, outputs, objective),
            }
        )
        above = outputs
    for row, time in zip(rows, _times(entries, examples), strict=True):
        row["ms"] = time
    return rows


def rung_name(rung: Rung) -> str:
    """What to call the file of a `Rung` of `export.to_litert_within`.

    Example:
        >>> from kerastl.export import Rung
        >>> rung_name(Rung("int8")), rung_name(Rung("int8_mixed", kept=("low", "high")))
        ('int8', 'int8, 2 in float')
    """
    return f"int8, {len(rung.kept)} in float" if rung.kept else rung.name


def in_parts(predict: Callable[[Any], Any], examples: Examples) -> np.ndarray:
    """The outputs for all `examples`, a part of them in memory at a time."""
    starts = range(0, len(examples), PART)
    return np.concatenate([predict(examples.inputs(slice(i, i + PART))) for i in starts])


def sizes_of(path: PathLike | None) -> dict[str, Any]:
    """Dict with `bytes`, `gzip`, `sparse` and `zeros` of the file at `path`, None without one."""
    if path is None:
        return dict.fromkeys(("bytes", "gzip", "sparse", "zeros"))
    size = file_sizes([path]).rows[0]
    return {"bytes": size.dense, "gzip": size.gzip, "sparse": size.sparse, "zeros": size.zeros}


def in_turn(runners: Sequence[LiteRTModel], example: Any) -> list[float]:
    """Median milliseconds of each `LiteRTModel` for one example.

    Timed in turn, several rounds, so that what else the machine does slows all alike.

    Args:
        runners: List of `LiteRTModel` with one thread.
        example: Their input.
    """
    rounds = [[runner.milliseconds(example) for runner in runners] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _times(entries, examples):
    """Milliseconds of the entries that are `.tflite` files, None for the others."""
    files = [entry for entry in entries if str(entry.path).endswith(".tflite")]
    runners = [LiteRTModel(entry.path, threads=1) for entry in files]
    times = in_turn(runners, examples.inputs(slice(0, 1)))
    found = dict(zip(map(id, files), times, strict=True))
    return [found.get(id(entry)) for entry in entries]


def _difference(above, outputs, objective):
    if above is None:
        return {"agreement": None, "max_abs_error": None}
    return {
        "agreement": objective.agreement(above, outputs),
        "max_abs_error": float(np.abs(above - outputs).max()),
    }

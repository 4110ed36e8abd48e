"""Running a `.tflite` file."""

import dataclasses
import os

import numpy as np

from kerastl._quiet import quiet
from kerastl.export import flatbuffer, labels


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a file: its name, shape with the batch, and NumPy dtype name."""

    name: str
    shape: tuple
    dtype: str
    index: int


class LiteRTModel:
    """A `.tflite` file that predicts like the model it was made from.

    Any number of examples may be given: they go through in batches of the size the file
    was written for (1, as `to_litert` writes).

    Args:
        path: The file.
        threads: Int, threads of the runtime. None lets it choose.

    Attributes:
        inputs, outputs: Tuples of `Tensor`.
        labels: Tuple of class names from a `labels.txt` beside the file, or None.
        size_bytes: Int, size of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a LiteRT file, or one that this runtime cannot run.

    Example:
        >>> LiteRTModel("moved.tflite")
        Traceback (most recent call last):
        FileNotFoundError: `path` must be a .tflite file that exists. Received: 'moved.tflite'
    """

    def __init__(self, path, threads=None):
        self.path = os.fspath(path)
        content = _read(self.path)
        self.size_bytes = len(content)
        self.labels = labels.beside(self.path)
        self._runner, names = _interpreter(self.path, content, threads)
        self.inputs = _tensors(self._runner.get_input_details(), names["inputs"])
        self.outputs = _tensors(self._runner.get_output_details(), names["outputs"])

    def __repr__(self):
        shapes = ", ".join(f"{t.name}: {t.shape} {t.dtype}" for t in self.inputs + self.outputs)
        return f"LiteRTModel({self.path!r}, {shapes})"

    def predict(self, x):
        """The file's answer to examples.

        Args:
            x: Array `(examples, ...)`; for several inputs a dict by name or a list in order.

        Returns:
            Array `(examples, ...)`; for several outputs a dict by name.

        Raises:
            ValueError: If the arrays do not fit the file's inputs.
        """
        answers = self.run(x)
        return next(iter(answers.values())) if len(answers) == 1 else answers

    def run(self, x):
        """As `predict`, but always a dict from output name to array."""
        arrays = self._fitted(x)
        count = len(arrays[0])
        batch = self.inputs[0].shape[0]
        parts = [
            self._invoke([a[i : i + batch] for a in arrays], batch) for i in range(0, count, batch)
        ]
        return {
            tensor.name: np.concatenate([part[k] for part in parts])[:count]
            for k, tensor in enumerate(self.outputs)
        }

    def _fitted(self, x):
        arrays = [
            _fit(tensor, array) for tensor, array in zip(self.inputs, self._ordered(x), strict=True)
        ]
        if len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
            raise ValueError(
                "`x` must hold at least one example, and as many for each input. "
                f"Received: {', '.join(str(len(array)) for array in arrays)} examples."
            )
        return arrays

    def _ordered(self, x):
        names = [tensor.name for tensor in self.inputs]
        if isinstance(x, dict):
            if len(x) == len(names) == 1:
                return list(x.values())
            if sorted(x) != sorted(names):
                raise ValueError(f"`x` must have the keys {names}. Received: {sorted(x)}")
            return [x[name] for name in names]
        arrays = x if isinstance(x, (list, tuple)) and len(names) > 1 else [x]
        if len(arrays) != len(names):
            raise ValueError(
                f"`x` must hold {len(names)} arrays, for {names}. Received: {len(arrays)}"
            )
        return arrays

    def _invoke(self, arrays, batch):
        for tensor, array in zip(self.inputs, arrays, strict=True):
            # A last batch is filled up with its last example; `run` cuts the answers off.
            rows = np.minimum(np.arange(batch), len(array) - 1)
            self._runner.set_tensor(tensor.index, array[rows])
        self._runner.invoke()
        return [self._runner.get_tensor(tensor.index) for tensor in self.outputs]


def _read(path):
    if not os.path.isfile(path):
        raise FileNotFoundError(f"`path` must be a .tflite file that exists. Received: {path!r}")
    with open(path, "rb") as file:
        content = file.read()
    if not flatbuffer.is_litert(content):
        raise ValueError(f"{path} is not a LiteRT (.tflite) file.")
    return content


def _interpreter(path, content, threads):
    """A runtime with its tensors allocated, and the signature's names."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet():
            runner = Interpreter(model_content=content, num_threads=threads)
            runner.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{path} cannot be run by this LiteRT runtime: {first}") from error
    signatures = list(runner.get_signature_list().values())
    return runner, signatures[0] if signatures else {"inputs": (), "outputs": ()}


def _tensors(details, names):
    """Tensors in the file's order; `serving_default_image:0` goes by its signature name."""
    tensors = []
    for detail in details:
        scale, _ = detail["quantization"]
        if scale:
            raise ValueError(
                f"{detail['name']} is quantized ({detail['dtype'].__name__}). "
                "Only files with float or integer inputs and outputs can be run."
            )
        plain = detail["name"].removeprefix("serving_default_").split(":")[0]
        name = plain if plain in names else detail["name"]
        shape = tuple(int(n) for n in detail["shape"])
        tensors.append(Tensor(name, shape, np.dtype(detail["dtype"]).name, detail["index"]))
    return tuple(tensors)


def _fit(tensor, array):
    array = np.asarray(array)
    if array.shape[1:] != tensor.shape[1:]:
        raise ValueError(
            f"Input {tensor.name!r} must have the shape (examples, "
            f"{', '.join(map(str, tensor.shape[1:]))}). Received: shape={array.shape}"
        )
    kinds = (np.dtype(tensor.dtype).kind, array.dtype.kind)
    if kinds[0] in "iu" and kinds[1] == "f":
        raise ValueError(
            f"Input {tensor.name!r} must hold integers. Received: dtype={array.dtype.name}"
        )
    return array.astype(tensor.dtype, copy=False)

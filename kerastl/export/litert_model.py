"""Running a `.tflite` file."""

import collections
import dataclasses
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerastl._base.checks import whole
from kerastl._base.errors import cause
from kerastl._base.quiet import quiet
from kerastl._base.types import Arrays, PathLike
from kerastl.export import flatbuffer, labels, metadata

_BATCH = 32  # examples at once through a file that takes any number
_WARM_UP = 3


class LiteRTModel:
    """A `.tflite` file that predicts like the model it was made from.

    Any number of examples may be given: they go through in batches of the size the file
    was written for (1, as `to_litert` writes). Arrays hold real values, pixels say, also where
    the file takes or gives int8, uint8 or int16: they are quantized on the way in, and
    dequantized on the way out.

    Args:
        path: The file.
        threads: Int >= 1, threads of the runtime. None lets it choose.

    Attributes:
        inputs, outputs: Tuples of `Tensor`.
        batch_size: Int, examples the file takes at once, or None if any number.
        labels: Tuple of class names in the file, else in a `labels.txt` beside it, else None.
        size_bytes: Int, size of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a LiteRT file, or one that this runtime cannot run.

    Example:
        >>> LiteRTModel("moved.tflite")
        Traceback (most recent call last):
        FileNotFoundError: `path` must be a .tflite file that exists. Received: 'moved.tflite'
    """

    def __init__(self, path: PathLike, threads: int | None = None) -> None:
        self.path = os.fspath(path)
        if threads is not None:
            whole(threads, 1, 1024, "threads")
        content = _read(self.path)
        self.size_bytes = len(content)
        # First: the runtime alone checks that a file is whole.
        self._runner, inputs, outputs = _interpreter(self.path, content, threads)
        self.labels = metadata.read_labels(content) or labels.beside(self.path)
        self.inputs = described(self._runner.get_input_details(), inputs)
        self.outputs = described(self._runner.get_output_details(), outputs)
        self.batch_size = self.inputs[0].shape[0]
        self._allocated = self.batch_size

    def __repr__(self) -> str:
        shapes = ", ".join(f"{t.name}: {t.shape} {t.dtype}" for t in self.inputs + self.outputs)
        return f"LiteRTModel({self.path!r}, {shapes})"

    def predict(self, x: Arrays) -> np.ndarray | dict[str, np.ndarray]:
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

    def run(self, x: Arrays) -> dict[str, np.ndarray]:
        """As `predict`, but always a dict from output name to array."""
        arrays = self._fitted(x)
        count = len(arrays[0])
        batch = self.batch_size or min(count, _BATCH)
        self._set_batch(batch)
        parts = [
            self._invoke([a[i : i + batch] for a in arrays], batch) for i in range(0, count, batch)
        ]
        return {
            tensor.name: real(tensor, np.concatenate([part[k] for part in parts])[:count])
            for k, tensor in enumerate(self.outputs)
        }

    def milliseconds(self, x: Arrays, *, runs: int = 20) -> float:
        """How long the runtime takes for one batch.

        Args:
            x: Examples as in `predict`; the first batch of them is run.
            runs: Int >= 1, how often it is timed, after three runs that are not.

        Returns:
            Float, the median in milliseconds, the copying of inputs and outputs left out.
        """
        batch = self.batch_size or 1
        self._set_batch(batch)
        self._invoke([array[:batch] for array in self._fitted(x)], batch)
        times = []
        for _ in range(_WARM_UP + runs):
            start = time.perf_counter()
            self._runner.invoke()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times[_WARM_UP:])

    def _set_batch(self, batch):
        """Make room for `batch` examples, if the file lets one choose."""
        if self.batch_size is not None or batch == self._allocated:
            return
        for tensor in self.inputs:
            self._runner.resize_tensor_input(tensor.index, (batch, *tensor.shape[1:]))
        self._runner.allocate_tensors()
        self._allocated = batch

    def _fitted(self, x):
        arrays = [
            fitted(tensor, array)
            for tensor, array in zip(self.inputs, self._ordered(x), strict=True)
        ]
        if len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
            raise ValueError(
                "`x` must hold at least one example, and as many for each input. "
                f"Received: {', '.join(str(len(array)) for array in arrays)} examples."
            )
        return arrays

    def _ordered(self, x: Any) -> list[np.ndarray]:
        names = [tensor.name for tensor in self.inputs]
        if isinstance(x, dict):
            if sorted(x) != sorted(names):
                raise ValueError(f"`x` must have the keys {names}. Received: {sorted(x)}")
            return [x[name] for name in names]
        arrays: list[Any] = list(x) if isinstance(x, (list, tuple)) and len(names) > 1 else [x]
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
    """A runtime with its tensors allocated, and what the signature calls which of them."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet():
            runner = Interpreter(model_content=content, num_threads=threads)
            runner.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be run by this LiteRT runtime: {cause(error)}") from error
    if not runner.get_signature_list():
        return runner, {}, {}
    signature = runner.get_signature_runner(next(iter(runner.get_signature_list())))
    ends = (signature.get_input_details(), signature.get_output_details())
    return runner, *({name: detail["index"] for name, detail in end.items()} for end in ends)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a file.

    Args:
        name: String.
        shape: Tuple with the batch, None where that is free.
        dtype: NumPy dtype name of what the file holds.
        index: Int, the runtime's number of it.
        scale: Float; a quantized tensor's real value is `scale * (number - zero_point)`. 0 for
            one that is not quantized.
        zero_point: Int.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    index: int
    scale: float = 0.0
    zero_point: int = 0


def described(details: Sequence[Mapping[str, Any]], names: Mapping[str, int]) -> tuple[Tensor, ...]:
    """Tensors in the file's order; those of the signature `names` (name → index) go by that.

    A tensor may be several outputs, as the last output of an LSTM and its state are.
    """
    called = collections.defaultdict(list)
    for name in sorted(names):
        called[names[name]].append(name)
    tensors = []
    for detail in details:
        own = called[detail["index"]]
        scale, zero_point = detail["quantization"]
        shape: list[int | None] = [int(n) for n in detail["shape"]]
        signature = detail.get("shape_signature", ())
        if len(signature) and signature[0] == -1:
            shape[0] = None
        tensors.append(
            Tensor(
                name=own.pop(0) if own else detail["name"],
                shape=tuple(shape),
                dtype=np.dtype(detail["dtype"]).name,
                index=detail["index"],
                scale=float(scale),
                zero_point=int(zero_point),
            )
        )
    return tuple(tensors)


def plain_name(name: str) -> str:
    """What the model calls the input that the converter calls `name`.

    Example:
        >>> plain_name("serving_default_pixels:0")
        'pixels'
    """
    return name.removeprefix("serving_default_").split(":")[0]


def fitted(tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """`array` of real values as what `tensor` holds.

    Raises:
        ValueError: If its shape or its kind of numbers does not fit.
    """
    array = np.asarray(array)
    if array.shape[1:] != tensor.shape[1:] or not array.ndim:
        raise ValueError(
            f"Input {tensor.name!r} must have the shape (examples, "
            f"{', '.join(map(str, tensor.shape[1:]))}). Received: shape={array.shape}"
        )
    if tensor.scale:
        return quantized(tensor, array)
    kinds = (np.dtype(tensor.dtype).kind, array.dtype.kind)
    if kinds[0] in "iu" and kinds[1] == "f":
        raise ValueError(
            f"Input {tensor.name!r} must hold integers. Received: dtype={array.dtype.name}"
        )
    return array.astype(tensor.dtype, copy=False)


def quantized(tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """Real values as the numbers of `tensor`: rounded, and held at the ends of its range.

    Example:
        >>> pixels = Tensor("pixels", (1, 3), "int8", 0, scale=1.0, zero_point=-128)
        >>> quantized(pixels, np.array([[0, 127.4, 300]]))
        array([[-128,   -1,  127]], dtype=int8)
    """
    ends = np.iinfo(tensor.dtype)
    steps = np.rint(np.asarray(array, "float64") / tensor.scale) + tensor.zero_point
    return np.clip(steps, ends.min, ends.max).astype(tensor.dtype)


def real(tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """The numbers of `tensor` as real values, float32; those of one not quantized as they are.

    Example:
        >>> real(Tensor("p", (1, 2), "uint8", 0, scale=0.5, zero_point=128), np.array([[128, 130]]))
        array([[0., 1.]], dtype=float32)
    """
    if not tensor.scale:
        return array
    return ((array.astype("float64") - tensor.zero_point) * tensor.scale).astype("float32")

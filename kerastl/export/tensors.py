"""The inputs and outputs of a file, and the way between their numbers and real ones."""

import dataclasses

import numpy as np


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
    shape: tuple
    dtype: str
    index: int
    scale: float = 0.0
    zero_point: int = 0


def described(details, names):
    """Tensors in the file's order; `serving_default_image:0` goes by its signature name."""
    tensors = []
    for detail in details:
        plain = plain_name(detail["name"])
        scale, zero_point = detail["quantization"]
        shape = [int(n) for n in detail["shape"]]
        signature = detail.get("shape_signature", ())
        if len(signature) and signature[0] == -1:
            shape[0] = None
        tensors.append(
            Tensor(
                name=plain if plain in names else detail["name"],
                shape=tuple(shape),
                dtype=np.dtype(detail["dtype"]).name,
                index=detail["index"],
                scale=float(scale),
                zero_point=int(zero_point),
            )
        )
    return tuple(tensors)


def plain_name(name):
    """What the model calls the input that the converter calls `name`.

    Example:
        >>> plain_name("serving_default_pixels:0")
        'pixels'
    """
    return name.removeprefix("serving_default_").split(":")[0]


def fitted(tensor, array):
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


def quantized(tensor, array):
    """Real values as the numbers of `tensor`: rounded, and held at the ends of its range.

    Example:
        >>> pixels = Tensor("pixels", (1, 3), "int8", 0, scale=1.0, zero_point=-128)
        >>> quantized(pixels, np.array([[0, 127.4, 300]]))
        array([[-128,   -1,  127]], dtype=int8)
    """
    ends = np.iinfo(tensor.dtype)
    steps = np.rint(np.asarray(array, "float64") / tensor.scale) + tensor.zero_point
    return np.clip(steps, ends.min, ends.max).astype(tensor.dtype)


def real(tensor, array):
    """The numbers of `tensor` as real values, float32; those of one not quantized as they are.

    Example:
        >>> real(Tensor("p", (1, 2), "uint8", 0, scale=0.5, zero_point=128), np.array([[128, 130]]))
        array([[0., 1.]], dtype=float32)
    """
    if not tensor.scale:
        return array
    return ((array.astype("float64") - tensor.zero_point) * tensor.scale).astype("float32")

"""What a converted file must pass before it is put in place."""

import keras
import numpy as np

from kerastl._checks import listed
from kerastl.export import flatbuffer
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.naming import inputs_by_name, output_names

# A float file repeats the model's float32 arithmetic with operations fused: errors are near 1e-6
# of the outputs. One that lost its weights is off by the outputs themselves.
_TOLERANCE = 1e-3


def needs_flex(made, allow_flex):
    """Whether the file `made` has operations that the plain runtime lacks.

    Raises:
        ValueError: If it has and `allow_flex` is False; names them.
    """
    with open(made, "rb") as file:
        operations = flatbuffer.operations(file.read())
    custom = [name.removeprefix("CUSTOM:") for name in operations if name.startswith("CUSTOM:")]
    if custom and not allow_flex:
        raise ValueError(
            f"The model needs operations that LiteRT does not have: {listed(custom)}. Replace the "
            "layers that use them, or pass allow_flex=True and ship TensorFlow's Flex delegate "
            "with the app. Nothing was written."
        )
    return bool(custom)


def check_outputs(model, graph, made):
    """Run the file `made` once beside the model: a converter that lost the weights is silent.

    Raises:
        RuntimeError: If an output differs by more than the tolerance, or is not a number.
    """
    lite = LiteRTModel(made)
    example = keras.tree.map_structure(lambda t: _example(t, lite), graph.input)
    expected = keras.tree.flatten(model(example, training=False))
    expected = [np.asarray(keras.ops.convert_to_numpy(value), "float64") for value in expected]
    answers = lite.run(inputs_by_name(graph, example))
    received = [answers[name] for name in output_names(graph)]
    for ours, theirs in zip(expected, received, strict=True):
        limit = _TOLERANCE * max(1.0, float(np.abs(ours).max()))
        worst = float(np.abs(ours - theirs).max())
        if not worst <= limit:  # NaN is not
            raise RuntimeError(
                f"The file does not repeat the model: outputs differ by {worst:.3g}, where "
                f"{limit:.3g} would do. Nothing was written. A model that gives NaN, or whose "
                "`call` does more than its graph, cannot be exported; else report this."
            )


def _example(tensor, lite):
    """One batch of made-up input: pixels for pictures, ones for integers, noise for the rest."""
    shape = (lite.inputs[0].shape[0], *tensor.shape[1:])
    if "int" in tensor.dtype:
        return np.ones(shape, tensor.dtype)
    noise = np.random.default_rng(0).random(shape, dtype="float32")
    return (255 * noise if len(shape) == 4 else noise).astype(tensor.dtype)

"""What a tf_keras model cannot do at all, refused by name."""

import contextlib


def refuse_inputs(layers):
    """Raise if one of the input layers is optional, sparse or ragged."""
    for layer in layers:
        what = [kind for kind in ("optional", "sparse", "ragged") if getattr(layer, kind, False)]
        if what:
            raise ValueError(
                f"The inputs of a twin must be dense and always given. Received: input "
                f"{layer.name!r}, which is {' and '.join(what)}. Build the model on another "
                f"keras.Input."
            )


def refuse_constraints(operation):
    """Raise if a layer that will be wrapped has a weight with a constraint.

    A tf_keras optimizer looks for it at the tf.Variable, where Keras 3 does not put it.
    """
    for variable in getattr(operation, "weights", ()):
        if variable.constraint is not None:
            raise ValueError(
                f"Layer {operation.name!r} ({_kind(operation)}) has no equal in tf_keras, and its "
                f"weight {variable.name!r} has the constraint {variable.constraint!r}, which a "
                f"tf_keras optimizer would not keep. Remove the constraint."
            )


@contextlib.contextmanager
def running(operation):
    """Say which layer it was if `operation` fails inside a tf_keras model."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"Layer {operation.name!r} ({_kind(operation)}) has no equal in tf_keras and fails "
            f"when it runs as it is inside a tf_keras model, by the {type(error).__name__} above. "
            f"Replace it, or move it out of the model."
        ) from error


def _kind(operation):
    return f"{type(operation).__module__}.{type(operation).__qualname__}"

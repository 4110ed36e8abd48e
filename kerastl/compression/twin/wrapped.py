"""A Keras 3 layer or operation run as it is, as one layer of a tf_keras model."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras

from kerastl import _keras
from kerastl.compression import island
from kerastl.compression.twin.equality import set_training
from kerastl.graph.run import inert_inside, is_inert


@keras.saving.register_keras_serializable(package="kerastl")
class Slot:
    """Stands for tensor number `index` of a recorded call."""

    def __init__(self, index: int) -> None:
        self.index = index

    def get_config(self) -> dict[str, Any]:
        return {"index": self.index}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)


_AnyLayer: Any = object  # it is mixed into a class of tf_keras, which is not loaded yet


class RunsOperation(_AnyLayer):
    """What `wrapped_class()` adds to a tf_keras layer: it calls `operation` of Keras 3.

    The operation is shared with the Keras 3 model, not copied, and so are its weights: training
    the one trains the other. A layer cloned `from_config` has an operation and weights of its own.

    Args:
        operation: Keras 3 operation or layer; or its serialized form.
        calls: List of the `(args, kwargs)` of the calls that the graph makes, with a `Slot` for
            each tensor; or its serialized form.
        specs: List of `(shape, dtype)` of the tensors of the first call.
        inert: Boolean, whether what is frozen in it runs in inference mode, as in a FineTuner.
    """

    def __init__(
        self,
        operation: keras.Operation,
        calls: Sequence[Any],
        specs: Sequence[Any],
        inert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "autocast": False})
        if isinstance(operation, dict):
            operation = keras.saving.deserialize_keras_object(operation)
            calls = keras.saving.deserialize_keras_object(calls)
        # Past tf_keras's __setattr__, which would take a Keras 3 layer for one of its own.
        object.__setattr__(self, "operation", operation)
        object.__setattr__(self, "calls", calls)
        self.specs = [(tuple(shape), dtype) for shape, dtype in specs]
        self.inert = inert
        self.supports_masking = True
        # Masks are attributes of tensors under the same name in both: what the operation set
        # stays, and nothing is added.
        self._compute_output_and_mask_jointly = True

    def build(self, input_shape: Any) -> None:
        if isinstance(self.operation, keras.Layer):
            if not self.operation.built:
                self._fill_and_run([keras.KerasTensor(*spec) for spec in self.specs], 0)
            self._take_variables(self.operation)
        super().build(input_shape)

    def _take_variables(self, layer):
        import tensorflow as tf

        # So that SavedModel finds them. As a plain list tf_keras would take them for weights, too.
        self.variables_run = tf.train.Checkpoint(variables=[v.value for v in layer.variables])
        trained = [v for v in layer.weights if v.trainable]
        set_training(self, [v.value for v in layer.weights], [v.value for v in trained])
        for variable in trained:
            if variable.regularizer is not None:
                self.add_loss(functools.partial(variable.regularizer, variable))

    def call(self, inputs: Any, which: int = 0, training: bool | None = None) -> Any:
        import tensorflow as tf

        inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return tf.autograph.experimental.do_not_convert(self._run)(inputs, which, training)

    def _run(self, inputs, which, training):
        layer = self.operation
        if not isinstance(layer, keras.Layer):
            return self._fill_and_run(inputs, which)
        context = {}
        if _keras.accepts_training(layer):
            context["training"] = bool(training) and not (self.inert and is_inert(layer))
        with _keras.inference_mode(inert_inside([layer]) if self.inert else []):
            outputs = self._fill_and_run(inputs, which, **context)
        for loss in _keras.losses_of_call(layer):
            self.add_loss(loss)
        return outputs

    def _fill_and_run(self, tensors, which, **context):
        args, kwargs = keras.tree.map_structure(
            lambda x: tensors[x.index] if isinstance(x, Slot) else x, self.calls[which]
        )
        return self.operation(*args, **kwargs, **context)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "operation": serialize(self.operation),
            "calls": serialize(self.calls),
            "specs": self.specs,
            "inert": self.inert,
        }


@functools.cache
def wrapped_class() -> type:
    """The tf_keras layer `Wrapped`, registered there as `kerastl>Wrapped`."""
    tf_keras = island.tf_keras()
    members = {"__doc__": RunsOperation.__doc__}
    made = type("Wrapped", (RunsOperation, tf_keras.layers.Layer), members)
    return tf_keras.utils.register_keras_serializable("kerastl")(made)


def wrap(nodes: Sequence[Any], inert: bool, **kwargs: Any) -> Any:
    """The tf_keras layer that makes the calls recorded at the nodes of one operation."""
    specs = [(x.shape, x.dtype) for x in nodes[0].input_tensors]
    calls = [_recorded(node) for node in nodes]
    return wrapped_class()(nodes[0].operation, calls, specs, inert=inert, **kwargs)


def _recorded(node):
    index = iter(range(len(node.input_tensors)))

    def slot(x):
        return Slot(next(index)) if isinstance(x, keras.KerasTensor) else x

    # Keras records what `training` happened to be; the containers overwrite it, and so do we.
    named = {k: v for k, v in node.arguments.kwargs.items() if k != "training"}
    return keras.tree.map_structure(slot, (node.arguments.args, named))

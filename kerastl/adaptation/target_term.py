"""TargetTerm: a term that sees unlabelled examples of a target domain beside those of `fit`."""

import abc
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kerastl.adaptation.target_stream import stream_of
from kerastl.graph.index import GraphIndex
from kerastl.graph.run import run_training
from kerastl.training import FineTuner, Term, TermStep
from kerastl.training.probe.head import name_before_head


class TargetTerm(Term):
    """What terms that compare a source domain, `fit`'s, with a target domain have in common.

    In each step a batch of the target domain runs through the model as the batch of the source has
    run, in training mode, as far as the features that are compared. Gradients flow through both.
    What else a step in training changes, the target's batch leaves alone: batch normalizations
    normalize it by its own mean and variance, and keep moving statistics of the source;
    random states of dropout stay, and losses that layers add are those of the source. So a model
    with batch normalization should be given the target's statistics when the training is over:
    `adapt_batch_norm(model, target)`.

    Frozen layers are not computed once beside such a term: it runs them on the target's inputs.

    Args:
        target: As the `data` of `TargetStream`, or one.
        strength: Float >= 0. At 0 the term is off.
        features: Names of the layers to compare, a string for one. Each gives one vector an
            example. Empty is what the last Dense reads, before its dropout.
        name: String, the name of the metric.
    """

    reads_inputs = True

    def __init__(
        self, target: Any, strength: float, features: str | Sequence[str], name: str
    ) -> None:
        self._stream = stream_of(target)
        self.strength, self.name = strength, name
        self.features = (features,) if isinstance(features, str) else tuple(features)
        self._reads_head = not self.features
        self._part = None

    @property
    def state_variables(self) -> list[Any]:
        """The position in the target's data."""
        return self._stream.state_variables

    def begin(self, model: FineTuner) -> None:
        """Find the features, and read the target from its start."""
        if self._reads_head:
            self.features = (_before_head(model),)
        self._part = None
        self._stream.begin()

    def prepare(self, model: FineTuner) -> None:
        """Find the graph that leads to the features, and make variables.

        Raises:
            ValueError: If features are no vectors, or the target does not fit the model or the
                replicas.
        """
        index = GraphIndex(model)
        made = [index.calls[id(model.get_layer(name))][0].outputs for name in self.features]
        for name, tensors in zip(self.features, made, strict=True):
            if len(tensors) != 1 or len(tensors[0].shape) != 2:
                raise ValueError(
                    "`features` must name layers that give one vector an example, (batch, width). "
                    f"Received: {name!r}, which gives "
                    f"{', '.join(str(tensor.shape) for tensor in tensors)}. Name the pooling "
                    "behind it."
                )
        self.widths = tuple(tensors[0].shape[-1] for tensors in made)
        if self._part is None:
            wanted = [tensors[0] for tensors in made]
            self._part = keras.Model(model.input, [*wanted, *self._more_outputs(model)])
        strategy: Any = model.distribute_strategy
        self._stream.prepare(strategy.num_replicas_in_sync)

    def before_steps(self, num_steps: int) -> None:
        """Read the target's batches of the next steps."""
        self._stream.stage(num_steps)

    def identity(self) -> dict[str, Any]:
        """As in `Term`, and what the target is."""
        said = {"features": list(self.features), "target": self._stream.identity()}
        return {**super().identity(), **said}

    def run_target(self, step: TermStep) -> list[tf.Tensor]:
        """What the layers of `features` give of the target's next batch, and `_more_outputs`."""
        batch = self._stream.take()
        # Its assignments, to statistics and random states, are noted there and left undone.
        with keras.StatelessScope():
            return tf.nest.flatten(run_training(step.model, batch, None, part=self._part))

    def _more_outputs(self, model):
        """List of symbolic tensors of `model` that are wanted beside the features."""
        return []


def _before_head(model):
    """Name of the layer whose output the last Dense of `model` reads, before its dropout."""
    try:
        return name_before_head(model)
    except ValueError as error:
        raise ValueError(
            "The features to compare must be named, as in features='pool', where a model does not "
            f"end in a Dense on one vector an example. {error}"
        ) from error


class FeatureDistance(TargetTerm, abc.ABC):
    """A term that is `strength` times a distance between the features of two domains.

    Of several layers it is the sum. Each replica compares its own share of both batches.
    """

    def __call__(self, step: TermStep) -> tf.Tensor:
        source = [tf.cast(step.features[name], "float32") for name in self.features]
        target = [tf.cast(part, "float32") for part in self.run_target(step)]
        apart = [self.distance(s, t) for s, t in zip(source, target, strict=True)]
        return self.strength * tf.reduce_sum(tf.stack(apart))

    @abc.abstractmethod
    def distance(self, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The distance between float32 `(num_source, width)` and `(num_target, width)`."""

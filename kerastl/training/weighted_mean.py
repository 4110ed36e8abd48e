"""The exact mean of a weighted loss: over the whole optimizer step, whatever it is made of.

Keras's `"mean_with_sample_weight"` divides by the weights of a batch on one device. The mean of
such means is another number: with 2 tokens in one batch and 8 in the next, the first ones count
four times as much. Here the batches of a cycle of `gradient_accumulation_steps`, and replicas, make
one mean.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl.optimizers.steps import CycleShare
from kerastl.training.terms import Term, TermStep

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner

REDUCTION = "mean_with_sample_weight"


def is_weighted_mean(model: keras.Model, loss: Any) -> bool:
    """Whether `loss`, as `compile` was given it, is one loss with this reduction, of one output.

    Args:
        model: `keras.Model`.
        loss: As in `keras.Model.compile`.
    """
    losses = [one for one in keras.tree.flatten(loss) if one is not None]
    return (
        len(model.outputs) == len(losses) == 1 and getattr(losses[0], "reduction", "") == REDUCTION
    )


class Factors(NamedTuple):
    """How the parts of a batch's loss go into the gradient of an optimizer step.

    Attributes:
        of_data: Scalar, that of the compiled loss.
        of_rest: Scalar, that of all that does not go by the weights of examples: regularizers and
            terms.
        share: `CycleShare` of the batch, or None without accumulation.
    """

    of_data: Any
    of_rest: Any
    share: CycleShare | None


def factors_of(model: "FineTuner", weight: Any) -> Factors | None:
    """The `Factors` of a batch; None where Keras's mean over the batch is that of the step.

    Args:
        model: `FineTuner`, compiled.
        weight: Scalar, the sum of weights that this replica's loss was divided by.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    weight = tf.stop_gradient(weight)
    whole = _summed(weight) if replicas > 1 else weight
    share = model.lr_multiplier.share_of(whole)
    if share is None and replicas == 1:
        return None
    # Keras has divided by the weight of this replica, and by the number of replicas.
    of_mean = keras.ops.cast(weight, "float32") * replicas
    if share is None:
        whole = keras.ops.cast(whole, "float32")
        return Factors(keras.ops.divide_no_nan(of_mean, whole), 1.0, None)
    return Factors(of_mean * share.of_sum, share.of_rest, share)


def _summed(weight):
    context: Any = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, weight)


def loss_of_step(
    model: "FineTuner",
    factors: Factors,
    loss: Any,
    steps: Sequence[tuple[Term, TermStep]],
    values: Sequence[Any],
) -> Any:
    """What a batch gives the gradient of an optimizer step, where that is not its own loss.

    Args:
        model: `FineTuner`.
        factors: `Factors` of the batch.
        loss: Scalar, as `compute_loss` gives it, regularizers in it.
        steps: As from `Terms.steps`.
        values: The value of each term, as from `total_loss`.
    """
    added = tf.cast(_keras.added_losses(model), loss.dtype)
    data = loss - added
    for term, _ in steps:
        data = term.loss_weight * data
    shares = [
        _keras.scale_loss_for_distribution(tf.cast(value, loss.dtype))
        for value in values
        if value is not None
    ]
    rest = tf.reduce_sum(tf.stack([added, *shares]))  # in one sum, as in `total_loss`
    of_data, of_rest = (tf.cast(one, loss.dtype) for one in factors[:2])
    return of_data * data + of_rest * rest

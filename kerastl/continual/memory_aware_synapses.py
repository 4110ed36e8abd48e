"""Memory-aware synapses: weights are held as what the model gives depends on them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base.types import OnProgress, Where
from kerastl.continual.consolidated import ConsolidatedPenalty, weights_of
from kerastl.continual.example_pass import MEMORY, ExamplePass, chunks


class MemoryAwareSynapses(ConsolidatedPenalty):
    """Holds weights near what they were, the more the more the outputs depend on them.

    `strength / 2 * sum_i F_i / mean(F) * (w_i - anchor_i)²`, with `F` the mean over examples of
    `|d ||f(x)||² / dw|` in inference mode. It needs no labels and asks for no classes, so that any
    inputs of the earlier task will do, and outputs of any kind; give it logits where there are
    some, since the probabilities of a sure model depend on little.

    Call `consolidate` after each task and `compile` with the term for the next. Importances of
    several tasks add up, and the anchors are the weights after the latest.

    Args:
        strength: Float >= 0, lambda of the paper in units of twice the mean of `F` (it has no 1/2).
            0 is off.
        proximal: Boolean, as in `L2SP`: the penalty acts by a step after that of the optimizer,
            stable for any strength, or by its gradient.
        name: String, the name of the metric, which shows the penalty.

    Attributes:
        memory: Int, bytes that gradients by example may take at a time, 2**29 unless set.

    Raises:
        ValueError: If `strength` is out of range; in `fit`, if weights train that had no part in
            `consolidate`.
        RuntimeError: In `fit`, before `consolidate`.

    Example:
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> model = FineTuner(inputs, keras.layers.Dense(1, name="dense")(inputs))
        >>> mas = MemoryAwareSynapses(strength=10.0)
        >>> mas.consolidate(model, np.float32([[1, 0], [0, 1]]))
        >>> model.compile("sgd", "mse", terms=[mas])
        >>> sorted(model.fit(np.ones((3, 2)), np.ones(3), verbose=0).history)
        ['loss', 'mas']

    References:
        Aljundi et al., 2018, section 4.2 (the l2 norm of the outputs),
        https://arxiv.org/abs/1711.09601
    """

    memory = MEMORY

    def __init__(self, strength: float = 1.0, *, proximal: bool = True, name: str = "mas") -> None:
        super().__init__(strength, proximal, name)

    def consolidate(
        self,
        model: keras.Model,
        x: Any,
        *,
        where: Where | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Measure on what the outputs depend for these inputs, and anchor the weights.

        Args:
            model: Built `keras.Model`.
            x: Inputs as arrays, or a dataset or another iterable of batches `x` or `(x, y)`, of
                which `y` is not read.
            where: Layers whose weights are held, as in `freeze`; None is what trains at the
                moment. Name those too that will thaw in the next task.
            progress: Called as `progress(done, total)` with numbers of examples.

        Raises:
            ValueError: If gradients are not finite, or all of them are 0.
        """
        variables = weights_of(model, where)
        one_pass = ExamplePass(
            model, variables, scalar=_square_of_norm, power=1, memory=self.memory
        )
        totals = [np.zeros(variable.shape) for variable in variables]
        count = 0
        for part, _ in chunks(x, None, one_pass.chunk, progress):
            for total, one in zip(totals, one_pass.sums(part), strict=True):
                total += one
            count += len(tf.nest.flatten(part)[0])
        self._keep(model, variables, [total / count for total in totals], 1.0)


def _square_of_norm(outputs):
    """`||f(x)||²` over all outputs of one example."""
    parts = [
        tf.cast(part, "float32") if part.dtype.size < 4 else part
        for part in tf.nest.flatten(outputs)
    ]
    return tf.add_n([tf.reduce_sum(part**2) for part in parts])

"""Elastic weight consolidation: weights are held as the Fisher information says they matter."""

from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl._base.types import OnProgress, Where
from kerastl.continual.consolidated import ConsolidatedPenalty, weights_of
from kerastl.continual.example_pass import MEMORY, ExamplePass, chunks

EXACT_UP_TO = 20  # classes, each of which takes a pass
LABELS = ("exact", "true", "empirical")


class ElasticWeightConsolidation(ConsolidatedPenalty):
    """Holds weights near what an earlier task made of them, the more the more they mattered to it.

    `strength / 2 * sum_i F_i / mean(F) * (w_i - anchor_i)²`

    `F` is the diagonal of the Fisher information of the earlier task: the mean over its examples
    of the squared gradient of the log-probability of a label, in inference mode. Which label is
    declared by `labels`:

    - `"exact"`: the expectation over the model's own probabilities, `sum_c p_c * g_c²`, nothing
      drawn. Takes a pass for each class, up to 20 of them.
    - `"true"`: one label an example, drawn from these probabilities.
    - `"empirical"`: the labels of the data. Where the model is right and sure they tell little.

    Call `consolidate` after each task and `compile` with the term for the next. A second call adds
    up online: `F = decay * F + F_new`, and the anchors are the weights as they are then. Division
    by the mean makes a strength mean the same for each network: that of `L2SP`, in the mean of its
    weights. With one head that grows by the classes of each task, such a penalty alone keeps next
    to nothing; replay examples then.

    Args:
        strength: Float >= 0, lambda of the paper in units of the mean of `F`. 0 is off.
        labels: `"exact"`, `"true"` or `"empirical"`.
        decay: Float in [0, 1], gamma, of what earlier tasks count after another: 1 adds up.
        from_logits: Boolean, whether the model gives logits; probabilities otherwise.
        proximal: Boolean, as in `L2SP`: the penalty acts by a step after that of the optimizer,
            stable for any strength, or by its gradient.
        name: String, the name of the metric, which shows the penalty.

    Attributes:
        memory: Int, bytes that gradients by example may take at a time, 2**29 unless set.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if weights train that had no part in
            `consolidate`.
        RuntimeError: In `fit`, before `consolidate`.

    Example:
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> outputs = keras.layers.Dense(3, activation="softmax", name="dense")(inputs)
        >>> model, ewc = FineTuner(inputs, outputs), ElasticWeightConsolidation(strength=10.0)
        >>> x, y = np.float32([[1, 0], [0, 1], [1, 1]]), np.array([0, 1, 2])
        >>> ewc.consolidate(model, x)
        >>> {path: importance.shape for path, importance in ewc.importances.items()}
        {'dense/kernel': (2, 3), 'dense/bias': (3,)}
        >>> model.compile("sgd", "sparse_categorical_crossentropy", terms=[ewc])
        >>> sorted(model.fit(x, y, verbose=0).history)
        ['ewc', 'loss']

    References:
        Kirkpatrick et al., 2017, equation 3, https://arxiv.org/abs/1612.00796
        Schwarz et al., 2018, section 3.2 (online), https://arxiv.org/abs/1805.06370
        Kunstner et al., 2019, section 2 (empirical), https://arxiv.org/abs/1905.12558
    """

    memory = MEMORY

    def __init__(
        self,
        strength: float = 1.0,
        *,
        labels: Literal["exact", "true", "empirical"] = "exact",
        decay: float = 1.0,
        from_logits: bool = False,
        proximal: bool = True,
        name: str = "ewc",
    ) -> None:
        super().__init__(strength, proximal, name)
        self.labels = checks.one_of(labels, LABELS, "labels")
        self.decay = checks.in_range(decay, 0.0, 1.0, "decay")
        self.from_logits = bool(from_logits)

    def consolidate(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        *,
        where: Where | None = None,
        seed: int = 0,
        progress: OnProgress | None = None,
    ) -> None:
        """Measure the Fisher information of the task just learnt, and anchor the weights.

        Args:
            model: Built `keras.Model` whose one output is probabilities (or logits) of classes,
                `(batch, classes)`; `(batch, 1)` is the probability of class 1 of two.
            x: Inputs of the task's examples as arrays, or a dataset or another iterable of batches
                `x` or `(x, y)`. A dataset of `kerastl.data` is read without augmentation.
            y: Labels beside arrays, `(num_examples,)` or one-hot; only for `labels="empirical"`.
            where: Layers whose weights are held, as in `freeze`; None is what trains at the
                moment. Name those too that will thaw in the next task.
            seed: Int, by which `labels="true"` draws.
            progress: Called as `progress(done, total)` with numbers of examples.

        Raises:
            ValueError: If outputs or labels are no such classes, `labels="exact"` meets more than
                20 of them, or gradients are not finite.
        """
        variables = weights_of(model, where)
        classes = _num_classes(model, self.labels)
        scalar = _log_probability_of_logits if self.from_logits else _log_probability
        one_pass = ExamplePass(model, variables, scalar=scalar, power=2, memory=self.memory)
        drawn = np.random.default_rng(seed)
        totals = [np.zeros(variable.shape) for variable in variables]
        count = 0
        for part, labels in chunks(x, y, one_pass.chunk, progress):
            length = len(tf.nest.flatten(part)[0])
            given = self._labels_of(one_pass, part, labels, classes, drawn)
            for label, factors in given:
                sums = one_pass.sums(part, (label,), factors)
                for total, one in zip(totals, sums, strict=True):
                    total += one
            count += length
        self._keep(model, variables, [total / count for total in totals], self.decay)

    def _labels_of(self, one_pass, x, y, classes, drawn):
        """Pairs of labels of the examples and what the squares count that they give."""
        if self.labels == "empirical":
            return [(_indices(y, classes), None)]
        outputs = one_pass.outputs(x)
        p = _probabilities(outputs, self.from_logits).numpy().astype("float64")
        if self.labels == "true":
            # Row by row, so that no size of a batch or chunk changes what is drawn.
            edges = np.cumsum(p, axis=1)
            draws = drawn.random(len(p)) * edges[:, -1]
            return [(np.minimum((draws[:, None] >= edges).sum(axis=1), classes - 1), None)]
        return [(np.full(len(p), label), p[:, label]) for label in range(classes)]


def _num_classes(model, labels):
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or not isinstance(shape[-1], int):
        raise ValueError(
            "The Fisher information is that of classes, from one output (batch, classes). "
            f"Received: {model.name!r}, which gives {shape}. `MemoryAwareSynapses` asks for no "
            "classes."
        )
    classes = max(2, shape[-1])
    if labels == "exact" and classes > EXACT_UP_TO:
        raise ValueError(
            f"`labels='exact'` takes a pass for each class, at most {EXACT_UP_TO}. Received: "
            f"{classes} classes. Use `labels='true'`, which draws one label an example."
        )
    return classes


def _indices(y, classes):
    """Labels as indices, `(batch,)`, of indices or one-hot rows."""
    if y is None:
        raise ValueError(
            "`labels='empirical'` needs the labels of the data, as `consolidate(model, x, y)` or "
            "in batches `(x, y)`. Received: none. Use `labels='exact'` without them."
        )
    if y.ndim == 2:
        y = y[:, 0] if y.shape[1] == 1 else np.argmax(y, axis=1)
    found = y.astype("int64")
    if y.ndim != 1 or not np.array_equal(found, y) or found.min() < 0 or found.max() >= classes:
        raise ValueError(
            f"Labels must be whole numbers in [0, {classes - 1}], or one-hot rows. Received: "
            f"shape {y.shape}, from {y.min()} to {y.max()}"
        )
    return found


def _wide(outputs):
    return outputs if outputs.dtype == tf.float64 else tf.cast(outputs, "float32")


def _of_two(outputs, from_logits):
    """Outputs `(..., 1)` for class 1 as outputs `(..., 2)`."""
    if outputs.shape[-1] != 1:
        return outputs
    other = tf.zeros_like(outputs) if from_logits else 1 - outputs
    return tf.concat([other, outputs], axis=-1)


def _probabilities(outputs, from_logits):
    outputs = _of_two(_wide(outputs), from_logits)
    return tf.nn.softmax(outputs) if from_logits else outputs


def _log_probability(outputs, label):
    """Of one example; a probability of 0 gives a gradient of 0, and would count 0 too."""
    p = _of_two(_wide(outputs), False)
    least = np.finfo(p.dtype.name).tiny
    return tf.math.log(tf.maximum(tf.gather(p, label), least))


def _log_probability_of_logits(outputs, label):
    return tf.gather(tf.nn.log_softmax(_of_two(_wide(outputs), True)), label)

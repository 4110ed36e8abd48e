"""`NextToken`: each token from those before it, as language models learn."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.tasks.answering import check_numbers
from kerastl.tasks.protocols import Judgement, TaskData

SAYS = (
    "A language model goes on with a text and gives no answer to an example: kerastl generate "
    "MODEL --prompt TEXT"
)


class NextToken:
    """The next token, where it is to be learnt; the model gives logits of all.

    What is judged is, of each row, the sum of the losses of its tokens: logits of all rows would
    need `rows × length × vocabulary` numbers. Targets of `Examples` are, of each row, how many
    tokens are to be predicted, and the bytes of text that they stand for.
    """

    name = "next_token"
    score_name = "minus bits per byte"
    cost_name: str | None = "bits per byte"
    metric = "accuracy"
    is_share = False
    solves = False
    scored_by = "bits_per_byte"
    check_outputs = staticmethod(check_numbers)

    def by(self, metric: str | None) -> "NextToken":
        if metric not in (None, self.scored_by):
            raise ValueError(
                "`metric` (--metric) is for classes, labels and numbers; a language model is "
                f"scored by its bits per byte. Received: metric={metric!r}"
            )
        return self

    def check_data(self, data: TaskData) -> None:
        """Nothing: sources refuse texts of which nothing is to be learnt."""

    def head(self, features: keras.KerasTensor, data: TaskData) -> keras.KerasTensor:
        """The logits as they are: the network has learnt to give them."""
        return features

    def compile_args(self, data: TaskData, settings: Any) -> dict[str, Any]:
        """The weighted mean of the losses of the tokens of an optimizer step.

        Not the mean over positions, of which padding is a part.
        """
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        hits = keras.metrics.SparseCategoricalAccuracy(name=self.metric)
        return {"loss": loss, "weighted_metrics": [hits]}

    def class_weight(self, data: TaskData) -> dict[int, float] | None:
        return None

    def outputs_of(self, model: keras.Model, examples: Any, batch_size: int = 8) -> np.ndarray:
        """Of each row the sum of its weighted losses in nats, `(n, 1)`, float64.

        Args:
            model: `keras.Model` that gives logits.
            examples: `LineExamples`.
            batch_size: Int > 0.
        """

        ids, floats = (tf.TensorSpec([None, None], dtype) for dtype in (tf.int32, tf.float32))
        inputs = dict.fromkeys(examples.names, ids)

        @tf.function(input_signature=[inputs, ids, floats])  # one graph for all widths
        def losses(inputs, targets, weights):
            each = keras.ops.sparse_categorical_crossentropy(
                targets, model(inputs, training=False), from_logits=True
            )
            return tf.reduce_sum(tf.cast(each * weights, tf.float64), axis=1)

        found = np.zeros((len(examples), 1))
        order = np.argsort(examples.lengths, kind="stable")
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            given = tf.nest.map_structure(tf.constant, examples.padded(rows))
            found[rows, 0] = tf.convert_to_tensor(losses(*given)).numpy()
        return found

    def judge(
        self, outputs: np.ndarray, targets: np.ndarray, names: Sequence[str] = ()
    ) -> Judgement:
        """How surprising a text is to a model.

        Args:
            outputs: Float array `(n, 1)`, as `outputs_of` gives it.
            targets: Float array `(n, 2)`: of each row its predicted tokens and their bytes.
            names: Not used.

        Returns:
            `Judgement`. The score is `-Σ ℓ / (ln 2 · bytes)`, minus the bits that a byte of the
            text takes when the model compresses it. The loss is in nats a token, and the
            perplexity is `exp(loss)`: it compares models of one tokenizer alone.

        Raises:
            ValueError: If the numbers of rows differ, or there is nothing to predict.

        Example:
            >>> said = NextToken().judge([[2 * np.log(2)]], [[1.0, 4.0]])
            >>> said.score, round(said.details["perplexity"], 6)
            (-0.5, 4.0)
        """
        score = self.score(outputs, targets)
        nats = float(np.sum(outputs))
        count, num_bytes = (float(part) for part in np.sum(targets, axis=0))
        loss = nats / count
        details = {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),  # a float, whatever became of a network
            "bits_per_byte": -score,
            "num_predicted": round(count),
            "num_bytes": round(num_bytes),
            "num_examples": len(np.asarray(targets)),
        }
        return Judgement(score, loss, details)

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        outputs, targets = np.asarray(outputs), np.asarray(targets)
        if len(outputs) != len(targets) or not np.sum(targets, axis=0).all():
            raise ValueError(
                "`outputs` must be one number for each row, of which something is to be predicted. "
                f"Received: {len(outputs)} outputs for {len(targets)} rows"
            )
        return -float(np.sum(outputs)) / (math.log(2) * float(np.sum(targets[:, 1])))

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """None: a row is not right or wrong."""

    def scores(self, outputs: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> np.ndarray:
        nats = counts @ np.asarray(outputs, np.float64).reshape(-1)
        num_bytes = counts @ np.asarray(targets, np.float64)[:, 1]
        known = num_bytes > 0
        return -np.divide(nats, math.log(2) * num_bytes, where=known, out=nats * np.nan)

    def agreement(self, ours: np.ndarray, theirs: np.ndarray) -> float | None:
        """None: nothing is decided."""

    def companions(self, names: Sequence[str]) -> dict[str, str]:
        return {}

    def num_names(self, output_shape: Any) -> int:
        return 0

    def names_inside(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """None: outputs are tokens."""

    def check_model(
        self, path: pathlib.Path, output_shape: Any, names: Sequence[str] | None = None
    ) -> None:
        if not isinstance(output_shape, tuple) or len(output_shape) != 3:
            raise ValueError(
                "The model must give logits of the next token, (batch, length, vocabulary). "
                f"Received: {path} with output shape {output_shape}"
            )

    def aligned(
        self, targets: np.ndarray, given: Sequence[str], known: Sequence[str]
    ) -> np.ndarray:
        return targets

    def answer(self, output: np.ndarray, names: Sequence[str], top: int) -> dict[str, Any]:
        raise ValueError(f"{SAYS}. Received: an example to answer")

    def sentence(self, answer: Mapping[str, Any]) -> str:
        raise ValueError(f"{SAYS}. Received: an answer")

    def tables(self, metrics: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[Any]]]:
        before, trained = metrics.get("before"), metrics.get("trained")
        columns = [one for one in (before, trained) if one] or [metrics]
        heads = ("as loaded", "trained")[: len(columns)] if before else ("",)
        rows = [
            (name, *(f"{column[key]:{form}}" for column in columns))
            for name, key, form in (
                ("perplexity of a token", "perplexity", ".4g"),
                ("bits per byte", "bits_per_byte", ".4f"),
                ("loss, nats a token", "loss", ".4f"),
            )
        ]
        for name, key in (("tokens", "num_predicted"), ("bytes", "num_bytes")):
            rows.append((f"{name} to predict", *(f"{column[key]:,}" for column in columns)))
        return [("The next token", ("", *heads), rows)]

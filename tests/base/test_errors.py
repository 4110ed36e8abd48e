"""The cause of a framework's error, not where it was met."""

import keras
import pytest
import tensorflow as tf

from kerastl._base.errors import cause

MLIR = (
    '<unknown>:0: error: loc(callsite(fused["Add:", "net/dense_1/Add@call"] at fused["P:", "P"])): '
    "'tfl.fully_connected' op operand #0 must be tensor\n<unknown>:0: note: loc(fused[]): from"
)


class Wrong(keras.layers.Layer):
    def call(self, inputs):
        raise ValueError("Nine is too many.")

    def compute_output_spec(self, inputs):
        return inputs


class Around(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = Wrong()

    def call(self, inputs):
        return self.inner(inputs)


@tf.function
def traced(x):
    if tf.reduce_sum(x) > 0:
        raise ValueError("Nine is too many.")
    return x


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: Wrong()(tf.ones((1, 1))), "Nine is too many. (in Wrong.call)"),
        (lambda: Around()(tf.ones((1, 1))), "Nine is too many. (in Wrong.call)"),
        (lambda: traced(tf.ones(3)), "Nine is too many."),
        (lambda: tf.function(Wrong())(tf.ones((1, 1))), "Nine is too many. (in Wrong.call)"),
    ],
)
def test_keras_and_tensorflow(call, expected):
    with pytest.raises(ValueError) as caught:
        call()
    assert cause(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MLIR, "'tfl.fully_connected' op operand #0 must be tensor."),
        ("config={...}. Exception encountered: No class 'A'. Object: {...}", "No class 'A'."),
        ("\n  One line.\n\nAnd more", "One line."),
        ("One\nsentence", "One sentence."),
        ("", "RuntimeError."),
        ("a" * 600, "a" * 500 + "..."),
    ],
)
def test_other_texts(text, expected):
    assert cause(RuntimeError(text)) == expected

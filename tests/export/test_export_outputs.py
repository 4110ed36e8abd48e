"""Each output of a file has a name of its own, and is the model's output of that name."""

import keras
import numpy as np
import pytest

from kerastl import export
from kerastl.export.naming import graph_of, output_names
from kerastl.export.verify import examples
from tests.tolerances import REDUCTION

L = keras.layers


def tower():
    i, j = keras.Input((6,), name="i"), keras.Input((6,), name="j")
    dense = L.Dense(3, name="tower")
    return keras.Model([i, j], [dense(i), dense(j)])


def states():
    t = keras.Input((5, 3), name="t")
    return keras.Model(t, list(L.LSTM(4, return_state=True, unroll=True, name="lstm")(t)))


def nested_model():
    i = keras.Input((6,), name="i")
    inner = keras.Model(i, [L.Dense(2)(i), L.Dense(2)(i)], name="inner")
    j = keras.Input((6,), name="j")
    return keras.Model(j, inner(j))


def nested_outputs():
    i = keras.Input((6,), name="i")
    boxes = [L.Dense(4)(i), L.Dense(4)(i)]
    return keras.Model(i, {"boxes": boxes, "age": L.Dense(1, name="years")(i)})


CASES = {
    tower: ["tower", "tower_1"],
    states: ["lstm", "lstm_1", "lstm_2"],
    nested_model: ["inner", "inner_1"],
    nested_outputs: ["age", "boxes_0", "boxes_1"],
}


@pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)
def test_every_output_is_found_by_its_name(build, tmp_path):
    model = build()
    graph = graph_of(model)
    assert output_names(graph) == CASES[build]
    data = examples(graph, 4)
    path = export.to_litert(model, tmp_path / "m.tflite")
    received = export.LiteRTModel(path).run(data)
    values = data if len(data) > 1 else next(iter(data.values()))
    expected = keras.tree.flatten(model.predict(values, verbose=0))
    assert sorted(received) == sorted(CASES[build])
    for name, ours in zip(CASES[build], expected, strict=True):
        np.testing.assert_allclose(received[name], ours, **REDUCTION)
    assert export.parity(model, path, data).max_abs_error < 1e-5


def test_a_saved_model_holds_nested_outputs(tmp_path):
    import tensorflow as tf

    model = nested_outputs()
    x = np.random.default_rng(0).random((4, 6), "float32")
    loaded = tf.saved_model.load(export.to_saved_model(model, tmp_path / "saved"))
    expected = model.predict(x, verbose=0)
    received = loaded.signatures["serving_default"](tf.constant(x))
    np.testing.assert_allclose(received["boxes_1"], expected["boxes"][1], **REDUCTION)
    np.testing.assert_allclose(received["age"], expected["age"], **REDUCTION)


def test_made_up_inputs_differ_so_that_swapped_outputs_are_seen():
    i, j = keras.Input((8,), name="i"), keras.Input((8,), name="j")
    tokens, types = (keras.Input((8,), dtype="int32", name=name) for name in ("k", "l"))
    picture = keras.Input((4, None, 3), name="p")
    word = keras.Input((), dtype="string", name="w")
    inputs = [i, j, tokens, types, picture, word]
    made = examples(keras.Model(inputs, inputs), 4)
    for a, b in (("i", "j"), ("k", "l")):
        assert not np.array_equal(made[a], made[b])
        assert not np.array_equal(made[a][0], made[a][1])
    assert set(np.unique(made["k"])) == {0, 1} and (made["k"][:, 0] == 1).all()
    assert made["p"].shape == (4, 4, 96, 3) and made["p"].max() > 200
    assert made["w"].shape == (4,) and isinstance(made["w"][0], str)


def test_a_file_with_swapped_outputs_is_not_put_in_place(tmp_path, monkeypatch):
    from kerastl.export import verify

    run = verify.LiteRTModel.run

    def swapped(self, x):
        answers = run(self, x)
        return dict(zip(answers, reversed(answers.values()), strict=True))

    monkeypatch.setattr(verify.LiteRTModel, "run", swapped)
    with pytest.raises(RuntimeError, match="does not repeat the model"):
        export.to_litert(tower(), tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())

"""A LoRA from the difference of two models."""

import keras
import numpy as np
import pytest

import kerastl
from kerastl import FineTuner, peft
from tests.peft.peft_cases import bert, conv, outputs, scattered, tuner, values

# Outputs of about 1 through the factors of an SVD in float32.
FULL_RANK = {"rtol": 1e-5, "atol": 1e-5}


def base_and_tuned(kind="bert", by=0.1, only_kernels=True):
    """A `FineTuner` and a model of the same graph with other weights."""
    _, model = tuner(kind)
    _, tuned = tuner(kind)
    rng = np.random.default_rng(9)
    for mine, theirs in zip(model.weights, tuned.weights, strict=True):
        is_kernel = theirs.name in ("kernel", "embeddings") and "position" not in theirs.path
        moves = is_kernel or not only_kernels
        theirs.assign(mine + (by * rng.normal(size=mine.shape) if moves else 0))
    return model, tuned


def test_at_full_rank_the_merged_base_is_the_tuned_model():
    model, tuned = base_and_tuned()
    before = values(tuned)
    made = peft.extract(tuned, model, 100)
    assert made.lacks < 1e-5 and "lacks at most 0.00%" in str(made)
    np.testing.assert_allclose(outputs(model), outputs(tuned), **FULL_RANK)
    peft.merge(model)
    np.testing.assert_allclose(outputs(model), outputs(tuned), **FULL_RANK)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(tuned), strict=True))


def test_convolutions_of_every_geometry_at_full_rank():
    """All but the depthwise ones, whose adapters must be smaller than themselves."""
    model, tuned = base_and_tuned("conv")
    for name in ("block_1_depthwise", "block_2_depthwise"):
        tuned.get_layer(name).set_weights(model.get_layer(name).get_weights())
    made = peft.extract(tuned, model, 100)
    assert {path: rank for path, rank, *_ in made.rows} == {
        "stem_conv": 6, "block_1_conv": 4, "block_2_conv": 8, "head": 3,
    }  # fmt: skip
    np.testing.assert_allclose(outputs(model), outputs(tuned), **FULL_RANK)


@pytest.mark.parametrize("rank", [1, 3])
def test_what_is_lacking_is_what_the_singular_values_say(rank):
    """Against NumPy's SVD in float64 (Eckart & Young)."""
    model, tuned = base_and_tuned()
    query = "transformer_layer_1"
    kernels = [one.get_layer(query)._self_attention_layer._query_dense.kernel.numpy()
               for one in (tuned, model)]  # fmt: skip
    made = peft.extract(tuned, model, rank)
    singular = np.linalg.svd((kernels[0] - kernels[1]).reshape(8, 8).astype("float64"))[1]
    (row,) = [row for row in made.rows if row[0] == f"{query}/self_attention_layer/query"]
    norm = np.sqrt(np.sum(singular**2))
    assert row[1] == rank
    np.testing.assert_allclose(row[2:], [norm, np.sqrt(np.sum(singular[rank:] ** 2)) / norm], 1e-5)


def test_an_extracted_lora_comes_back_from_a_merge():
    """The difference that a LoRA of rank 2 made has rank 2."""
    _, tuned = tuner("bert")
    _, model = tuner("bert")
    for mine, theirs in zip(model.weights, tuned.weights, strict=True):
        theirs.assign(mine)
    peft.add(tuned, peft.LoRA(rank=2), ".*(query|value)")
    rng = np.random.default_rng(1)
    for weight in tuned.adapter_bank.weights:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    apart = outputs(tuned)
    peft.unload(tuned, merge=True)
    made = peft.extract(tuned, model, 2, name="again")
    assert len(made.rows) == 4 and made.lacks < 1e-4 and not made.others
    np.testing.assert_allclose(outputs(model), apart, **FULL_RANK)
    assert peft.active(model) == ("again",)


def test_what_is_no_kernel_is_counted_and_named():
    model, tuned = base_and_tuned(only_kernels=False)
    made = peft.extract(tuned, model, 2)
    own = [w for w in model.weights if not w.path.startswith("adapters/")]
    assert len(made.rows) + len(made.others) == len(own)
    assert "transformer_layer_0/self_attention_layer/query/bias" in made.others
    assert f"{len(made.others)} other weights differ" in str(made) and "BitFit" in str(made)


def test_a_kernel_smaller_than_its_adapter_would_be_is_counted():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(4, 3, name="block_1_conv")(inputs)
    x = keras.layers.DepthwiseConv2D(1, name="block_2_depthwise")(x)
    base = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    tuned = keras.models.clone_model(base)
    tuned.set_weights([weight + 0.1 for weight in base.get_weights()])
    made = peft.extract(tuned, FineTuner.from_model(base), 2)
    assert [row[0] for row in made.rows] == ["block_1_conv"]
    assert "block_2_depthwise/kernel" in made.others


def test_the_extracted_one_trains_and_is_saved(tmp_path):
    model, tuned = base_and_tuned()
    peft.extract(tuned, model, 2)
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"adapters", "head"}
    model.save(tmp_path / "model.keras")
    assert np.array_equal(
        outputs(model), outputs(keras.models.load_model(tmp_path / "model.keras"))
    )


def dense(units=4, activation="relu", skip=False, name=None):
    inputs = keras.Input((4,))
    one = keras.layers.Dense(4, activation=activation)(inputs)
    two = keras.layers.Dense(units)(inputs if skip else one)
    if skip:
        two = keras.layers.Add()([one, two])
    else:
        two = keras.layers.Add()([two, two]) if name else two
    return FineTuner(inputs, two)


def test_extract_refuses():
    model, tuned = base_and_tuned()
    with pytest.raises(TypeError, match=r"FineTuner"):
        peft.extract(tuned, bert(), 2)
    with pytest.raises(TypeError, match=r"keras\.Model"):
        peft.extract("tuned", model, 2)
    with pytest.raises(ValueError, match=r"int in \[1"):
        peft.extract(tuned, model, 0)
    with pytest.raises(ValueError, match=r"needs a kernel that differs.*none"):
        peft.extract(keras.Model(model.input, model.output), model, 2)
    with pytest.raises(ValueError, match=r"of one graph.*'token_ids'|of one graph"):
        peft.extract(scattered(conv()), model, 2)
    assert model.adapter_bank is None
    with pytest.raises(ValueError, match=r"'dense.*weights \[\(4, 3\)"):
        peft.extract(dense(3), dense(4), 1)
    for other in (dense(activation="tanh"), dense(skip=True), dense(name="add")):
        with pytest.raises(ValueError, match=r"two models of one graph"):
            peft.extract(other, dense(), 1)
    peft.add(tuned, peft.LoRA(rank=2))
    with pytest.raises(ValueError, match=r"compute with an adapter"):
        peft.extract(tuned, model, 2)
    peft.merge(tuned)
    with pytest.raises(ValueError, match=r"is merged"):
        peft.extract(tuned, model, 2)
    assert kerastl.trainable_summary(model).rows

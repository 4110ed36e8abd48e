"""Adapters combined: exactly by their ranks, to a rank by SVD, and what is refused."""

import keras
import numpy as np
import pytest

import kerastl
from kerastl import peft
from tests.peft.peft_cases import METHODS, adapted, moved, outputs, tuner, values
from tests.tolerances import REDUCTION


def with_loras(kind="bert", where=None, **second):
    """A model with two LoRAs, 'one' and 'two', of other ranks and scalings."""
    _, model = tuner(kind)
    peft.add(model, peft.LoRA(rank=2, alpha=5.0), where, name="one")
    settings = {"rank": 3, "alpha": 2.0, "scaling": "lora", **second}
    peft.add(model, peft.LoRA(**settings), where, name="two")
    return moved_all(model)


def moved_all(model):
    rng = np.random.default_rng(1)
    for weight in model.adapter_bank.weights:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    return model


def changes(model, name):
    """Dict from the id of a layer to the change of its kernel by the adapter `name`, float64."""
    members = model.adapter_bank.named[name].members
    return {id(one.beside.layer): np.asarray(one.change(), "float64") for one in members}


def by_hand(model, shares):
    """The weighted sum of `s * A @ B`, by layer."""
    found = {}
    for name, weight in shares.items():
        for key, change in changes(model, name).items():
            found[key] = found.get(key, 0) + weight * change
    return found


def check_sum(model, name, shares):
    wanted, given = by_hand(model, shares), changes(model, name)
    assert wanted.keys() == given.keys()
    for key, change in wanted.items():
        np.testing.assert_allclose(given[key], change, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "conv"])
def test_ranks_side_by_side_are_the_weighted_sum(kind):
    """rsLoRA and LoRA, other ranks and alphas; grouped and dilated convolutions."""
    model = with_loras(kind)
    shares = {"one": 0.7, "two": -1.3}
    made = peft.combine(model, ["one", "two"], [0.7, -1.3], name="both")
    check_sum(model, "both", shares)
    assert peft.active(model) == ("both",)
    assert {row[1] for row in made.rows} == {5} and made.lacks == 0
    assert "exact" in str(made) and "-1.3 * 'two'" in str(made)


def test_both_acting_at_once_is_their_combination():
    model = with_loras()
    peft.activate(model, ["one", "two"])
    together = outputs(model)
    peft.combine(model, ["one", "two"], name="both")
    np.testing.assert_allclose(outputs(model), together, **REDUCTION)


def test_adding_factors_up_has_cross_terms_and_this_has_none():
    """(A1 + A2)(B1 + B2) is off by A1 B2 + A2 B1, as large as the sum itself."""
    model = with_loras(rank=2, alpha=5.0, scaling="rslora")
    peft.combine(model, ["one", "two"], name="both")
    wanted, given = by_hand(model, {"one": 1, "two": 1}), changes(model, "both")
    pairs = zip(*(model.adapter_bank.named[name].members for name in ("one", "two")), strict=True)
    for one, two in pairs:
        sum_ = wanted[id(one.beside.layer)]
        summed = one.scale * np.matmul(one.a + two.a, one.b + two.b)
        crossed = np.linalg.norm(one.linear.to_kernel(summed) - sum_) / np.linalg.norm(sum_)
        lacks = np.linalg.norm(given[id(one.beside.layer)] - sum_) / np.linalg.norm(sum_)
        assert crossed > 0.3 and lacks < 1e-6


def test_adapters_of_other_layers_and_of_other_ranks_a_layer():
    _, model = tuner("bert")
    queries, every = ".*query", ".*/(query|value)"
    peft.add(model, peft.LoRA(rank=2, alphas={".*_0/.*": 3.0}), queries, name="one")
    peft.add(model, peft.LoRA(rank=3, ranks={".*_1/.*/value": 1}), every, name="two")
    moved_all(model)
    made = peft.combine(model, ["one", "two"], [2.0, 0.5], name="both")
    check_sum(model, "both", {"one": 2.0, "two": 0.5})
    ranks = {path.split("/")[0][-1] + path.split("/")[-1]: rank for path, rank, _ in made.rows}
    assert ranks == {"0query": 5, "0value": 3, "1query": 5, "1value": 1}


def test_a_combination_is_saved_with_its_ranks_and_trains_on(tmp_path):
    _, model = tuner("bert")
    peft.add(model, peft.LoRA(rank=2), ".*query", name="one")
    peft.add(model, peft.LoRA(rank=3, dropout=0.2), name="two")
    moved_all(model)
    peft.combine(model, ["one", "two"], name="both")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(outputs(model), outputs(loaded))
    assert {one.rank for one in loaded.adapter_bank.named["both"].members} == {3, 5}
    allowed = {id(v) for v in loaded.adapter_bank.named["both"].trainable_variables}
    training = {id(v) for v in loaded.adapter_bank.trainable_variables}
    assert training == allowed and allowed


@pytest.mark.parametrize("name", METHODS)
def test_one_adapter_at_weight_1_is_itself(name):
    """Bit for bit, whatever the method."""
    _, model = adapted(name, adapter="first")
    moved(model)
    before = outputs(model)
    peft.combine(model, ["first"], name="same")
    assert peft.active(model) == ("same",)
    assert np.array_equal(outputs(model), before)
    pairs = zip(*(values(model.adapter_bank.named[n]) for n in ("first", "same")), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    "name", ["lora", "lora-conv", "lora-depthwise", "lora-tokens", "bitfit", "norms"]
)
def test_one_adapter_beside_another_of_weight_0_is_itself(name):
    """The whole sum this time, whose other summand is zero."""
    _, model = adapted(name, adapter="first")
    method, _, where = METHODS[name]
    chosen = [one.beside.layer for one in model.adapter_bank.named["first"].members]
    peft.add(model, method, where if isinstance(where, str) and where != "all_blocks" else chosen,
             name="second")  # fmt: skip
    moved_all(model)
    peft.activate(model, "first")
    before = outputs(model)
    peft.combine(model, ["first", "second"], [1.0, 0.0], name="same")
    np.testing.assert_allclose(outputs(model), before, rtol=1e-6, atol=1e-6)


def test_biases_and_rows_of_tokens_add_up():
    for name, one, two, where in [
        ("bias", peft.BitFit(), peft.BitFit(), ".*query"),
        ("rows", peft.LoRA(tokens=[5, 2]), peft.LoRA(tokens=[2, 9]), "token_embedding"),
    ]:
        _, model = tuner("bert")
        peft.add(model, one, where, name="one")
        peft.add(model, two, where, name="two")
        moved_all(model)
        peft.combine(model, ["one", "two"], [0.5, 2.0], name="both")
        first = {n: model.adapter_bank.named[n].members[0] for n in ("one", "two", "both")}
        if name == "bias":
            wanted = 0.5 * first["one"].bias.numpy() + 2.0 * first["two"].bias.numpy()
            np.testing.assert_allclose(first["both"].bias.numpy(), wanted, rtol=1e-6)
        else:
            one_rows, two_rows = first["one"].rows.numpy(), first["two"].rows.numpy()
            wanted = [0.5 * one_rows[1] + 2 * two_rows[0], 0.5 * one_rows[0], 2 * two_rows[1]]
            assert first["both"].beside.method.tokens == (2, 5, 9)
            np.testing.assert_allclose(first["both"].rows.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "conv"])
def test_svd_is_the_nearest_of_its_rank_and_says_what_it_lacks(kind):
    """Against NumPy's SVD in float64 (Eckart & Young: the other singular values are lacking)."""
    model = with_loras(kind)
    made = peft.combine(model, ["one", "two"], [1.0, 0.5], name="small", method="svd", rank=2)
    wanted, given = by_hand(model, {"one": 1.0, "two": 0.5}), changes(model, "small")
    members = model.adapter_bank.named["small"].members
    for member, (_, rank, lacks) in zip(members, made.rows, strict=True):
        key, linear = id(member.beside.layer), member.linear
        parts = np.split(np.asarray(linear.to_matrix(wanted[key])), linear.groups, axis=1)
        left = sum(np.sum(np.linalg.svd(part)[1][rank:] ** 2) for part in parts)
        norm, off = np.linalg.norm(wanted[key]), np.linalg.norm(given[key] - wanted[key])
        np.testing.assert_allclose(lacks, np.sqrt(left) / norm, atol=1e-5)
        np.testing.assert_allclose(off / norm, lacks, atol=1e-5)
    assert 0 < made.lacks < 1 and f"{made.lacks:.2%}" in str(made)


def test_svd_to_the_full_rank_lacks_nothing():
    model = with_loras()
    exact = peft.combine(model, ["one", "two"], name="both")
    before = outputs(model)
    made = peft.combine(model, ["one", "two"], name="full", method="svd", rank=100)
    np.testing.assert_allclose(outputs(model), before, **REDUCTION)
    assert made.lacks < 1e-5 and max(row[1] for row in made.rows) == 8
    assert [row[0] for row in exact.rows] == [row[0] for row in made.rows]


def test_combine_refuses_and_changes_nothing():
    _, model = tuner("bert")
    with pytest.raises(ValueError, match=r"Add some"):
        peft.combine(model, ["one"], name="x")
    peft.add(model, peft.LoRA(rank=2), ".*query", name="one")
    peft.add(model, peft.LoRA(rank=2), ".*query", name="two")
    peft.add(model, peft.BitFit(), ".*query", name="biases")
    peft.add(model, peft.LoRA(tokens=[1]), "token_embedding", name="rows")
    for match, names, kwargs in [
        (r"each once", ["one", "one"], {}),
        (r"each once", "one", {}),
        (r"name of an adapter", ["one", "three"], {}),
        (r"must be 2 numbers", ["one", "two"], {"weights": [1.0]}),
        (r"weights=nan", ["one", "two"], {"weights": [1.0, float("nan")]}),
        (r"of the name 'two'", ["one"], {"name": "two"}),
        (r"one of cat, svd", ["one", "two"], {"method": "sum"}),
        (r"belongs to method='svd'", ["one", "two"], {"rank": 2}),
        (r"int in \[1", ["one", "two"], {"rank": 0, "method": "svd"}),
        (r"one method.*BitFit, LoRA.*peft\.activate", ["one", "biases"], {}),
        (r"LoRA cannot be combined so.*`tokens`", ["one", "rows"], {}),
        (r"BitFit cannot be combined so", ["biases"], {"method": "svd"}),
    ]:
        with pytest.raises((ValueError, TypeError), match=match):
            peft.combine(model, names, **{"name": "x", **kwargs})
    assert list(model.adapter_bank.named) == ["one", "two", "biases", "rows"]
    assert peft.active(model) == ("rows",)
    peft.merge(model)
    with pytest.raises(ValueError, match=r"is merged"):
        peft.combine(model, ["one"], name="x")


def test_a_depthwise_convolution_has_no_place_for_both():
    _, model = tuner("conv")
    for name in ("one", "two"):
        peft.add(model, peft.LoRA(rank=2), "block_1_depthwise", name=name)
    with pytest.raises(ValueError, match=r"cannot make 'both'.*method='svd'"):
        peft.combine(model, ["one", "two"], name="both")
    assert list(model.adapter_bank.named) == ["one", "two"]
    assert peft.combine(model, ["one", "two"], name="both", method="svd").rows[0][1] == 2
    assert kerastl.trainable_summary(model).rows

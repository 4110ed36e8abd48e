"""The next token: what is judged, and batches of a source against a sum one by one."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import FineTuner
from kerastl.tasks import NextToken, PrepareLines, TextLines, paired
from kerastl.tasks.settings import TuneSettings
from tests.tasks.lines_cases import exchanges, network, prose

# Losses of order 5 in float32, summed over rows of other widths.
LOSSES = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module", params=["GPT2", "Llama"])
def folder(request, tmp_path_factory):
    longer = {"max_sequence_length": 96} if request.param == "GPT2" else {}
    return network(tmp_path_factory.mktemp("lm") / request.param, request.param, **longer)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return exchanges(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", 36)


def read(path, folder, **options):
    """`(model, data)` of a source, the settings its own."""
    source = TextLines.scan(path)
    settings = source.settled(TuneSettings(backbone=str(folder), **options))
    backbone = source.load_backbone(settings)
    prepare = source.prepare_for(backbone, settings)
    data = source.read(prepare, settings, seed=settings.seed)
    return FineTuner.from_model(backbone), data


def one_by_one(model, examples):
    """Σ w ℓ and Σ w of each row in float64, from logits of the row alone."""
    sums, weights = [], []
    for row in range(len(examples)):
        x, y, w = examples.padded(np.array([row]))
        logits = np.asarray(model(x, training=False), np.float64)[0]
        top = logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
        losses = log_sum - logits[np.arange(len(y[0])), y[0]]
        sums.append(float(losses @ w[0]))
        weights.append(float(w.sum()))
    return np.array(sums), np.array(weights)


def test_the_score_is_bits_per_byte_by_hand():
    outputs = np.array([[3 * math.log(2)], [1 * math.log(2)]])
    targets = np.array([[2.0, 4.0], [1.0, 4.0]])
    said = NextToken().judge(outputs, targets)
    assert said.score == pytest.approx(-0.5) and said.loss == pytest.approx(4 / 3 * math.log(2))
    assert said.details["perplexity"] == pytest.approx(2 ** (4 / 3))
    counts = np.array([[1, 1], [2, 0], [0, 0]])
    scores = NextToken().scores(outputs, targets, counts)
    np.testing.assert_allclose(scores, [-0.5, -0.75, np.nan])
    half = paired(NextToken(), outputs / 2, outputs, targets)
    assert half.difference == pytest.approx(0.25) and half.p is None and half.low > 0
    with pytest.raises(ValueError, match="one number for each row"):
        NextToken().score(outputs[:1], targets)


def test_sums_of_rows_are_those_of_float64_one_by_one(folder, pairs):
    model, data = read(pairs, folder)
    sums, weights = one_by_one(model, data.train)
    given = NextToken().outputs_of(model, data.train, 8)
    assert given.shape == (len(data.train), 1)
    np.testing.assert_allclose(given[:, 0], sums, **LOSSES)
    np.testing.assert_array_equal(data.train.targets[:, 0], weights)
    again = NextToken().outputs_of(model, data.train.at(np.arange(5)), 2)
    np.testing.assert_allclose(again, given[:5], **LOSSES)


def loss_and_slopes(model, batch):
    """Loss and gradients as a training step takes them, dropout off."""
    x, y, w = batch
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=False), sample_weight=w)
    weights = [weight.value for weight in model.trainable_variables]
    return float(loss), [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, weights)]


@pytest.mark.slow_but("GPT2-on", "Llama-off")
@pytest.mark.parametrize("packing", ["off", "on"])
def test_loss_and_gradient_of_a_batch_are_the_weighted_mean_of_its_rows(packing, folder, pairs):
    """Padded, or packed: Σ w ℓ / Σ w of rows one by one, without their padding."""
    model, data = read(pairs, folder, packing=packing, max_length=80)
    settings = TuneSettings(backbone=str(folder))
    model.compile("sgd", **data.objective.compile_args(data, settings))
    plain, alone = read(pairs, folder, packing="off", max_length=80)
    plain.compile("sgd", **data.objective.compile_args(data, settings))
    batches = list(data.train.batches(64, seed=1))
    assert len(batches) == 1
    loss, slopes = loss_and_slopes(model, batches[0])
    sums, weights = one_by_one(plain, alone.train)
    assert loss == pytest.approx(sums.sum() / weights.sum(), rel=1e-5)
    each = [loss_and_slopes(plain, alone.train.padded(np.array([i]))) for i in range(len(weights))]
    for place, whole in enumerate(slopes):
        parts = [weight * one[place] for weight, (_, one) in zip(weights, each, strict=True)]
        expected = np.sum(parts, axis=0, dtype=np.float64) / weights.sum()
        np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)
    if packing == "on":
        assert len(data.train) < len(alone.train) / 2
        documents = batches[0][0]["documents"].numpy()
        assert documents.max() > 2
        assert data.train.targets.sum() == pytest.approx(alone.train.targets.sum())


def test_batches_of_like_length_hold_each_row_once(folder, pairs):
    _, data = read(pairs, folder, packing="off")
    widths, found = set(), []
    for _, y, w in data.train.batches(4, seed=3):
        widths.add(y.shape[1])
        found += [tuple(row[mask > 0]) for row, mask in zip(y.numpy(), w.numpy(), strict=True)]
    assert len(widths) > 1
    rows = [data.train.padded(np.array([i])) for i in range(len(data.train))]
    assert sorted(found) == sorted(tuple(y[0][w[0] > 0]) for _, y, w in rows)


def test_prompts_are_read_and_not_learnt(folder, pairs):
    """Other targets where nothing is learnt change neither loss nor gradient by a bit."""
    model, data = read(pairs, folder, packing="off")
    model.compile("sgd", **data.objective.compile_args(data, TuneSettings(backbone=str(folder))))
    x, y, w = data.train.padded(np.arange(8))
    assert 0 < w.sum() < 0.5 * x["padding_mask"].sum()
    loss, slopes = loss_and_slopes(model, (x, y, w))
    other = np.where(w > 0, y, (y + 7) % 40).astype("int32")
    again, same = loss_and_slopes(model, (x, other, w))
    assert loss == again
    for one, two in zip(slopes, same, strict=True):
        np.testing.assert_array_equal(one, two)
    by_hand = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    with tf.GradientTape() as tape:
        mean = tf.reduce_sum(by_hand(y, model(x, training=False)) * w) / w.sum()
    weights = [weight.value for weight in model.trainable_variables]
    assert loss == pytest.approx(float(mean), rel=1e-5)
    for one, two in zip(slopes, tape.gradient(mean, weights), strict=True):
        np.testing.assert_allclose(one, tf.convert_to_tensor(two), **LOSSES)


def test_running_text_is_held_out_at_its_end(folder, tmp_path):
    text = prose(600)
    (tmp_path / "a.txt").write_text(text)
    _, data = read(tmp_path / "a.txt", folder, max_length=16)
    parts = data.train, data.val, data.test
    assert sum(part.targets[:, 1].sum() for part in parts) == pytest.approx(len(text.encode()))
    shares = [part.targets[:, 1].sum() / len(text) for part in parts]
    np.testing.assert_allclose(shares, [0.75, 0.10, 0.15], atol=0.02)
    tokens = data.prepare.tokens
    last = data.test.padded(np.arange(len(data.test)))
    said = tokens.tokenizer.detokenize(last[1][last[2] > 0])
    assert (
        "".join(said.split())
        == "".join(text[-len(said) - 3 :].split())[-len("".join(said.split())) :]
    )
    assert data.test.targets[:, 0].sum() == last[2].sum()
    assert data.notices[0] == "The last 15% of each text are held out."


def test_many_texts_are_held_out_whole_and_end(folder, tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.txt").write_text(prose(12, seed=i))
    options = {"packing": "off", "keep": "last", "strategy": "full", "max_length": 96}
    _, data = read(tmp_path, folder, **options)
    end = data.prepare.tokens.end[-1]
    assert (len(data.train), len(data.val)) == (34, 0) and len(data.test) == 6
    _, y, w = data.test.padded(np.arange(6))
    assert ((y == end) & (w > 0)).sum() == 6


def test_what_does_not_fit_is_cut_or_dropped_and_told(folder, tmp_path):
    path = exchanges(tmp_path / "a.jsonl", 20)
    with path.open("a") as file:
        for prompt in ("the cat", ""):  # without a word to answer, too
            row = {"prompt": prompt, "response": "the fox sat " * 9}
            file.write(f"{json.dumps(row)}\n")
        file.write('{"prompt": "", "response": "the cat"}\n')
    _, data = read(path, folder, max_length=8)
    cut, dropped = data.notices[-2:]
    assert cut.startswith("Cut at the beginning, so that a row has at most 8 ids (--max-length): ")
    told = "Dropped, since the response alone has more than 8 ids (--max-length): 2 of 23 rows"
    assert dropped.startswith(told) and all(f"line {n}" in dropped for n in (21, 22))
    assert sum(map(len, (data.train, data.val, data.test))) == 21


def test_what_prepares_texts_is_plain_data(folder, tmp_path, pairs):
    _, data = read(pairs, folder)
    data.prepare.write(tmp_path)
    again = PrepareLines.from_config(data.prepare.to_config(), tmp_path)
    assert dataclasses.replace(again, tokens=data.prepare.tokens) == data.prepare
    assert (
        again.tokens.ids(["the cat"])[0].tolist()
        == data.prepare.tokens.ids(["the cat"])[0].tolist()
    )
    with pytest.raises(ValueError, match="kerastl generate"):
        again.find(["a.txt"])
    with pytest.raises(ValueError, match="`input_range` is for models of pictures"):
        again.in_range((0, 1))

"""Batches of texts of like length, as a function of seed and pass."""

import numpy as np
import pytest

from kerastl.data.passes import dataset_of
from kerastl.data.texts.passes import POOL, POOLS, STEP, TokenPasses, TokenRows


def packed(ids, length, second=None):
    """Ids with a 1 before and a 2 after them, filled up by 0."""
    rows = np.zeros((len(ids), length), "int32")
    for row, one in enumerate(ids):
        inside = [1, *one[: length - 2], 2]
        rows[row, : len(inside)] = inside
    return {"token_ids": rows, "padding_mask": (rows > 0).astype("int32")}


def texts(count, longest=40, seed=0):
    rng = np.random.default_rng(seed)
    ids = [rng.integers(3, 99, rng.integers(1, 60)).astype("int32") for _ in range(count)]
    return TokenRows(ids, None, packed, ("token_ids", "padding_mask"), 2, longest)


def rows_of(batch):
    """The texts of a batch without what is around them."""
    return [tuple(int(n) for n in row[row > 2]) for row in batch["token_ids"].numpy()]


@pytest.mark.parametrize("bucketed", [True, False])
@pytest.mark.parametrize("count", [1, 7, 333])
def test_every_text_comes_once_a_pass_and_a_pass_can_be_repeated(count, bucketed):
    rows = texts(count)
    given = {"batch_size": 4, "seed": 3, "bucketed": bucketed}
    passes = TokenPasses(rows, np.arange(count), np.arange(count), **given)
    whole = [tuple(int(n) for n in one[:38]) for one in rows.ids]
    for number in (0, 1):
        read = list(passes.epoch(number))
        labels = np.concatenate([y.numpy() for _, y in read])
        assert sorted(labels) == list(range(count))
        said = [text for x, _ in read for text in rows_of(x)]
        assert said == [whole[label] for label in labels]
        again = [y.numpy().tolist() for _, y in passes.epoch(number)]
        assert again == [y.numpy().tolist() for _, y in read]
    if count > 100:
        companies = [{frozenset(y.numpy()) for _, y in passes.epoch(n)} for n in (0, 1)]
        assert len(companies[0] & companies[1]) <= 2  # and not the same ones together again
        assert passes.order(0).numpy().tolist() != passes.order(1).numpy().tolist()


def test_batches_of_like_length_hardly_pad():
    rows = texts(2000)
    padding = {}
    for bucketed in (True, False):
        passes = TokenPasses(
            rows, np.arange(2000), np.zeros(2000), batch_size=16, seed=0, bucketed=bucketed
        )
        widths = [x["token_ids"].shape[1] * len(y) for x, y in passes.epoch(0)]
        padding[bucketed] = sum(widths) / rows.lengths.sum() - 1
    assert padding[True] < 0.25 * padding[False]


def test_lengths_are_few_and_no_longer_than_asked():
    rows = texts(500, longest=37)
    passes = TokenPasses(rows, np.arange(500), np.zeros(500), batch_size=8, seed=0)
    widths = {x["token_ids"].shape[1] for x, _ in passes.epoch(0)}
    assert all(width % STEP == 0 or width == 37 for width in widths)
    assert (max(widths), passes.longest) == (37, 37)


def test_batches_are_drawn_among_some_hundreds_of_texts():
    rows = texts(1000)
    passes = TokenPasses(rows, np.arange(1000), np.arange(1000), batch_size=4, seed=0)
    order = passes.order(5).numpy()
    lengths = rows.lengths[order[:1000].reshape(250, 4)]
    assert (np.ptp(lengths, axis=1) <= 16).mean() > 0.9
    assert np.ptp(lengths[:20].mean(axis=1)) > 10  # batches themselves come in no order of length
    assert POOL * 4 < 1000 / POOLS


def test_texts_in_order_and_in_the_order_of_computing():
    rows = texts(50)
    index = np.arange(49, -1, -1)
    passes = TokenPasses(rows, index, np.arange(50), batch_size=8)
    read = [text for x, _ in dataset_of(passes) for text in rows_of(x)]
    assert read == [tuple(int(n) for n in rows.ids[row][:38]) for row in index]
    order = passes.computing_order
    computed = [text for x in passes.in_computing_order() for text in rows_of(x)]
    assert computed == [read[row] for row in order]
    assert (np.diff(rows.lengths[index][order]) >= 0).all()


def test_rows_of_some_are_found_among_those_of_all():
    rows = texts(30)
    whole = TokenPasses(rows, np.arange(30), np.zeros(30), batch_size=4, seed=0)
    part = TokenPasses(rows, np.array([5, 3, 29]), np.zeros(3), batch_size=4, seed=0)
    assert part.places_in(whole).tolist() == [5, 3, 29]
    other = TokenPasses(texts(30), np.array([1]), np.zeros(1), batch_size=4)
    assert other.places_in(whole) is None
    same = TokenPasses(texts(30), np.arange(30), np.zeros(30), batch_size=9, seed=8)
    assert same.fingerprint() == whole.fingerprint() != part.fingerprint()

"""What is hidden of texts: how much, what stands in its place, and that it is always the same."""

import numpy as np
import pytest

from kerastl.data.texts.masking import POSITIONS, MaskedPasses, Masking
from kerastl.data.texts.passes import TokenRows

VOCABULARY, MASK = 99, 4
MASKING = Masking(MASK, (0, 1, 2, 3, 4), VOCABULARY)


def packed(ids, length, second=None):
    """Ids with a 1 before and a 2 after them, filled up by 0."""
    rows = np.zeros((len(ids), length), "int32")
    for row, one in enumerate(ids):
        inside = [1, *one[: length - 2], 2]
        rows[row, : len(inside)] = inside
    return {"token_ids": rows, "padding_mask": (rows > 0).astype("int32")}


def passes(count=40, *, batch_size=8, seed=3, lengths=(1, 60)):
    rng = np.random.default_rng(0)
    ids = [
        rng.integers(5, VOCABULARY, rng.integers(*lengths)).astype("int32") for _ in range(count)
    ]
    rows = TokenRows(ids, None, packed, ("token_ids", "padding_mask"), 2, 62)
    return MaskedPasses(rows, np.arange(count), MASKING, batch_size=batch_size, seed=seed)


def hidden_by_row(given, number):
    """Dict from a row to `(what is seen, places, labels)` in a pass, read batch by batch."""
    found, order = {}, given.order(number).numpy()
    for i, (x, y, weights) in enumerate(given.epoch(number)):
        rows = order[i * given.batch_size : (i + 1) * given.batch_size]
        for j, row in enumerate(rows):
            real, asked = x["padding_mask"][j].numpy() > 0, weights[j].numpy() > 0
            seen = x["token_ids"][j].numpy()[real]
            found[row] = (*map(tuple, (seen, x[POSITIONS][j].numpy()[asked], y[j].numpy()[asked])),)
    return found


def test_a_sixth_is_asked_for_and_most_of_it_is_hidden():
    """15 % of the ids, rounded up; 80 % of these are [MASK], 10 % another id, 10 % as they were."""
    given = passes(2, lengths=(3000, 3001), batch_size=2)
    given.texts.__dict__["lengths"] = np.array([3002, 3002])
    object.__setattr__(given.texts, "longest", 3002)
    for row, (seen, where, labels) in hidden_by_row(given, 0).items():
        whole = np.array([1, *given.texts.ids[row], 2])
        seen, where = np.array(seen), np.array(where)
        assert len(where) == len(set(where)) == 450  # 15 % of 3,000
        np.testing.assert_array_equal(whole[where], labels)
        np.testing.assert_array_equal(np.delete(seen, where), np.delete(whole, where))
        share = (seen[where] == MASK).mean()
        assert abs(share - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 450)
        same = (seen[where] == whole[where]).mean()  # a random id may be the very same, too
        assert abs(same - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 450)
        assert where.min() > 0 and where.max() < 3001 and (seen[where] >= MASK).all()


def test_what_is_hidden_of_a_row_depends_on_seed_and_pass_alone():
    """Other company, another order: the same pieces. Another pass or seed: others."""
    known = hidden_by_row(passes(), 5)
    assert hidden_by_row(passes(), 5) == known
    assert hidden_by_row(passes(batch_size=3), 5) == known
    some = passes()
    part = MaskedPasses(some.texts, np.arange(7, 20), MASKING, batch_size=4, seed=3)
    told = hidden_by_row(part, 5)
    assert {row + 7: said for row, said in told.items()} == {
        row: known[row] for row in range(7, 20)
    }
    for other in (hidden_by_row(passes(), 6), hidden_by_row(passes(seed=4), 5)):
        assert sum(other[row] == known[row] for row in known) < 10  # of 40; short ones may


def test_each_text_is_asked_about_at_least_once_and_filled_up_places_do_not_count():
    for x, y, weights in passes(lengths=(1, 30)).epoch(0):
        asked = weights.numpy().sum(axis=1)
        lengths = x["padding_mask"].numpy().sum(axis=1) - 2
        np.testing.assert_array_equal(asked, np.ceil(0.15 * lengths))
        assert x[POSITIONS].shape == y.shape and set(np.unique(weights)) <= {0.0, 1.0}


@pytest.mark.parametrize("ids", [[[1, 2]], [[1, 3, 2]]])
def test_a_text_without_ordinary_pieces_is_asked_nothing(ids):
    ids = np.array(ids, "int32")
    draws = [np.random.default_rng(0)]
    seen, _, _, weights = MASKING(ids, np.ones_like(ids), draws)
    np.testing.assert_array_equal(seen, ids)
    assert weights.shape == (1, 1) and not weights.any()

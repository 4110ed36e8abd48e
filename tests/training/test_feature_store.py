"""Features in half precision and on disk: found again, told apart, mended, refused."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.freezing import freeze_to, unfreeze
from kerastl.training import FineTuner
from kerastl.training.frozen import FeatureCache
from kerastl.training.frozen.store import make_store
from tests.tolerances import REDUCTION
from tests.training.frozen_features_cases import Counted, Noisy, cached, check, data, deep


def folders(root):
    return sorted(path.name for path in root.iterdir())


def test_half_precision_on_request():
    """Half precision has 11 bits; what it cannot hold is refused."""
    model, passes = deep(), data()
    freeze_to(model, -1)
    cache = cached(model, passes, dtype="float16")
    check(cache, passes, 0, rtol=2**-11, atol=1e-7)
    with pytest.raises(AssertionError):
        check(cache, passes, 0, **REDUCTION)
    inputs = keras.Input((4,))
    big = keras.layers.Dense(3, name="big", kernel_initializer=keras.initializers.Constant(1e6))
    model = FineTuner(inputs, keras.layers.Dense(1, name="head")(big(inputs)))
    freeze_to(model, -1)
    with pytest.raises(ValueError, match=r"Half precision holds numbers up to 65,504. Received: "):
        cached(model, passes, dtype="float16").epoch(passes, 0)


def test_features_on_disk_serve_a_later_run(tmp_path):
    model, passes = deep(), data(kind=Counted)
    freeze_to(model, -1)
    check(cached(model, passes, cache_dir=tmp_path), passes, 1, **REDUCTION)
    (folder,) = folders(tmp_path)
    assert folder.startswith("features-")
    again = data(kind=Counted)
    later = FeatureCache(deep_like(model), "auto", cache_dir=tmp_path)
    later.update()
    assert later.decide(again, epochs_left=1).use  # one epoch is worth it: nothing to compute
    store = later._of(again).store(None)
    assert isinstance(store.arrays[0], np.memmap) and not store.arrays[0].flags.writeable
    check(later, again, 2, **REDUCTION)
    assert again.read == set() and folders(tmp_path) == [folder]


def deep_like(model):
    """The same network made anew, as a later process makes it: other names, equal weights."""
    other = deep()
    other.set_weights(model.get_weights())
    freeze_to(other, -1)
    return other


def test_every_part_of_the_key_makes_another_folder(tmp_path):
    """Weights below, data, dtype, frontier, view and its seed; weights above do not."""
    model = deep()
    freeze_to(model, -1)
    expected = 0

    def compute(passes, **settings):
        cached(model, passes, cache_dir=tmp_path, **settings).epoch(passes, 0)
        return len(folders(tmp_path))

    for passes, settings in [
        (data(), {}),
        (data(n=10), {}),
        (data(), {"dtype": "float16"}),
        (data(kind=Noisy), {"augmented_copies": 2}),
        (data(kind=Noisy, seed=6), {"augmented_copies": 2}),
    ]:
        expected += 1
        assert compute(passes, **settings) == expected
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel + 1)
    assert compute(data(seed=99)) == expected
    model.get_layer("b").bias.assign(model.get_layer("b").bias + 1e-6)
    assert compute(data()) == expected + 1
    unfreeze(model, "c")
    assert compute(data()) == expected + 2


@pytest.mark.parametrize("damage", ["short", "long", "no array", "header", "other numbers"])
def test_damaged_features_are_computed_again(tmp_path, damage):
    model, passes = deep(), data()
    freeze_to(model, -1)
    cached(model, passes, cache_dir=tmp_path).epoch(passes, 0)
    array, header = next(tmp_path.glob("*/0.npy")), next(tmp_path.glob("*/header.json"))
    content = array.read_bytes()
    if damage == "short":
        array.write_bytes(content[:-1])
    elif damage == "long":
        array.write_bytes(content + b"0")
    elif damage == "no array":
        array.unlink()
    elif damage == "header":
        header.write_text(json.dumps({**json.loads(header.read_text()), "arrays": []}))
    else:
        np.save(array, np.zeros((3, 3)))
    with pytest.warns(UserWarning, match="is damaged .* and is computed again"):
        check(cached(model, passes, cache_dir=tmp_path), passes, 0, **REDUCTION)
    assert array.read_bytes() == content


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    model, passes = deep(), data()
    freeze_to(model, -1)
    cached(model, passes, cache_dir=tmp_path).epoch(passes, 0)
    next(tmp_path.glob("*/header.json")).write_text("{}")
    with pytest.raises(ValueError, match=r"must be a folder of frozen features .* Remove it"):
        cached(model, passes, cache_dir=tmp_path).epoch(passes, 0)
    assert next(tmp_path.glob("*/0.npy")).is_file()


def test_an_interrupted_computation_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    model, passes = deep(), data()
    freeze_to(model, -1)
    with pytest.raises(KeyboardInterrupt):
        cached(model, passes, cache_dir=tmp_path, progress=stop).epoch(passes, 0)
    assert folders(tmp_path) == []


def test_a_full_disk_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"needs .* MiB for frozen features and its disk has"):
        make_store([((2**44, 4), np.dtype("float32"))], None, folder=tmp_path / "features-0")
    assert folders(tmp_path) == []


@pytest.mark.parametrize("wrong", [-3, 3])
def test_another_number_of_rows_than_said_is_refused(wrong):
    model, passes = deep(), data()
    freeze_to(model, -1)
    passes.num_examples += wrong
    rows = tf.data.Dataset.from_tensor_slices(np.zeros((11, 4), "float32")).batch(4)
    passes.in_order = lambda: rows
    with pytest.raises(ValueError, match=f"must give {passes.num_examples} examples"):
        cached(model, passes).epoch(passes, 0)

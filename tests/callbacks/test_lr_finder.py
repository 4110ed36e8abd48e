"""The LR finder: its ramp, what it suggests, and that nothing is left of it."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerastl.callbacks import GradualUnfreezing, LRFinder, LRFinderResult, lr_find
from kerastl.callbacks.suggestions import noise_of, slide, steep, suggest, valley
from kerastl.data import make_dataset
from kerastl.freezing import freeze
from kerastl.report import draw_lr_curve
from kerastl.schedules import OneCycle
from kerastl.training import FineTuner
from tests.tolerances import EXACT
from tests.training.test_fine_tuner import weights_equal

LOSS = "sparse_categorical_crossentropy"
FIT = {"batch_size": 8, "verbose": 0}


def network(seed=0):
    """Dropout has a seed and batch normalization statistics: both must come back."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh", name="low"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.3, name="drop"),
            keras.layers.Dense(3, activation="softmax", name="head"),
        ],
        name="net",
    )


def data(n=24):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def everything(model):
    """Each variable of the model and of its optimizer."""
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def same(a, b):
    for x, y in zip(everything(a), everything(b), strict=True):
        np.testing.assert_array_equal(x, y)


def plain(optimizer=None):
    model = network()
    model.compile(optimizer or keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"])
    return model


def tuner(optimizer=None, **compile_args):
    model = FineTuner.from_model(network())
    model.compile(optimizer or keras.optimizers.AdamW(0.01, use_ema=True), LOSS, **compile_args)
    return model


# What stands before and after the finder: nothing, or three steps of training.
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("make", [plain, tuner])
def test_three_steps_after_the_finder_are_those_without_it(make, trained):
    x, y = data()
    models = []
    for finds in (True, False):
        model = make()
        if trained:
            model.fit(x, y, **FIT)
        before = position(model, trained)
        if finds:
            draws = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: (random.random(), np.random.random())
            )
            result = lr_find(model, x, y, num_steps=30, batch_size=8, callbacks=[draws])
            assert 10 < len(result.rates) <= 30
        assert position(model, trained) == before
        model.fit(x, y, **FIT)
        models.append(model)
    same(*models)


def position(model, trained):
    """Random numbers of the process, and the metrics of the last `fit` if there was one."""
    metrics = [v.numpy().tolist() for v in model.metrics_variables] if trained else []
    return random.getstate(), np.random.get_state()[1:3][1], metrics


def test_the_ramp_and_group_ratios_are_exact():
    """Lion moves each weight by its rate; the body has a quarter of it."""

    class Moves(keras.callbacks.Callback):
        moves = ()

        def on_train_batch_begin(self, batch, logs=None):
            self._before = [self.model.get_layer(n).kernel.numpy() for n in ("low", "head")]

        def on_train_batch_end(self, batch, logs=None):
            after = [self.model.get_layer(n).kernel.numpy() for n in ("low", "head")]
            moved = [np.abs(a - b).max() for a, b in zip(after, self._before, strict=True)]
            self.moves = (*self.moves, moved)

    model, moves = tuner(keras.optimizers.Lion(0.5), multipliers={"low": 0.25}), Moves()
    result = lr_find(
        model, *data(), start=1e-3, end=1e-1, num_steps=20, batch_size=8, callbacks=[moves]
    )
    want = 1e-3 * 100 ** (np.arange(len(result.rates)) / 20)
    np.testing.assert_allclose(result.rates, want, rtol=1e-12)
    low, head = np.array(moves.moves)[:-1].T  # the last step has been taken back by then
    np.testing.assert_allclose(head, want[:-1], rtol=1e-3)
    np.testing.assert_allclose(low, 0.25 * want[:-1], rtol=1e-3)
    assert float(model.optimizer.learning_rate) == 0.5


def test_losses_are_those_of_the_batches_smoothed():
    """A rate of nothing: the batch losses are those of `evaluate`, and repeat with the data."""
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"])
    x, y = data()
    want = [model.evaluate(x[i : i + 8], y[i : i + 8], verbose=0)[0] for i in (0, 8, 16)]
    result = lr_find(model, x, y, start=1e-20, end=1e-19, num_steps=12, batch_size=8, shuffle=False)
    np.testing.assert_allclose(result.batch_losses, want * 4, rtol=1e-5)
    average, smoothed = 0.0, []
    for i, loss in enumerate(result.batch_losses):  # fastai's AvgSmoothLoss, beta 0.98
        average = 0.98 * average + 0.02 * loss
        smoothed.append(average / (1 - 0.98 ** (i + 1)))
    np.testing.assert_allclose(result.losses, smoothed, rtol=1e-12)


def test_it_stops_at_four_times_the_best():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = data()
    result = lr_find(model, x, np.eye(3)[y], end=1e4, num_steps=100, batch_size=8)
    assert len(result.rates) < 100
    assert result.losses[-1] > 4 * min(result.losses)
    assert all(
        4 * min(result.losses[:i]) >= result.losses[i - 1] for i in range(1, len(result.losses))
    )


def test_after_a_thaw_too():
    """Two epochs of gradual unfreezing, the finder, two more: as without the finder."""
    models = []
    for finds in (True, False):
        model = tuner()
        for start in (0, 2):
            model.fit(
                *data(), **FIT, initial_epoch=start, epochs=start + 2,
                callbacks=[GradualUnfreezing(every=1)],
            )  # fmt: skip
            if finds:
                lr_find(model, *data(), num_steps=20, batch_size=8)
        models.append(model)
    same(*models)


def test_a_frozen_part_stays_frozen_and_its_slots_can_come_later():
    models = []
    for finds in (True, False):
        model = tuner()
        freeze(model, "low")
        if finds:
            lr_find(model, *data(), num_steps=20, batch_size=8)
        model.get_layer("low").trainable = True
        model.make_train_function(force=True)
        model.fit(*data(), **FIT)
        models.append(model)
    weights_equal(*models, **EXACT)


def test_a_schedule_is_taken_off_and_put_back():
    model, other = tuner(), tuner()
    for tuned in (model, other):
        tuned.set_schedule(OneCycle(), num_steps=12)
        tuned.fit(*data(), **FIT)
    result = lr_find(model, *data(), num_steps=20, batch_size=8)
    assert result.rates[0] == pytest.approx(1e-7)
    assert model.lr_multiplier.schedule == other.lr_multiplier.schedule
    for tuned in (model, other):
        tuned.fit(*data(), **FIT)
    same(model, other)


def images():
    rng = np.random.default_rng(1)
    return rng.integers(0, 255, (20, 4, 4, 3)).astype("uint8"), rng.integers(0, 2, 20)


def picture_model(cls):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    model = cls.from_model(model) if cls is FineTuner else model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


@pytest.mark.parametrize("cls", [FineTuner, keras.Model])
def test_the_position_of_shuffled_augmented_data_comes_back(cls):
    models = []
    for finds in (True, False):
        model = picture_model(cls)
        dataset = make_dataset(*images(), batch_size=8, seed=3, augment="light")
        model.fit(dataset, epochs=2, shuffle=False, verbose=0)
        if finds:
            lr_find(model, dataset, num_steps=10)
        model.fit(dataset, shuffle=False, verbose=0)
        models.append(model)
    same(*models)


def test_data_of_unknown_length_are_read_again():
    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    unknown = dataset.filter(lambda *_: True)
    results = [lr_find(plain(), d, num_steps=10) for d in (dataset, unknown, dataset.repeat())]
    assert len({result.losses for result in results}) == 1
    assert len(results[0].rates) == 10
    with pytest.raises(ValueError, match="read again"):
        lr_find(plain(), iter(dataset), num_steps=10)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, step):
        x, y = data(32)
        return x[8 * step :][:8], y[8 * step :][:8]


@pytest.mark.parametrize("kind", ["PyDataset", "tf.data", "make_dataset", "arrays"])
def test_steps_of_an_epoch_change_nothing(kind):
    """The batches come in the same order, an epoch after the other."""
    x, y = data(32)
    tensors = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    images = (40 * x.reshape(32, 2, 1, 3) + 128).astype("uint8")
    given = {
        "PyDataset": (Batches(),),
        "tf.data": (tensors,),
        "make_dataset": (make_dataset(images, y, batch_size=8),),
        "arrays": (x, y),
    }[kind]

    def losses(**options):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((2, 1, 3) if kind == "make_dataset" else (6,))
        flat = keras.layers.Flatten()(inputs)
        model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax")(flat))
        model.compile("sgd", LOSS)
        options |= {"batch_size": 8} if kind == "arrays" else {}
        options |= {} if "data" in kind else {"shuffle": False}
        return lr_find(model, *given, num_steps=20, **options).batch_losses

    assert losses(steps_per_epoch=3) == losses()


@pytest.mark.parametrize(("rows", "steps"), [(24, 3), (9, 4), (24, 24)])
def test_steps_of_arrays_say_the_size_of_the_batches(rows, steps):
    """As in `fit`: 9 rows in 4 steps are batches of 3."""
    seen, (x, y) = [], data(rows)

    class Looks(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.params["steps"])

    lr_find(plain(), x, y, steps_per_epoch=steps, num_steps=10, callbacks=[Looks()])
    assert seen == [{3: 3, 4: 3, 24: 24}[steps]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (([[1.0] * 6] * 5000, [0] * 5000), "x of type list. Make an array of lists: `np.asarray"),
        ((data()[0], [0] * 24), "`y` must be arrays, so that"),
        ((iter([1]),), "x of type list_iterator"),
        ((), "x of type NoneType"),
    ],
)
def test_what_are_no_arrays_is_named_and_not_printed(given, words):
    with pytest.raises(ValueError, match=words) as told:
        lr_find(plain(), *(given or (None,)))
    assert len(str(told.value)) < 250


@pytest.mark.parametrize("make", [plain, tuner])
def test_targets_beside_a_dataset_are_refused(make):
    dataset = make_dataset(np.zeros((8, 2, 1, 3), "uint8"), np.zeros(8, int))
    with pytest.raises(ValueError, match="`y` should not be passed"):
        lr_find(make(), dataset, np.zeros(8))


def test_as_a_callback_it_ends_fit_and_leaves_callbacks_the_model_as_it_was():
    model, seen = plain(), []
    before = [v.numpy() for v in model.variables]
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            all(np.array_equal(b, v) for b, v in zip(before, model.variables, strict=True))
        )
    )
    finder = LRFinder(num_steps=10)
    model.fit(*data(), **FIT, epochs=50, callbacks=[finder, watch])
    assert seen == [False] * 3 + [True]
    assert len(finder.result.rates) == 10


def test_mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        models = [tuner(keras.optimizers.Adam(0.01)) for _ in range(2)]
        for model in models:
            model.fit(*data(), **FIT)
        lr_find(models[0], *data(), num_steps=12, batch_size=8)
        for model in models:
            model.fit(*data(), **FIT)
    finally:
        keras.config.set_dtype_policy("float32")
    same(*models)


def test_an_interrupted_finder_puts_the_model_back():
    def stop(batch, logs):
        if batch == 2:
            raise KeyboardInterrupt

    model = plain()
    model.fit(*data(), **FIT)
    before = everything(model)
    interrupt = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        lr_find(model, *data(), start=1.0, batch_size=8, callbacks=[interrupt])
    for a, b in zip(everything(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


# Suggestions


def test_rules_by_hand():
    falling = [1 - i / 100 for i in range(100)]
    assert valley(falling) == 48
    # 10 flat, 31 falling (one of the flat ones among them), rising: end 40, length 31.
    bowl = [1.0] * 10 + [1 - i / 60 for i in range(1, 31)] + [0.5 + i / 20 for i in range(1, 20)]
    assert valley(bowl) == 39 - 31 + 10 + 5
    assert valley([1.0, 1.0, 2.0]) is None
    rates = 10.0 ** np.arange(-5, 0)
    assert steep(rates, [1.0, 0.9, 0.5, 0.4, 0.6]) == 1
    assert noise_of([1.0, 2.0, 1.0, 2.0]) == pytest.approx(1 / 0.9539, rel=1e-3)


def test_minimum_is_a_tenth_of_the_best_rate():
    rates = np.geomspace(1e-6, 1.0, 60)
    losses = (np.log10(rates) + 2) ** 2 + 1  # lowest at 1e-2
    suggestions, reason = suggest(rates, losses, losses, 0)
    assert reason is None
    assert suggestions["minimum"] == pytest.approx(1e-3, rel=0.2)


def test_a_beginning_that_stands_still_is_cut_off():
    """A head that starts at zero: 60 points that fall by a millionth each, then 35 by a tenth."""
    falls = np.concatenate([np.full(60, 1e-6), np.full(35, 0.1), np.full(5, -1.0)])
    losses, rates = 5 - np.cumsum(falls), np.arange(100) + 1.0
    # Left are points 60 to 94, all falling: 34 - 35 + 11 + 5 = 15 from there.
    assert suggest(rates, losses, losses, 100)[0]["valley"] == rates[60 + 15]


def fastai_slide(lrs, losses, lr_diff=15, thresh=0.005):
    """fastai 2.7, `slide`, in its own indices from the right."""
    gradient = np.gradient(losses)
    right, left = -1, -1 - lr_diff
    found = lrs[left]
    while left >= -len(losses) and abs(gradient[right] - gradient[left]) > thresh:
        found = lrs[left]
        right, left = right - 1, left - 1
    return found


@pytest.mark.parametrize("seed", range(5))
def test_slide_is_the_rule_of_fastai(seed):
    rng = np.random.default_rng(seed)
    losses = np.cumsum(rng.normal(scale=0.02, size=60)) + np.linspace(0, 1.5, 60) ** 6 / 8
    assert slide(losses) == fastai_slide(np.arange(60), losses)
    assert slide(losses[:15]) is None


def curve(batch_losses):
    average, smoothed = 0.0, []
    for i, loss in enumerate(batch_losses):
        average = 0.98 * average + 0.02 * loss
        smoothed.append(average / (1 - 0.98 ** (i + 1)))
    rates = np.geomspace(1e-7, 10, len(batch_losses))
    return LRFinderResult.of_curve(rates, smoothed, batch_losses, len(batch_losses))


DIPS = 3.9 + np.tile([0.1, -0.1, 0.02, -0.04], 9)
DIPS[14:20] -= 0.2
DIPS[20:] += np.linspace(0, 4, 16)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([], "no number from the first step"),
        ([1.0, 2.0, 9.0], "points are left"),
        ([0.7] * 100, "the loss is flat"),
        (np.linspace(1, 2, 100), "the loss only rises"),
        # Falls in the midst, by less than stands out from the noise of so few batches.
        (DIPS, "the loss rises in the end: from batch to batch it differs by 0."),
        (1 + np.random.default_rng(3).normal(scale=0.2, size=100), "the loss is flat"),
    ],
    ids=["nan", "short", "constant", "rising", "dips", "noise"],
)
def test_no_suggestion_where_there_is_none(losses, words, tmp_path):
    result = curve(losses)
    assert result.suggestion is None
    assert set(result.suggestions.values()) == {None}
    assert result.summary().startswith("No suggestion: ")
    assert words in repr(result)
    draw_lr_curve(result, tmp_path / "curve.png")


def test_noise_alone_seldom_suggests():
    """Of 200 curves of nothing but noise, at most 2 % are taken for a valley."""
    noise = np.random.default_rng(0).normal(size=(200, 100))
    assert sum(curve(5 + row).suggestion is not None for row in noise) <= 4


def test_nan_from_the_start_and_a_model_that_only_rises():
    model = plain()
    x, y = data()
    result = lr_find(model, np.full_like(x, np.nan), y, batch_size=8)
    assert result.suggestion is None
    assert "no number" in repr(result)
    good = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, use_bias=False)])
    good.compile(keras.optimizers.SGD(0.1), "mse")
    flat = lr_find(good, x * 0, np.ones(24), num_steps=30, batch_size=8)
    assert "flat" in flat.summary()


def test_a_curve_with_a_valley_is_named_and_drawn(tmp_path):
    model = plain(keras.optimizers.SGD(0.01))
    result = lr_find(model, *data(240), batch_size=32)
    assert 1e-4 < result.suggestion < 10
    assert f"{result.suggestion:.2g}" in result.summary()
    assert set(result.suggestions) == {"valley", "steep", "slide", "minimum"}
    draw_lr_curve(result, tmp_path / "curve.png", title="glyphs")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size[0] > 500


# Refusals


@pytest.mark.parametrize(
    ("optimizer", "compile_args", "words"),
    [
        (keras.optimizers.Adam(OneCycle().over(1e-3, 10)), {}, "not a schedule"),
        ("adam", {"steps_per_execution": 2}, "steps_per_execution=1"),
    ],
)
@pytest.mark.parametrize("wrap", [False, True])
def test_models_it_cannot_lead_are_refused(optimizer, compile_args, words, wrap):
    model = FineTuner.from_model(network()) if wrap else network()
    config = keras.optimizers.serialize(keras.optimizers.get(optimizer))
    model.compile(keras.optimizers.deserialize(config), LOSS, **compile_args)
    with pytest.raises(ValueError, match=words):
        lr_find(model, *data())


def test_an_unbuilt_model_is_refused():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Call the model on a batch"):
        lr_find(model, *data())


def test_a_fit_that_is_too_short_is_refused_before_the_first_step():
    model = plain()
    with pytest.raises(ValueError, match=r"Pass epochs=34, or use lr_find"):
        model.fit(*data(), **FIT, epochs=20, callbacks=[LRFinder(num_steps=100)])
    assert int(model.optimizer.iterations) == 0


def test_other_callbacks_may_not_cut_the_ramp_short_or_thaw():
    model = plain()
    before = [v.numpy() for v in model.variables]
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True)
    )
    with pytest.raises(RuntimeError, match="ended after 3"):
        lr_find(model, *data(), num_steps=20, batch_size=8, callbacks=[stop])
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RuntimeError, match="changed by another callback"):
        lr_find(
            tuner(), *data(), num_steps=20, batch_size=8, callbacks=[GradualUnfreezing(every=1)]
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start": 0.0}, "start=0.0"),
        ({"start": 1.0, "end": 0.5}, "`end` must be above `start`"),
        ({"num_steps": 3}, "num_steps=3"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        LRFinder(**arguments)
    with pytest.raises(ValueError, match="leave out epochs"):
        lr_find(plain(), *data(), epochs=3)

"""A head that is solved: equal to scikit-learn's regression on the same features."""

import dataclasses

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from kerastl import FineTuner, strategies
from kerastl.callbacks import FollowPlan, Resume
from kerastl.data import make_dataset
from kerastl.plans import Phase, TransferPlan
from kerastl.training import solve_head
from kerastl.training.probe import best_temperature
from kerastl.training.probe.cross_validation import cross_validated, folds_of
from kerastl.training.probe.regressions import Classes, Labels, Numbers, Scaled, Weighted

ROUNDING = 1e-6  # of float32, in probabilities


def network(units, activation, *behind, seed=0, hidden=6):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    features = keras.layers.Dense(hidden, "relu", name="body")(inputs)
    features = keras.layers.Dropout(0.5)(features)
    outputs = keras.layers.Dense(units, activation, kernel_initializer="zeros", name="head")(
        features
    )
    for layer in behind:
        outputs = layer(outputs)
    return FineTuner(inputs, outputs)


def rows(seed=0, count=90):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype("float32")
    return x, (x @ rng.normal(size=(4, 3)) + 0.3 * rng.normal(size=(count, 3)))


def features_of(model, x):
    head = model.get_layer("head")
    return np.asarray(keras.Model(model.input, head.input)(x, training=False), np.float64)


def logistic(strength):
    return LogisticRegression(C=strength, max_iter=10_000, tol=1e-10)


@pytest.mark.parametrize("softening", [0.0, 1.0])
def test_classes_are_scikit_learns_regression_on_scaled_features(softening):
    x, scores = rows()
    y = scores.argmax(1)
    model = network(3, "softmax")
    probe = solve_head(model, x, y, softening=softening)
    features = features_of(model, x)
    if softening:
        deviation = features.std(0)
        scale = np.sqrt(deviation**2 + np.mean(deviation**2))
        scaled = (features - features.mean(0)) / scale
    else:
        scaled = StandardScaler().fit_transform(features)
    expected = logistic(probe.strength).fit(scaled, y).predict_proba(scaled)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=ROUNDING, rtol=0)


def test_two_classes_are_the_regression_of_two():
    x, scores = rows()
    y = (scores[:, 0] > 0).astype(int)
    model = network(2, "softmax")
    probe = solve_head(model, x, y, softening=0.0)
    scaled = StandardScaler().fit_transform(features_of(model, x))
    expected = logistic(probe.strength).fit(scaled, y).predict_proba(scaled)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=ROUNDING, rtol=0)


def test_class_weights_weigh_rows():
    x, scores = rows()
    y, weight = scores.argmax(1), {0: 3.0, 1: 1.0, 2: 0.5}
    model = network(3, "softmax")
    probe = solve_head(model, x, y, class_weight=weight, softening=0.0)
    scaled = StandardScaler().fit_transform(features_of(model, x))
    given = np.array([weight[label] for label in y])
    expected = logistic(probe.strength).fit(scaled, y, sample_weight=given).predict_proba(scaled)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=ROUNDING, rtol=0)


def test_labels_are_a_regression_each_and_one_that_all_have_is_certain():
    x, scores = rows()
    y = np.hstack([(scores > 0)[:, :2], np.ones((len(x), 1))]).astype("float32")
    model = network(3, "sigmoid")
    probe = solve_head(model, x, y, softening=0.0)
    given = model.predict(x, verbose=0)
    scaled = StandardScaler().fit_transform(features_of(model, x))
    for i in range(2):
        expected = logistic(probe.strength).fit(scaled, y[:, i]).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(given[:, i], expected, atol=ROUNDING, rtol=0)
    assert given[:, 2].min() > 1 - 1e-6


def test_numbers_are_ridge_regression_in_their_own_units():
    x, scores = rows()
    y = 1000 + 50 * scores[:, :1]
    in_units = keras.layers.Rescaling(float(y.std()), float(y.mean()), name="in_units")
    model = network(1, None, in_units)
    probe = solve_head(model, x, y, softening=0.0)
    scaled = StandardScaler().fit_transform(features_of(model, x))
    expected = Ridge(1 / probe.strength).fit(scaled, y).predict(scaled)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected.reshape(-1, 1), rtol=1e-5)


def test_more_features_than_rows_have_the_same_solution():
    x, scores = rows(count=30)
    wide = np.random.default_rng(1).normal(size=(4, 80))
    features, y = np.maximum(x @ wide, 0), scores.argmax(1)
    scaled = Scaled(features, softening=0.0)
    assert scaled.values.shape == (30, 30)
    (found,) = Classes(3).fits(Weighted(scaled, y, np.ones(30)), [0.1], 1e-10)
    plain = StandardScaler().fit_transform(features)
    expected = logistic(0.1).fit(plain, y).predict_proba(plain)
    np.testing.assert_allclose(Classes(3).outputs(found(features)), expected, atol=1e-6)


def test_scores_before_a_softmax_in_the_loss():
    x, scores = rows()
    y = scores.argmax(1)
    with_softmax, without = network(3, "softmax"), network(3, None)
    without.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    solve_head(with_softmax, x, y)
    solve_head(without, x, y)
    for mine, theirs in zip(without.get_weights(), with_softmax.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_out_of_fold_outputs_are_those_of_regressions_that_have_not_seen_the_row():
    _, scores = rows()
    y, features = scores.argmax(1), np.random.default_rng(2).normal(size=(90, 5))
    folds = folds_of(y, stratified=True, seed=4)
    found = cross_validated(Classes(3), [features], y, np.ones(90), folds=folds, softening=0.0)
    for fold in range(5):
        held = folds == fold
        scaler = StandardScaler().fit(features[~held])
        fit = logistic(found.strength).fit(scaler.transform(features[~held]), y[~held])
        expected = fit.predict_proba(scaler.transform(features[held]))
        np.testing.assert_allclose(found.out_of_fold[held], expected, atol=5e-3)


@pytest.mark.parametrize("count", [2, 7, 23])
def test_folds_are_even_and_stratified(count):
    y = np.repeat([0, 1, 2], [40, 30, 20])
    folds = folds_of(y, stratified=True, seed=count, count=min(count, 5))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 1
    for label in range(3):
        each = np.bincount(folds[y == label], minlength=len(sizes))
        assert each.max() - each.min() <= 1


def test_a_class_of_one_example_is_never_said_where_it_was_not_seen():
    features = np.random.default_rng(0).normal(size=(21, 3))
    y = np.array([0] * 10 + [1] * 10 + [2])
    folds = folds_of(y, stratified=True, seed=0)
    found = cross_validated(Classes(3), [features], y, np.ones(21), folds=folds)
    assert found.out_of_fold[20, 2] < 1e-6
    assert np.isfinite(found.losses).all()


def test_views_are_taken_where_they_help_and_not_where_they_harm():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3) * 2, 8, axis=0)
    y = np.repeat(np.arange(3), 8)
    drawn = [np.hstack([centres, np.zeros((24, 30))]) + rng.normal(size=(24, 33)) for _ in range(9)]
    folds = folds_of(y, stratified=True, seed=0)
    kept = cross_validated(Classes(3), drawn, y, np.ones(24), folds=folds)
    wrong = [drawn[0], *(view[::-1] for view in drawn[1:])]  # of other classes
    refused = cross_validated(Classes(3), wrong, y, np.ones(24), folds=folds)
    assert (kept.views, refused.views) == (8, 0)


def test_augmented_copies_of_a_dataset():
    pictures = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), np.uint8)
    dataset = make_dataset(pictures, np.arange(20) % 2, batch_size=5, seed=0, augment="light")
    inputs = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    model = FineTuner(inputs, keras.layers.Dense(2, "softmax", name="head")(features))
    assert solve_head(model, dataset, augmented_copies=2).out_of_fold.shape == (20, 2)
    plain = make_dataset(pictures, np.arange(20) % 2, batch_size=5, seed=0)
    with pytest.raises(ValueError, match="without augmentation"):
        solve_head(model, plain, augmented_copies=2)


def test_the_head_of_a_nested_network_is_solved():
    """Its Dense was called twice: in the graph it was made in, and in the flat one."""
    x, scores = rows()
    plain, y = network(3, "softmax"), scores.argmax(1)
    body = keras.Model(plain.input, plain.layers[-2].output)
    inputs = keras.Input(plain.input_shape[1:])
    nested = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="head")(body(inputs)))
    model = FineTuner.from_model(nested)
    for one in (plain, model):
        one.compile("sgd", "sparse_categorical_crossentropy")
        solve_head(one, x, y)
    np.testing.assert_array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))


def test_nothing_but_the_head_moves_and_what_trains_is_as_before():
    x, scores = rows()
    model = network(3, "softmax")
    body = [w.copy() for w in model.get_layer("body").get_weights()]
    trained = [v.path for v in model.trainable_variables]
    solve_head(model, x, scores.argmax(1))
    for before, after in zip(body, model.get_layer("body").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [v.path for v in model.trainable_variables] == trained


def test_a_plan_that_starts_with_a_probe_is_carried_out_and_no_epochs_leave_it_alone():
    x, scores = rows()
    y = scores.argmax(1)
    solved, planned = network(3, "softmax"), network(3, "softmax")
    solve_head(solved, x, y)
    planned.compile("adam", "sparse_categorical_crossentropy")
    plan = strategies.probe(planned.groups)
    planned.fit(x, y, epochs=0, callbacks=[FollowPlan(plan)], verbose=0)
    for mine, theirs in zip(planned.get_weights(), solved.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def planned(*callbacks, **options):
    """A network that was trained by a plan of two epochs from the probe with these `options`."""
    x, scores = rows()
    model = network(3, "softmax")
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    plan = strategies.full(model.groups, epochs=2, start="probe", schedule=None)
    plan = dataclasses.replace(plan, **options)
    model.fit(x, scores.argmax(1), epochs=2, callbacks=[FollowPlan(plan), *callbacks], verbose=0)
    return model


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_wise_ft_ends_between_the_probe_and_the_trained_weights(alpha, tmp_path):
    x, scores = rows()
    start = network(3, "softmax")
    solve_head(start, x, scores.argmax(1))
    ends = planned(wise_ft=1.0).get_weights()
    given = planned(Resume(tmp_path), wise_ft=alpha).get_weights()
    for before, end, between in zip(start.get_weights(), ends, given, strict=True):
        expected = (before + alpha * (end.astype("float64") - before)).astype("float32")
        np.testing.assert_array_equal(between, expected if alpha < 1 else end)


@pytest.mark.parametrize("begins", ["once", "again"])
def test_a_temperature_divides_the_scores_at_the_end_and_changes_no_answer(begins, tmp_path):
    x, _ = rows()
    plain = planned(wise_ft=0.5)
    cooled = planned(Resume(tmp_path), wise_ft=0.5, temperature=2.5)
    if begins == "again":  # restores what was there before its end, and ends again
        cooled = planned(Resume(tmp_path), wise_ft=0.5, temperature=2.5)
    np.testing.assert_array_equal(cooled.get_layer("body").kernel, plain.get_layer("body").kernel)
    for mine, theirs in zip(
        cooled.get_layer("head").weights, plain.get_layer("head").weights, strict=True
    ):
        np.testing.assert_allclose(mine, np.asarray(theirs) / 2.5, rtol=1e-6)
    given, before = cooled.predict(x, verbose=0), plain.predict(x, verbose=0)
    np.testing.assert_array_equal(given.argmax(1), before.argmax(1))
    flatter = before ** (1 / 2.5)
    np.testing.assert_allclose(given, flatter / flatter.sum(1, keepdims=True), atol=1e-5)


def test_a_temperature_is_not_applied_twice():
    x, scores = rows()
    model = network(3, "softmax")
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    plan = strategies.full(model.groups, epochs=1, start="probe", schedule=None)
    callback = FollowPlan(dataclasses.replace(plan, temperature=2.0))
    model.fit(x, scores.argmax(1), epochs=1, callbacks=[callback], verbose=0)
    ends = model.get_weights()
    model.fit(x, scores.argmax(1), epochs=1, initial_epoch=1, callbacks=[callback], verbose=0)
    for mine, theirs in zip(model.get_weights(), ends, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_callback_that_is_used_again_ends_as_it_did():
    x, scores = rows()

    def trained(callbacks):
        model = network(3, "softmax")
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        for callback in callbacks:
            model.fit(x, scores.argmax(1), epochs=1, callbacks=[callback], verbose=0)
        return model.get_weights()

    plan = strategies.head(network(3, "softmax").groups, epochs=1, schedule=None)
    plan = dataclasses.replace(plan, temperature=2.0)
    once = FollowPlan(plan)
    for mine, theirs in zip(
        trained([once, once]), trained([FollowPlan(plan), FollowPlan(plan)]), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def test_part_of_the_way_back_needs_the_weights_it_began_with(tmp_path):
    x, scores = rows()
    model = network(3, "softmax")
    plan = dataclasses.replace(TransferPlan([Phase(2, "all")], start="probe"), wise_ft=0.5)

    def fit(*more):
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        callbacks = [FollowPlan(plan), *more, Resume(tmp_path)]
        model.fit(x, scores.argmax(1), epochs=2, callbacks=callbacks, verbose=0)

    def stop(epoch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(keras.callbacks.LambdaCallback(on_epoch_begin=lambda e, logs: e and stop(e, logs)))
    with pytest.raises(RuntimeError, match="anew"):
        fit()


def test_a_temperature_is_refused_where_numbers_are_answered():
    x, scores = rows()
    model = network(3, "linear")
    model.compile("sgd", "mse")
    plan = dataclasses.replace(strategies.head(model.groups, epochs=1), temperature=2.0)
    with pytest.raises(ValueError, match="temperature=2"):
        model.fit(x, scores, epochs=1, callbacks=[FollowPlan(plan)], verbose=0)


@pytest.mark.parametrize(
    "regression",
    [Classes(3), Classes(3, from_logits=True), Labels(3), Labels(3, from_logits=True)],
    ids=["classes", "class scores", "labels", "label scores"],
)
def test_the_best_temperature_is_that_of_a_search_by_hand(regression):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 3))
    logits = scores + rng.gumbel(size=scores.shape)  # from here a softmax is as sure as it is right
    targets = logits.argmax(1) if isinstance(regression, Classes) else (logits > 0).astype(int)
    outputs = regression.outputs(4.0 * scores).astype("float32")
    found = best_temperature(regression, outputs, targets)
    grid = np.linspace(1, 20, 20_000)
    losses = [regression.losses(regression.outputs(4 * scores / t), targets).mean() for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], abs=2e-3)
    if isinstance(regression, Classes):
        assert found == pytest.approx(4.0, rel=0.25)
    assert best_temperature(regression, regression.outputs(0.1 * scores), targets) == 1.0


def test_numbers_have_no_temperature():
    assert best_temperature(Numbers(1), np.ones((5, 1)), np.zeros((5, 1))) == 1.0


def test_a_training_that_goes_on_keeps_its_head():
    x, scores = rows()
    y = scores.argmax(1)
    model = network(3, "softmax")
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    plan = strategies.head(model.groups, epochs=3, start="probe", schedule=None)
    model.fit(x, y, epochs=3, initial_epoch=2, callbacks=[FollowPlan(plan)], verbose=0)
    assert not np.any(model.get_layer("head").kernel)
    back = dataclasses.replace(plan, wise_ft=0.5)
    with pytest.raises(RuntimeError, match="Resume"):
        model.fit(x, y, epochs=3, initial_epoch=2, callbacks=[FollowPlan(back)], verbose=0)


@pytest.mark.parametrize(
    "model, data, words",
    [
        (network(3, "softmax", keras.layers.Dense(2, "relu")), rows(), "relu"),
        (network(3, "tanh"), rows(), "tanh"),
        (network(3, "softmax", keras.layers.Reshape((3, 1))), rows(), "Reshape"),
    ],
    ids=["relu", "tanh", "reshaped"],
)
def test_a_head_that_cannot_be_solved_is_refused(model, data, words):
    x, scores = data
    with pytest.raises(ValueError, match=words):
        solve_head(model, x, scores.argmax(1))


def test_data_that_cannot_be_read_again_are_refused():
    x, scores = rows()
    with pytest.raises(ValueError, match="read again row by row"):
        solve_head(network(3, "softmax"), (x for _ in range(3)))
    with pytest.raises(ValueError, match="from 0 to 2"):
        solve_head(network(3, "softmax"), x, scores.argmax(1) + 1)
    with pytest.raises(ValueError, match="targets"):
        solve_head(network(3, "softmax"), x)


def test_losses_of_labels_and_numbers_by_hand():
    shares, there = np.array([[0.9, 0.2]]), np.array([[1, 0]])
    expected = -(np.log(0.9) + np.log(0.8)) / 2
    assert Labels(2).losses(shares, there) == pytest.approx(expected)
    assert Numbers(1, scale=2.0).losses(np.array([[5.0]]), np.array([[1.0]])) == pytest.approx(4.0)

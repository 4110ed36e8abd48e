"""What is trained further than the probe and whether it is kept: by rule, on a small network."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from kerastl.plans import strategies
from kerastl.recipes import TuneSettings, training
from kerastl.recipes.learn import learn
from kerastl.recipes.run_folder import Silent
from kerastl.recipes.search import Search
from kerastl.recipes.solved import Solved
from kerastl.recipes.standing import LEAST, Standing
from kerastl.recipes.trials import Candidate, Trial, Trials
from kerastl.tasks import Classification, PictureExamples, PreparePictures, TaskData
from kerastl.training import Probe
from kerastl.training.probe.cross_validation import folds_of

SIDE = 8


def drawn(count, seed):
    """Pictures of two classes: a bright patch in one half or the other, hardly above the noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pictures = rng.integers(0, 120, (count, SIDE, SIDE, 3))
    for row, label in enumerate(labels):
        at = rng.integers(0, SIDE - 3)
        pictures[row, at : at + 3, 4 * label : 4 * label + 3] += 50
    return PictureExamples(pictures.astype("uint8"), labels.astype("int64"), 2)


def task(num_train=60, num_val=0):
    none = drawn(2, 9).at(np.arange(0))
    val = drawn(num_val, 5) if num_val else none
    prepare = PreparePictures((SIDE, SIDE))
    return TaskData(drawn(num_train, 1), val, drawn(40, 2), ("a", "b"), prepare, Classification())


def built(data, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    for name in ("low", "high"):
        x = keras.layers.Conv2D(6, 3, activation="relu", name=name)(x)
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="small")
    return training.build(backbone, data, dropout=0.2, name="tuned")


def settings(**options):
    return TuneSettings(
        **{"epochs": 2, "batch_size": 16, "augment": "none", "export": "none", **options}
    )


def learnt(data, tmp_path, progress=None, **options):
    model = built(data)
    return model, learn(model, data, settings(**options), tmp_path, progress or Silent())


def solved(data, own):
    return Solved.of(built(data), data, own, Silent())


def equal(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# What is chosen, by rule: trials that were written down in advance.


class Told:
    """In the place of `Trials`: answers that are told, in place of trainings."""

    def __init__(self, data, right, of_probe, folder, share=1.0):
        self.data, self.folder, self.asked, self.passed = data, folder, [], 0.0
        self.model = built(data)
        labels = data.train.targets
        self._right, self._labels, self._share = right, labels, share
        folds = folds_of(labels, stratified=True, seed=0)
        rows = np.random.default_rng(0).permutation(len(labels))
        wrong = rows[: int(of_probe * len(labels))]
        outputs = self._outputs(np.arange(len(labels)), 0.7, wrong)
        losses = -np.log(outputs[np.arange(len(labels)), labels])
        self.probe = Probe(
            linear=None,
            by_fold=(),
            strength=1.0,
            views=0,
            folds=folds,
            out_of_fold=outputs,
            losses=losses,
            half_out_of_fold=outputs,
            half_losses=losses,
            seconds=1.0,
        )

    def _outputs(self, rows, sure, wrong=()):
        given = np.full((len(rows), 2), 1 - sure)
        given[np.arange(len(rows)), self._labels[rows]] = sure
        flipped = np.isin(rows, wrong)
        given[flipped] = given[flipped][:, ::-1]
        return given

    def are_done(self, candidate, folds):
        return not folds

    def run(self, candidate, fold):
        self.asked.append((candidate.name, fold))
        rows = np.flatnonzero(self.probe.folds == fold)
        sure = self._right[candidate.name]
        self.passed += 60.0
        outputs = {share: self._outputs(rows, sure) for share in candidate.shares}
        return Trial(rows, outputs, 60.0, 10.0)


def candidates(*names):
    plan = strategies.full(["small", "head"], epochs=2, start="probe")
    return [Candidate(name, plan, settings(strategy="full"), (0.5, 1.0)) for name in names]


def told(right, of_probe=0.3, folder=None, minutes=None, num_train=60):
    trials = Told(task(num_train), right, of_probe, folder)
    return trials, Search(trials, minutes).best(candidates(*right))


def test_dear_ones_are_not_tried_where_the_cheapest_saves_little():
    trials, choice = told({"cheap": 0.4, "middle": 0.99, "dear": 0.99}, num_train=240)
    assert trials.asked == [("cheap", 0)]
    assert choice.plan is None
    assert [row["folds"] for row in choice.table] == [1, 0, 0]
    assert "does not pay" in choice.reason


def uneven(right):
    """Trials in which the cheapest saves too little on the first fold, by chance or not."""
    trials = Told(task(), right, 0.3, None)
    run = trials.run

    def told_by_fold(candidate, fold):
        trial = run(candidate, fold)
        if fold or candidate.name == "dear":
            return trial
        outputs = {share: trials._outputs(trial.rows, 0.52) for share in trial.outputs}
        return dataclasses.replace(trial, outputs=outputs)

    trials.run = told_by_fold
    return trials


def test_where_one_fold_does_not_tell_the_cheapest_is_asked_on_more():
    trials = uneven({"cheap": 0.9, "dear": 0.95})
    cheap, dear = candidates("cheap", "dear")
    first = Search(trials)._add(cheap, (0,))
    assert first.gain < 0.15 * first.loss < first.gain + 2 * first.error
    trials.asked.clear()
    choice = Search(trials).best([cheap, dear])
    assert trials.asked[:4] == [("cheap", 0), ("cheap", 1), ("cheap", 2), ("dear", 0)]
    assert trials.asked.count(("cheap", 0)) == 1
    assert choice.plan is not None


def test_the_cheapest_is_kept_where_it_saves_little_but_surely():
    trials, choice = told({"cheap": 0.585, "dear": 0.99}, num_train=600)
    assert {name for name, _ in trials.asked} == {"cheap"}
    cheap, dear = choice.table
    assert 0 < cheap["loss_gain"] < 0.15 * cheap["probe_loss"]
    assert choice.plan is not None
    assert (cheap["fate"], dear["fate"]) == ("kept", "not tried: cheap saves too little")
    assert "more does not pay" in choice.reason


def test_where_no_fold_tells_all_are_asked_and_the_probe_is_kept():
    trials = uneven({"cheap": 0.58, "dear": 0.99})
    choice = Search(trials).best(candidates("cheap", "dear"))
    assert trials.asked == [("cheap", fold) for fold in range(5)]
    assert (choice.plan, choice.table[0]["folds"], choice.table[1]["folds"]) == (None, 5, 0)
    assert "60 examples held back" in choice.reason


def test_the_better_half_goes_on_and_the_best_is_kept():
    trials, choice = told({"cheap": 0.9, "middle": 0.8, "dear": 0.95})
    assert trials.asked[:3] == [("cheap", 0), ("middle", 0), ("dear", 0)]
    assert ("middle", 1) not in trials.asked
    assert {("cheap", 1), ("dear", 2)} < set(trials.asked)
    assert choice.plan is not None
    fates = {row["name"]: row["fate"] for row in choice.table}
    assert fates == {
        "cheap": "dropped after 3 folds: dear saves more there",
        "middle": "dropped after 1 fold: dear saves more there",
        "dear": "kept",
    }
    assert choice.ended_by is None


def test_one_that_is_right_but_too_sure_is_kept_and_made_as_sure_as_it_is_right():
    trials = Told(task(), {"dear": 0.9999}, 0.4, None)
    labels, run = trials.data.train.targets, trials.run

    def with_errors(candidate, fold):  # one answer in six is wrong
        trial = run(candidate, fold)
        return dataclasses.replace(
            trial, outputs={s: trials._outputs(trial.rows, 0.9999, trial.rows[::6]) for s in (1.0,)}
        )

    trials.run = with_errors
    (candidate,) = candidates("dear")
    choice = Search(trials).best([dataclasses.replace(candidate, shares=(1.0,))])
    (row,) = choice.table
    errors = 1 - row["score"]
    sure = np.log((1 - errors) / errors)
    assert row["temperature"] == pytest.approx(np.log(0.9999 / 0.0001) / sure, rel=1e-3)
    assert choice.plan.temperature == row["temperature"]
    outputs = trials._outputs(np.arange(len(labels)), 0.9999, np.arange(0, len(labels), 6))
    raw = -np.log(outputs[np.arange(len(labels)), labels]).mean()
    assert raw > row["probe_loss"] > row["probe_loss"] - row["loss_gain"]


def test_what_is_worse_is_dropped_and_the_probe_kept():
    trials, choice = told({"cheap": 0.9, "middle": 0.001, "dear": 0.001}, of_probe=0.12)
    assert ("middle", 1) not in trials.asked
    assert choice.plan is not None
    trials, choice = told({"cheap": 0.001, "middle": 0.9, "dear": 0.9})
    assert choice.plan is None


def with_errors(trials, name, share):
    """`trials` in which `name` is wrong about so large a share of the rows of each fold."""
    run = trials.run

    def told_so(candidate, fold):
        trial = run(candidate, fold)
        if candidate.name != name:
            return trial
        wrong = trial.rows[: round(share * len(trial.rows))]
        sure = trials._right[name]
        outputs = {one: trials._outputs(trial.rows, sure, wrong) for one in trial.outputs}
        return dataclasses.replace(trial, outputs=outputs)

    trials.run = told_so
    return trials


def augmented(errors, sure=0.9, minutes=None, folder=None, num_train=240):
    """What is chosen where `full` is right, and its augmented twin is wrong as often as said."""
    right = {"full": 0.95, "full, light augmentation": sure}
    trials = Told(task(num_train), right, 0.3, folder)
    with_errors(trials, "full, light augmentation", errors)
    search = Search(trials, minutes)
    plain, twin = candidates(*right)
    choice = search.best([plain])
    asked = list(trials.asked)
    chosen = search.augmented(choice, twin)
    assert [fold for _, fold in trials.asked[len(asked) :]] in ([], [fold for _, fold in asked])
    return choice, chosen, {row["name"]: row["fate"] for row in chosen.table}


def test_augmentation_that_is_asked_for_is_done_where_held_back_examples_do_not_object():
    plain, chosen, fates = augmented(errors=0.02)
    assert (plain.plan, chosen.plan) != (None, None)
    assert fates["full, light augmentation"] == "kept"
    assert fates["full"].startswith("full, light augmentation does as well: -")
    assert chosen.reason.startswith("full, light augmentation does better than the probe")
    assert chosen.reason.endswith("beside full.")
    (advice,) = chosen.notices
    assert "answered less well: -2.1 points" in advice and "--augment none" in advice


@pytest.mark.parametrize(
    "errors, sure, why", [(0.15, 0.9, "it harms"), (0.04, 0.52, "not better than the probe")]
)
def test_augmentation_that_harms_is_not_done(errors, sure, why):
    plain, chosen, fates = augmented(errors, sure)
    assert (chosen.plan, chosen.settings, chosen.reason) == (
        plain.plan,
        plain.settings,
        plain.reason,
    )
    assert fates["full"] == "kept"
    assert fates["full, light augmentation"].startswith(f"dropped: {why}, -")


def test_augmentation_without_time_is_left_and_said_to_be(tmp_path):
    plain, chosen, fates = augmented(errors=0.02, minutes=3.0, folder=tmp_path)
    assert chosen.plan == plain.plan
    assert fates == {"full": "kept", "full, light augmentation": "not tried: no time"}
    assert chosen.ended_by == "minutes"
    assert "left no time for full, light augmentation" in chosen.reason


def test_where_the_probe_is_kept_no_augmentation_is_tried():
    trials, choice = told({"full": 0.001})
    search = Search(trials)
    assert search.augmented(choice, *candidates("full, light augmentation")) is choice


@pytest.mark.parametrize("diverges", ["cheap", "dear"])
def test_one_whose_loss_is_no_number_is_dropped_and_the_others_go_on(diverges):
    trials = Told(task(), {"cheap": 0.9, "dear": 0.95}, 0.3, None)
    run = trials.run

    def diverging(candidate, fold):
        if candidate.name == diverges:
            raise FloatingPointError("The loss stopped being a number in epoch 1.")
        return run(candidate, fold)

    trials.run = diverging
    choice = Search(trials).best(candidates("cheap", "dear"))
    fates = {row["name"]: row["fate"] for row in choice.table}
    assert fates.pop(diverges) == "dropped: its loss stopped being a number"
    assert list(fates.values()) == ["kept"]
    with pytest.raises(FloatingPointError):
        Search(trials).one(*candidates(diverges))


def test_a_plan_says_what_was_tried_and_what_became_of_it():
    _, choice = told({"cheap": 0.9, "middle": 0.8, "dear": 0.95})
    plan = choice.said_in(choice.plan, Classification())
    assert plan.reason == choice.reason
    assert [line.split(":")[0] for line in plan.tried] == ["cheap", "middle", "dear"]
    assert plan.tried[1].endswith("dropped after 1 fold: dear saves more there")
    assert "points" in plan.tried[0] and "on 36 examples held back; loss -" in plan.tried[2]
    assert "seconds" not in "".join(plan.tried)  # so that equal runs have equal plans


def test_a_probe_with_hardly_an_error_is_kept_at_once():
    trials, choice = told({"cheap": 0.99}, of_probe=(LEAST - 1) / 60)
    assert trials.asked == []
    assert f"{LEAST - 1} of 60" in choice.reason


def test_minutes_end_the_comparison_and_a_later_process_ends_it_there_too(tmp_path):
    right = {"cheap": 0.9, "middle": 0.8, "dear": 0.95}
    trials, choice = told(right, folder=tmp_path, minutes=4.0)
    assert trials.asked == [("cheap", 0), ("middle", 0)]
    assert choice.ended_by == "minutes"
    assert "4 minutes" in choice.reason
    assert choice.plan is not None
    again, same = told(right, folder=tmp_path, minutes=1000.0)
    assert (again.asked, same.ended_by) == (trials.asked, "minutes")
    assert same.table == choice.table


@pytest.mark.parametrize(("num_train", "folds"), [(60, 5), (240, 3), (600, 1)])
def test_a_named_strategy_is_asked_on_as_many_folds_as_hold_a_hundred(num_train, folds):
    trials = Told(task(num_train), {"named": 0.9}, 0.3, None)
    choice = Search(trials).one(*candidates("named"))
    assert trials.asked == [("named", fold) for fold in range(folds)]
    assert choice.plan is not None


def test_what_was_never_tried_takes_as_long_as_the_dearest_that_was(tmp_path):
    """60 of 126 seconds are gone, and one fold of another and a training take 2.25 times 60."""
    trials, choice = told({"cheap": 0.9, "dear": 0.95}, folder=tmp_path, minutes=2.1)
    assert trials.asked == [("cheap", 0)]
    assert choice.table[1]["fate"] == "not tried: no time"


def test_what_the_minutes_ended_must_be_plainly_better(tmp_path):
    """Better by more than one standard error, and by less than two."""
    _, choice = told({"cheap": 0.59}, folder=tmp_path, minutes=2.1)
    (row,) = choice.table
    assert row["loss_gain_error"] < row["loss_gain"] < 2 * row["loss_gain_error"]
    assert (choice.plan, choice.ended_by) == (None, "minutes")


# On a small network.


def test_the_probe_alone_is_the_solved_head_and_trains_nothing(tmp_path):
    data = task()
    model, found = learnt(data, tmp_path, strategy="probe")
    expected = built(data)
    training.solve(expected, data, settings(strategy="probe"))
    assert equal(model, expected)
    assert found.plan == strategies.probe(model.groups)
    said = found.side_by_side()
    assert (said["kept"], said["trained"], said["difference"]) == ("probe", None, None)
    score = Classification().score(found.solved.probe.out_of_fold, data.train.targets)
    assert said["probe"]["out_of_fold"]["score"] == score


def test_auto_without_time_for_more_is_the_probe(tmp_path):
    data = task()
    model, found = learnt(data, tmp_path / "auto", strategy="auto", minutes=0.001)
    probe, _ = learnt(data, tmp_path / "probe", strategy="probe")
    assert equal(model, probe)
    assert found.choice.ended_by == "minutes"
    assert "ended the comparison" in found.notices[0]
    assert found.choice.reason.startswith("Nothing was tried.")
    assert found.choice.table[0]["fate"] == "not tried: no time"


def test_auto_trains_the_winner_on_everything_and_says_what_was_tried(tmp_path, monkeypatch):
    monkeypatch.setattr("kerastl.recipes.standing.WORTH", -10.0)
    monkeypatch.setattr("kerastl.recipes.standing.FURTHER", -10.0)
    monkeypatch.setattr("kerastl.recipes.learn.CANDIDATES", {"partial": 1.0, "full": 1.0})
    data = task()
    model, found = learnt(data, tmp_path, strategy="auto", learning_rate=0.03)
    assert found.outputs is not None
    plan = found.plan
    assert (plan.start, plan.reason) == ("probe", found.choice.reason)
    by_hand = built(data)
    own = settings(strategy=plan.name, learning_rate=0.03)
    training.solve(by_hand, data, own)
    keras.utils.set_random_seed(0)
    training.train(by_hand, data, own, plan)
    assert equal(model, by_hand)
    said = found.side_by_side()
    assert said["kept"] == "trained"
    assert said["difference"]["num_examples"] == len(data.test)
    json.dumps(said)
    kept = [row for row in said["choice"]["tried"] if row["fate"] == "kept"]
    told = [(row["name"], row["wise_ft"], row["temperature"]) for row in kept]
    assert told == [(plan.name, plan.wise_ft, plan.temperature)]


@pytest.mark.slow
def test_the_winner_trains_with_the_augmentation_that_was_asked_for(tmp_path, monkeypatch):
    _let_all_pass(monkeypatch)
    monkeypatch.setattr("kerastl.recipes.learn.CANDIDATES", {"full": 1.0})
    monkeypatch.setattr(Standing, "is_better", True)
    data = task()
    model, found = learnt(data, tmp_path, strategy="auto", augment="light")
    assert [row["name"] for row in found.choice.table] == ["full", "full, light augmentation"]
    assert found.choice.table[1]["fate"] == "kept"
    by_hand = built(data)
    own = settings(strategy="full", augment="light")
    training.solve(
        by_hand, data, own, augmented_copies=training.views_of(settings(augment="light"))
    )
    keras.utils.set_random_seed(0)
    training.train(by_hand, data, own, found.plan)
    assert equal(model, by_hand)


class Stopped(Silent):
    """Stops the run, as Ctrl-C does, when so many epochs of trials or training were counted."""

    def __init__(self, after):
        self.left = after

    def stage(self, name, total=None):
        self.counts = "Trying" in name or "Training" in name

    def count(self, done, total):
        if not self.counts:
            return
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def callbacks(self):
        return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.count(0, 0))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two strategies on two folds, never stopped, and its data."""
    data = task()
    with pytest.MonkeyPatch.context() as patch:
        _let_all_pass(patch)
        model, found = learnt(data, tmp_path_factory.mktemp("whole"), strategy="auto")
    return data, model, found


def _let_all_pass(patch):
    patch.setattr("kerastl.recipes.standing.WORTH", -10.0)
    patch.setattr("kerastl.recipes.standing.FURTHER", -10.0)
    patch.setattr("kerastl.recipes.search.ROUNDS", ((0,), (1,)))
    patch.setattr("kerastl.recipes.learn.CANDIDATES", {"partial": 1.0, "full": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 5, 7])
def test_a_run_stopped_in_any_stage_goes_on_to_the_same_end(after, whole, tmp_path, monkeypatch):
    _let_all_pass(monkeypatch)
    data, model, found = whole
    with pytest.raises(KeyboardInterrupt):
        learnt(data, tmp_path, Stopped(after), strategy="auto")
    resumed, again = learnt(data, tmp_path, strategy="auto")
    assert equal(resumed, model)
    timeless = [
        [{k: v for k, v in row.items() if "seconds" not in k} for row in said.choice.table]
        for said in (found, again)
    ]
    assert timeless[0] == timeless[1]
    np.testing.assert_array_equal(again.outputs, found.outputs)


def test_trials_of_other_examples_are_made_again(tmp_path):
    """The pictures at DATA may have changed since the run was killed: labels, here."""
    data = task()
    own = settings(strategy="head")

    def tried(labels):
        changed = PictureExamples(data.train.inputs(), labels, 2)
        one = dataclasses.replace(data, train=changed)
        trials = Trials(solved(one, own), tmp_path / "trials", Silent())
        candidate = Candidate("head", training.plan_for(trials.model, one, own), own, (1.0,))
        return trials.are_done(candidate, [0]), trials.run(candidate, 0).outputs[1.0]

    labels = data.train.targets
    done, first = tried(labels)
    assert not done
    done, again = tried(labels)
    assert done
    np.testing.assert_array_equal(again, first)
    done, other = tried(1 - labels)
    assert not done
    assert np.abs(other - first).max() > 1e-3


def test_where_the_probe_is_kept_the_plan_says_why_and_no_optimizer_is_left(tmp_path):
    data = task()
    harmful = {"strategy": "full", "learning_rate": 30.0, "averaging": 0.0}
    model, found = learnt(data, tmp_path, **harmful)
    assert found.plan.reason == found.choice.reason != ""
    assert found.plan.start == "probe" and not found.plan.phases
    assert not model.compiled and model.optimizer is None
    model.save(tmp_path / "kept.keras")
    loaded = keras.models.load_model(tmp_path / "kept.keras")
    assert equal(loaded, model)


@pytest.mark.slow_but("40")
@pytest.mark.parametrize("num_val", [0, 40])
def test_a_named_strategy_that_harms_is_not_kept_unless_asked_for(num_val, tmp_path):
    data = task(num_val=num_val)
    harmful = {"strategy": "full", "learning_rate": 30.0, "averaging": 0.0}
    model, found = learnt(data, tmp_path / "best", **harmful)
    probe, _ = learnt(data, tmp_path / "probe", strategy="probe")
    assert equal(model, probe)
    said = found.side_by_side()
    assert said["kept"] == "probe"
    assert (said["trained"] is None) == (not num_val)  # with val/ all were trained on
    assert (said["difference"] is None) == (not num_val)
    assert len(found.choice.table) == 1
    model, found = learnt(data, tmp_path / "last", keep="last", **harmful)
    assert not equal(model, probe)
    assert (found.choice, found.side_by_side()["kept"]) == (None, "trained")


def test_what_is_kept_on_validation_is_made_as_sure_as_it_is_right(tmp_path, monkeypatch):
    monkeypatch.setattr("kerastl.recipes.standing.best_temperature", lambda *given: 2.0)
    monkeypatch.setattr(Standing, "is_better", True)
    data = task(num_val=40)
    model, found = learnt(data, tmp_path / "best", strategy="full")
    plain, _ = learnt(data, tmp_path / "last", strategy="full", keep="last")
    assert (found.kept, found.plan.temperature) == ("trained", 2.0)
    assert found.plan.reason == found.choice.reason
    *below, kernel, bias = model.get_weights()
    *expected, whole, offset = plain.get_weights()
    np.testing.assert_allclose([*kernel, bias], [*whole / 2, offset / 2], rtol=1e-6)
    for mine, theirs in zip(below, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(
        found.outputs, data.objective.outputs_of(model, data.test), atol=1e-6
    )


def test_a_head_from_zero_has_the_probe_beside_it_and_starts_at_zero(tmp_path):
    data = task()
    given = {"strategy": "full", "start": "zero", "keep": "last"}
    model, found = learnt(data, tmp_path, **given)
    by_hand = built(data)
    keras.utils.set_random_seed(0)
    own = settings(**given)
    training.train(by_hand, data, own, training.plan_for(by_hand, data, own))
    assert equal(model, by_hand)
    assert found.plan.start == "as_is"
    assert found.side_by_side()["difference"] is not None


# Features of some rows are those of all.


def test_folds_share_the_features_of_all_rows(tmp_path, monkeypatch):
    from kerastl.training.frozen import frozen_part

    data = task()
    own = settings(strategy="head")
    first = solved(data, own)
    model, probe = first.model, first.probe
    rows_computed = []
    compute = frozen_part.FrozenPart.__call__

    def counted(part, inputs):
        rows_computed.append(len(inputs))
        return compute(part, inputs)

    monkeypatch.setattr(frozen_part.FrozenPart, "__call__", counted)
    trials = Trials(first, tmp_path, Silent())
    candidate = Candidate("head", training.plan_for(model, data, own), own, (1.0,))
    shared = [trials.run(candidate, fold) for fold in (0, 1)]
    assert sum(rows_computed) <= 8  # no more than the look at whether rows are mixed
    alone = dataclasses.replace(data, train=data.train.at(np.flatnonzero(probe.folds != 0)))
    by_hand = built(data)
    from kerastl.training.probe import head_of

    head_of(by_hand).set(probe.by_fold[0])
    by_hand.fit_state.probe = probe
    keras.utils.set_random_seed(0)
    training.train(by_hand, alone, own, candidate.plan)
    held = data.train.at(np.flatnonzero(probe.folds == 0))
    expected = data.objective.outputs_of(by_hand, held)
    np.testing.assert_allclose(shared[0].outputs[1.0], expected, atol=1e-5)


def test_a_head_solved_again_on_some_rows_reads_the_features_that_are_there(monkeypatch):
    from kerastl.training.frozen import frozen_part

    data, own = task(), settings(strategy="probe")
    first = solved(data, own)
    part = dataclasses.replace(data, train=data.train.at(np.arange(30)))
    rows_computed = []
    compute = frozen_part.FrozenPart.__call__

    def counted(part, inputs):
        rows_computed.append(len(inputs))
        return compute(part, inputs)

    monkeypatch.setattr(frozen_part.FrozenPart, "__call__", counted)
    again = training.solve(first.model, part, own, shared=True)
    assert sum(rows_computed) <= 8  # no more than the look at whether rows are mixed
    alone = training.solve(built(data), part, own)
    assert sum(rows_computed) >= 30
    np.testing.assert_allclose(again.out_of_fold, alone.out_of_fold, atol=1e-5)


def test_a_trial_starts_where_the_regression_of_its_fold_ended(tmp_path):
    data = task()
    first = solved(data, settings(strategy="probe"))
    model, probe = first.model, first.probe
    trials = Trials(first, tmp_path, Silent())
    still = settings(strategy="full", learning_rate=1e-4, averaging=0.0, weight_decay=0.0)
    plan = training.plan_for(model, data, still)
    trial = trials.run(Candidate("still", plan, still), 2)
    for outputs in trial.outputs.values():
        np.testing.assert_allclose(outputs, probe.out_of_fold[trial.rows], atol=2e-3)
    trials.restore()
    expected = built(data)
    training.solve(expected, data, settings(strategy="probe"))
    assert equal(model, expected)


def test_a_trial_of_a_head_from_zero_starts_at_zero(tmp_path):
    data = task()
    first = solved(data, settings(strategy="probe"))
    model = first.model
    trials = Trials(first, tmp_path, Silent())
    still = settings(strategy="full", start="zero", learning_rate=1e-4, averaging=0.0)
    trial = trials.run(Candidate("zero", training.plan_for(model, data, still), still, (1.0,)), 0)
    np.testing.assert_allclose(trial.outputs[1.0], 0.5, atol=2e-2)


def test_val_is_asked_of_one_training_alone(tmp_path, monkeypatch):
    data, trained = task(num_val=40), []
    fit = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: trained.append(1) or fit(*a, **k))
    monkeypatch.setattr("kerastl.recipes.standing.FURTHER", -1000.0)
    _, found = learnt(data, tmp_path, strategy="head")
    assert len(trained) == 1
    assert found.choice.table[0]["difference"]["num_examples"] == 40


def test_a_resumed_trial_leaves_no_checkpoints(tmp_path):
    data = task()
    own = settings(strategy="head")
    start = solved(data, own)
    trials = Trials(start, tmp_path, Silent())
    candidate = Candidate("head", training.plan_for(start.model, data, own), own, (1.0,))
    first = trials.run(candidate, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "examples",
        "head-0.json",
        "head-0.npz",
    ]
    later = Trials(start, tmp_path, Silent())
    assert later.are_done(candidate, (0,)) and not later.are_done(candidate, (0, 1))
    np.testing.assert_array_equal(later.run(candidate, 0).outputs[1.0], first.outputs[1.0])
    assert later.earlier > 0

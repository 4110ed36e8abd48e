"""Plans are plain data: checked, equal when equal, the same after JSON, readable as a table."""

import copy
import dataclasses
import json
import os
import pickle

import keras
import pytest

from kerastl.graph import layer_groups
from kerastl.plans import EarlyStop, Phase, TransferPlan
from kerastl.schedules import Exponential, OneCycle, SlantedTriangular, WarmupCosine

GROUPS = ["stem", "low", "high", "head"]


def plan_of_everything():
    """A plan in which every field of a phase is used."""
    return TransferPlan(
        [
            Phase(1, "head", name="probe", learning_rate=2e-3, weight_decay=0.0,
                  schedule=OneCycle(warmup=0.99)),
            Phase(4, 2, learning_rate=1e-3, multipliers={"high": 0.1}, weight_decay=0.05,
                  batch_norm="train", early_stop=EarlyStop("val_accuracy", patience=5)),
            Phase(2, "all", name="all", learning_rate=1e-4, weight_decay=0.05,
                  multipliers={"stem": 0.3, "low": 0.5}, batch_norm="frozen",
                  schedule=Exponential(1.0, 0.1)),
        ],
        name="everything",
        reason="To try each field.",
    )  # fmt: skip


def test_phases_lie_one_after_the_other():
    plan = plan_of_everything()
    assert plan.epochs == 7
    assert plan.starts == (0, 1, 5)
    assert [plan.phases.index(plan.phase_at(epoch)) for epoch in range(7)] == [0, 1, 1, 1, 1, 2, 2]
    for epoch in (-1, 7, 1.0, True):
        with pytest.raises(ValueError, match=r"\[0, 6\]"):
            plan.phase_at(epoch)


def test_resolved_by_hand():
    first, second, third = plan_of_everything().resolve(GROUPS).phases
    assert (first.index, first.start, first.training) == (0, 0, ("head",))
    assert first.multipliers == {"stem": 1, "low": 1, "high": 1, "head": 1}
    assert first.rates == {"head": 2e-3}
    assert (second.start, second.training) == (1, ("high", "head"))
    assert second.multipliers == {"stem": 1, "low": 1, "high": 0.1, "head": 1}
    assert second.rates == {"high": 1e-3 * 0.1, "head": 1e-3}
    assert (third.start, third.training) == (5, tuple(GROUPS))
    assert list(third.multipliers.items()) == [
        ("stem", 0.3),
        ("low", 0.5),
        ("high", 1),
        ("head", 1),
    ]


def test_what_trains_is_told_in_model_order_whatever_the_order_given():
    plan = TransferPlan([Phase(1, ["head", "stem"])])
    assert plan.resolve(GROUPS).phases[0].training == ("stem", "head")
    assert TransferPlan([Phase(1, "low")]).resolve(GROUPS).ever_training == ("low",)


def test_thaws_name_each_group_once_and_from_the_head_down():
    plan = TransferPlan([Phase(1, "head"), Phase(2, "low"), Phase(2, 3), Phase(1, "all")])
    assert plan.resolve(GROUPS).thaws == {0: ["head"], 1: ["low"], 3: ["high"], 5: ["stem"]}


def test_layer_groups_of_a_model_do_as_well_as_names():
    model = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=2
    )
    groups = layer_groups(model)
    plan = TransferPlan([Phase(1, 3)])
    assert plan.resolve(groups) == plan.resolve(groups.names)
    assert plan.resolve(groups).phases[0].training == groups.names[-3:]


def test_plans_are_equal_when_equal_and_cannot_be_changed():
    plan, same = plan_of_everything(), plan_of_everything()
    assert plan == same
    assert hash(plan) == hash(same)
    assert plan != dataclasses.replace(plan, name="other")
    assert Phase(1, ["head"]) == Phase(1, "head") != Phase(1, 1)
    assert pickle.loads(pickle.dumps(plan)) == copy.deepcopy(plan) == plan
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.phases[0].epochs = 2
    for change in (
        lambda multipliers: multipliers.update(stem=1.0),
        lambda multipliers: multipliers.__setitem__("stem", 1.0),
        lambda multipliers: multipliers.__ior__({"stem": 1.0}),
        lambda multipliers: multipliers.pop("stem"),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change(plan.phases[2].multipliers)
    mine = {"head": 1.0}
    phase = Phase(1, "head", multipliers=mine)
    mine["head"] = 2.0
    assert phase.multipliers == {"head": 1.0}


@pytest.mark.parametrize(
    "plan",
    [
        plan_of_everything(),
        TransferPlan([Phase(1, "head")]),
        TransferPlan([Phase(3, ("low", "head"))], schedule=SlantedTriangular(ratio=10.0)),
        TransferPlan([Phase(1, 1, learning_rate=1 / 3, multipliers={"head": 1 / 7})]),
        TransferPlan([Phase(1, "head")], wise_ft=0.5, temperature=2.0, tried=["full: -1 point"]),
    ],
    ids=["everything", "least", "one schedule", "thirds", "chosen"],
)
def test_json_round_trip(plan, tmp_path):
    assert TransferPlan.from_json(plan.to_json()) == plan
    path = tmp_path / "plan.json"
    plan.save(path)
    assert TransferPlan.load(path) == plan
    assert json.loads(path.read_text())["version"] == 1


def edited(**changes):
    """The JSON of a plan with keys changed; a key may name one of the first phase or below it."""
    config = json.loads(plan_of_everything().to_json())
    for key, value in changes.items():
        where = config
        *outer, last = key.split("__")
        for part in outer:
            where = where["phases"][1] if part == "phase" else where[part]
        where[last] = value
    return json.dumps(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (edited(version=2), r"must be 1\. Received: version=2"),
        (edited(epoch=3), r"the plan must hold known keys only.*'epoch'"),
        (edited(phase__trian="head"), r"phases\[1\] must hold.*'trian'\. Closest: 'train'"),
        (edited(phase__early_stop__patients=2), r"`early_stop` of phases\[1\].*'patience'"),
        (edited(phase__epochs=0), r"phases\[1\]: `epochs` must be an int"),
        (edited(phase__schedule={"name": "OneCycel"}), r"phases\[1\]: .*Closest: 'OneCycle'"),
        (edited(phase__schedule={"name": "OneCycle", "x": 1}), r"`schedule` of phases\[1\]"),
        (edited(phases=[{"train": "head"}]), r"phases\[0\] must say.*Missing: \['epochs'\]"),
        (edited(phases=[3]), r"phases\[0\] must be an object"),
        ("[]", "must be an object with `version` and `phases`"),
        ('{"layers": 3}', "must be an object with `version` and `phases`"),
        ("{", "must be JSON text"),
    ],
)
def test_json_that_is_not_understood_is_refused(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TransferPlan.from_json(text)
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"old\.json: "):
        TransferPlan.load(path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    plan = plan_of_everything()
    plan.save(path)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        TransferPlan([Phase(1, "head")]).save(path)
    assert os.listdir(tmp_path) == ["plan.json"]
    assert TransferPlan.load(path) == plan


def test_the_table_says_it_all():
    text = str(plan_of_everything().resolve(GROUPS))
    rows = {line[:12].strip(): line[12:].split() for line in text.splitlines()[2:] if line}
    assert text.startswith("TransferPlan 'everything': 3 phases, 7 epochs\nTo try each field.\n")
    # The third column does not fit beside the others, so that it stands below them.
    blocks = text.split("\n\n")
    assert len(blocks) == 2
    first = {line[:12].strip(): line[12:].split() for line in blocks[0].splitlines()[2:]}
    assert first == {
        "": ["probe", "phase", "2"],
        "epochs": ["1", "4"],
        "schedule": ["OneCycle(warmup=0.99)", "-"],
        "weight decay": ["0", "0.05"],
        "batch norm": ["inference", "train"],
        "early stop": ["-", "EarlyStop(monitor='val_accuracy',", "patience=5)"],
        "stem": ["·", "·"],
        "low": ["·", "·"],
        "high": ["·", "0.0001"],
        "head": ["0.002", "0.001"],
    }
    assert rows["schedule"] == ["Exponential(start=1,", "end=0.1)"]
    assert [rows[name] for name in GROUPS] == [["3e-05"], ["5e-05"], ["0.0001"], ["0.0001"]]
    assert max(map(len, text.splitlines())) <= 100


def test_the_table_says_what_else_was_tried():
    plan = TransferPlan([Phase(1, "head")], reason="It won.", tried=("full: lost", "head: won"))
    assert str(plan.resolve(GROUPS)).splitlines()[1:4] == [
        "It won.",
        "tried: full: lost",
        "tried: head: won",
    ]


def test_the_table_of_an_unresolved_plan_knows_only_what_is_named():
    plan = TransferPlan([Phase(1, "head"), Phase(2, 2, multipliers={"high": 0.1}), Phase(1, "all")])
    *rows, footnote = str(plan).splitlines()[1:]
    assert footnote.startswith("? if among the groups nearest the head")
    assert [row.split() for row in rows] == [
        ["phase", "1", "phase", "2", "phase", "3"],
        ["epochs", "1", "2", "1"],
        ["train", "head", "top", "2", "all"],
        ["batch", "norm", "inference", "inference", "inference"],
        ["head", "×1", "×1?", "×1"],
        ["high", "·", "×0.1?", "×1"],
        ["others", "·", "×1?", "×1"],
    ]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Phase(0, "head"), ValueError, r"`epochs` must be an int in \[1"),
        (lambda: Phase(1.5, "head"), ValueError, "Received: epochs=1.5"),
        (lambda: Phase(1, 0), ValueError, "Received: train=0"),
        (lambda: Phase(1, []), TypeError, r"Received: train=\[\]"),
        (lambda: Phase(1, None), TypeError, "Received: train=None"),
        (lambda: Phase(1, ["a", "a"]), ValueError, "each group once"),
        (lambda: Phase(1, "a", learning_rate=0), ValueError, "learning_rate=0"),
        (lambda: Phase(1, "a", learning_rate=float("nan")), ValueError, "learning_rate=nan"),
        (lambda: Phase(1, "a", multipliers={"a": -1}), ValueError, r"\{'a': -1\}"),
        (lambda: Phase(1, "a", multipliers={"a": 0.0}), ValueError, "leave it out of `train`"),
        (lambda: Phase(1, "a", multipliers=["a"]), TypeError, "must be a dict"),
        (lambda: Phase(1, "a", weight_decay=-0.1), ValueError, "weight_decay=-0.1"),
        (lambda: Phase(1, "a", batch_norm="traen"), ValueError, "Closest: 'train'"),
        (lambda: Phase(1, "a", schedule=OneCycle), TypeError, r"such as OneCycle\(\)"),
        (lambda: Phase(1, "a", schedule=lambda step: 1.0), TypeError, "kerastl.schedules"),
        (lambda: Phase(1, "a", early_stop=3), TypeError, "early_stop=3"),
        (lambda: EarlyStop(patience=-1), ValueError, "patience=-1"),
        (lambda: EarlyStop(mode="up"), ValueError, "auto, min, max"),
        (lambda: TransferPlan([]), TypeError, "at least one"),
        (lambda: TransferPlan(Phase(1, "a")), TypeError, "sequence"),
        (lambda: TransferPlan([Phase(1, "a")], tried="full"), TypeError, "`tried` must be"),
        (lambda: TransferPlan([Phase(1, "a")], tried=[1]), TypeError, "`tried` must be"),
        (
            lambda: TransferPlan([Phase(1, "a"), Phase(1, 2, name="two", learning_rate=0.1)]),
            ValueError,
            r"learning_rate=None in phases\[0\], learning_rate=0.1 in phases\[1\] \('two'\)",
        ),
        (
            lambda: TransferPlan([Phase(1, "a", weight_decay=0.1), Phase(1, 2)]),
            ValueError,
            "`weight_decay`",
        ),
        (
            lambda: TransferPlan([Phase(1, "a", schedule=OneCycle())], schedule=WarmupCosine()),
            ValueError,
            r"Either the plan has one `schedule`.*phases\[0\]",
        ),
        (
            lambda: TransferPlan([Phase(1, "a", early_stop=EarlyStop())], schedule=WarmupCosine()),
            ValueError,
            "known length",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (Phase(1, "haed", name="top"), r"phases\[1\] \('top'\): `train`.*Closest: 'head'"),
        (Phase(1, 5), r"phases\[1\]: `train` must be an int in \[1, 4\].*stem, low, high, head"),
        (Phase(1, 2, multipliers={"hihg": 1}), r"phases\[1\]: `multipliers`.*Closest: 'high'"),
        (Phase(1, 2, multipliers={"stem": 1}), "'stem', which never does"),
    ],
)
def test_a_plan_that_does_not_fit_the_groups_is_refused_by_phase(phase, message):
    with pytest.raises(ValueError, match=message):
        TransferPlan([Phase(1, "head"), phase]).resolve(GROUPS)


def test_a_multiplier_may_be_given_before_its_group_thaws():
    plan = TransferPlan([Phase(1, "head", multipliers={"high": 0.5}), Phase(1, 2)])
    assert plan.resolve(GROUPS).phases[0].training == ("head",)


@pytest.mark.parametrize("groups", [[], "head", ["a", "a"]])
def test_groups_must_be_names(groups):
    with pytest.raises(ValueError, match="distinct group names"):
        TransferPlan([Phase(1, 1)]).resolve(groups)

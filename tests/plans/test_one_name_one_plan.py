"""What the README, `tune`, `compare`, `recommend` and Python call the same is the same plan."""

import ast
import dataclasses
import inspect
import pathlib
import re

import pytest

import kerastl
from kerastl.plans import join_thaws, strategies
from kerastl.recipes import compare_worker, fine_tune, learn
from kerastl.tasks.settings import STARTS
from kerastl_cli.main import cli
from tests.recipes.test_tune import write_pictures

GROUPS = ["stem", "low", "mid", "high", "head"]
# Without averages, so that the rate has the schedule of the plan.
SETTINGS = {"backbone": "glyphnet", "epochs": 4, "batch_size": 32, "learning_rate": 0.02}
SETTINGS |= {"averaging": 0, "augment": "none"}


class Planned(Exception):
    """Ends a run as soon as it has its plan."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("plans") / "data", classes=2, each=6)


@pytest.fixture
def planned(monkeypatch):
    """Dict that holds `plan`, `groups` and `work` of the run that was stopped at its plan."""
    found = {}
    by_name = strategies.by_name

    def stop(name, groups, **settings):
        if isinstance(groups, tuple):  # settings that ask whether there is such a plan at all
            return by_name(name, groups, **settings)
        found.update(plan=by_name(name, groups, **settings), groups=list(groups.names))
        found.update(work=settings["work"])
        raise Planned

    monkeypatch.setattr(strategies, "by_name", stop)
    return found


def in_python(name, groups, start="as_is", epochs=4):
    """The plan of the function called `name`."""
    settings = {"epochs": epochs, "learning_rate": 0.02}
    if name in strategies.PLAIN:
        return getattr(strategies, name)(groups, start=start, **settings)
    # The papers' own train the head alone however it starts.
    return dataclasses.replace(getattr(strategies, name)(groups, **settings), start=start)


def joined(plan, planned):
    """`plan` as these pictures have it: they are so few that thaws are joined."""
    return join_thaws(plan, planned["groups"], planned["work"])


@pytest.mark.parametrize("start", ["as_is", "probe"])
@pytest.mark.parametrize("name", strategies.NAMES)
def test_a_name_is_the_function_of_that_name(name, start):
    plan = strategies.by_name(name, GROUPS, epochs=4, learning_rate=0.02, start=start)
    assert plan == in_python(name, GROUPS, start)
    assert plan.name == name and plan.start == start
    if name in strategies.PLAIN:
        assert strategies.by_name(name, GROUPS, epochs=4) == getattr(strategies, name)(
            GROUPS, epochs=4
        )


def test_every_public_function_names_its_plan():
    functions = {
        name: function
        for name in strategies.__all__
        if inspect.isfunction(function := getattr(strategies, name)) and name != "by_name"
    }
    assert set(functions) == {*strategies.NAMES, "probe", "ulmfit"}
    assert functions.pop("probe")(GROUPS).name == "probe"
    for name, function in functions.items():
        assert function(GROUPS, epochs=4, learning_rate=0.02).name == name


@pytest.mark.slow_but("head-probe", "gradual-probe", "lora-probe", "gradual-zero")
# Each name once, and one more from a head at zero.
@pytest.mark.parametrize(
    ("name", "start"), [*((name, "probe") for name in strategies.NAMES), ("gradual", "zero")]
)
def test_tune_and_compare(name, start, pictures, planned, tmp_path):
    settings = {**SETTINGS, "strategy": name, "start": start}
    with pytest.raises(Planned):
        fine_tune(pictures, tmp_path / "run", **settings)
    tuned = dict(planned)
    planned.clear()
    with pytest.raises(Planned):
        compare_worker.run({"data": str(pictures), "settings": settings, "seeds": 1}, print)
    assert tuned == planned
    # Of pairs an epoch has ten steps at least, and these pictures make one batch.
    expected = in_python(name, tuned["groups"], STARTS[start], 40 if name == "few_shot" else 4)
    assert tuned["plan"] == joined(expected, tuned)


@pytest.mark.parametrize("name", learn.CANDIDATES)
def test_what_auto_tries(name, pictures, planned, tmp_path, monkeypatch):
    """Its candidates are the plans of these names, on the examples as they are."""
    monkeypatch.setattr(learn, "CANDIDATES", {name: learn.CANDIDATES[name]})
    with pytest.raises(Planned):
        fine_tune(pictures, tmp_path / "run", **SETTINGS)
    epochs = 2 if name == "partial" else 4  # it is as good after half of them
    expected = in_python(name, planned["groups"], "probe", epochs)
    assert planned["plan"] == joined(expected, planned) and planned["work"].copies == 1


@pytest.mark.parametrize("start, schedule", [("probe", strategies.WARMUP), ("zero", None)])
def test_averages_replace_the_schedule_and_nothing_else(
    start, schedule, pictures, planned, tmp_path
):
    settings = {**SETTINGS, "averaging": 0.2, "strategy": "full", "start": start}
    with pytest.raises(Planned):
        fine_tune(pictures, tmp_path / "run", **settings)
    plain = joined(in_python("full", planned["groups"], STARTS[start]), planned)
    assert planned["plan"] == dataclasses.replace(plain, schedule=schedule)


@pytest.mark.parametrize(
    ("name", "num_examples"), [("head", 99), ("partial", 2_000), ("full", 20_000)]
)
def test_recommend(name, num_examples):
    settings = {"epochs": 4, "learning_rate": 0.02}
    plan = kerastl.recommend(GROUPS, num_examples=num_examples, num_classes=3, **settings)
    assert dataclasses.replace(plan, reason="") == in_python(name, GROUPS)


def test_readme():
    """Its calls name functions of `strategies`, and give what `by_name` does with the same."""
    text = pathlib.Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"strategies\.(\w+)", text))
    assert names and names <= set(strategies.__all__)
    calls = re.findall(r"strategies\.(\w+)\(\s*model\.groups,(.*?)\)", text, re.DOTALL)
    assert calls
    for name, said in calls:
        keywords = ast.parse(f"f({said})", mode="eval").body.keywords
        settings = {word.arg: ast.literal_eval(word.value) for word in keywords}
        plan = getattr(strategies, name)(GROUPS, **settings)
        assert plan == strategies.by_name(name, GROUPS, **settings)


def test_the_command_line():
    (option,) = (one for one in cli.commands["tune"].params if one.name == "strategy")
    assert tuple(option.type.choices) == ("auto", "probe", *strategies.NAMES)

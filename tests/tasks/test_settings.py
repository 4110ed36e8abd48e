"""Settings are stated once: checked, equal when equal, read by the command line as they stand."""

import dataclasses
import subprocess
import sys

import click
import pytest

from kerastl.tasks import settings
from kerastl_cli.main import cli

CLASSES = {
    "tune": settings.TuneSettings,
    "lr-find": settings.LRFindSettings,
    "compare": settings.CompareSettings,
    "compress": settings.CompressSettings,
    "export": settings.ExportSettings,
}


WITHOUT = {
    "lr-find": ("epochs", "learning_rate", "averaging", "augmented_copies", "validation", "metric"),
}


@pytest.mark.parametrize("verb", CLASSES)
def test_every_setting_is_an_option_with_its_default_and_help(verb):
    options = {option.name: option for option in cli.commands[verb].params}
    for field in dataclasses.fields(CLASSES[verb]):
        if field.name in WITHOUT.get(verb, ()):
            assert field.name not in options
            continue
        option = options[field.name]
        assert option.help == field.metadata["help"]
        unsaid = option.get_default(click.Context(cli.commands[verb]))
        assert (False if option.is_flag else unsaid) == field.default
        if field.metadata["choices"]:
            assert isinstance(option.type, click.Choice)
            assert list(option.type.choices) == list(field.metadata["choices"])


@pytest.mark.parametrize("cls", CLASSES.values())
def test_every_setting_is_described(cls):
    said = " ".join(one.__doc__ for one in cls.__mro__ if one is not object)
    for field in dataclasses.fields(cls):
        assert f"{field.name}: " in said, field.name


def test_plain_equal_data():
    assert settings.TuneSettings(epochs=3) == settings.TuneSettings(epochs=3)
    assert settings.TuneSettings(epochs=3) != settings.TuneSettings(epochs=4)
    assert settings.TuneSettings(**settings.TuneSettings().to_dict()) == settings.TuneSettings()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, r"`epochs` must be an int in \[1, 100000\]. Received: epochs=0"),
        ({"epochs": 2.5}, "epochs=2.5"),
        ({"validation": 0.6}, r"`validation` must be a share in \[0.0, 0.5\]"),
        ({"augment": "ligth"}, "Closest: 'light'"),
        ({"image_size": 0}, "image_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"minutes": 0}, r"`minutes` must be minutes in \[0.001, 100000.0\]. Received: minutes=0"),
        ({"minutes": 2e5}, "minutes=200000.0"),
        ({"keep": "first"}, "best, last.* keep='first'"),
        ({"start": "zeros"}, "Closest: 'zero'"),
        ({"keep": "last"}, "for a strategy that is named; 'auto' keeps what did best"),
        ({"start": "zero"}, "'auto' starts from the probe. Received: start='zero'. Name a"),
        ({"start": "zero", "strategy": "probe"}, "'probe' starts from the probe"),
        ({"minutes": 3.0, "strategy": "full"}, "for the strategy 'auto'.* minutes=3.0"),
    ],
)
def test_wrong_values_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        settings.TuneSettings(**given)


def test_a_length_that_leaves_no_room_is_refused_and_help_says_so():
    with pytest.raises(ValueError, match=r"`length` must be an int in \[4, "):
        settings.ExportSettings(length=3)
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(CLASSES["export"])}
    assert "4 or more" in helps["length"]
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(CLASSES["tune"])}
    assert "language model, which has no new head, 0.0002" in helps["learning_rate"]


def test_unknown_and_doubled_settings_are_refused():
    with pytest.raises(TypeError, match=r"no setting 'epoch'. Closest: 'epochs'"):
        settings.TuneSettings.of(None, {"epoch": 3})
    with pytest.raises(ValueError, match="either `settings` or options"):
        settings.TuneSettings.of(settings.TuneSettings(), {"epochs": 3})


@pytest.mark.parametrize("names", ["head,head", "", "heads"])
def test_strategies_to_compare(names):
    with pytest.raises(ValueError, match=r"none twice|Closest: 'head'"):
        settings.CompareSettings(strategies=names)
    given = settings.CompareSettings(strategies=("head", "full"), epochs=4, augment="medium")
    one = given.for_strategy("full")
    assert (one.strategy, one.epochs, one.export, one.augment) == ("full", 4, "none", "medium")


def test_they_are_read_without_tensorflow():
    program = (
        "from kerastl_cli.options import settings; import sys; settings.TuneSettings; "
        "print('tensorflow' in sys.modules or 'kerastl' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (settings.TuneSettings, {"strategy": "lp_ft", "epochs": 1}),
        (settings.TuneSettings, {"strategy": "fastai", "epochs": 1}),
        (settings.CompareSettings, {"strategies": "head,lp_ft", "epochs": 1}),
        (settings.LRFindSettings, {"steps": 19}),
    ],
)
def test_settings_that_nothing_can_follow_are_refused_at_once(cls, given):
    with pytest.raises(ValueError, match=r"epochs|`steps` must be"):
        cls(**given)


def test_files_of_any_length_have_none_to_be_asked_for():
    with pytest.raises(ValueError, match=r"`length`.*Hugging Face take any.*length=64"):
        settings.ExportSettings(length=64, format="huggingface")
    assert settings.ExportSettings(format="huggingface").length is None

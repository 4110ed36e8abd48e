"""Runs that train adapters: what they keep and write, that they go on, and a row of `compare`."""

import json

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from kerastl import backbones, evaluate, export, find_learning_rate, fine_tune, peft
from kerastl.plans import TransferPlan
from kerastl.recipes import adapting, compare_worker, training
from kerastl.recipes.continued import train_on
from kerastl.recipes.run_folder import Silent
from kerastl.tasks import find_source
from kerastl.tasks.settings import CompareSettings, TuneSettings
from kerastl.training.clock import Seconds
from kerastl_cli.output import metrics_table
from tests.recipes.test_language_models import FAST as FAST_TEXT
from tests.recipes.test_texts import rows
from tests.recipes.test_tune import StopsOnce, without_times, write_pictures
from tests.tasks.lines_cases import network, prose

MERGED = {"rtol": 0, "atol": 1e-5}  # a product of matrices summed in another order
FAST = {"backbone": "glyphnet", "epochs": 3, "batch_size": 8, "augment": "none"}
FAST |= {
    "export": "none",
    "strategy": "lora",
    "rank": 2,
    "where": "stage_3",
    "keep": "last",
    "learning_rate": 0.05,
}
# Of `stage_3`, convolutions of 3 by 3 from 64 to 96 and 96 to 96 channels, and one of 1 by 1.
BESIDE = 2 * (9 * 64 + 96) + 2 * (9 * 96 + 96) + 2 * (64 + 96)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("adapted") / "data", classes=2, each=10)


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    return fine_tune(pictures, tmp_path_factory.mktemp("runs") / "run", **FAST)


def begun(data, **options):
    """The network of a run as it was before it learnt anything, and its examples."""
    source = find_source(data)
    return training.begin(source, source.settled(TuneSettings(**options)), Silent())


def test_the_model_of_a_run_has_no_adapters_and_gives_what_base_and_file_give(run, pictures):
    loaded = keras.models.load_model(run.folder / "model.keras")
    assert loaded.adapter_bank is None is run.model.adapter_bank
    base, data = begun(pictures, **FAST)
    inputs = data.test.inputs()
    peft.load(base, run.folder / adapting.FILE)
    given = base.predict(inputs, verbose=0)
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), given, **MERGED)
    before, _ = begun(pictures, **FAST)
    assert np.abs(given - before.predict(inputs, verbose=0)).max() > 0.1
    size = (run.folder / adapting.FILE).stat().st_size
    assert size < 0.2 * (run.folder / "model.keras").stat().st_size


def test_only_adapted_layers_differ_from_the_base(run, pictures):
    base, _ = begun(pictures, **FAST)
    moved = [
        variable.path
        for variable, other in zip(run.model.variables, base.variables, strict=True)
        if np.any(variable.numpy() != other.numpy()) and "seed" not in variable.path
    ]
    assert [path.rpartition("/")[0] for path in moved] == [
        "stage_3_conv1", "stage_3_conv2", "stage_3_shortcut", "predictions", "predictions",
    ]  # fmt: skip


def test_the_run_says_what_trained(run, capsys):
    told = json.loads((run.folder / "metrics.json").read_text())
    adapters = told["adapters"]
    head = sum(np.size(weight) for weight in run.model.layers[-1].get_weights())
    assert told["strategy"] == "lora" and told["kept"] == "trained"
    assert adapters["method"] == "LoRA" and adapters["settings"]["rank"] == 2
    assert (adapters["layers"], adapters["weights"]) == (3, BESIDE)
    assert adapters["trainable"] == BESIDE + head
    assert adapters["share"] == adapters["trainable"] / (told["num_weights"] + BESIDE)
    assert told["num_weights"] == run.model.count_params()
    assert told["frozen_features"]["epochs"] == 3  # what is below the first adapter, once
    plan = TransferPlan.load(run.folder / "plan.json")
    assert plan.adapters.where == "stage_3" and plan.start == "probe"
    metrics_table(run.metrics, run.folder)
    said = " ".join(capsys.readouterr().out.split())
    assert f"that trained, LoRA {BESIDE:,} beside 3 layers, and {head} others: 1." in said


def test_the_merged_model_exports(run, pictures, tmp_path):
    inputs = begun(pictures, **FAST)[1].test.inputs()
    export.to_litert(run.model, tmp_path / "model.tflite")
    assert export.parity(run.model, tmp_path / "model.tflite", inputs).max_abs_error < 1e-5


def test_a_stopped_run_goes_on_to_the_same_end(run, pictures, tmp_path):
    progress = StopsOnce(epoch=1)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        fine_tune(pictures, tmp_path / "run", progress=progress, **FAST)
    again = fine_tune(pictures, tmp_path / "run", progress=progress, **FAST)
    assert progress.epochs_seen == [0, 1, 1, 2]
    for got, want in zip(again.model.variables, run.model.variables, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=want.path)
    got, want = (without_times(one.metrics) for one in (again, run))
    assert got == want
    got, want = (load_file(one.folder / adapting.FILE) for one in (again, run))
    assert got.keys() == want.keys()
    for name, value in got.items():
        np.testing.assert_array_equal(value, want[name], err_msg=name)


def test_the_probe_is_kept_without_adapters_where_they_do_worse(pictures, tmp_path):
    options = {**FAST, "epochs": 1, "keep": "best", "validation": 0.3, "learning_rate": 100.0}
    result = fine_tune(pictures, tmp_path / "run", **options)
    metrics = result.metrics
    assert metrics["kept"] == "probe" and result.model.adapter_bank is None
    assert metrics["adapters"]["weights"] == BESIDE and metrics["adapters"]["file"] is None
    assert not (result.folder / adapting.FILE).exists()
    assert metrics["loss"] == metrics["probe"]["loss"] != metrics["trained"]["loss"]
    assert evaluate(result.folder, pictures)["num_examples"] > 0
    assert TransferPlan.load(result.folder / "plan.json").adapters is None


def test_a_comparison_has_a_row_of_them(pictures):
    """As its worker measures it: adapters beside the probe, which is solved first."""
    options = {name: FAST[name] for name in ("backbone", "batch_size", "rank", "where")}
    settings = CompareSettings(strategies="lora", epochs=1, augment="none", **options)
    rows = [
        compare_worker.run(
            {"data": str(pictures), "settings": settings.for_strategy(name).to_dict(), "seeds": 1},
            lambda done: None,
        )[0]
        for name in ("probe", "lora")
    ]
    probe, row = rows
    assert row["strategy"] == "lora"
    assert row["trainable_weights"] == BESIDE + probe["trainable_weights"]
    assert row["weights"] == BESIDE + probe["weights"]
    assert row["layers"] - row["frozen_layers"] == 4  # three adapters and the head


def test_each_strategy_of_a_comparison_has_its_own_settings():
    settings = CompareSettings(strategies="full,lora,adapters", rank=2, reduction=4, where="x")
    full, lora, adapters = (settings.for_strategy(name) for name in settings.names)
    assert full.of_adapters == {} and full.where is None
    assert lora.of_adapters == {"rank": 2, "where": "x"}
    assert adapters.of_adapters == {"reduction": 4, "where": "x"}


def test_a_rate_is_found_for_adapters(pictures, tmp_path):
    options = {name: FAST[name] for name in ("backbone", "batch_size", "strategy", "where")}
    result = find_learning_rate(pictures, tmp_path / "curve.png", steps=20, **options)
    assert len(result.rates) == len(result.losses) > 5


def test_texts_with_the_embedded_network(tmp_path):
    (tmp_path / "texts").mkdir()
    for name, count, seed in (("train", 32, 1), ("test", 16, 2)):
        (tmp_path / "texts" / f"{name}.tsv").write_text(rows(count, seed))
    options = {"strategy": "lora", "where": "layer_1", "keep": "last", "epochs": 2}
    options |= {"export": "none", "learning_rate": 0.01}
    result = fine_tune(tmp_path / "texts", tmp_path / "run", **options)
    base, data = begun(tmp_path / "texts", **options)
    inputs = data.test.inputs()
    before = base.predict(inputs, verbose=0)
    peft.load(base, result.folder / adapting.FILE)
    given = base.predict(inputs, verbose=0)
    loaded = keras.models.load_model(result.folder / "model.keras")
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), given, **MERGED)
    assert np.abs(given - before).max() > 0.1


def test_adapters_that_cannot_be_merged_stay_in_the_model(pictures, tmp_path):
    options = {**FAST, "strategy": "adapters", "reduction": 8, "epochs": 1}
    options = {key: value for key, value in options.items() if key != "rank"}
    result = fine_tune(pictures, tmp_path / "run", **options)
    told = result.metrics["adapters"]
    assert (told["method"], told["merged"], told["file"]) == (
        "BottleneckAdapter", False, adapting.FILE,
    )  # fmt: skip
    # Behind three convolutions of 96 channels: down to 12 and up again, with biases.
    assert told["weights"] == 3 * (96 * 12 + 12 + 12 * 96 + 96)
    base, data = begun(pictures, **options)
    inputs = data.test.inputs()
    loaded = keras.models.load_model(result.folder / "model.keras")
    peft.load(base, result.folder / adapting.FILE)
    given = base.predict(inputs, verbose=0)
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), given, **MERGED)
    assert evaluate(result.folder, pictures)["num_examples"] > 0


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A language model of one block, and a text."""
    home = tmp_path_factory.mktemp("lm")
    (home / "story.txt").write_text(prose(300))
    return network(home / "GPT2", "GPT2", num_layers=1), home / "story.txt"


def test_a_language_model_trains_adapters_alone_and_its_preset_is_merged(writer, tmp_path):
    folder, text = writer
    options = {**FAST_TEXT, "strategy": "lora", "rank": 2, "keep": "last"}
    result = fine_tune(text, tmp_path / "run", backbone=str(folder), **options)
    adapters = result.metrics["adapters"]
    assert adapters["trainable"] == adapters["weights"] > 0
    plan = TransferPlan.load(result.folder / "plan.json")
    assert plan.adapters.also_train == () and plan.start == "as_is"
    assert result.metrics["trained"]["bits_per_byte"] < result.metrics["before"]["bits_per_byte"]
    base = backbones.load_causal(folder).model
    preset = backbones.load_causal(result.folder / "preset").model
    loaded = keras.models.load_model(result.folder / "model.keras")
    ids = np.arange(1, 9)[None]
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    given = loaded.predict(inputs, verbose=0)
    np.testing.assert_allclose(preset.predict(inputs, verbose=0), given, **MERGED)
    assert np.abs(base.predict(inputs, verbose=0) - given).max() > 0.01


def test_a_language_model_refuses_what_its_preset_could_not_hold(writer):
    folder, text = writer
    with pytest.raises(ValueError, match="'adapters' trains layers that no weights of a preset"):
        find_source(text).settled(TuneSettings(backbone=str(folder), strategy="adapters"))


def test_a_language_model_that_got_worse_is_kept_as_it_was_loaded(writer, tmp_path, monkeypatch):
    folder, text = writer

    def spoil(model, *_, **__):
        model.set_weights([20 * weight for weight in model.get_weights()])
        history = keras.callbacks.History()
        history.history, history.frozen_features = {"loss": [9.0]}, []
        history.seconds = Seconds(1.0, 2.0)
        return history

    options = {"backbone": str(folder), "strategy": "lora", "max_length": 16}
    settings = find_source(text).settled(TuneSettings(**options))
    model, data = begun(text, **options)
    loaded = model.get_weights()
    monkeypatch.setattr(training, "train", spoil)
    found = train_on(model, data, settings, tmp_path, Silent())
    assert found.kept == "before" and found.adapters["weights"] > 0
    assert model.adapter_bank is None
    for got, want in zip(model.get_weights(), loaded, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_worker_refuses_what_matches_nothing(pictures):
    job = {"data": str(pictures), "settings": {**FAST, "where": "stage_9"}, "seeds": 1}
    with pytest.raises(ValueError, match="No layer of 'lora' matches `where`"):
        compare_worker.run(job, print)

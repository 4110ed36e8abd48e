"""Language models through the same verbs: tiny networks, made here, from a folder."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from kerastl import compress, evaluate, export_model, find_learning_rate, fine_tune, predict
from kerastl.backbones import load_causal
from kerastl.freezing import freeze_to
from kerastl.recipes import compare_worker, training
from kerastl.recipes.compare import cells, header
from kerastl.recipes.continued import train_on
from kerastl.recipes.run_folder import Silent
from kerastl.tasks import Paired, find_source
from kerastl.tasks.next_token import NextToken
from kerastl.tasks.settings import CompareSettings, LRFindSettings, TuneSettings
from kerastl.training.clock import Seconds
from kerastl_cli import output
from kerastl_cli.main import run as cli
from tests.backbones.text_cases import bert_folder
from tests.tasks.lines_cases import exchanges, network, prose

FAST = {"epochs": 2, "learning_rate": 0.03, "max_length": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A GPT-2 of one block that draws at random in training."""
    path = tmp_path_factory.mktemp("lm") / "GPT2"
    return network(path, "GPT2", dropout=0.1, num_layers=1)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text(prose(500))
    return path


@pytest.fixture(scope="module")
def run(folder, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return fine_tune(text, out, backbone=str(folder), **FAST)


def begun(folder, data, **options):
    source = find_source(data)
    settings = source.settled(TuneSettings(backbone=str(folder), **options))
    return *training.begin(source, settings, Silent()), settings


def test_a_run_tells_of_before_and_after(run):
    metrics = run.metrics
    before, trained = metrics["before"], metrics["trained"]
    assert metrics["kept"] == "trained" and metrics["choice"]["reason"].startswith("Training made")
    assert trained["bits_per_byte"] < 0.8 * before["bits_per_byte"]
    assert metrics["score"] == -trained["bits_per_byte"] == trained["score"]
    difference = before["bits_per_byte"] - trained["bits_per_byte"]
    assert metrics["difference"]["difference"] == pytest.approx(difference)
    assert metrics["difference"]["low"] > 0
    nats = trained["loss"] * trained["num_predicted"]
    assert nats / np.log(2) / trained["num_bytes"] == pytest.approx(trained["bits_per_byte"], 1e-4)
    assert metrics["rival"]["name"] == "a compressor, lzma" and not metrics["rival"]["difference"]
    assert metrics["num_val"] > 0 and metrics["examples"] == "rows of text"


def test_the_table_of_a_run_reads(run, capsys):
    output.metrics_table(run.metrics, run.folder)
    said = capsys.readouterr().out
    before, trained = (run.metrics[name] for name in ("before", "trained"))
    assert f"perplexity {before['perplexity']:.4g} → {trained['perplexity']:.4g}, bits" in said
    assert "as loaded" in said and "regression on frozen" not in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert f"bits per byte, held-out {trained['bits_per_byte']:.3f}" in lines
    fall = trained["bits_per_byte"] - before["bits_per_byte"]
    (line,) = [line for line in lines if line.startswith("difference")]
    assert line.startswith(f"difference, 95 % interval {fall:.3f} (-") and line.endswith(", better")
    lzma = f"a compressor, lzma {-run.metrics['rival']['score']:.3f} in"
    assert any(line.startswith(lzma) for line in lines)
    assert "minus" not in said and ": -" in run.metrics["choice"]["reason"]


def test_a_comparison_shows_bits_per_byte():
    score = {"mean": -2.5, "std": 0.1, "each": [-2.4, -2.6]}
    told = Paired(0.8, 0.7, 0.9, None, None, None, 60).to_dict()
    row = {"strategy": "full", "frozen_layers": 0, "layers": 9, "trainable_weights": 9}
    row |= {"seconds": 1.0, "score": score, "difference": told, "peak_memory": 1e6}
    said = dict(zip(header(NextToken()), cells(row, NextToken()), strict=True))
    assert said["bits per byte"] == "2.500 ± 0.100"
    assert said["over as loaded"] == "-0.800 (-0.900 to -0.700)" and said["resolves"] == "yes"


def test_a_finished_run_is_read_again(run, text, tmp_path):
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"model.keras", "task.json", "plan.json", "tokens", "preset", "curves.png"}
    assert "labels.txt" not in names and "model.tflite" not in names
    said = json.loads((run.folder / "task.json").read_text())
    assert (said["objective"], said["prepare"]["kind"]) == ("next_token", "lines")
    ends = tmp_path / "ends"
    ends.mkdir()
    whole = text.read_text()
    cut = whole.rfind("\n", 0, round(0.85 * len(whole))) + 1
    (ends / "train.txt").write_text(whole[:cut])
    (ends / "test.txt").write_text(whole[cut:])
    (notice,) = evaluate(run.folder, text)["notices"]
    assert notice.startswith(f"{text} is what the model was trained on, and names no part to test")
    report = evaluate(run.folder, ends)
    assert report["notices"] == []
    assert report["num_bytes"] == run.metrics["num_bytes"]
    # The end of the file is one more to predict there.
    assert report["num_predicted"] == run.metrics["num_predicted"] + 1
    assert report["bits_per_byte"] == pytest.approx(run.metrics["bits_per_byte"], rel=0.05)
    lm = load_causal(run.folder)
    batch = {"token_ids": np.array([[1, 5, 9]]), "padding_mask": np.ones((1, 3), "int32")}
    np.testing.assert_allclose(lm.model(batch), run.model(batch), rtol=1e-6, atol=1e-6)


def test_a_run_is_gone_on_from(run, text):
    """The network of a run is what another begins with, its vocabulary too."""
    model, data, _ = begun(run.folder, text, max_length=16)
    given = data.objective.outputs_of(model, data.test)
    assert -data.objective.score(given, data.test.targets) == run.metrics["bits_per_byte"]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_bit_equal(run, folder, text, tmp_path):
    """Three times: before, within and after the training."""

    class Stopped(Silent):
        def __init__(self, where):
            self.where = where

        def stage(self, name, total=None):
            if name.startswith(self.where):
                raise KeyboardInterrupt

        def callbacks(self):
            def stop(epoch, logs):
                if self.where == "epoch":
                    raise KeyboardInterrupt

            return [keras.callbacks.LambdaCallback(on_epoch_begin=stop)]

    class StopsLater(Stopped):
        def callbacks(self):
            def stop(epoch, logs):
                if epoch == 1:
                    raise KeyboardInterrupt

            return [keras.callbacks.LambdaCallback(on_epoch_begin=stop)]

    out = tmp_path / "run"
    stops = Stopped("Training"), StopsLater("-"), Stopped("Measuring what was trained")
    for progress in stops:
        with pytest.raises(KeyboardInterrupt):
            fine_tune(text, out, backbone=str(folder), progress=progress, **FAST)
    fine_tune(text, out, backbone=str(folder), **FAST)
    again = keras.models.load_model(out / "model.keras")
    for one, other in zip(again.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_training_spoils_is_not_kept(folder, text, tmp_path, monkeypatch):
    def spoil(model, *_, **__):
        model.set_weights([20 * weight for weight in model.get_weights()])
        model.compiled = True
        history = keras.callbacks.History()
        history.history, history.frozen_features = {"loss": [9.0]}, []
        history.seconds = Seconds(1.0, 2.0)
        return history

    model, data, settings = begun(folder, text, max_length=16)
    loaded = model.get_weights()
    monkeypatch.setattr(training, "train", spoil)
    found = train_on(model, data, settings, tmp_path, Silent())
    assert found.kept == "before" and found.plan.reason.startswith("Training made it no better")
    np.testing.assert_array_equal(found.of_kept, found.before)
    assert found.side_by_side()["difference"]["high"] < 0
    for one, other in zip(model.get_weights(), loaded, strict=True):
        np.testing.assert_array_equal(one, other)
    last = dataclasses.replace(settings, keep="last")
    assert train_on(model, data, last, tmp_path, Silent()).kept == "trained"


@pytest.mark.slow_but("GPT2-on")
@pytest.mark.parametrize(("family", "packing"), [("GPT2", "on"), ("Llama", "off")])
def test_a_frozen_lower_half_is_computed_once_and_that_changes_nothing(family, packing, tmp_path):
    """Padding and the numbers of documents cross from what is frozen to what trains."""
    made = network(tmp_path / family, family)
    data = exchanges(tmp_path / "pairs.jsonl", 40)
    weights, losses = {}, {}
    for cached in ("auto", False):
        model, read, settings = begun(made, data, packing=packing, max_length=24)
        freeze_to(model, -2)
        keras.utils.set_random_seed(0)
        plan = training.plan_for(model, read, settings)
        training.compile_for(model, read, settings, plan)
        fit = model.fit(read.train.batches(8, seed=0), epochs=3, verbose=0, cache_frozen=cached)
        weights[cached], losses[cached] = model.get_weights(), fit.history["loss"]
        assert [row["cached"] for row in fit.frozen_features] == [cached == "auto"] * 3
    np.testing.assert_allclose(losses["auto"], losses[False], rtol=1e-5)
    assert len(set(losses["auto"])) == 3
    for one, other in zip(*weights.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_short_texts_share_rows_where_that_pays(folder, text, tmp_path):
    data = exchanges(tmp_path / "pairs.jsonl", 40)
    longer = network(tmp_path / "longer", "GPT2", max_sequence_length=96)
    _, packed, _ = begun(longer, data, max_length=90)
    assert packed.prepare.packed and len(packed.train) < 10
    assert (len(packed.test), len(packed.val)) == (6, 4)  # each by itself, to be judged
    _, plain, _ = begun(folder, text)
    assert not plain.prepare.packed
    gemma = network(tmp_path / "gemma", "Gemma")
    _, plain, _ = begun(gemma, data, max_length=90)
    assert not plain.prepare.packed and "rows of their own" in plain.notices[0]
    with pytest.raises(ValueError, match="take no mask"):
        begun(gemma, data, packing="on")


@pytest.mark.parametrize("strategy", ["partial", "gradual"])
def test_other_strategies_begin_with_what_is_trained(strategy, folder, text):
    model, data, settings = begun(folder, text, strategy=strategy, epochs=4, max_length=16)
    plan = training.plan_for(model, data, settings)
    assert plan.start == "as_is" and len(plan.phases[0].train) > 1
    rates = plan.phases[-1].multipliers
    assert max(rates.values()) == 1.0 == rates[model.groups.names[-1]]


def test_strategies_are_compared_with_the_network_as_loaded(folder, text):
    source = find_source(text)
    settings = source.settled(CompareSettings(backbone=str(folder), **FAST))
    assert settings.names == ["partial", "full", "gradual"]
    job = {"data": str(text), "settings": settings.for_strategy("probe").to_dict(), "seeds": 1}
    row, answers = compare_worker.run(job, print)
    assert row["trainable_weights"] == 0 and answers["outputs"].shape == (
        1,
        *(len(answers["targets"]), 1),
    )
    _, data, _ = begun(folder, text, max_length=16, keep="last", strategy="full")
    given = data.objective.outputs_of(load_causal(folder).model, data.test)
    np.testing.assert_allclose(answers["outputs"][0], given, rtol=1e-5)
    assert header(source.objective)[-3] == "over as loaded"


def test_a_learning_rate_is_found(folder, text, tmp_path):
    options = {"steps": 20, "batch_size": 4, "max_length": 16}
    result = find_learning_rate(text, tmp_path / "lr.png", backbone=str(folder), **options)
    assert result.suggestions["valley"] is None or result.suggestions["valley"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "probe"}, "'probe' is for a network with a new head"),
        ({"strategy": "head"}, "'head' is for a network with a new head"),
        ({"strategy": "lp_ft"}, "'lp_ft' is for"),
        ({"start": "zero", "strategy": "full"}, r"`start` \(--start\) is for a network with a new"),
        ({"dropout": 0.5}, "`dropout`"),
        ({"label_smoothing": 0.1}, "`label_smoothing`.*is for classes"),
        ({"minutes": 3.0}, "`minutes`"),
        ({"image_size": 96}, "`image_size`.*is for pictures"),
        ({"augment": "strong"}, "`augment`.*is for pictures"),
        ({"augment": "light"}, "`augment`.*is for pictures"),
        ({"export": "int8"}, "not written as a .tflite"),
        ({"backbone": None}, "needs a language model"),
        ({"backbone": "mobilenet_v2"}, "must take texts.*which takes pictures"),
        ({"max_length": 25}, "at most 24, the positions"),
    ],
)
def test_what_is_for_others_is_refused_at_the_door(options, message, folder, text, tmp_path):
    with pytest.raises(ValueError, match=message):
        fine_tune(text, tmp_path / "run", **{"backbone": str(folder), **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [TuneSettings, CompareSettings])
def test_what_is_said_is_obeyed_also_where_it_is_what_others_have_by_default(kind, folder, text):
    source, names = find_source(text), ("epochs", "batch_size", "learning_rate")
    settled = source.settled(kind(backbone=str(folder)))
    assert [getattr(settled, name) for name in names] == [3, 8, 2e-4]
    said = dict(zip(names, (20, 32, 1e-2), strict=True))
    settled = source.settled(kind(backbone=str(folder), **said))
    assert [getattr(settled, name) for name in names] == [20, 32, 1e-2]


def test_what_is_for_language_models_is_refused_of_others(folder, tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("text,label\n" + "a cat,a\nold log,b\n" * 4)
    with pytest.raises(ValueError, match=r"`packing`.*is for language models"):
        find_source(table).settled(TuneSettings(backbone=str(folder), packing="on"))


def test_other_verbs_say_what_to_do(run, text, tmp_path):
    told = r"kerastl generate MODEL --prompt TEXT\. Received: \S*story\.txt, to answer$"
    for files in (text, (str(text),)):  # as Python and as the command line pass them
        with pytest.raises(ValueError, match=told):
            predict(run.folder, files)
    with pytest.raises(ValueError, match=r"not written as a \.tflite"):
        export_model(run.folder, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match=r"not written as a \.tflite"):
        compress(run.folder, text, tmp_path / "small")
    table = tmp_path / "a.csv"
    table.write_text("text,label\n" + "a cat,a\nold log,b\n" * 4)
    with pytest.raises(ValueError, match="takes rows of text"):
        evaluate(run.folder, table)
    settings = LRFindSettings(backbone="bert", strategy="head")
    with pytest.raises(ValueError, match="'head' is for a network with a new head"):
        find_source(text).settled(settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "must hold something to learn"),
        ("a.jsonl", '{"prompt": "a", "reply": "b"}', "must have prompt and response"),
        ("a.txt", "one line", "must hold more text"),
        ("a.txt", prose(99), "must be a causal language model"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(name, content, message, folder, tmp_path, capsys):
    """Of data, and of an encoder in the place of a language model."""
    (tmp_path / name).write_text(content)
    backbone = folder if len(content) < 99 else bert_folder(tmp_path / "bert")
    said = ["--backbone", str(backbone), "--out", str(tmp_path / "run"), "--max-length", "16"]
    assert cli(["tune", str(tmp_path / name), *said]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1] and told[-1].startswith("kerastl: ")
    assert not (tmp_path / "run").exists()

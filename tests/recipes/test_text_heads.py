"""What a head reads of texts, what it is measured by, and few examples: through the verbs."""

import json

import keras
import numpy as np
import pytest

from kerastl import fine_tune
from kerastl.recipes import compare_worker, evaluate, predict, training
from kerastl.recipes.run_folder import RunFolder, Silent
from kerastl.tasks import find_source
from kerastl.tasks.settings import CompareSettings, LRFindSettings, TuneSettings
from tests.backbones.text_cases import bert_folder, bert_tensors
from tests.recipes.test_texts import begun, rows
from tests.tolerances import EXACT, REDUCTION


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of a small BERT of Hugging Face whose layers are near the identity."""
    return bert_folder(tmp_path_factory.mktemp("bert"), tensors=bert_tensors(scale=0.1))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder with 48 texts to train on and 40 to test on."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "train.tsv").write_text(rows(48, 1))
    (folder / "test.tsv").write_text(rows(40, 2))
    return folder


FEW = {"strategy": "few_shot", "keep": "last", "epochs": 2, "learning_rate": 0.5}


@pytest.fixture(scope="module")
def few(network, table, tmp_path_factory):
    """A run of few examples, scored by AUC."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return fine_tune(table, out, backbone=str(network), metric="auc", **FEW)


@pytest.mark.slow
def test_every_measure_is_told_and_the_one_asked_for_is_the_score(few, table):
    metrics = few.metrics
    assert (metrics["metric"], metrics["score_name"]) == ("auc", "AUC")
    assert metrics["score"] == metrics["auc"] == metrics["trained"]["score"]
    assert metrics["difference"]["gained"] is None  # an AUC is no mean of right answers
    assert json.loads((few.folder / "task.json").read_text())["metric"] == "auc"
    report = evaluate(few.folder, table)
    told = {key: report[key] for key in ("score", "accuracy", "macro_f1", "matthews", "auc")}
    assert told == {key: metrics[key] for key in told}


def test_few_examples_are_learnt_by_pairs_and_then_by_a_regression(few):
    history = json.loads((few.folder / "config.json").read_text())["history"]
    assert len(history["same_pairs"]) == 10  # two epochs of ten steps, and a pass is two of them
    assert history["same_pairs"][-1] < history["same_pairs"][0]
    assert history["loss"] == pytest.approx(history["same_pairs"], rel=1e-5)
    plan = json.loads((few.folder / "plan.json").read_text())
    assert (plan["name"], plan["end"], plan["phases"][0]["name"]) == ("few_shot", "probe", "pairs")
    assert few.metrics["trained"]["score"] != few.metrics["probe"]["score"]
    told = (
        "An epoch of few_shot was 5 passes over the 48 texts, as many as make 10 steps: 10 passes"
    )
    assert f"{told} in all." in few.metrics["notices"]


class Stops(Silent):
    """Stops a run when the stage called `name` begins, or `epoch` of it ends."""

    def __init__(self, name, epoch=None):
        self.name, self.epoch, self.at = name, epoch, None

    def stage(self, name, total=None):
        self.at = name
        if name.startswith(self.name) and self.epoch is None:
            raise KeyboardInterrupt

    def _epoch(self, epoch):
        if self.at.startswith(self.name) and epoch == self.epoch:
            raise KeyboardInterrupt

    def count(self, done, total):
        if "Trying" in self.at:
            self._epoch(done - 1)

    def callbacks(self):
        end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._epoch(epoch))
        return [end]


@pytest.mark.slow
def test_a_run_killed_three_times_ends_as_if_it_had_not_been(few, network, table, tmp_path):
    """Twice among the pairs, once behind the regression on what they made of the features."""
    options = {"backbone": str(network), "metric": "auc", **FEW}
    for stops in (Stops("Training", 1), Stops("Training", 7), Stops("Writing")):
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            fine_tune(table, tmp_path / "run", progress=stops, **options)
    again = fine_tune(table, tmp_path / "run", **options)
    for got, want in zip(again.model.variables, few.model.variables, strict=True):
        np.testing.assert_allclose(got, want, **EXACT, err_msg=want.path)
    assert again.metrics["score"] == few.metrics["score"]
    parts = again.metrics["seconds_of"]
    assert again.metrics["seconds"] + 0.5 >= sum(parts.values())
    assert again.metrics["seconds_before_a_stop"] > 0 == few.metrics["seconds_before_a_stop"]


@pytest.mark.parametrize("pooling", ["mean", "pooled", "first"])
def test_what_the_head_reads_is_the_same_whatever_the_padding(pooling, network, table):
    model, data, _ = begun(network, table, pooling=pooling)
    features = keras.Model(model.input, model.get_layer(training.HEAD).input)
    rows = np.argsort([len(ids) for ids in data.test.rows.ids])
    shortest = features.predict(data.test.inputs(rows[:1]), verbose=0)
    among = features.predict(data.test.inputs(rows), verbose=0)
    assert data.test.inputs(rows)["token_ids"].shape[1] > len(data.test.rows.ids[rows[0]]) + 2
    np.testing.assert_allclose(among[:1], shortest, **REDUCTION)
    import keras_hub

    backbone = keras_hub.models.Backbone.from_preset(str(network))
    given = backbone.predict(data.test.inputs(rows), verbose=0)
    mask = data.test.inputs(rows)["padding_mask"][..., None]
    by_hand = {
        "mean": lambda given: (given["sequence_output"] * mask).sum(1) / mask.sum(1),
        "pooled": lambda given: given["pooled_output"],
        "first": lambda given: given["sequence_output"][:, 0],
    }[pooling](given)
    np.testing.assert_allclose(among, by_hand, rtol=1e-4, atol=1e-5)


def test_pooling_is_refused_where_there_is_nothing_to_pool(few, network, table, tmp_path):
    source = find_source(table)
    with pytest.raises(ValueError, match="gives one for each text"):
        source.load_backbone(TuneSettings(backbone=str(few.folder), pooling="first"))
    import keras_hub

    small = {"vocabulary_size": 44, "num_layers": 1, "num_heads": 2, "hidden_dim": 8}
    distil = keras_hub.models.DistilBertBackbone(**small, intermediate_dim=16)
    distil.save_to_preset(tmp_path / "distil")
    with pytest.raises(ValueError, match="a network that pools by itself"):
        source.load_backbone(TuneSettings(backbone=str(tmp_path / "distil"), pooling="pooled"))


def test_the_rate_that_is_said_is_obeyed_and_the_one_that_is_not_is_told(network, table):
    source = find_source(table)
    for said, taken in ((None, 0.001), (0.01, 0.01), (0.3, 0.3)):
        for kind in (TuneSettings, CompareSettings, LRFindSettings):
            settings = source.settled(kind(backbone=str(network), learning_rate=said))
            assert settings.learning_rate == taken
    model, data, settings = begun(network, table, strategy="full", learning_rate=0.01)
    plan = training.plan_for(model, data, settings)
    assert plan.phases[-1].learning_rate == 0.01


def test_compare_scores_as_asked(few, network, table):
    """What its worker does for the probe, on the texts of the run; a name is spelt both ways."""
    given = {"backbone": str(network), "strategies": "few-shot", "metric": "auc"}
    asked = find_source(table).settled(CompareSettings(**given))
    assert asked.names == ["few_shot"]
    own = asked.for_strategy("probe")
    job = {"data": str(table), "settings": own.to_dict(), "seeds": 1}
    row, _ = compare_worker.run(job, lambda done: None)
    assert row["score"]["each"] == [pytest.approx(few.metrics["probe"]["score"])]


def test_what_is_for_other_targets_is_refused_at_the_door(network, tmp_path):
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("text,value\n" + "".join(f"the cat {i},{i}\n" for i in range(30)))
    options = {"backbone": str(network), "strategy": "few_shot"}
    with pytest.raises(ValueError, match=r"must be for classification\. Received: .*regression"):
        fine_tune(numbers, tmp_path / "run", **options)
    with pytest.raises(ValueError, match=r"`metric` \(--metric\) must be r2"):
        fine_tune(numbers, tmp_path / "run", backbone=str(network), metric="auc")
    assert not (tmp_path / "run").exists()


def test_texts_of_one_class_are_measured(few, tmp_path):
    alone = tmp_path / "alone.tsv"
    alone.write_text("text\tlabel\nthe cat sat\tpet\nthe cat run\tpet\n")
    report = evaluate(few.folder, alone)
    assert report["score"] is report["auc"] is report["matthews"] is None
    assert report["accuracy"] in (0.0, 0.5, 1.0) and report["num_examples"] == 2
    with pytest.raises(ValueError, match="two classes"):
        fine_tune(alone, tmp_path / "run", backbone="bert_tiny_en_uncased")
    alone.write_text("text\tlabel\n\u200b\tpet\n")
    with pytest.raises(ValueError, match=r"alone\.tsv, line 2 must have something"):
        evaluate(few.folder, alone)
    alone.write_text("text\tlabel\nthe cat sat\tbird\n")
    with pytest.raises(ValueError, match="Received also: bird"):
        evaluate(few.folder, alone)


def test_a_table_as_to_train_on_is_answered_without_its_labels(few, table, tmp_path):
    answers = predict(few.folder, table / "test.tsv")
    lines = (table / "test.tsv").read_text().splitlines()
    assert [answer["text"] for answer in answers] == [line.split("\t")[1] for line in lines]
    odd = tmp_path / "odd.csv"
    odd.write_text("review,stars\nthe cat sat,5\nold dog,4\n")
    with pytest.raises(ValueError, match=r"the column text.*texts alone go into a \.txt"):
        predict(few.folder, odd)


def test_unlike_classes_count_alike_and_that_is_told(network, tmp_path):
    lines = rows(60, 5).splitlines()
    kept = [line for i, line in enumerate(lines) if i % 2 or i % 10 == 0]
    path = tmp_path / "uneven.tsv"
    path.write_text("label\ttext\n" + "\n".join(kept) + "\n")
    _, data, _ = begun(network, path)
    weights = data.objective.class_weight(data)
    counts = np.bincount(data.train.targets)
    assert weights == pytest.approx({i: len(data.train) / (2 * n) for i, n in enumerate(counts)})
    (told,) = [line for line in data.notices if "unlike size" in line]
    assert f"'pet' counts {weights[1]:.2g}" in told and f"'beast' {weights[0]:.2g}" in told


def test_an_error_in_a_run_that_goes_on_says_what_is_kept(tmp_path):
    job = {"data": "texts"}
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "run", job=job) as run:
        (run.work / "done").touch()
        raise KeyboardInterrupt
    kept = r"\.run\.unfinished: the same command goes on from there, and --overwrite drops it"
    with pytest.warns(UserWarning, match=kept), pytest.raises(OSError, match="No space"):  # noqa: SIM117
        with RunFolder(tmp_path / "run", job=job):
            raise OSError("No space left on device")
    assert (tmp_path / ".run.unfinished").is_dir()

"""Texts through the same verbs: one small network of texts, made here, from a folder."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from kerastl import FineTuner, fine_tune, freeze_to
from kerastl.callbacks.audit import expectations
from kerastl.recipes import evaluate, predict, training
from kerastl.recipes.run_folder import Silent
from kerastl.tasks import TextTable, find_source
from kerastl.tasks.settings import CompareSettings, LRFindSettings, TuneSettings
from kerastl.tasks.text_division import divided
from tests.backbones.text_cases import bert_folder, bert_tensors

WORDS = ("the", "quick", "brown", "fox", "cat", "sat", "on", "log", "old", "wall", "dog", "run")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of a small BERT of Hugging Face whose layers are near the identity."""
    return bert_folder(tmp_path_factory.mktemp("bert"), tensors=bert_tensors(scale=0.1))


def rows(count, seed):
    """Lines of a table of texts; those that tell of a cat are of one class, half of them pairs."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(count):
        words = list(rng.choice(WORDS, rng.integers(2, 9)))
        words = [word for word in words if word not in ("cat", "dog")] or ["fox"]
        words.insert(int(rng.integers(len(words) + 1)), "cat" if i % 2 else "dog")
        lines.append(f"{'pet' if i % 2 else 'beast'}\t{' '.join(words)}\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder with 96 texts to train on and 40 to test on."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "train.tsv").write_text(rows(96, 1))
    (folder / "test.tsv").write_text(rows(40, 2))
    return folder


def begun(network, table, **options):
    source = find_source(table)
    settings = source.settled(TuneSettings(backbone=str(network), **options))
    return *training.begin(source, settings, Silent()), settings


@pytest.fixture(scope="module")
def run(network, table, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"strategy": "partial", "epochs": 2, "keep": "last", "learning_rate": 0.03}
    options["export"] = "none"
    return fine_tune(table, out, backbone=str(network), **options)


def test_a_run_says_what_counting_words_would_have_given(run):
    metrics = run.metrics
    assert metrics["examples"] == "texts"
    rival = metrics["rival"]
    assert rival["score"] == 1.0  # one word tells the classes
    assert rival["difference"]["difference"] == pytest.approx(metrics["score"] - 1.0)
    assert metrics["prepared"][0][0] == "ids of a text at most"


def test_a_finished_run_reads_new_texts_alone(run, network, table, tmp_path):
    assert (run.folder / "tokens" / "tokenizer.json").is_file()
    said = json.loads((run.folder / "task.json").read_text())["prepare"]
    assert said["kind"] == "texts"
    report = evaluate(run.folder, table)
    assert report["score"] == run.metrics["score"]
    assert report["notices"] == []  # the part to test on was not trained on
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat sat\nold dog\n")
    answers = predict(run.folder, lines)
    assert [answer["text"] for answer in answers] == ["the cat sat", "old dog"]
    prepare = find_source(table).prepare_for(
        find_source(table).load_backbone(TuneSettings(backbone=str(network))),
        TuneSettings(backbone=str(network)),
    )
    by_hand = run.model.predict(prepare([("the cat sat",), ("old dog",)]), verbose=0)
    for answer, row in zip(answers, by_hand, strict=True):
        best = answer["top"][0]
        assert best["probability"] == pytest.approx(float(row.max()), abs=1e-6)
        assert best["label"] == ("beast", "pet")[row.argmax()]


def test_padding_and_company_change_no_answer(network, table):
    model, data, _ = begun(network, table)
    head = model.layers[-1]
    head.kernel.assign(keras.random.normal(head.kernel.shape, seed=1))
    together = data.objective.outputs_of(model, data.test, 16)
    alone = [
        model(data.test.inputs(np.array([row])), training=False) for row in range(len(data.test))
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    order = np.argsort([len(ids) for ids in data.test.rows.ids])
    sorted_ = data.objective.outputs_of(model, data.test.at(order), 8)
    np.testing.assert_allclose(sorted_, together[order], atol=1e-5)


def test_the_loss_and_gradient_of_a_padded_batch_are_those_of_its_texts_one_by_one(network, table):
    import tensorflow as tf

    model, data, settings = begun(network, table, dropout=0.0)
    model.compile("sgd", **data.objective.compile_args(data, settings))
    x, y = next(iter(data.train.batches(16, seed=3)))

    def gradients(x, y):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=False))
        weights = [weight.value for weight in model.trainable_variables]
        return float(loss), [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, weights)]

    loss, slopes = gradients(x, y)
    lengths = x["padding_mask"].numpy().sum(axis=1)
    rows = [
        {name: part[i : i + 1, :length] for name, part in x.items()}
        for i, length in enumerate(lengths)
    ]
    each = [gradients(row, y[i : i + 1]) for i, row in enumerate(rows)]
    assert loss == pytest.approx(np.mean([one for one, _ in each]), rel=1e-5)
    for whole, *parts in zip(slopes, *(parts for _, parts in each), strict=True):
        np.testing.assert_allclose(whole, np.mean(parts, axis=0), atol=1e-5)


def test_a_frozen_lower_half_is_computed_once_and_that_changes_nothing(network, table):
    weights, used = {}, {}
    for cached in ("auto", False):
        model, data, settings = begun(network, table, strategy="full")
        freeze_to(model, -2)
        keras.utils.set_random_seed(0)
        training.compile_for(model, data, settings, training.plan_for(model, data, settings))
        history = model.fit(
            data.train.batches(16, seed=0), epochs=3, verbose=0, cache_frozen=cached
        )
        weights[cached] = model.get_weights()
        used[cached] = [row["cached"] for row in history.frozen_features]
    assert used == {"auto": [True] * 3, False: [False] * 3}
    for one, other in zip(*weights.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_length_is_that_of_the_texts_to_train_on(network, tmp_path):
    """One text in a hundred may be longer; those held out have no say."""
    path = tmp_path / "lengths.tsv"
    rows = [f"the fox sat on a log\t{'ab'[i % 2]}\n" for i in range(40)]
    path.write_text("text\tlabel\n" + "".join(rows))
    source = find_source(path)
    settings = source.settled(TuneSettings(backbone=str(network)))
    _, held = divided(source.found, seed=0, val_share=0.0)["test"]
    longer = [row.replace("log", "log " * 9) if i in held else row for i, row in enumerate(rows)]
    path.write_text("text\tlabel\n" + "".join(longer))
    source = find_source(path)
    prepare = source.prepare_for(source.load_backbone(settings), settings)
    assert prepare.length == len(["the", "fox", "sat", "on", "a", "log"]) + 2


def test_frozen_layers_stand_still_with_dropout_on(network, table):
    model, data, settings = begun(network, table, strategy="full")
    freeze_to(model, -2)
    frozen = [w for w in model.weights if not any(w is t for t in model.trainable_weights)]
    before = [w.numpy() for w in frozen if "seed_generator" not in w.path]
    training.compile_for(model, data, settings, training.plan_for(model, data, settings))
    model.fit(data.train.batches(16, seed=0), epochs=1, verbose=0, cache_frozen=False)
    after = [w.numpy() for w in frozen if "seed_generator" not in w.path]
    assert len(before) > 10
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_auto_compares_on_held_back_texts_and_goes_on_after_three_kills(network, table, tmp_path):
    options = {"backbone": str(network), "epochs": 2, "learning_rate": 0.03, "export": "none"}

    class Stopped(Silent):
        def __init__(self, name):
            self.name, self.at = name, ""

        def stage(self, name, total=None):
            if self.name in name and total is None:
                raise KeyboardInterrupt
            self.at = name

        def count(self, done, total):
            if self.name in self.at and done == 1:
                raise KeyboardInterrupt

    whole = fine_tune(table, tmp_path / "whole", **options)
    assert whole.metrics["choice"]["tried"][0]["name"] == "partial"
    stopped = tmp_path / "stopped"
    for name in ("Trying partial", "Measuring", "Writing"):  # in an epoch, and between two stages
        with pytest.raises(KeyboardInterrupt):
            fine_tune(table, stopped, progress=Stopped(name), **options)
    fine_tune(table, stopped, **options)
    again = keras.models.load_model(stopped / "model.keras")
    for one, other in zip(again.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 96}, r"`image_size` \(--image-size\) is for pictures, and .* holds texts"),
        ({"alpha": 0.5}, "`alpha`"),
        ({"augment": "strong"}, "`augment`"),
        ({"augment": "light"}, "`augment`"),  # also what pictures have by default
        ({"augmented_copies": 2}, "`augmented_copies`"),
        ({"adapt_statistics": True}, "`adapt_statistics`"),
        ({"max_length": 17}, "at most 16, the positions"),
        ({"cache_dir": "cc"}, "`cache_dir`"),
        ({"backbone": "mobilenet"}, "must take texts.*which takes pictures"),
        ({"backbone": "MobileNetV2"}, "must take texts.*which takes pictures"),
        ({"backbone": "glyphnet"}, "must take texts.*which takes pictures"),
    ],
)
def test_options_of_pictures_are_refused_at_the_door(options, message, network, table, tmp_path):
    given = {"backbone": str(network), **options}
    with pytest.raises(ValueError, match=message):
        fine_tune(table, tmp_path / "run", **given)
    assert not list(tmp_path.iterdir())


def test_a_file_of_a_network_that_takes_something_else_is_refused(table, tmp_path):
    file = tmp_path / "other.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(file)
    with pytest.raises(ValueError, match=r"must take texts.*takes \(None, 4\)"):
        fine_tune(table, tmp_path / "run", backbone=str(file))


def pictures_in(home):
    """A folder in `home` of three pictures of each of two classes."""
    for name in ("a", "b"):
        (home / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8)).save(home / "data" / name / f"{i}.png")
    return home / "data"


@pytest.mark.parametrize("kind", [TuneSettings, CompareSettings, LRFindSettings])
def test_pictures_are_changed_at_random_where_nobody_says_so_and_texts_never(kind, table, tmp_path):
    pictures, texts = find_source(pictures_in(tmp_path)), find_source(table)
    usual = "light" if kind is TuneSettings else "none"
    assert pictures.settled(kind()).augment == usual
    assert pictures.settled(kind(augment="medium")).augment == "medium"
    assert texts.settled(kind()).augment == texts.settled(kind(augment="none")).augment == "none"
    with pytest.raises(ValueError, match=r"`augment` \(--augment\) is for pictures"):
        texts.settled(kind(augment="light"))


def test_options_of_texts_are_refused_for_pictures(tmp_path):
    data = pictures_in(tmp_path)
    with pytest.raises(ValueError, match=r"`max_length` \(--max-length\) is for texts"):
        fine_tune(data, tmp_path / "run", backbone="glyphnet", max_length=8)


def test_pairs_several_labels_and_numbers_are_learnt(network, tmp_path):
    rng = np.random.default_rng(0)
    kinds = {"label": lambda i: "ab"[i % 2], "labels": lambda i: ("", "a", "b", "a|b")[i % 4]}
    kinds["value"] = lambda i: f"{i % 2 + rng.normal() / 9:.3f}"
    for column, target in kinds.items():
        lines = [f"text_a,text_b,{column}\n"]
        for i in range(48):
            second = "the cat" if i % 2 else "old dog"
            lines.append(f"{rng.choice(WORDS)} sat,{second},{target(i)}\n")
        path = tmp_path / f"{column}.csv"
        path.write_text("".join(lines))
        out = tmp_path / f"run-{column}"
        options = {"strategy": "probe", "export": "none"}
        result = fine_tune(path, out, backbone=str(network), **options)
        assert result.metrics["objective"] == TextTable.scan(path).objective.name
        assert (
            result.metrics["rival"]["difference"]["num_examples"] == result.metrics["num_examples"]
        )
        alone = tmp_path / "pairs.csv"
        alone.write_text("text_a,text_b\nfox sat,the cat\n")
        (answer,) = predict(out, alone)
        assert (answer["text_a"], answer["text_b"]) == ("fox sat", "the cat")


def test_what_the_vocabulary_lacks_and_what_is_cut_is_told(network, tmp_path):
    path = tmp_path / "a.csv"
    lines = [f"{'zzz' if i % 2 else 'the cat ' * 9},{'ab'[i % 2]}\n" for i in range(40)]
    path.write_text("text,label\n" + "".join(lines))
    _, data, _ = begun(network, path, max_length=8)
    lacks, cut = data.notices[-2:]
    assert lacks.startswith("The vocabulary lacks ")
    assert cut.startswith("17 of 34 texts are longer than 8 ids")
    assert "the longest has 20" in cut


def test_what_prosenet_knows_is_told_only_where_it_knows_it(table):
    for weights, count in (("imagenet", 1), (None, 0)):
        _, data, _ = begun("prosenet", table, weights=weights)
        assert sum("two books" in line for line in data.notices) == count


def test_a_text_of_nothing_that_is_known_is_refused(run, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\n\u200b\n")
    with pytest.raises(ValueError, match="something that the vocabulary knows"):
        predict(run.folder, lines)


def test_the_network_of_a_run_is_taken_for_new_texts(run, table):
    model, data, _ = begun(run.folder, table)
    assert isinstance(model, FineTuner)
    assert data.prepare.tokens.vocabulary_size > 10


def test_the_file_of_a_run_brings_its_vocabulary(run, table):
    _, data, _ = begun(run.folder / "model.keras", table)
    assert data.prepare.tokens.vocabulary_size > 10


def test_pairs_are_not_taken_for_texts(run, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text_a,text_b,label\nthe cat,a,pet\nold dog,b,beast\n" * 2)
    with pytest.raises(ValueError, match="takes one text an example"):
        evaluate(run.folder, pairs)


def test_no_audit_stops_a_training_for_the_biases_of_keys(network, table):
    model, *_ = begun(network, table)
    model.compile("sgd", "mse")
    keys = [v for v in model.trainable_variables if v.path.endswith("key/bias")]
    must_move, must_stay = expectations(model)
    assert len(keys) == 2
    known = {id(v) for v in (*must_move, *must_stay)}
    assert not known & {id(key) for key in keys}
    assert len(must_move) == len(model.trainable_variables) - 2

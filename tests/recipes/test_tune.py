"""`fine_tune` on a folder of pictures: what it writes, that it works, and what it refuses."""

import json
import os

import keras
import numpy as np
import pytest
from PIL import Image

from kerastl.backbones.glyphs import load_glyphnet, render_glyphs
from kerastl.data import scan_images
from kerastl.export import LiteRTModel
from kerastl.graph import layer_groups
from kerastl.plans import TransferPlan, strategies
from kerastl.recipes import (
    RunFolder,
    TuneSettings,
    compress,
    evaluate,
    export_model,
    fine_tune,
    free_name,
    inspect_model,
    predict,
    training,
)
from kerastl.tasks import (
    Classification,
    PictureExamples,
    PreparePictures,
    TaskData,
    find_source,
    image_folder,
)
from kerastl_cli.main import run as command_line
from kerastl_cli.output import metrics_table


def write_pictures(root, classes=3, each=12):
    """A folder of class folders: glyphs `each` of the first `classes` classes, 40 px PNGs."""
    images, labels = render_glyphs(1200, seed=0)
    for label in range(classes):
        folder = root / f"class_{label}"
        folder.mkdir(parents=True)
        for i, image in enumerate(images[labels == label][:each]):
            Image.fromarray(np.asarray(image).astype("uint8").squeeze()).convert("RGB").resize(
                (40, 40)
            ).save(folder / f"{i}.png")
    return root


# A head that starts at zero has epochs of its own, and so a thaw on the way.
TRAINED = {"backbone": "glyphnet", "epochs": 6, "batch_size": 8}
TRAINED |= {"strategy": "gradual", "start": "zero", "keep": "last"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One training on small pictures, one of them no picture, with the embedded backbone."""
    home = tmp_path_factory.mktemp("tune")
    data = write_pictures(home / "data")
    (data / "class_0" / "broken.jpg").write_text("no picture")
    return data, fine_tune(data, home / "run", **TRAINED)


def test_names_of_files_that_are_no_utf8_are_written_as_escapes(tmp_path, capsys):
    data = write_pictures(tmp_path / "data", classes=2, each=6)
    with open(os.fsencode(data / "class_0") + b"/\xe9.jpg", "wb") as file:
        file.write(b"no picture")
    run = ["tune", str(data), "--out", str(tmp_path / "run"), "--backbone", "glyphnet", "--json"]
    assert command_line([*run, "--strategy", "probe", "--export", "none"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "\udce9.jpg is not a readable image" in printed["notices"][0] == written["notices"][0]


def test_the_run_folder_is_whole(run):
    _, result = run
    names = {file.name for file in result.folder.iterdir()}
    assert names == {
        "model.keras", "model.tflite", "labels.txt", "task.json", "config.json", "plan.json",
        "metrics.json", "curves.png", "skipped.csv",
    }  # fmt: skip
    assert not [name for name in os.listdir(result.folder.parent) if "partial" in name]
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics["num_skipped"] == 1
    assert metrics["accuracy"] == result.metrics["accuracy"]
    assert metrics["prepared"] == [["height × width in pixels", "32 × 32"]]
    assert metrics["tflite"]["agreement"] == 1.0
    config = json.loads((result.folder / "config.json").read_text())
    assert config["config"]["epochs"] == 6
    assert list(config["multipliers"].values())[-1] == 1.0
    plan = TransferPlan.load(result.folder / "plan.json")
    names = layer_groups(result.model).names
    thaws = plan.resolve(names).thaws
    assert config["schedule"] == {str(epoch): thawed for epoch, thawed in thaws.items()}
    assert len(plan.phases) == 2 and "tracing a step takes longer" in plan.reason  # 28 pictures
    full = strategies.full(names, epochs=6, learning_rate=1e-2, schedule=None)
    assert plan.resolve(names).thaws.keys() == full.resolve(names).thaws.keys()
    said = metrics["seconds_of"]
    assert 0 < said["tracing"] <= said["tracing"] + said["training"] <= metrics["seconds"] + 0.1
    with Image.open(result.folder / "curves.png") as picture:
        assert picture.size[0] > 500


class StopsOnce:
    """Progress that raises KeyboardInterrupt at the end of an epoch, the first time it comes."""

    def __init__(self, epoch):
        self.epoch = epoch
        self.epochs_seen = []

    def stage(self, name, total=None):
        pass

    def count(self, done, total):
        pass

    def callbacks(self):
        def stop(epoch, logs):
            self.epochs_seen.append(epoch)
            if epoch == self.epoch and self.epochs_seen.count(epoch) == 1:
                raise KeyboardInterrupt

        return [keras.callbacks.LambdaCallback(on_epoch_end=stop)]


def test_a_stopped_run_goes_on_to_the_same_end(run, tmp_path):
    """Across a thaw, with dropout, shuffling and augmentation: every weight, every number."""
    data, result = run
    progress = StopsOnce(epoch=3)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        fine_tune(data, tmp_path / "run", progress=progress, **TRAINED)
    again = fine_tune(data, tmp_path / "run", progress=progress, **TRAINED)
    assert progress.epochs_seen == [0, 1, 2, 3, 3, 4, 5]
    for got, want in zip(again.model.variables, result.model.variables, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=want.path)
    got, want = (without_times(one.metrics) for one in (again, result))
    assert got == want and want["kept"] == "trained" and want["trained"]["score"] == want["score"]
    assert os.listdir(tmp_path) == ["run"]


def without_times(metrics):
    """`metrics` but for what says how long something took."""
    timed = ("seconds", "tracing_seconds", "seconds_saved", "seconds_of")
    timed += ("seconds_before_a_stop", "tflite")
    kept = {name: value for name, value in metrics.items() if name not in timed}
    return {
        name: without_times(value) if isinstance(value, dict) else value
        for name, value in kept.items()
    }


def test_what_the_cache_saved_is_told_and_data_are_walked_once(tmp_path, monkeypatch):
    data = write_pictures(tmp_path / "data")
    walks = []
    monkeypatch.setattr(
        image_folder, "scan_images", lambda p, **least: walks.append(p) or scan_images(p, **least)
    )
    settings = {"backbone": "glyphnet", "epochs": 2, "batch_size": 8, "export": "none"}
    settings |= {"strategy": "head", "keep": "last"}
    plain = fine_tune(data, tmp_path / "a", **settings).metrics
    assert plain["frozen_features"]["epochs"] == 0
    assert "augmented_copies" in plain["frozen_features"]["reason"]
    still = {**settings, "augment": "none"}
    cached = fine_tune(data, tmp_path / "b", **still).metrics["frozen_features"]
    assert cached["epochs"] == 2 and cached["reason"] is None and cached["seconds"] >= 0
    assert len(walks) == 2  # two runs


def test_saved_model_file_and_result_agree_on_raw_pixels(run):
    _, result = run
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    expected = result.model.predict(pixels, verbose=0)
    saved = keras.models.load_model(result.folder / "model.keras")
    np.testing.assert_array_equal(saved.predict(pixels, verbose=0), expected)
    file = LiteRTModel(result.folder / "model.tflite")
    np.testing.assert_allclose(file.predict(pixels), expected, atol=1e-4)  # other kernels
    assert (result.folder / "labels.txt").read_text().split() == [f"class_{i}" for i in range(3)]


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A head that was solved, and nothing trained."""
    home = tmp_path_factory.mktemp("probed")
    data = write_pictures(home / "data", each=20)
    settings = {"backbone": "glyphnet", "strategy": "probe", "augment": "none"}
    return data, fine_tune(data, home / "run", export="int8", **settings)


@pytest.mark.slow
def test_a_quantized_file_has_the_float_one_beside_it(probed):
    data, result = probed
    small, whole = (result.metrics[name] for name in ("tflite", "float_tflite"))
    for name, said in (("model.tflite", small), ("float.tflite", whole)):
        assert said["size_bytes"] == (result.folder / name).stat().st_size
        assert said["gzip_bytes"] < said["size_bytes"] and said["median_ms"] > 0
        assert said["score"] >= 0.7 and said["compared_on"] == result.metrics["num_examples"]
    assert (small["quantization"], whole["quantization"]) == ("int8", None)
    assert small["size_bytes"] < 0.35 * whole["size_bytes"] and small["agreement"] >= 0.8
    assert LiteRTModel(result.folder / "model.tflite").labels == ("class_0", "class_1", "class_2")
    float_file = evaluate(result.folder / "model.tflite", data)["files"][1]
    assert float_file["name"] == "float.tflite" and float_file["agreement"] == 1.0


def test_every_verb_takes_the_run_of_a_probe(probed, tmp_path):
    """Nothing was trained, so there is no curve; the rest is as of any run."""
    data, result = probed
    folder, metrics = result.folder, result.metrics
    assert not (folder / "curves.png").exists() and metrics["kept"] == "probe"
    assert metrics["trained"] is metrics["difference"] is metrics["choice"] is None
    assert metrics["probe"]["score"] == metrics["score"] and metrics["probe"]["strength"] > 0
    assert json.loads((folder / "config.json").read_text())["history"] == {}
    plan = TransferPlan.load(folder / "plan.json")
    assert plan == strategies.probe(result.model.groups) and plan.start == "probe"
    assert "begins with the head solved on frozen features" in str(plan)
    assert "0 phases" in str(plan.resolve(result.model.groups))
    names = [row["group"] for row in inspect_model(folder)["groups"]]
    assert tuple(names) == result.model.groups.names
    report = evaluate(folder, data)
    assert report["num_examples"] == len(list(data.rglob("*.png"))) and report["score"] > 0.9
    (found,) = predict(folder, [data / "class_1" / "0.png"])
    assert found["top"][0]["label"] == "class_1"
    said = export_model(folder, tmp_path / "small.tflite", data=data, quantize="dynamic")
    assert said.rows[-1]["score"] > 0.9
    smaller = compress(folder, data, tmp_path / "small", max_drop=1.0)  # calibrates, trains nothing
    assert [row["name"] for row in smaller.metrics["rows"]] == ["float", "int8"]


@pytest.mark.parametrize("name", ["model.keras", "model.tflite", ""])
def test_evaluate_and_predict_take_each_form_of_a_run(run, name):
    data, result = run
    picture = data / "class_1" / "0.png"
    (found,) = predict(result.folder / name, [picture], top=2)
    assert found["file"] == str(picture)
    assert len(found["top"]) == 2
    if name == "model.tflite":
        report = evaluate(result.folder / name, data)
        assert report["num_examples"] == 36
        assert [skipped["file"][-10:] for skipped in report["skipped"]] == ["broken.jpg"]
        assert report["accuracy"] > 0.5  # a third by chance


def test_an_unknown_class_is_refused(run, tmp_path):
    _, result = run
    write_pictures(tmp_path, classes=2)
    (tmp_path / "class_0").rename(tmp_path / "zebra")
    with pytest.raises(ValueError, match="zebra"):
        evaluate(result.folder, tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "gradul"}, "Closest: 'gradual'"),
        ({"epochs": 0}, r"`epochs` must be an int in \[1"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"export": "int4"}, "none, float, float16, dynamic, int8"),
        ({"backbone": "mobilenot"}, "mobilenet"),
        ({"strategy": "lp_ft", "epochs": 1}, "epochs"),
        ({"strategy": "fastai", "epochs": 1}, "epochs"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, settings, words):
    data = write_pictures(tmp_path / "data", classes=2, each=2)
    with pytest.raises(ValueError, match=words):
        fine_tune(data, tmp_path / "run", **{"weights": None, **settings})
    assert os.listdir(tmp_path) == ["data"]


def test_an_earlier_run_is_not_replaced_unasked(run):
    _, result = run
    with pytest.raises(FileExistsError, match="--overwrite"):
        RunFolder(result.folder)


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a run"):
        RunFolder(tmp_path, overwrite=True)


def test_a_run_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "run") as run:
        run.write_lines("labels.txt", ["cat"])
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_an_interrupted_job_is_found_again_by_itself_alone(tmp_path):
    def run(job, **options):
        with RunFolder(tmp_path / "run", job=job, **options) as folder:
            seen = (folder.work / "weights").is_file()
            (folder.work / "weights").write_text("half-trained")
            if not seen:
                raise KeyboardInterrupt
        return seen

    with pytest.raises(KeyboardInterrupt):
        run({"epochs": 3})
    with pytest.raises(FileExistsError, match=r"other settings.*--overwrite"):
        run({"epochs": 4})
    with (
        RunFolder(tmp_path / "other", job={}),
        pytest.raises(OSError, match="another process"),
    ):
        RunFolder(tmp_path / "other", job={})
    assert run({"epochs": 3})
    assert sorted(os.listdir(tmp_path)) == ["other", "run"]
    assert os.listdir(tmp_path / "run") == []
    (tmp_path / "run").rmdir()
    for epochs in (1, 2):  # the second drops the first and begins anew
        with pytest.raises(KeyboardInterrupt):
            run({"epochs": epochs}, overwrite=True)


def test_an_error_does_not_take_what_an_earlier_process_did(tmp_path):
    """A folder that is not mounted, a full disk: the checkpoints of the stopped run stay."""

    def run(error):
        with RunFolder(tmp_path / "run", job={"epochs": 3}) as folder:
            seen = (folder.work / "weights").is_file()
            (folder.work / "weights").write_text("half-trained")
            if error:
                raise error
        return seen

    with pytest.raises(ValueError, match="first"):
        run(ValueError("first"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt())
    with (
        pytest.warns(UserWarning, match="the same command goes on from there"),
        pytest.raises(OSError, match="not mounted"),
    ):
        run(OSError("not mounted"))
    assert run(None)  # it was still there


def test_an_earlier_run_is_replaced_whole(tmp_path):
    for text in ("old", "new"):
        with RunFolder(tmp_path / "run", overwrite=True) as run:
            run.write_json("metrics.json", {"text": text})
            run.write_lines(f"{text}.txt", [])
    assert sorted(os.listdir(tmp_path / "run")) == ["metrics.json", "new.txt"]
    assert os.listdir(tmp_path) == ["run"]


def test_free_name_counts_up(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert free_name(tmp_path, "run").name == "run-3"


def test_evaluation_by_hand():
    """Three pictures, two right: recalls 1/2 and 1; loss is the mean of -ln 0.8, 0.3, 0.6."""
    outputs = [[0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]
    report = Classification().judge(outputs, [0, 0, 1], ["a", "b"]).details
    assert report["accuracy"] == pytest.approx(2 / 3)
    assert report["loss"] == pytest.approx(-np.log([0.8, 0.3, 0.6]).mean())
    assert report["per_class"]["a"]["recall"] == 0.5
    assert report["confusion"] == [[1, 1], [0, 1]]


@pytest.mark.parametrize("name", ["head", "partial", "full", "gradual"])
@pytest.mark.parametrize("epochs", [1, 2, 5, 30])
def test_strategies_thaw_from_the_head_down_and_in_time(name, epochs):
    groups = layer_groups(keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=2))  # fmt: skip
    plan = strategies.by_name(name, groups, epochs=epochs)
    thaws = plan.resolve(groups).thaws
    order = [group for _, thawed in sorted(thaws.items()) for group in thawed]
    assert order[0] == "head"
    assert plan.epochs == epochs
    assert max(thaws) < epochs
    assert len(order) == len(set(order))
    rates = [plan.phases[-1].multipliers[name] for name in groups.names if name in order]
    assert rates == sorted(rates)
    assert rates[-1] == 1.0
    if name in ("full", "gradual") and epochs > 1:
        assert set(order) == set(groups.names)
    if name == "gradual":
        assert order == list(reversed(groups.names))[: len(order)]


def task_data(count, classes=3):
    """`TaskData` of glyphs to train on, and nothing else."""
    drawn, labels = render_glyphs(count, seed=0)
    train, none = PictureExamples(drawn, labels % classes, classes), PictureExamples(drawn[:0], [])
    names = tuple(f"class_{i}" for i in range(classes))
    return TaskData(train, none, none, names, PreparePictures((32, 32)), Classification())


@pytest.mark.parametrize("settings, momentum", [
    ({}, 1 - 1 / (0.2 * 6 * 4)),  # 100 pictures, 4 batches
    ({"averaging": 0.5}, 1 - 1 / (0.5 * 6 * 4)),
    ({"averaging": 0}, None),
    ({"strategy": "lp_ft"}, None),
    ({"epochs": 1, "batch_size": 100}, None),  # a fifth of one step
])  # fmt: skip
def test_weights_are_averaged_over_a_share_of_the_steps(settings, momentum):
    config = TuneSettings(**{"strategy": "full", "epochs": 6, "batch_size": 32, **settings})
    data = task_data(100)
    model = training.build(load_glyphnet(), data, dropout=0.0, name="tuned")
    plan = training.plan_for(model, data, config)
    training.compile_for(model, data, config, plan)
    inner = model.optimizer.inner_optimizer
    assert inner.use_ema is (momentum is not None)
    if momentum:
        assert inner.ema_momentum == pytest.approx(momentum)
    stands = all(schedule == strategies.WARMUP for schedule in plan.schedules)
    assert stands is config.averages


@pytest.mark.parametrize("settings, size", [
    ({}, 288),
    ({"image_size": 96}, 96),
    ({"weights": None}, 224),
])  # fmt: skip
def test_pretrained_networks_get_pictures_larger_than_their_crops(settings, size, tmp_path):
    backbone = keras.applications.MobileNet(alpha=0.25, weights=None, include_top=False)
    weights = tmp_path / "a.weights.h5"
    backbone.save_weights(weights)
    given = {"backbone": "mobilenet", "alpha": 0.25, "weights": str(weights)}
    config = TuneSettings(**{**given, **settings})
    source = find_source(write_pictures(tmp_path / "data", classes=2, each=2))
    assert source.load_backbone(config).input_shape == (None, size, size, 3)


def test_config_is_plain_equal_data():
    assert TuneSettings(epochs=3) == TuneSettings(epochs=3) != TuneSettings(epochs=4)


@pytest.mark.parametrize("settings, moves", [
    ({}, False),
    ({"adapt_statistics": True}, True),
    ({"adapt_statistics": True, "weights": None}, False),
])  # fmt: skip
def test_statistics_are_those_of_the_training_pictures_if_asked_for(settings, moves):
    """100 pictures in batches of 33: the last holds one."""
    data = task_data(100)
    model = training.build(load_glyphnet(), data, dropout=0.0, name="tuned")
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    before = [norm.moving_mean.numpy() for norm in norms]
    training.adapt(model, data, TuneSettings(backbone="glyphnet", batch_size=33, **settings))
    moved = [np.abs(n.moving_mean - b).max() > 0 for n, b in zip(norms, before, strict=True)]
    assert len(norms) > 3 and moved == [moves] * len(norms)


@pytest.mark.parametrize("epochs", [0, 4])
def test_the_table_shows_what_cached_features_saved(epochs, capsys):
    metrics = {"accuracy": 0.5, "num_examples": 4, "num_train": 8, "loss": 1.0, "num_weights": 9}
    metrics |= {"num_skipped": 0, "seconds": 9.0, "per_class": {}, "examples": "pictures"}
    metrics |= {"objective": "classification", "score_name": "accuracy", "score": 0.5}
    metrics["prepared"] = PreparePictures((64, 32)).describe()
    metrics["frozen_features"] = {"epochs": epochs, "seconds_saved": 31.4}
    metrics_table(metrics, "run")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert ("epochs from cached features 4" in lines) == bool(epochs)
    assert ("seconds saved, about 31" in lines) == bool(epochs)
    assert "height × width in pixels 64 × 32" in lines

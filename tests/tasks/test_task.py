"""Which source and objective belong to data, and what a run keeps of both."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from kerastl.tasks import (
    Classification,
    ImageFolder,
    ImageTable,
    MultiLabel,
    PreparePictures,
    Regression,
    TrainedFor,
    find_source,
)
from kerastl.tasks.settings import TuneSettings


def test_data_say_what_is_learnt(tmp_path):
    folders = tmp_path / "folders"
    for name in ("a", "b"):
        (folders / name).mkdir(parents=True)
        (folders / name / "1.png").touch()
    found = find_source(folders)
    assert isinstance(found, ImageFolder) and isinstance(found.objective, Classification)
    for column, kind in (("labels", MultiLabel), ("value", Regression), ("label", Classification)):
        table = tmp_path / f"{column}.csv"
        table.write_text(f"file,{column}\na.png,1\nb.png,2\n")
        found = find_source(table)
        assert isinstance(found, ImageTable) and isinstance(found.objective, kind)
    (folders / "labels.csv").write_text("file,value\na/1.png,1\nb/1.png,2\n")
    assert isinstance(find_source(folders), ImageTable)  # a table in the folder goes first


@pytest.fixture
def folders(tmp_path):
    """Five pictures of two classes, of several sizes."""
    rng = np.random.default_rng(0)
    for name, side in zip(("a/1", "a/2", "a/3", "b/1", "b/2"), range(30, 55, 5), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (side, side + 4, 3)).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def test_finer_pictures_are_a_third_larger_unless_their_size_is_given(folders, monkeypatch):
    source = find_source(folders)
    prepare = PreparePictures((288, 288))
    finer = source.finer(prepare, settled := source.settled(TuneSettings()))
    assert finer.settings == dataclasses.replace(settled, image_size=384)
    assert (finer.cost, finer.said) == ((4 / 3) ** 2, "pictures of 384 pixels")
    own = [
        dataclasses.replace(settled, image_size=288),
        dataclasses.replace(settled, weights=None),
        TuneSettings(backbone="glyphnet"),
        TuneSettings(backbone="hub:resnet_18_imagenet"),
    ]
    assert [source.finer(prepare, one) for one in own] == [None] * 4
    odd = TuneSettings(backbone="inception_v3")
    assert source.finer(PreparePictures((299, 299)), odd).settings.image_size == 384
    monkeypatch.setattr("kerastl.tasks.pictures.files.fits_in_memory", lambda needed: False)
    assert source.finer(prepare, settled) is None
    kept = dataclasses.replace(settled, cache_dir="decoded")
    assert source.finer(prepare, kept) is not None


def test_pictures_read_again_are_those_of_a_source_that_reads_them_so(folders):
    source, small, large = find_source(folders), PreparePictures((8, 8)), PreparePictures((16, 12))
    read = [source.read(one, TuneSettings(), seed=0).train for one in (small, large)]
    rows = np.arange(len(read[0]))[::-1]
    again = read[0].prepared(large, rows)
    np.testing.assert_array_equal(again.inputs(), read[1].inputs(rows))
    np.testing.assert_array_equal(again.targets, read[1].targets[rows])
    assert again.paths == [read[1].paths[row] for row in rows]


def test_what_is_no_data_is_refused(tmp_path):
    (tmp_path / "notes.pdf").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.pdf must be a folder of class folders; or"):
        find_source(tmp_path / "notes.pdf")
    for name in ("note", "note.tsv", "notes.txt", "notes.jsonl"):
        with pytest.raises(FileNotFoundError, match=rf"no file or folder \S*{name}\."):
            find_source(tmp_path / name)
    for name in ("metrics.json", "config.json"):
        (tmp_path / "nowhere-2").mkdir(exist_ok=True)
        (tmp_path / "nowhere-2" / name).write_text("{}")
    with pytest.raises(ValueError, match=r"is a run of kerastl, and data are needed\. Texts stand"):
        find_source(tmp_path / "nowhere-2")


@pytest.mark.parametrize("objective", [Classification(), MultiLabel(), Regression()])
def test_what_a_run_keeps_comes_back(objective, tmp_path):
    known = TrainedFor(objective, PreparePictures((32, 24), "crop"), ("ä", "b"), 7)
    (tmp_path / "task.json").write_text(known.to_json(), encoding="utf-8")
    back = TrainedFor.beside(tmp_path / "model.keras")
    assert back.to_json() == known.to_json()
    assert type(back.objective) is type(objective) and back.prepare == known.prepare


def test_names_inside_a_file_win_over_those_beside_it(tmp_path):
    path = tmp_path / "model.tflite"
    assert TrainedFor.beside(path).outputs is None
    (tmp_path / "labels.txt").write_text("x\ny\n")
    assert TrainedFor.beside(path).outputs == ("x", "y")
    assert TrainedFor.beside(path, inside=("b", "a")).outputs == ("b", "a")


def test_a_model_must_take_what_was_prepared(tmp_path):
    path = tmp_path / "model.keras"
    unknown = TrainedFor.beside(path)
    fitted = unknown.check(path, (None, 32, 24, 3), (None, 4))
    assert fitted.prepare == PreparePictures((32, 24)) and unknown.prepare is None
    with pytest.raises(ValueError, match="must take pictures of one size"):
        unknown.check(path, (None, 7), (None, 4))

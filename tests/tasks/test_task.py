"""Which source and objective belong to data, and what a run keeps of both."""

import pytest

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


def test_what_is_no_data_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt must be a folder of class folders, or"):
        find_source(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_source(tmp_path / "nowhere")


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

"""What the one writer promises: whole or not at all, on the disk before it has its name."""

import os

import pytest

from kerastl._base import files


@pytest.fixture
def order(monkeypatch):
    """Names of the calls that reach the disk, in order; the originals run, too."""
    calls = []

    def telling(name, original):
        return lambda *args, **kwargs: (calls.append(name), original(*args, **kwargs))[1]

    for name in ("fsync", "replace", "rename"):
        monkeypatch.setattr(os, name, telling(name, getattr(os, name)))
    return calls


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, order):
    files.write(tmp_path / "a.txt", "ä")
    assert order == ["fsync", "replace", "fsync"]  # file, name, folder
    assert (tmp_path / "a.txt").read_bytes() == "ä".encode()
    files.write(tmp_path / "a.txt", b"\x00")
    assert (tmp_path / "a.txt").read_bytes() == b"\x00"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_was_there_stays_when_the_writer_fails(tmp_path):
    files.write(tmp_path / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "a.txt") as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_the_hidden_name_keeps_the_suffix(tmp_path):
    with files.replacing(tmp_path / "model.keras") as partial:
        assert partial.suffix == ".keras" and partial.name.startswith(".")
        partial.touch()


def test_the_earlier_file_is_kept_where_that_is_asked_for(tmp_path, order):
    goal, before = tmp_path / "a", tmp_path / "before"
    for text in ("1", "2", "3"):
        with files.replacing(goal, partial=tmp_path / "new", keep=before) as partial:
            partial.write_text(text)
    assert (goal.read_text(), before.read_text()) == ("3", "2")
    assert order[-4:] == ["fsync", "replace", "replace", "fsync"]


def test_a_folder_takes_the_place_of_a_full_one(tmp_path, order):
    old, made = tmp_path / "saved", tmp_path / "work" / "saved"
    for folder, text in ((old, "old"), (made, "new")):
        (folder / "inside").mkdir(parents=True)
        (folder / "inside" / "file").write_text(text)
    files.replaced(made, old)
    assert (old / "inside" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "work") == []
    assert order == ["fsync"] * 3 + ["rename"] * 2 + ["fsync"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    goal = tmp_path / "cache"
    with pytest.raises(ValueError), files.appearing(goal) as partial:
        (partial / "file").write_text("half")
        raise ValueError
    assert os.listdir(tmp_path) == []
    with files.appearing(goal) as partial:
        (partial / "file").write_text("first")
        goal.mkdir()  # another process was faster
        (goal / "file").write_text("theirs")
    assert (goal / "file").read_text() == "theirs" and os.listdir(tmp_path) == ["cache"]

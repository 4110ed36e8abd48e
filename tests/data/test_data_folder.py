"""A folder of pictures from disk to arrays: skipping, dividing, caching, refusing."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerastl._base import files as _disk
from kerastl.data import ImageError, load_image, load_image_folder, load_image_paths, write_skipped
from kerastl.data.images import read as reading
from kerastl.data.rows import Rows

FLOWERS = Path(__file__).parents[3] / "shared" / "data" / "flowers"


def draw(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 9), grey, np.uint8)).save(path)


def make(root, counts, start=0):
    """`counts[folder]` pictures a folder, each of its own grey."""
    for folder, count in counts.items():
        for number in range(count):
            draw(root / folder / f"{number:03}.png", start)
            start += 1
    return root


def load(root, **options):
    return load_image_folder(root, image_size=(4, 6), **options)


def test_class_folders_are_read_and_divided(tmp_path):
    data = load(make(tmp_path, {"a": 20, "b": 40}))
    assert data.class_names == ("a", "b") and data.notices == () and data.skipped == ()
    assert [len(part) for part in (data.train, data.val, data.test)] == [42, 9, 9]
    for part in (data.train, data.val, data.test):
        assert part.images.shape == (len(part), 4, 6, 3) and part.images.dtype == np.uint8
        assert type(part.images) is np.ndarray and part.labels.dtype == np.int64
        for image, label, path in zip(part.images, part.labels, part.paths, strict=True):
            assert data.class_names[label] == path.parent.name
            # Greys were given out in order of class and number: 20 belong to "a".
            assert (image == 20 * label + int(path.stem)).all()
    paths = [*data.train.paths, *data.val.paths, *data.test.paths]
    assert len(set(paths)) == 60


def test_the_split_depends_on_the_seed_and_not_on_the_file_system(tmp_path, monkeypatch):
    root = make(tmp_path, {"a": 12, "b": 12})
    first, other = load(root, seed=1), load(root, seed=2)
    listdir = os.scandir

    class Backwards:
        def __init__(self, path):
            self.entries = reversed(list(listdir(path)))

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.entries)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        close = __exit__

    monkeypatch.setattr(os, "scandir", Backwards)
    again = load(root, seed=1)
    assert first.train.paths == again.train.paths and first.test.paths == again.test.paths
    assert first.test.paths != other.test.paths


@pytest.mark.parametrize(
    ("folders", "sizes", "words"),
    # 15 % of 20 are 3 a class.
    [
        ({"train": 20, "test": 4}, (34, 6, 8), "test/ is kept .* 6 of the 40 pictures of train/"),
        ({"train": 20, "val": 4}, (34, 6, 8), "val/ is kept .* 6 of the 40 pictures of train/"),
        ({"train": 20, "val": 4, "test": 5}, (40, 8, 10), None),
        ({"train": 20}, (28, 6, 6), None),
    ],
)
def test_given_splits_are_kept(tmp_path, folders, sizes, words):
    counts = {f"{split}/{c}": n for split, n in folders.items() for c in "ab"}
    data = load(make(tmp_path, counts))
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    held_out = {"val" if words and "val/" in words else "test"} if len(folders) > 1 else {"train"}
    assert {path.parts[-3] for path in data.test.paths} == held_out
    text = "\n".join(data.notices)
    if words:
        assert re.search(words, text)
    else:
        assert text == ""


@pytest.mark.parametrize(
    ("folders", "sizes"),
    [({"train": 20, "test": 4}, (40, 0, 8)), ({"train": 20}, (34, 0, 6))],
)
def test_without_a_validation_share_all_pictures_train(tmp_path, folders, sizes):
    counts = {f"{split}/{c}": n for split, n in folders.items() for c in "ab"}
    data = load(make(tmp_path, counts), val_share=0)
    assert (len(data.train), len(data.val), len(data.test)) == sizes
    assert "held back" not in " ".join(data.notices)


@pytest.fixture
def damaged(tmp_path):
    root = make(tmp_path / "data", {"a": 9, "b": 9})
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(root / "a" / "cut.jpg")
    whole = (root / "a" / "cut.jpg").read_bytes()
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "empty.png").touch()
    (root / "b" / "text.jpg").write_text("not a picture")
    return root


def test_unreadable_files_are_skipped_and_listed(damaged, tmp_path):
    data = load(damaged)
    assert [(Path(path).name, reason.split(":")[0]) for path, reason in data.skipped] == [
        ("cut.jpg", "truncated JPEG"),
        ("empty.png", "empty file"),
        ("text.jpg", "no image format known here"),
    ]
    assert sum(map(len, (data.train, data.val, data.test))) == 18
    assert data.notices[0] == (
        f"{damaged / 'a' / 'cut.jpg'} is not a readable image (truncated JPEG). 3 of 21 files were "
        "skipped; see skipped.csv. Pass --strict (strict=True) to stop instead."
    )
    write_skipped(tmp_path / "skipped.csv", data.skipped)
    lines = (tmp_path / "skipped.csv").read_text().splitlines()
    assert lines[0] == "path,reason" and lines[1] == f"{damaged / 'a' / 'cut.jpg'},truncated JPEG"
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_strict_stops_and_names_them(damaged):
    with pytest.raises(ValueError, match=r"cut\.jpg is not a readable image \(truncated JPEG\)"):
        load(damaged, strict=True)
    with pytest.raises(ValueError, match=r"3 of 21 files cannot be read: .*empty\.png, .*text\."):
        load(damaged, strict=True)


def test_classes_with_too_few_pictures_are_refused(tmp_path):
    one = make(tmp_path / "one", {"a": 5, "b": 1})
    with pytest.raises(ValueError, match=r"Class 'b' .* at least 2 readable .* Received: 1"):
        load(one)
    bad = make(tmp_path / "bad", {"a": 5})
    for name in ("x.jpg", "y.jpg"):
        (bad / "b").mkdir(exist_ok=True)
        (bad / "b" / name).touch()
    words = r"Class 'b' .*Received: 0\. Skipped: x\.jpg \(empty file\), y\.jpg \(empty file\)"
    with pytest.raises(ValueError, match=words):
        load(bad)
    given = {"train/a": 3, "train/b": 1, "test/a": 1, "test/b": 1}
    assert len(load(make(tmp_path / "given", given)).train) == 3
    lost = make(tmp_path / "lost", {"train/a": 2, "train/b": 2})
    for name in "ab":
        (lost / "val" / name).mkdir(parents=True)
        (lost / "val" / name / "x.png").touch()
    with pytest.raises(ValueError, match="no readable picture in val/"):
        load(lost)


def test_pairs_of_a_class_leave_no_validation(tmp_path):
    data = load(make(tmp_path, {"a": 2, "b": 2}))
    assert (len(data.train), len(data.val), len(data.test)) == (2, 0, 2)
    assert data.val.images.shape == (0, 4, 6, 3)
    assert "too few pictures for a place in the validation part" in data.notices[0]


def test_pictures_there_twice_are_reported(tmp_path):
    root = make(tmp_path, {"train/a": 8, "train/b": 8, "test/a": 2, "test/b": 2})
    draw(root / "test" / "a" / "again.png", 3)  # the grey of train/a/003.png
    draw(root / "train" / "b" / "also.png", 0)  # of train/a/000.png
    text = "\n".join(load(root).notices)
    assert "1 of the 5 test pictures is also in the training or validation part" in text
    assert "again.png, same content as" in text and "003.png" in text
    assert "1 pictures are in two classes at once" in text and "also.png" in text


def test_progress_is_reported_for_every_file(tmp_path):
    calls = []
    load(make(tmp_path, {"a": 4, "b": 4}), progress=lambda *call: calls.append(call))
    assert calls == [(done, 8) for done in range(1, 9)]


def test_the_cache_answers_until_something_changes(tmp_path, monkeypatch):
    root, store = make(tmp_path / "data", {"a": 6, "b": 6}), tmp_path / "cache"
    reads = []
    read = reading._read
    monkeypatch.setattr(reading, "_read", lambda *args: reads.append(args) or read(*args))
    first = load(root, cache_dir=store)
    again = load(root, cache_dir=store, seed=9)
    assert len(reads) == 12 and len(list(store.iterdir())) == 1
    assert sorted(again.train.paths + again.val.paths + again.test.paths) == sorted(
        first.train.paths + first.val.paths + first.test.paths
    )
    np.testing.assert_array_equal(first.train.images, load(root).train.images)
    load(root, cache_dir=store, resize="crop")
    draw(root / "a" / "000.png", 250)
    changed = load(root, cache_dir=store)
    assert len(reads) == 12 + 12 + 12 + 12
    everything = [*changed.train.images, *changed.val.images, *changed.test.images]
    assert any((image == 250).all() for image in everything)


def test_the_cache_remembers_what_was_skipped(damaged, tmp_path):
    first = load(damaged, cache_dir=tmp_path / "cache")
    again = load(damaged, cache_dir=tmp_path / "cache")
    assert first.skipped == again.skipped and len(again.skipped) == 3


def test_large_sets_stay_on_disk(tmp_path, monkeypatch):
    root = make(tmp_path / "data", {"a": 10, "b": 10})
    in_memory = load(root)
    monkeypatch.setattr(_disk, "_physical_memory", lambda: 0)
    monkeypatch.setattr("kerastl.data.images.folder.fits_in_memory", lambda n: False)
    on_disk = load(root, cache_dir=tmp_path / "cache")
    assert isinstance(on_disk.train.images, Rows)
    assert isinstance(on_disk.train.images.array, np.memmap)
    np.testing.assert_array_equal(on_disk.train.images, in_memory.train.images)
    np.testing.assert_array_equal(on_disk.train.images[3:5], in_memory.train.images[3:5])
    np.testing.assert_array_equal(on_disk.train.images[[4, 0]], in_memory.train.images[[4, 0]])
    np.testing.assert_array_equal(on_disk.train.images[-1], in_memory.train.images[-1])


def test_too_large_for_memory_or_disk_is_refused_before_decoding(tmp_path, monkeypatch):
    root = make(tmp_path / "data", {"a": 4, "b": 4})
    with pytest.raises(ValueError, match=r"Give `cache_dir`.* or a smaller `image_size`"):
        load_image_folder(root, image_size=2**20)
    with pytest.raises(OSError, match=r"needs .* MiB for decoded pictures and its disk has"):
        load_image_folder(root, image_size=2**20, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_cache_leaves_nothing(tmp_path, error):
    def stop(done, total):
        raise error

    root = make(tmp_path / "data", {"a": 4, "b": 4})
    with pytest.raises(error):
        load(root, cache_dir=tmp_path / "cache", progress=stop)
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupt_does_not_first_decode_the_rest(monkeypatch):
    reads = []

    def slow(*args):
        reads.append(args)
        time.sleep(0.02)
        return {"digest": "x", "reason": None}

    def stop(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(reading, "_read", slow)
    pixels = np.zeros((400, 1, 1, 3), np.uint8)
    with pytest.raises(KeyboardInterrupt):
        reading.read_images(["x.jpg"] * 400, pixels, progress=stop)
    assert len(reads) < 200


def test_very_large_pictures_do_not_warn(tmp_path, monkeypatch):
    root = make(tmp_path, {"a": 3, "b": 3})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # each has 54: a warning, not an error
    assert load(root).skipped == ()


def test_prediction_reads_what_training_read(tmp_path):
    root = make(tmp_path, {"a": 5, "b": 5})
    data = load(root, resize="crop")
    images, files = load_image_paths(data.train.paths, image_size=(4, 6), resize="crop")
    np.testing.assert_array_equal(images, data.train.images)
    assert tuple(files) == data.train.paths
    np.testing.assert_array_equal(images[0], load_image(files[0], (4, 6), resize="crop"))
    assert load_image_paths(root, image_size=8)[0].shape == (10, 8, 8, 3)
    (root / "a" / "000.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"000\.png is not a readable image \(no image format"):
        load_image_paths(root, image_size=8)


def test_arguments_are_checked_before_any_work(tmp_path):
    for options in ({"seed": -1}, {"seed": 1.5}, {"resize": "fit"}):
        with pytest.raises(ValueError, match="Received"):
            load(tmp_path / "none", **options)
    with pytest.raises(ValueError, match="image_size="):
        load_image_folder(tmp_path / "none", image_size=0)


@pytest.mark.skipif(not FLOWERS.is_dir(), reason="no shared data here")
def test_flowers():
    """100 training and 30 test photographs of each of five classes, as its README says."""
    data = load_image_folder(FLOWERS, image_size=32)
    assert data.class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert [np.bincount(part.labels).tolist() for part in (data.train, data.val, data.test)] == [
        [85] * 5,
        [15] * 5,
        [30] * 5,
    ]
    assert data.skipped == () and 60 < data.train.images.mean() < 180

"""What is found in a folder, in which layouts, and what is refused."""

import os
import socket
import unicodedata

import pytest

from kerastl.data import find_images, scan_images


@pytest.fixture
def tree(tmp_path):
    """Make empty files; scanning opens none."""

    def make(*names):
        for name in names:
            file = tmp_path / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path / "data"

    return make


def names(folder, split):
    root = folder.path
    return [(path.relative_to(root).as_posix(), label) for path, label in folder.splits[split]]


def test_class_folders_come_sorted_and_nested(tree):
    folder = scan_images(
        tree("b/2.JPG", "a/z.png", "b/deep/1.webp", "a/x.jpg/inner.bmp", "b/1.gif")
    )
    assert folder.class_names == ("a", "b")
    assert names(folder, "all") == [
        ("a/x.jpg/inner.bmp", 0),
        ("a/z.png", 0),
        ("b/1.gif", 1),
        ("b/2.JPG", 1),
        ("b/deep/1.webp", 1),
    ]
    assert not folder.notices


def test_litter_is_passed_over_and_other_files_are_reported(tree):
    root = tree(
        "a/1.jpg",
        "b/1.jpg",
        "b/._1.jpg",
        "b/.DS_Store",
        "b/Thumbs.db",
        "__MACOSX/a/1.jpg",
        ".cache/x.jpg",
        "a/.ipynb_checkpoints/1.jpg",
        "a/notes.txt",
        "b/clip.mp4",
        "loose.png",
        "docs/readme.md",
    )
    folder = scan_images(root)
    assert names(folder, "all") == [("a/1.jpg", 0), ("b/1.jpg", 1)]
    assert [path.name for path in folder.ignored] == ["notes.txt", "clip.mp4", "readme.md"]
    text = "\n".join(folder.notices)
    assert "3 files are not pictures" in text and "clip.mp4" in text
    assert "folders without pictures" in text and "docs/" in text
    assert "1 pictures outside any class folder" in text and "loose.png" in text


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_given_splits(tree, val):
    root = tree("train/a/1.jpg", "train/b/1.jpg", f"{val}/b/1.jpg", "Test/a/9.jpg", "Test/b/9.jpg")
    folder = scan_images(root)
    assert list(folder.splits) == ["train", "val", "test"]
    assert names(folder, "val") == [(f"{val}/b/1.jpg", 1)]
    assert folder.notices == ("val/ has no pictures of a.",)


def test_to_measure_on_a_part_may_lack_a_class(tree):
    root = tree("train/a/1.jpg", "train/b/1.jpg", "test/b/1.jpg")
    folder = scan_images(root, least=1)
    assert names(folder, "test") == [("test/b/1.jpg", 1)]
    assert folder.notices == ("test/ has no pictures of a.",)


def test_train_alone_is_divided_like_class_folders(tree):
    folder = scan_images(tree("train/a/1.jpg", "train/b/1.jpg"))
    assert list(folder.splits) == ["all"] and folder.class_names == ("a", "b")


def test_one_name_in_two_unicode_spellings(tree):
    name = "café"
    nfd, nfc = (unicodedata.normalize(form, name) for form in ("NFD", "NFC"))
    root = tree(f"train/{nfd}/1.jpg", "train/b/1.jpg", f"test/{nfc}/1.jpg", "test/b/1.jpg")
    folder = scan_images(root)
    assert folder.class_names == ("b", nfc)
    assert [label for _, label in folder.splits["test"]] == [0, 1]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((".hidden",), "is empty. Lay the pictures out as one folder a class"),
        (("a/notes.txt",), r"holds no pictures.*Texts stand in .* the columns text and label\.$"),
        (("1.jpg", "2.png"), "2 pictures but no class folders.*<class>"),
        (("train/1.jpg", "test/a/1.jpg"), "1 pictures but no class folders"),
        (("a/1.jpg", "a/2.jpg"), "At least two classes are needed, and .* has one: a"),
        (("photos/a/1.jpg", "photos/b/1.jpg"), "If the classes are inside it, pass .*photos"),
        (("val/a/1.jpg", "test/b/1.jpg"), "has val/, test/ but no train/"),
        (("train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"), "which all mean 'val'. Keep one"),
        (
            ("train/rose/1.jpg", "train/tulip/1.jpg", "test/roses/1.jpg"),
            "classes that train/ lacks: roses.*Closest to 'roses': 'rose'",
        ),
        (
            ("train/a/1.jpg", "train/b/1.jpg", "val/b/1.jpg", "test/b/1.jpg"),
            r"/val, \S*/test must have a picture of each class .*: none of a\..* out of \S*/train;",
        ),
    ],
)
def test_layouts_that_are_refused(tree, files, words):
    with pytest.raises(ValueError, match=words):
        scan_images(tree(*files))


def test_no_folder_and_a_file_instead(tree):
    root = tree("flowers/a/1.jpg")
    with pytest.raises(FileNotFoundError, match=r"no folder .*flower\. Closest: 'flowers'"):
        scan_images(root / "flower")
    with pytest.raises(NotADirectoryError, match="is a file, and a folder of pictures is needed"):
        scan_images(root / "flowers/a/1.jpg")


def test_find_images_takes_files_and_folders(tree):
    root = tree("b/2.jpg", "b/1.png", "b/readme.txt", "single.dat")
    found = [p.name for p in find_images([root / "single.dat", root / "b"])]
    assert found == ["single.dat", "1.png", "2.jpg"]
    with pytest.raises(FileNotFoundError, match=r"single\.dta. Closest: 'single\.dat'"):
        find_images(root / "single.dta")
    (root / "none").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        find_images(root / "none")
    with pytest.raises(ValueError, match="at least one picture"):
        find_images([])


CAFE = "caf\u00e9"


@pytest.mark.parametrize("root", ["", "train/"])
def test_two_spellings_of_one_class_keep_all_pictures(tree, root):
    nfc, nfd = (unicodedata.normalize(form, CAFE) for form in ("NFC", "NFD"))
    folder = scan_images(
        tree(f"{root}{nfc}/1.jpg", f"{root}{nfd}/1.jpg", f"{root}{nfd}/2.jpg", f"{root}tea/1.jpg")
    )
    assert folder.class_names == (nfc, "tea")
    assert [label for _, label in folder.splits["all"]] == [0, 0, 0, 1]
    assert "2 folders called caf\u00e9" in folder.notices[0]


def test_train_and_val_may_spell_a_class_differently(tree):
    nfc, nfd = (unicodedata.normalize(form, CAFE) for form in ("NFC", "NFD"))
    folder = scan_images(
        tree(f"train/{nfd}/1.jpg", "train/tea/1.jpg", f"val/{nfc}/1.jpg", "val/tea/1.jpg")
    )
    assert folder.class_names == (nfc, "tea") and not folder.notices
    assert [label for _, label in folder.splits["val"]] == [0, 1]


@pytest.mark.parametrize(
    "name", ["two\nlines", "a\rb", "a\x0bb", "a\u2028b", "a\tb", "a\udce9", " "]
)
def test_a_class_must_have_a_name_of_one_line(tree, name):
    with pytest.raises(ValueError, match="must have a name of one line of text"):
        scan_images(tree(f"{name}/1.jpg", "b/1.jpg"))


def test_runs_of_kerastl_are_no_classes(tree):
    run = ("model.keras", "metrics.json", "config.json", "curves.png")
    compared = ("metrics.json", "comparison.md", "comparison.png")
    root = tree(
        "a/1.jpg", "b/1.jpg", *(f"saved_models/x/{name}" for name in run),
        *(f"mine/{name}" for name in run), *(f"b/deep/{name}" for name in compared),
        "images-1/pixels.npy",
    )  # fmt: skip
    folder = scan_images(root)
    assert names(folder, "all") == [("a/1.jpg", 0), ("b/1.jpg", 1)]
    assert folder.notices == (
        "4 folders are runs or caches of kerastl and were left out: images-1, mine, deep, x.",
    )
    assert [path.name for path in find_images(root)] == ["1.jpg", "1.jpg"]
    assert find_images(root / "mine")[0].name == "curves.png"  # named by the user


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("c/1.heic", b"", r"1 files in .*c, \.heic\. Save them as JPEG or PNG"),
        ("val/c/1.SVG", b"", r"\.svg"),
        ("c/IMG_1", b"\xff\xd8\xff\xe0", "without an ending. Give them the ending of their kind"),
        ("c/1.photo", b"\x00\x00\x00\x18ftypheic", r"\.photo"),
    ],
)
def test_a_class_of_pictures_that_are_not_read_is_refused(tree, file, content, words):
    root = "train/" if file.startswith("val/") else ""
    path = tree(f"{root}a/1.jpg", f"{root}b/1.jpg", f"{root}c/1.jpg" if root else "a/2.jpg", file)
    (path / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"Class 'c' must have pictures of a kind.*{words}"):
        scan_images(path)


@pytest.mark.parametrize(
    "files",
    [
        ("train/1.jpg", "bus/1.jpg", "car/1.jpg"),
        ("train/1.jpg", "test/1.jpg"),
        ("Validation/1.jpg", "bus/1.jpg"),
        ("train/a/1.jpg", "train/b/1.jpg", "bus/1.jpg"),
    ],
)
def test_a_class_called_as_a_purpose_is_told_so(tree, files):
    name = files[0].partition("/")[0]
    with pytest.raises(ValueError, match=f"If '{name}' is a class, rename its folder"):
        scan_images(tree(*files))


def test_folders_beside_the_splits_are_told(tree):
    folder = scan_images(
        tree("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg", "raw/1.jpg")
    )
    assert folder.notices[0].endswith("has folders beside train/ that were left out: raw/.")


def test_what_is_no_file_is_passed_over(tree):
    root = tree("a/1.jpg", "b/1.jpg", "c/d.jpg/1.jpg")
    os.mkfifo(root / "a" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(root / "b")  # the path of a socket has 108 bytes at most
        listening.bind("socket.png")
        os.chdir(here)
        (root / "b" / "device.png").symlink_to("/dev/zero")
        folder = scan_images(root)
    assert names(folder, "all") == [("a/1.jpg", 0), ("b/1.jpg", 1), ("c/d.jpg/1.jpg", 2)]
    assert "3 entries are no files" in folder.notices[0]
    with pytest.warns(UserWarning, match="1 entries are no files but pipes"):
        assert [path.name for path in find_images(root / "a")] == ["1.jpg"]


def test_links_to_folders_inside_a_class_are_told(tree, tmp_path):
    root = tree("a/1.jpg", "b/1.jpg")
    (root / "b" / "more").symlink_to(root / "a")
    assert scan_images(root).notices == (
        "1 folders inside class folders are links, which were not followed: more.",
    )


def test_a_folder_that_is_missing_proposes_folders(tree):
    root = tree("flowers/1.jpg", "flower.txt", ".flowers")
    with pytest.raises(
        FileNotFoundError, match=r"There is no folder .*/flower. Closest: 'flowers'.$"
    ):
        scan_images(root / "flower")
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*/else\.$"):
        scan_images(root / "else")

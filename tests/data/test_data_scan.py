"""What is found in a folder, in which layouts, and what is refused."""

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


def test_train_alone_is_divided_like_class_folders(tree):
    folder = scan_images(tree("train/a/1.jpg", "train/b/1.jpg"))
    assert list(folder.splits) == ["all"] and folder.class_names == ("a", "b")


def test_one_name_in_two_unicode_spellings(tree):
    name = "café"
    nfd, nfc = (unicodedata.normalize(form, name) for form in ("NFD", "NFC"))
    folder = scan_images(tree(f"train/{nfd}/1.jpg", "train/b/1.jpg", f"test/{nfc}/1.jpg"))
    assert folder.class_names == ("b", nfc)
    assert [label for _, label in folder.splits["test"]] == [1]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((".hidden",), "is empty. Lay the pictures out as one folder a class"),
        (("a/notes.txt",), "holds no pictures"),
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

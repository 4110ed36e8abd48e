"""Names of classes beside a file: one a line, written and read back as they are."""

import pytest

from kerastl.export import labels


@pytest.mark.parametrize(
    "name", ["two\nlines", "a\rb", "a\x0cb", "a\x85b", "a\u2029b", "", " ", "\udce9"]
)
def test_a_label_must_be_one_line_of_text(name):
    with pytest.raises(ValueError, match="Each label must be one line of text"):
        labels.checked(["b", name], 2)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_what_stands_on_a_line_is_one_name(ending, last, tmp_path):
    """Other writers leave characters in a name at which `str.splitlines` divides it."""
    text = ending.join(["\ufeffb", "a\x0bb", "caf\u00e9\u2028"]) + last.replace("\n", ending)
    (tmp_path / "labels.txt").write_bytes(text.encode())
    assert labels.beside(tmp_path / "model.tflite") == ("b", "a\x0bb", "caf\u00e9\u2028")

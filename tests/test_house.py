"""The house holds: floors, what `import kerastl` loads, the sizes of rooms, the command line."""

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import kerastl

ROOT = pathlib.Path(kerastl.__file__).parent
FLOORS = {
    "_version": 0, "_base": 0, "_keras": 0,
    "graph": 1, "schedules": 1, "data": 1,
    "freezing": 2, "optimizers": 2, "backbones": 2,
    "plans": 3,
    "training": 4,
    "callbacks": 5, "adaptation": 5, "compression": 5, "continual": 5, "distillation": 5,
    "export": 6,
    "report": 7, "tasks": 7,
    "recipes": 8,
}  # fmt: skip
SEAMS = ("_keras/", "compression/island.py")  # where private names of Keras and TensorFlow are met
PRIVATE_MODULES = {"keras.src", "tensorflow.python", "tensorflow.lite.python"}
NAMED_TUPLE = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}  # Python's, and public
# Private names met elsewhere: (file, name) → why it is not behind a seam.
MET_ELSEWHERE = {
    ("export/flatbuffer.py", "tensorflow.lite.python"): "owns the schema of LiteRT files",
    (
        "export/selective.py",
        "_get_ops_details",
    ): "ai_edge_litert lists no operations",
    (
        "training/fine_tuner.py",
        "_loss_tracker",
    ): "inherited: a `train_step` must fill it",
    ("training/fitting.py", "_progbar"): "inherited: whether Keras's CallbackList shows a bar",
}
FOREIGN = (
    "tf_keras", "tensorflow_model_optimization", "keras_hub", "keras_cv", "keras_nlp",
    "matplotlib", "sklearn", "PIL", "ai_edge_litert",
)  # fmt: skip


def modules():
    return sorted(ROOT.rglob("*.py"))


def imported(path):
    """Names of the modules that `path` imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(dotted):
    """The first part below `kerastl` of a dotted name, or None for what is not ours."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "kerastl" and len(parts) > 1 else None


def test_every_room_has_a_floor():
    rooms = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in modules()}
    assert rooms - {"__init__", "__main__"} == set(FLOORS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    for name in imported(path):
        other = room(name)
        if other in FLOORS and other != own:
            assert FLOORS[other] < FLOORS[own], f"{path} imports {name} from its own floor or above"


def test_no_recipe_knows_a_modality():
    """What a picture or a text is stands in `tasks` and below; "imagenet" is a name of weights."""
    word = re.compile(r"image(?!net)|pixel|token", re.IGNORECASE)
    said = [
        f"{path.name}: {line.strip()}"
        for path in sorted((ROOT / "recipes").glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if word.search(line)
    ]
    assert said == []


def test_tf_keras_is_never_written():
    said = [
        path
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr == "keras"
        and isinstance(node.value, ast.Name)
        and node.value.id == "tf"
    ]
    assert said == []


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def own_private_names():
    """Underscore names that kerastl itself defines, outside the seams."""
    found = set()
    for path in beside_seams():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)  # of a module, or an attribute of a class
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    found.add(node.attr)
            else:
                found.update(put_past_keras(node))
    return found


def put_past_keras(node):
    """Names in `vars(self)["_name"] = ...` and `vars(self).update(_name=...)`."""
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "vars(self)":
        yield from [node.slice.value] if isinstance(node.slice, ast.Constant) else []
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "vars(self).update":
        yield from (keyword.arg for keyword in node.keywords)


def beside_seams():
    return [p for p in modules() if not p.relative_to(ROOT).as_posix().startswith(SEAMS)]


def private_names(path, own):
    """Private modules and attributes of others that `path` names."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            yield from (m for m in PRIVATE_MODULES for n in names if f"{n}.".startswith(f"{m}."))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            is_ours = node.attr in own | NAMED_TUPLE or node.attr.startswith("_kerastl_")
            yield from [] if is_ours else [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ["keras.src"] if "keras.src" in node.value else []


def test_private_names_of_keras_and_tensorflow_stay_behind_the_seams():
    own = own_private_names()
    met = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in beside_seams()
        for name in private_names(path, own)
    }
    assert met == set(MET_ELSEWHERE)


def test_import_loads_nothing_heavy():
    """Beyond what Keras itself loads: with scikit-learn installed it loads that and more."""
    program = (
        "import sys, keras; before = set(sys.modules); import kerastl; "
        f"print([m for m in {FOREIGN!r} if m in set(sys.modules) - before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_does_not_load_tensorflow(tmp_path):
    """Through the real entry point, for the program and each verb."""
    script = tmp_path / "kerastl"
    script.write_text(
        "import sys\n"
        "from kerastl_cli.main import cli, run\n"
        "for verb in ([], *([verb] for verb in cli.commands)):\n"
        "    assert run([*verb, '--help']) == 0\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "freez" not in done.stderr


def test_public_names_resolve():
    for name in kerastl.__all__:
        assert getattr(kerastl, name) is not None
    for name in ("compare", "compress"):  # packages too
        for _ in range(2):
            assert inspect.isfunction(getattr(kerastl, name))
    with pytest.raises(AttributeError, match="no_such_name"):
        kerastl.no_such_name  # noqa: B018

"""The house holds: floors, what `import kerastl` loads, the sizes of rooms, the command line."""

import ast
import functools
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import kerastl

ROOT = pathlib.Path(kerastl.__file__).parent
CLI = ROOT.parent / "kerastl_cli"
LONG = 400  # lines, from which a file says at its top why it is one
FLOORS = {
    "_version": 0, "_base": 0, "_keras": 0,
    "graph": 1, "schedules": 1, "data": 1,
    "freezing": 2, "optimizers": 2, "backbones": 2,
    "plans": 3,
    "training": 4,
    "callbacks": 5, "adaptation": 5, "compression": 5, "continual": 5, "distillation": 5,
    "peft": 5,
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


def runs(node, *, at_import):
    """The nodes below `node` that run: at import, or ever. Imports for type checkers never do."""
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if at_import and is_function:
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runs(child, at_import=at_import)


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


def test_the_public_page_is_plain_imports_of_rooms():
    """Each name of `kerastl` comes from a room's own page, by an import that an editor reads."""
    said = []
    for node in ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body[1:]:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module.split(".")[0] == "kerastl", ast.unparse(node)
            said += [(node.module, alias.asname or alias.name) for alias in node.names]
        else:
            assert ast.unparse(node).startswith("__all__ = ["), ast.unparse(node)
    assert {name for _, name in said} == set(kerastl.__all__)
    for module, name in said:
        assert module == "kerastl" or module.removeprefix("kerastl.") in FLOORS, module
        if module != "kerastl" and name != "__version__":
            assert name in sys.modules[module].__all__, f"{module} does not export {name}"


def files_imported(path, *, at_import):
    """The files of kerastl and kerastl_cli that the file `path` imports, by dotted name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in runs(tree, at_import=at_import):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files())
        elif isinstance(node, ast.ImportFrom) and node.module in files():
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in files() else node.module


@functools.cache
def files():
    """Dict from dotted name to path of each file of kerastl and kerastl_cli."""
    found = {}
    for path in (*modules(), *CLI.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def circles(imports):
    """Groups of at least two that import one another: strongly connected components.

    Tarjan, 1972. `imports` is a dict from name to the names it imports.

    >>> circles({"a": ["b"], "b": ["c"], "c": ["b"]})
    [['b', 'c']]
    """
    number, low, stack, found = {}, {}, [], []

    def visit(name):
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in imports.get(name, ()):
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            at = stack.index(name)
            found.append(sorted(stack[at:]))
            del stack[at:]

    for name in imports:
        if name not in number:
            visit(name)
    return [group for group in found if len(group) > 1]


def test_no_files_import_one_another():
    """What runs at import; a function may import what its own file is imported by."""
    imports = {name: set(files_imported(path, at_import=True)) for name, path in files().items()}
    assert circles(imports) == []


@pytest.mark.parametrize("name", [name for name in FLOORS if (ROOT / name).is_dir()])
def test_sub_rooms_do_not_import_one_another(name):
    """Folders of a room and the files beside them, functions included; not the room's own page."""
    home = f"kerastl.{name}."

    def part(dotted):
        return dotted.removeprefix(home).split(".")[0]

    imports = {part(dotted): set() for dotted in files() if dotted.startswith(home)}
    for dotted, path in files().items():
        if dotted.startswith(home):
            others = {o for o in files_imported(path, at_import=False) if o.startswith(home)}
            imports[part(dotted)] |= {part(other) for other in others} - {part(dotted)}
    folders = {path.name for path in (ROOT / name).iterdir() if path.is_dir()}
    assert [circle for circle in circles(imports) if folders & set(circle)] == []


def test_recipes_are_imported_by_the_public_page_and_the_command_line_alone():
    by = {
        path.relative_to(ROOT).as_posix()
        for path in modules()
        if any(room(name) == "recipes" for name in imported(path))
    }
    assert {name for name in by if not name.startswith("recipes/")} <= {"__init__.py"}


def test_the_command_line_imports_kerastl_inside_functions():
    """So that `kerastl --help` need not wait for TensorFlow."""
    for path in sorted(CLI.rglob("*.py")):
        for node in runs(ast.parse(path.read_text(encoding="utf-8")), at_import=True):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert "kerastl" not in {name.split(".")[0] for name in names}, f"{path}: {names}"


def test_a_long_file_says_at_its_top_why():
    """By the words "over 400 lines because" in its docstring."""
    for path in files().values():
        text = path.read_text(encoding="utf-8")
        said = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
        is_long, tells = text.count("\n") > LONG, f"over {LONG} lines because" in said
        assert is_long == tells, f"{path} has {text.count(chr(10))} lines; its docstring: {said}"


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
    documented = name in ("_replace", "_asdict", "_fields")  # of every named tuple
    return name.startswith("_") and not name.endswith("__") and not documented


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
    """Names in `self.__dict__["_name"] = ...` and `self.__dict__.update(_name=...)`."""
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "self.__dict__":
        yield from [node.slice.value] if isinstance(node.slice, ast.Constant) else []
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "self.__dict__.update":
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


def test_pages_have_no_place_left_to_fill_in():
    """No `@FIGURE@` that a script was to put a measured figure into."""
    pages = [ROOT.parent / "README.md", *(ROOT.parent / "docs").rglob("*.md")]
    assert len(pages) > 50
    found = {page.name: re.findall(r"@[A-Z_]+@", page.read_text("utf-8")) for page in pages}
    assert {name: left for name, left in found.items() if left} == {}

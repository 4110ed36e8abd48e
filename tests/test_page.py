"""The public page reads as types: an editor completes it, and no signature leaves one open."""

import dataclasses
import importlib.resources
import inspect
import types

import jedi
import pytest

import kerastl

ROOMS = [getattr(kerastl, name) for name in kerastl.__all__]
ROOMS = [room for room in ROOMS if isinstance(room, types.ModuleType)]


def public(module):
    """The names that `module` gives to users, with what they stand for."""
    names = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
    found = {f"{module.__name__}.{name}": getattr(module, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if getattr(value, "__module__", "").startswith("kerastl")
    }


def everything():
    found = {}
    for module in (kerastl, *ROOMS):
        found.update(public(module))
    return found


def functions_of(name, value):
    """Pairs of name and function: `value` itself, or its public methods that are ours."""
    if inspect.isfunction(value):
        yield name, value
    if inspect.isclass(value):
        for key, attribute in inspect.getmembers(value):
            plain = getattr(attribute, "__func__", attribute)
            ours = getattr(plain, "__module__", "") or ""
            is_public = not key.startswith("_") or key == "__init__"
            if inspect.isfunction(plain) and ours.startswith("kerastl") and is_public:
                yield f"{name}.{key}", plain


EVERYTHING = everything()
FUNCTIONS = dict(pair for item in EVERYTHING.items() for pair in functions_of(*item))
DATACLASSES = {k: v for k, v in EVERYTHING.items() if dataclasses.is_dataclass(v)}


def test_the_page_is_seen():
    """That the tables below are not empty by mistake."""
    assert {"kerastl.fine_tune", "kerastl.FineTuner.fit", "kerastl.export.to_litert"} <= set(
        FUNCTIONS
    )
    assert {"kerastl.Phase", "kerastl.TransferPlan", "kerastl.OneCycle"} <= set(DATACLASSES)


def test_an_editor_completes_every_name():
    script = jedi.Script("import kerastl\nkerastl.")
    completed = {name.name for name in script.complete(2, len("kerastl."))}
    assert set(kerastl.__all__) - completed == set()


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_an_editor_completes_every_room(room):
    line = f"kerastl.{room.__name__.removeprefix('kerastl.')}."
    completed = {
        name.name for name in jedi.Script(f"import kerastl\n{line}").complete(2, len(line))
    }
    names = {name.rpartition(".")[2] for name in public(room)}
    assert names - completed == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_and_return_has_a_type(name):
    signature = inspect.signature(FUNCTIONS[name])
    bare = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is inspect.Parameter.empty and parameter.name not in ("self", "cls")
    ]
    assert bare == []
    assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", DATACLASSES)
def test_no_field_is_just_an_object(name):
    vague = [f.name for f in dataclasses.fields(DATACLASSES[name]) if f.type in (object, "object")]
    assert vague == []


def test_the_package_says_that_it_is_typed():
    assert (importlib.resources.files(kerastl) / "py.typed").is_file()

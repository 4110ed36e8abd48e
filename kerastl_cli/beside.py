"""Modules of kerastl that need nothing but Python, read without `import kerastl`.

That import loads TensorFlow, for seconds; `kerastl --help` must not.
"""

import functools
import importlib.util
import pathlib
import sys
from typing import Any


@functools.cache
def beside(name: str) -> Any:
    """The module `kerastl.NAME`, loaded by its path under a name of its own.

    Args:
        name: Dotted name below `kerastl`, of a module that imports the standard library alone.
    """
    package: Any = importlib.util.find_spec("kerastl")  # finds a top-level package, does not run it
    path = pathlib.Path(package.origin).parent.joinpath(*name.split(".")).with_suffix(".py")
    own_name = f"_kerastl_beside_{name.replace('.', '_')}"
    spec: Any = importlib.util.spec_from_file_location(own_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[own_name] = module  # dataclasses look there for the types of their fields
    spec.loader.exec_module(module)
    return module

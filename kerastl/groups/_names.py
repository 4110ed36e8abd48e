"""Unique operation names, which a functional model demands."""

import keras


def make_unique(operations, trails):
    """Rename those of `operations` whose name an earlier or less deeply nested one holds.

    Layers keep their names before plain operations do, the less deeply nested before the more
    deeply nested, the earlier before the later. The new name is the path of nested models and
    the old name, joined by dots, with a number where even that is taken.

    Args:
        operations: The operations of one graph, in order.
        trails: Dict from `id(operation)` to the names of the nested models around it.
    """
    taken = set()
    for operation in sorted(operations, key=lambda op: _seniority(op, trails)):
        operation.name = _free_name(operation.name, trails.get(id(operation), ()), taken)
        taken.add(operation.name)


def _seniority(operation, trails):
    return (not isinstance(operation, keras.Layer), len(trails.get(id(operation), ())))


def _free_name(name, trail, taken):
    if name not in taken:
        return name
    name = ".".join((*trail, name))
    number = 1
    unique = name
    while unique in taken:
        unique = f"{name}_{number}"
        number += 1
    return unique

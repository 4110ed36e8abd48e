"""The adapters that a plan trains in place of the layers below the head, as plain data."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from kerastl.plans.phase import FrozenDict


@dataclasses.dataclass(frozen=True)
class AdapterPlan:
    """Which adapters a model must have for a plan. Plain data: equal when equal.

    A plan says it and does not add them: `kerastl.peft.add` does, before `compile`; `line` is the
    call.

    Args:
        method: String, the name of a method of `kerastl.peft`, such as `"LoRA"`.
        settings: Dict of the arguments of the method, JSON values.
        where: Which layers they act on, as `peft.add` takes it: a path, a regex, the name of a
            group, or several. None is the method's own choice.
        also_train: What of the model trains beside them, in the same way. None is the group
            `head`, where there is one; `()` is none.

    Raises:
        TypeError, ValueError: If an argument is of another kind.

    Example:
        >>> print(AdapterPlan("LoRA", {"rank": 4}, where="layer_3").line)
        kerastl.peft.add(model, kerastl.peft.LoRA(rank=4), where='layer_3')
    """

    method: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=FrozenDict)
    _: dataclasses.KW_ONLY
    where: str | Sequence[str] | None = None
    also_train: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or not self.method.isidentifier():
            raise TypeError(
                "`method` must be the name of a method of `kerastl.peft`, such as 'LoRA'. "
                f"Received: method={self.method!r}"
            )
        if not isinstance(self.settings, Mapping):
            raise TypeError(
                "`settings` must be a dict of the arguments of the method. "
                f"Received: settings={self.settings!r}"
            )
        object.__setattr__(self, "settings", plain(self.settings))
        for name in ("where", "also_train"):
            object.__setattr__(self, name, _checked(name, getattr(self, name)))

    @property
    def text(self) -> str:
        """What is printed of it: the method with its settings, and where."""
        said = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        place = "" if self.where is None else f" where {_listed(self.where)!r}"
        return f"{self.method}({said}){place}"

    @property
    def line(self) -> str:
        """The call that adds them to a model called `model`."""
        said = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        more = [
            f", {name}={_listed(value)!r}"
            for name in ("where", "also_train")
            if (value := getattr(self, name)) is not None
        ]
        return f"kerastl.peft.add(model, kerastl.peft.{self.method}({said}){''.join(more)})"

    def fits(self, method: Any) -> bool:
        """Whether `method`, one of `kerastl.peft`, is the one meant, with these settings."""
        if type(method).__name__ != self.method:
            return False
        said = plain(dataclasses.asdict(method))
        return all(name in said and said[name] == value for name, value in self.settings.items())


def plain(value: Any) -> Any:
    """`value`, JSON or what becomes it, with dicts and lists that cannot be changed.

    Example:
        >>> plain({"tokens": [3, 7]}) == plain({"tokens": (3, 7)})
        True
    """
    if isinstance(value, Mapping):
        return FrozenDict((name, plain(one)) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(plain(one) for one in value)
    return value


def _listed(value):
    return value if isinstance(value, str) or not value else list(value)


def _checked(name, value):
    if value is None or (isinstance(value, str) and value):
        return value
    names = tuple(value) if isinstance(value, (list, tuple)) else None
    empty = names == () and name == "where"
    if names is None or empty or not all(isinstance(one, str) for one in names):
        raise TypeError(
            f"`{name}` must be a string, such as the name of a group or a regex of whole paths, or "
            f"several, so that it can be written down. Received: {name}={value!r}"
        )
    return names

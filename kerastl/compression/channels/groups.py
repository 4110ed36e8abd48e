"""The choices of a network in groups, and how many of each group go."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import keras
import numpy as np

if TYPE_CHECKING:
    from kerastl.compression.channels.scoring import Norms, Saliency
    from kerastl.compression.channels.trace import Channels


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that the same layers make: what a share is counted of.

    Attributes:
        makers: Tuple of the layers that make them, in the order of the network.
        choices: List of choices of `Atoms`, each of which is one channel of every maker.
    """

    makers: tuple[keras.Layer, ...]
    choices: list[int]


def groups_of(channels: "Channels") -> list[Group]:
    """The `Group`s of channels that may go, in the order of the network."""
    atoms, found = channels.atoms, {}
    for choice, members in atoms.choices().items():
        makers = {id(atoms.makers[atom]): atoms.makers[atom] for atom in members}
        found.setdefault(tuple(makers), (tuple(makers.values()), []))[1].append(choice)
    return [Group(makers, choices) for makers, choices in found.values()]


def choose(
    groups: Sequence[Group],
    scorer: "Norms | Saliency",
    share: float,
    *,
    scope: Literal["group", "global"],
    round_to: int,
) -> set[int]:
    """The choices that go.

    Args:
        groups: List of `Group`s.
        scorer: `Norms` or `Saliency`.
        share: Float in (0, 1), of the channels that may go.
        scope: `"group"` takes the share of each group, `"global"` of all together.
        round_to: Int > 0. What is left of a group is a multiple of it, the one nearest to the
            share, and never less than it. A group with fewer channels stays.

    Returns:
        Set of choices.
    """
    if scope == "group":
        left = [len(group.choices) * (1 - share) for group in groups]
    else:
        left = _left_of_each([scorer.scores(group.choices) for group in groups], share)
    gone = set()
    for group, wanted in zip(groups, left, strict=True):
        count = len(group.choices) - rounded(wanted, len(group.choices), round_to)
        gone.update(scorer.pick(group.choices, count) if count else ())
    return gone


def rounded(wanted: float, count: int, round_to: int) -> int:
    """How many of `count` channels are left where `wanted` were.

    Example:
        >>> [rounded(n, 64, 8) for n in (44.8, 3, 64)]
        [48, 8, 64]
    """
    nearest = int(wanted / round_to + 0.5) * round_to
    return min(count, max(round_to, nearest))


def _left_of_each(scores, share):
    """How many of each group are above the threshold that `share` of all scores is below."""
    together = np.concatenate([np.zeros(0), *scores])
    ranks = np.argsort(np.argsort(together, kind="stable"), kind="stable")
    stays = ranks >= round(share * len(together))
    ends = np.cumsum([len(part) for part in scores])
    return [int(part.sum()) for part in np.split(stays, ends[:-1])] if scores else []


class Atoms:
    """Every channel that some layer makes, and which of them are one and the same choice.

    A *layout* is an int array that says, for each position along the last axis of a tensor,
    which atom it carries. Adding two tensors joins their atoms; concatenating them puts their
    layouts one after the other.

    Example:
        >>> atoms = Atoms()
        >>> a, b = atoms.make(2, "a"), atoms.make(2, "b")
        >>> atoms.join(a, b[::-1])
        >>> atoms.roots(a).tolist() == atoms.roots(b)[::-1].tolist()
        True
        >>> atoms.pin(a[:1], "an output")
        >>> sorted(atoms.pinned(b).items())
        [(1, 'an output')]
    """

    def __init__(self) -> None:
        self._parent = np.zeros(0, int)
        self._pins = {}  # root or once a root → reason
        self.makers = []  # atom → who made it
        self.positions = []  # atom → its number among those of its maker

    def make(self, count: int, maker: keras.Layer | str | None) -> np.ndarray:
        """Layout of `count` new atoms made by `maker`."""
        first = len(self.makers)
        layout = np.arange(first, first + count)
        self._parent = np.concatenate([self._parent, layout])
        self.makers += [maker] * count
        self.positions += range(count)
        return layout

    def join(self, a: np.ndarray, b: np.ndarray) -> None:
        """The atoms of two layouts of equal length are the same choices from now on."""
        for x, y in zip(self.roots(a), self.roots(b), strict=True):
            x, y = self._root(x), self._root(y)
            if x != y:
                self._parent[y] = x
                if y in self._pins:
                    self._pins.setdefault(x, self._pins[y])

    def pin(self, layout: np.ndarray, reason: str) -> None:
        """The atoms of `layout` must stay, for `reason`."""
        for root in self.roots(layout):
            self._pins.setdefault(int(root), reason)

    def pinned(self, layout: np.ndarray) -> dict[int, str]:
        """Dict from position in `layout` to the reason why its atom must stay."""
        roots = self.roots(layout).tolist()
        return {i: self._pins[root] for i, root in enumerate(roots) if root in self._pins}

    def roots(self, layout: np.ndarray | range) -> np.ndarray:
        """The choice that each atom of `layout` belongs to, named by one of its atoms."""
        return np.array([self._root(atom) for atom in layout], int)

    def choices(self) -> dict[int, list[int]]:
        """Dict from each choice to the list of its atoms, those that must stay left out."""
        found = {}
        for atom, root in enumerate(self.roots(range(len(self.makers))).tolist()):
            found.setdefault(root, []).append(atom)
        return {root: atoms for root, atoms in found.items() if root not in self._pins}

    def _root(self, atom):
        while self._parent[atom] != atom:
            self._parent[atom] = self._parent[self._parent[atom]]
            atom = self._parent[atom]
        return atom

"""Channels that must stay or go together: a union-find over all channels of a network."""

import numpy as np


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

    def __init__(self):
        self._parent = np.zeros(0, int)
        self._pins = {}  # root or once a root → reason
        self.makers = []  # atom → who made it
        self.positions = []  # atom → its number among those of its maker

    def make(self, count, maker):
        """Layout of `count` new atoms made by `maker`."""
        first = len(self.makers)
        layout = np.arange(first, first + count)
        self._parent = np.concatenate([self._parent, layout])
        self.makers += [maker] * count
        self.positions += range(count)
        return layout

    def join(self, a, b):
        """The atoms of two layouts of equal length are the same choices from now on."""
        for x, y in zip(self.roots(a), self.roots(b), strict=True):
            x, y = self._root(x), self._root(y)
            if x != y:
                self._parent[y] = x
                if y in self._pins:
                    self._pins.setdefault(x, self._pins[y])

    def pin(self, layout, reason):
        """The atoms of `layout` must stay, for `reason`."""
        for root in self.roots(layout):
            self._pins.setdefault(int(root), reason)

    def pinned(self, layout):
        """Dict from position in `layout` to the reason why its atom must stay."""
        roots = self.roots(layout).tolist()
        return {i: self._pins[root] for i, root in enumerate(roots) if root in self._pins}

    def roots(self, layout):
        """The choice that each atom of `layout` belongs to, named by one of its atoms."""
        return np.array([self._root(atom) for atom in layout], int)

    def choices(self):
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

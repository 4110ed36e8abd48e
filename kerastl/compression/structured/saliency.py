"""Which channels can be told from the others: the error that is left when one goes."""

import numpy as np

ROUNDS = 16  # in which the channels of a group go; scores are new in each
GONE = 1e30


class Saliency:
    """The error in the outputs of all layers that read a channel, if the others make up for it.

    For a layer that computes `W x`, taking input `j` away and correcting the other weights by least
    squares changes its outputs by `|W_j|² / (E[x xᵀ]⁻¹)_jj`, here over its outputs' second moment.
    Scores add over the layers that read the channel.

    Args:
        channels: `Channels`.
        readers: Dict from the id of a layer to its `Reader`. Not changed.

    References:
        Hassibi & Stork, 1993 (the optimal brain surgeon, equation 5); Frantar & Alistarh, 2022,
        section 3, https://arxiv.org/abs/2208.11580
    """

    def __init__(self, channels, readers):
        self._parts = [_Part(channels.atoms, reader) for reader in readers.values()]

    def knows(self, choices):
        """Whether there is something to score each of `choices` by: what nobody reads has 0."""
        return True

    def scores(self, choices):
        """Array of the scores of `choices` as things are."""
        place = {choice: i for i, choice in enumerate(choices)}
        return sum((part.scores(place) for part in self._parts), np.zeros(len(choices)))

    def pick(self, choices, count):
        """The `count` of `choices` that go, some in each round; later scores know they went."""
        alive, gone = list(choices), []
        rounds = min(ROUNDS, count)
        for r in range(rounds):
            now = (count * (r + 1)) // rounds - len(gone)
            order = np.argsort(self.scores(alive), kind="stable")[:now]
            leaving = [alive[i] for i in order]
            for part in self._parts:
                part.remove(set(leaving))
            gone += leaving
            alive = [choice for choice in alive if choice not in set(leaving)]
        return gone


class _Part:
    """One reader's share of the scores."""

    def __init__(self, atoms, reader):
        self._choices = atoms.roots(reader.layout)
        weights, moments = reader.weights, reader.moments
        if reader.joint:
            inverse = np.linalg.inv(reader.steadied)
            self._inverse, energy = inverse[:-1, :-1], np.diag(moments)[:-1]
            self._left = np.diag(self._inverse).copy()
        else:
            self._inverse, energy = None, moments
            self._left = 1 / np.maximum(moments, 1e-30)
        self._weights = weights / max(float(weights @ energy), 1e-30)

    def scores(self, place):
        """Scores of the choices that are keys of `place`, at the positions it says."""
        known = [i for i, choice in enumerate(self._choices.tolist()) if choice in place]
        at = [place[self._choices[i]] for i in known]
        return np.bincount(at, self._weights[known] / self._left[known], minlength=len(place))

    def remove(self, choices):
        where = [i for i, choice in enumerate(self._choices.tolist()) if choice in choices]
        if not where or self._inverse is None:
            return
        inverse = self._inverse
        block, rows = inverse[np.ix_(where, where)], inverse[where]
        inverse -= rows.T @ np.linalg.solve(block, rows)
        inverse[where], inverse[:, where] = 0, 0
        self._left = np.diag(inverse).copy()
        self._left[where] = GONE

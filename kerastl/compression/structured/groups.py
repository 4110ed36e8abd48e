"""The choices of a network in groups, and how many of each group go."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that the same layers make: what a share is counted of.

    Attributes:
        makers: Tuple of the layers that make them, in the order of the network.
        choices: List of choices of `Atoms`, each of which is one channel of every maker.
    """

    makers: tuple
    choices: list


def groups_of(channels):
    """The `Group`s of channels that may go, in the order of the network."""
    atoms, found = channels.atoms, {}
    for choice, members in atoms.choices().items():
        makers = {id(atoms.makers[atom]): atoms.makers[atom] for atom in members}
        found.setdefault(tuple(makers), (tuple(makers.values()), []))[1].append(choice)
    return [Group(makers, choices) for makers, choices in found.values()]


def choose(groups, scorer, share, *, scope, round_to):
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


def rounded(wanted, count, round_to):
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

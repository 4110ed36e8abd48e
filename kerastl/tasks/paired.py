"""`paired`: what one model gets right that another does not, with its uncertainty."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kerastl.tasks.protocols import Objective

Z = 1.959963984540054  # of a normal distribution 95 % lie within ± Z standard deviations
DRAWS = 1000  # resamples of a bootstrap
AT_ONCE = 2_000_000  # numbers of a block of resamples, so that many examples need no more memory
AGAIN = 20  # times as many resamples are drawn at most where some have no score


@dataclasses.dataclass(frozen=True)
class Paired:
    """How much better one model is than another on the same examples.

    Attributes:
        difference: Float, the score of the one minus that of the other.
        low: Float, lower end of the 95 % interval of `difference`.
        high: Float, its upper end.
        gained: Int, answers that only the one has right; None where answers are not right or wrong.
        lost: Int, answers that only the other has right, or None.
        p: Float in [0, 1], the exact two-sided test of McNemar: how likely gains and losses at
            least as unequal are if both models are equally good. None where none is right or wrong.
        num_examples: Int, different examples.
    """

    difference: float
    low: float
    high: float
    gained: int | None
    lost: int | None
    p: float | None
    num_examples: int

    @property
    def resolves(self) -> bool:
        """Whether these examples tell the models apart: the interval does, and so does the test.

        Of few answers that differ the interval alone says too much: of 4 gained and none lost it
        leaves 0 out, though they come by chance once in eight times.
        """
        return not self.low <= 0 <= self.high and (self.p is None or self.p < 0.05)

    def to_dict(self) -> dict[str, Any]:
        """Dict ready for JSON; `Paired(**it)` is the same again."""
        return dataclasses.asdict(self)

    def turned(self) -> "Paired":
        """The same of minus the score: how much more the one costs than the other.

        Example:
            >>> print(Paired(0.8, 0.7, 0.9, None, None, None, 60).turned().text(is_share=False))
            -0.800 (-0.900 to -0.700)
        """
        ends = -self.difference, -self.high, -self.low
        return Paired(*ends, self.lost, self.gained, self.p, self.num_examples)

    def text(self, *, is_share: bool) -> str:
        """The difference and its interval, in points (hundredths) of a score that is a share.

        Example:
            >>> Paired(0.026, -0.004, 0.056, 24, 12, 0.065, 465).text(is_share=True)
            '+2.6 points (-0.4 to +5.6)'
        """
        unit, form, name = (100, "+.1f", " points") if is_share else (1, "+.3f", "")
        ends = f"{unit * self.low:{form}} to {unit * self.high:{form}}"
        return f"{unit * self.difference:{form}}{name} ({ends})"

    def verdict(self) -> str:
        """In words which is better, if these examples can tell.

        Example:
            >>> Paired(0.026, -0.004, 0.056, 24, 12, 0.065, 465).verdict()
            'does not resolve at n = 465'
            >>> Paired(-0.333, -0.641, -0.025, 0, 3, 0.25, 9).verdict()
            "does not resolve at n = 9: McNemar's p = 0.25"
        """
        if self.resolves:
            return "better" if self.difference > 0 else "worse"
        why = "" if self.low <= 0 <= self.high else f": McNemar's p = {self.p:.2g}"
        return f"does not resolve at n = {self.num_examples:,}{why}"


def paired(
    objective: Objective, ours: np.ndarray, theirs: np.ndarray, targets: np.ndarray
) -> Paired:
    """Compare two models by what they give for the same examples.

    Where the score is the share of right answers, the standard error of the difference is
    `sqrt(b + c - (b - c)² / n) / n` for `b` gained and `c` lost of `n`. Else the interval is that
    of a paired bootstrap over the examples, from a fixed seed: from the 2.5th to the 97.5th
    percentile of the differences on 1,000 resamples. It is about other examples of the same kind;
    what another training of the same model would give is not in it.

    Args:
        objective: `Objective` that says what is right.
        ours: What the one model gives, `(n, ...)`.
        theirs: What the other gives for the same examples.
        targets: What is so, `(n, ...)`.

    Raises:
        ValueError: If the numbers of rows differ or are 0, one of them is no number, or the score
            is not defined on the examples or on nearly all resamples.

    Example:
        >>> from kerastl.tasks import Classification
        >>> sure = np.eye(2)
        >>> told = paired(Classification(), sure[[0, 1, 1]], sure[[0, 0, 1]], np.array([0, 1, 1]))
        >>> told.gained, told.lost, told.p
        (1, 0, 1.0)

    References:
        McNemar, 1947, https://doi.org/10.1007/BF02295996
        Efron & Tibshirani, 1993, An Introduction to the Bootstrap, chapter 13.
    """
    return pooled(objective, [(ours, theirs, targets)])


def pooled(
    objective: Objective,
    runs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    examples: Sequence[np.ndarray] | None = None,
) -> Paired:
    """`paired` over several runs, as of several seeds, that were measured on the same examples.

    The difference is the mean over the runs' answers (of a score that is no mean: over the runs).
    Answers about one example are not independent of each other, so its interval is that of whole
    examples, and `p` is of how many examples gain and lose on balance.

    Args:
        objective: `Objective`.
        runs: List of `(ours, theirs, targets)`, each as for `paired`.
        examples: For each run an int array, which example each row is, where runs were measured on
            different parts of the same examples. None: row `i` is the same one in each.

    Raises:
        ValueError: As `paired`.
    """
    runs = [(np.asarray(ours), np.asarray(theirs), np.asarray(so)) for ours, theirs, so in runs]
    sizes = [tuple(len(part) for part in run) for run in runs]
    alike = examples is not None or len(set(sizes)) == 1
    if not alike or any(len(set(size)) > 1 or not size[0] for size in sizes):
        raise ValueError(
            "To compare two models, both must answer the same examples, at least one. Received: "
            f"{' and '.join(f'{a} and {b} answers for {n} targets' for a, b, n in sizes)}"
        )
    if not all(np.isfinite(part).all() for run in runs for part in run):
        raise ValueError(
            "To compare two models, both must give numbers. Received: NaN or infinity among "
            "their outputs or the targets. Lower the learning rate of the one that gives them."
        )
    known = examples if examples is not None else [np.arange(size[0]) for size in sizes]
    names, number = np.unique(np.concatenate(known), return_inverse=True)
    rows = np.split(number, np.cumsum([len(part) for part in known])[:-1])
    changes = [_change(objective, *run) for run in runs]
    if any(change is None for change in changes):
        return _by_bootstrap(objective, runs, rows, len(names))
    change = np.concatenate(changes)
    difference = change.mean()
    of_example = np.bincount(number, change - difference)
    error = Z * np.sqrt(np.square(of_example).sum()) / len(change)
    balance = np.bincount(number, change)
    return Paired(
        float(difference),
        float(max(difference - error, -1.0)),  # no share differs by more
        float(min(difference + error, 1.0)),
        int((change > 0).sum()),
        int((change < 0).sum()),
        _mcnemar(int((balance > 0).sum()), int((balance < 0).sum())),
        len(names),
    )


def _change(objective, ours, theirs, targets) -> Any:
    """For each example 1 if it is gained, -1 if it is lost, else 0; None if neither can be."""
    gained, lost = objective.hits(ours, targets), objective.hits(theirs, targets)
    return None if gained is None or lost is None else gained.astype(float) - lost


def _mcnemar(gained, lost):
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _by_bootstrap(objective, runs, rows, num_examples):
    difference = np.mean(
        [
            objective.score(ours, targets) - objective.score(theirs, targets)
            for ours, theirs, targets in runs
        ]
    )
    found, drawn = [], 0
    for counts in _resamples(num_examples):
        each = [
            objective.scores(ours, targets, counts[:, part])
            - objective.scores(theirs, targets, counts[:, part])
            for (ours, theirs, targets), part in zip(runs, rows, strict=True)
        ]
        differences = np.mean(each, axis=0)
        found.extend(differences[np.isfinite(differences)])
        drawn += len(counts)
        if len(found) >= DRAWS:
            break
        if drawn >= AGAIN * DRAWS:
            raise ValueError(
                f"These examples are too few for an interval: of {drawn:,} resamples of "
                f"{num_examples} examples {len(found)} had a {objective.score_name}. "
                "Hold out more examples."
            )
    low, high = np.percentile(found[:DRAWS], [2.5, 97.5])
    return Paired(float(difference), float(low), float(high), None, None, None, num_examples)


def _resamples(num_examples) -> Iterator[np.ndarray]:
    """Blocks of resamples without end: how often each example is in each, `(draws, examples)`."""
    random = np.random.default_rng(0)
    size = min(DRAWS, max(1, AT_ONCE // num_examples))
    while True:
        drawn = random.integers(0, num_examples, (size, num_examples))
        drawn += num_examples * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * num_examples).reshape(size, -1)

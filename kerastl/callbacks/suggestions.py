"""Which learning rate a curve of losses suggests: four rules, and when there is none to give.

The rules are those of fastai 2.7 (`valley`, `slide`, `minimum`, `steep` in
`fastai/callback/schedule.py`), which cuts the ends of the curve off first, as `suggest` does; it
also cuts off a beginning on which nothing moves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

RULES = ("valley", "steep", "slide", "minimum")
SKIPPED_LAST = 5  # where the loss diverges
FEWEST = 6  # points that a rule can say anything about
LEAST_FALL = 1e-3  # of the loss; a smaller fall is none
# Of simulated curves of normal noise alone, 40 to 300 points long, one in a hundred goes beyond.
LEAST_ERRORS = 4.4
SHORTEST = 5  # batches in a stretch whose mean is compared

# Interval slide rule: two gradients this many points apart must differ by less than this.
SLIDE_INTERVAL = 15
SLIDE_THRESHOLD = 0.005


def suggest(
    rates: Sequence[float] | np.ndarray,
    losses: Sequence[float] | np.ndarray,
    batch_losses: Sequence[float] | np.ndarray,
    num_steps: int,
) -> tuple[dict[str, float | None], str | None]:
    """What the four rules say of a curve.

    A curve has no suggestion if its loss never falls clearly: on a loss that stands still, rules
    find a valley in the noise from batch to batch.

    Args:
        rates: Sequence of rising learning rates.
        losses: Smoothed loss at each of them.
        batch_losses: Loss of the batch at each of them.
        num_steps: Int, points that the curve would have had without divergence.

    Returns:
        Dict from each of `RULES` to a rate or None, and the reason if all are None, else None.
    """
    if not len(losses):
        return dict.fromkeys(RULES), "the loss was no number from the first step on"
    first = max(num_steps // 10, first_move(np.asarray(losses)))
    used = slice(first, max(first, len(losses) - SKIPPED_LAST))
    kept, at = np.asarray(losses, "float64")[used], np.asarray(rates, "float64")[used]
    if reason := why_none(kept, batch_losses):
        return dict.fromkeys(RULES), reason
    found = {
        "valley": valley(kept),
        "steep": steep(at, kept),
        "slide": slide(kept),
        "minimum": int(np.argmin(kept)),
    }
    chosen: dict[str, Any] = {
        rule: None if i is None else float(at[i]) for rule, i in found.items()
    }
    return {**chosen, "minimum": chosen["minimum"] / 10}, None


def first_move(losses: np.ndarray) -> int:
    """Index of the first loss that is not the one at the start, within `LEAST_FALL`; 0 if none.

    A new head that starts at zero has the same loss on every batch, and falls by a few millionths
    a step at rates that teach it nothing; a rule that counts falling points must not count those.
    """
    losses = np.asarray(losses, "float64")
    return int(np.argmax(np.abs(losses - losses[0]) > LEAST_FALL * abs(losses[0])))


def why_none(
    losses: Sequence[float] | np.ndarray, batch_losses: Sequence[float] | np.ndarray
) -> str | None:
    """Why there is nothing to suggest, or None.

    Args:
        losses: Smoothed losses, the ends cut off.
        batch_losses: Loss of each batch.
    """
    if len(losses) < FEWEST:
        return f"only {len(losses)} points are left of the curve, fewer than {FEWEST}"
    fall = float(np.max(np.maximum.accumulate(losses) - losses))
    least, noise = LEAST_FALL * abs(losses[0]), noise_of(batch_losses)
    if fall > least and fall_in_errors(batch_losses) > LEAST_ERRORS:
        return None
    rises = losses[-1] - losses[0] > max(noise, least)
    if rises and fall <= least:
        return "the loss only rises"
    what = "rises in the end" if rises else "is flat"
    return (
        f"the loss {what}: from batch to batch it differs by {noise:.2g}, and no fall stands out "
        "from that (larger batches or more steps may show one)"
    )


def fall_in_errors(batch_losses: Sequence[float] | np.ndarray) -> float:
    """How clearly some stretch of batches lies below all those before it.

    The largest difference of the two means, in standard errors of such a difference.
    """
    losses = np.asarray(batch_losses, "float64")
    noise, sums = noise_of(losses), np.cumsum(losses)
    best = 0.0
    for before in range(SHORTEST, len(losses) - SHORTEST + 1):
        length = np.arange(SHORTEST, len(losses) - before + 1)
        after = (sums[before + length - 1] - sums[before - 1]) / length
        fall = sums[before - 1] / before - after
        errors = fall / np.maximum(noise * np.sqrt(1 / before + 1 / length), 1e-30)
        best = max(best, float(errors.max()))
    return best


def noise_of(batch_losses: Sequence[float] | np.ndarray) -> float:
    """Standard deviation of the loss from batch to batch, whatever its trend.

    From the median step between neighbours: of a normal distribution with deviation `s` that is
    `0.6745 * sqrt(2) * s`.
    """
    if len(batch_losses) < 2:
        return 0.0
    return float(np.median(np.abs(np.diff(batch_losses)))) / (0.6745 * np.sqrt(2.0))


def valley(losses: Sequence[float] | np.ndarray) -> int | None:
    """The middle of the longest strictly falling subsequence.

    With `length` its number of points and `end` its last index, the index is
    `end - length + int(length / 3) + int(length / 6)`, as fastai counts. None if nothing falls.

    Example:
        >>> valley([1 - i / 100 for i in range(100)])
        48
    """
    losses = np.asarray(losses)
    lengths = np.ones(len(losses), int)
    for i in range(1, len(losses)):
        higher = losses[:i] > losses[i]
        lengths[i] += np.max(lengths[:i], initial=0, where=higher)
    end = int(np.argmax(lengths))
    length = int(lengths[end])
    if length < 2:
        return None
    return max(0, end - length + int(length / 3) + int(length / 6))


def steep(rates: Sequence[float] | np.ndarray, losses: Sequence[float] | np.ndarray) -> int:
    """Where the loss falls fastest over the logarithm of the rate: `argmin dloss / dlog(rate)`."""
    return int(np.argmin(np.diff(losses) / np.diff(np.log(rates))))


def slide(losses: Sequence[float] | np.ndarray) -> int | None:
    """From the right end leftwards, the point from which the gradient changes little.

    Two points `SLIDE_INTERVAL` apart slide to the left while their gradients (per step) differ by
    more than `SLIDE_THRESHOLD`; the index is that of the left one. None if the curve is shorter
    than the interval.

    References:
        The interval slide rule of fastai, after A. Chang,
        https://forums.fast.ai/t/automated-learning-rate-suggester/44199
    """
    if len(losses) <= SLIDE_INTERVAL:
        return None
    gradient = np.gradient(np.asarray(losses, "float64"))
    right = len(losses) - 1
    found = left = right - SLIDE_INTERVAL
    while left >= 0 and abs(gradient[right] - gradient[left]) > SLIDE_THRESHOLD:
        found = left
        right, left = right - 1, left - 1
    return found

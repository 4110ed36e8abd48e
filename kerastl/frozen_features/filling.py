"""Fills the rows of a store, batch by batch."""

import numpy as np


def fill(arrays, batches, *, progress=None):
    """Write `batches` into `arrays`, one after the other.

    Args:
        arrays: List of arrays with examples along their first axis.
        batches: Iterable of lists of arrays, the rows of one batch each.
        progress: Called as `progress(done, total)` with numbers of examples, or None.

    Raises:
        ValueError: If there are more or fewer rows than `arrays` have, or a number is too large
            for half precision.
    """
    done, total = 0, len(arrays[0])
    for batch in batches:
        end = done + len(batch[0])
        if end > total:
            break
        for array, values in zip(arrays, batch, strict=True):
            array[done:end] = _narrowed(values, array.dtype)
        done = end
        if progress:
            progress(done, total)
    if done != total or end != total:
        raise ValueError(
            f"The data must give {total} examples, as `num_examples` says. Received: {end}"
            f"{' or more' if end > total else ''}"
        )


def _narrowed(values, dtype):
    if values.dtype == dtype or dtype != np.float16:
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    if np.isinf(narrow).any() and not np.isinf(values).any():
        raise ValueError(
            "Half precision holds numbers up to 65,504. Received: features up to "
            f"{np.abs(values).max():,.0f}. Use float32 for the frozen features."
        )
    return narrow

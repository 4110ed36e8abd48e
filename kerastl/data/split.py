"""A stratified split with a seed: the same on every machine, whatever the other classes do."""

import math
import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from kerastl._base.checks import listed

VAL_SHARE = 0.15
TEST_SHARE = 0.15


def split_counts(
    n: int, val_share: float = VAL_SHARE, test_share: float = TEST_SHARE
) -> tuple[int, int, int]:
    """How many of `n` pictures of one class go to train, validation and test.

    Shares are rounded half up, first of both held-out parts together, so that what is left for
    training is within half a picture of its share. A held-out part with a share gets at least
    one picture while two are there for testing, three for both.

    Args:
        n: Number of pictures, at least 1.
        val_share: Share for validation, in [0, 1).
        test_share: Share for the test, in [0, 1).

    Returns:
        `(num_train, num_val, num_test)`; the first is at least 1.

    Example:
        >>> split_counts(100), split_counts(10), split_counts(3), split_counts(2)
        ((70, 15, 15), (7, 1, 2), (1, 1, 1), (1, 0, 1))
    """
    test = max(_half_up(n * test_share), 1) if test_share else 0
    val = max(_half_up(n * (val_share + test_share)) - test, 1) if val_share else 0
    test = min(test, n - 1)
    val = min(val, n - 1 - test)
    return n - val - test, val, test


def stratified_split(
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    val_share: float = VAL_SHARE,
    test_share: float = TEST_SHARE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divide pictures into train, validation and test, class by class.

    `sklearn.model_selection.train_test_split` refuses a part smaller than the number of classes
    and may leave a rare class out of one; here each class is divided by `split_counts`. A
    class's own draw depends on `seed` and its name alone, so adding a class moves no other
    class's pictures.

    Args:
        labels: Array of class indices, in an order that is the same everywhere.
        class_names: Names of the classes.
        seed: Int in [0, 2**31).
        val_share: Share for validation, in [0, 1).
        test_share: Share for the test, in [0, 1).

    Returns:
        Three sorted arrays of indices into `labels`.

    Example:
        >>> train, val, test = stratified_split([0] * 10 + [1] * 20, ["a", "b"], seed=1)
        >>> len(train), len(val), len(test)
        (21, 4, 5)
    """
    check_seed(seed)
    labels = np.asarray(labels)
    parts = [[], [], []]
    for label, name in enumerate(class_names):
        rows = np.flatnonzero(labels == label)
        if not len(rows):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        num_train, num_val, _ = split_counts(len(rows), val_share, test_share)
        drawn = np.split(rng.permutation(rows), [num_train, num_train + num_val])
        for part, piece in zip(parts, drawn, strict=True):
            part.append(piece)
    train, val, test = (_sorted(part) for part in parts)
    return train, val, test


def check_seed(seed: int) -> int:
    """Return `seed` if it is an int in [0, 2**31), else raise ValueError."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ValueError(f"`seed` must be an int in [0, 2**31). Received: seed={seed!r}")
    return seed


def check_tested(said: Mapping[str, Collection[str]], files: Mapping[str, str], noun: str) -> None:
    """Refuse parts of which that to train on has a class that the one to test on lacks.

    What is not measured would not be missed. `val` may lack a class where there is a `test`.

    Args:
        said: Dict from `"train"` and `"val"` and/or `"test"` to the names of the classes in it; or
            from `"all"`, where nothing is refused.
        files: Dict from these to what the part is called, such as `"reviews/test.tsv"`.
        noun: What an example is called, `"text"` or `"picture"`.

    Raises:
        ValueError: If the part to test on lacks a class. `"val"` is it where there is no `"test"`.

    Example:
        >>> said = {"train": {"a", "b"}, "val": {"a", "b"}, "test": {"a", "b"}}
        >>> check_tested(said, {name: f"{name}.tsv" for name in said}, "text")
    """
    if "all" in said:
        return
    tested = "test" if "test" in said else "val"
    missing = sorted(set(said["train"]) - set(said[tested]))
    if not missing:
        return
    lacking = [files[part] for part in said if set(missing) - set(said[part])]
    raise ValueError(
        f"{listed(lacking)} must have a {noun} of each class to train on, to measure it. Received: "
        f"none of {listed(missing, 5)}. Add some; or leave these out of {files['train']}; or give "
        f"all {noun}s in one part, which is then divided."
    )


def _sorted(pieces):
    return np.sort(np.concatenate(pieces)) if pieces else np.zeros(0, np.int64)


def _half_up(value):
    # 1e-9: 30 % of 5 is 1.5, also where floating point says 1.4999999999999998.
    return math.floor(value + 0.5 + 1e-9)


# Below this ratio of the largest class to the smallest, weighting changes little.
UNBALANCED = 1.5


def class_weights(
    labels: Sequence[int] | np.ndarray, num_classes: int | None = None
) -> dict[int, float]:
    """Weights that make every class count alike in the loss.

    `weight[c] = n / (k * count[c])` for `n` labels of `k` classes, so the weights of all samples
    sum to `n` and the loss keeps its scale. scikit-learn calls it "balanced".

    Args:
        labels: Class indices, or one-hot rows.
        num_classes: `k`. None takes the largest label plus one.

    Returns:
        Dict from class index to weight, as `fit(class_weight=...)` takes it.

    Raises:
        ValueError: If a class has no label.

    Example:
        >>> class_weights([0, 0, 0, 1])
        {0: 0.6666666666666666, 1: 2.0}

    References:
        King & Zeng, "Logistic Regression in Rare Events Data", 2001;
        https://scikit-learn.org/stable/modules/generated/sklearn.utils.class_weight.compute_class_weight.html
    """
    counts = _counts(labels, num_classes)
    return {c: float(counts.sum() / (len(counts) * count)) for c, count in enumerate(counts)}


def imbalance(labels: Sequence[int] | np.ndarray, num_classes: int | None = None) -> float:
    """Size of the largest class over that of the smallest; weight from `UNBALANCED` on.

    Args:
        labels: Class indices, or one-hot rows.
        num_classes: Number of classes. None takes the largest label plus one.

    Returns:
        Float of at least 1.

    Example:
        >>> imbalance([0, 0, 0, 1])
        3.0
    """
    counts = _counts(labels, num_classes)
    return float(counts.max() / counts.min())


def _counts(labels, num_classes):
    labels = np.asarray(labels)
    if labels.ndim == 2:
        num_classes = num_classes or labels.shape[1]
        labels = labels.argmax(axis=1)
    counts = np.bincount(labels.astype(np.int64), minlength=num_classes or 0)
    if not len(counts) or counts.min() == 0:
        raise ValueError(
            "`labels` must hold every class at least once. "
            f"Received: counts={counts.tolist()} for num_classes={len(counts)}"
        )
    return counts

"""Class weights for unbalanced sets, and how unbalanced a set is."""

import numpy as np

# Below this ratio of the largest class to the smallest, weighting changes little.
UNBALANCED = 1.5


def class_weights(labels, num_classes=None):
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


def imbalance(labels, num_classes=None):
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

"""Class scores against labels and against each other."""

import numpy as np


def classes(scores):
    """The class of each row of scores: the largest, or of one score whether it is over 0.5.

    Returns:
        Int array, or None if `scores` are no class scores.

    Example:
        >>> classes(np.array([[0.1, 0.9], [0.8, 0.2]])), classes(np.array([[0.3], [0.7]]))
        (array([1, 0]), array([0, 1]))
    """
    if scores.ndim != 2:
        return None
    return scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(int)


def agreement(ours, theirs):
    """How often both have the same largest score, in [0, 1]; None for what is no class scores."""
    if ours.ndim != 2 or ours.shape[1] < 2:
        return None
    return float(np.mean(ours.argmax(1) == theirs.argmax(1)))


def accuracy(scores, labels):
    """How often the class of `scores` is that of `labels` (numbers or one-hot rows), in [0, 1].

    Raises:
        ValueError: If they do not go together.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(1)
    found = classes(scores)
    if found is None or len(labels) != len(found):
        raise ValueError(
            "`labels` must be one class for each row of class scores. "
            f"Received: labels of shape {labels.shape}, scores of shape {scores.shape}"
        )
    return float(np.mean(found == labels.reshape(-1)))

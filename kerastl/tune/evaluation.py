"""How right a model's predictions are: accuracy, classes, confusion."""

import numpy as np


def evaluate_probabilities(probabilities, labels, class_names):
    """Accuracy, cross-entropy, recall of each class and the confusion matrix.

    Args:
        probabilities: Float array of shape `(n, num_classes)`, rows sum to 1.
        labels: Int array of shape `(n,)`.
        class_names: The `num_classes` names.

    Returns:
        Dict ready for JSON. `loss` is the mean of `-log p[label]` in nats; `confusion[i][j]`
        counts pictures of class `i` that were taken for class `j`.

    Raises:
        ValueError: If there are no pictures or the numbers of classes differ.

    Example:
        >>> report = evaluate_probabilities([[0.9, 0.1], [0.4, 0.6]], [0, 0], ["cat", "dog"])
        >>> report["accuracy"], report["confusion"]
        (0.5, [[1, 1], [0, 0]])
    """
    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    if probabilities.ndim != 2 or probabilities.shape != (len(labels), len(class_names)):
        raise ValueError(
            "`probabilities` must have the shape (n, num_classes). Received: shape "
            f"{probabilities.shape} for {len(labels)} labels and {len(class_names)} classes"
        )
    if not len(labels):
        raise ValueError("`labels` must hold at least one picture. Received: none")
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(class_names), len(class_names)), int)
    np.add.at(confusion, (labels, predicted), 1)
    of_label = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((predicted == labels).mean()),
        "loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        "num_examples": len(labels),
        "per_class": {name: _recall(confusion[i], i) for i, name in enumerate(class_names)},
        "confusion": confusion.tolist(),
    }


def _recall(row, i):
    total = int(row.sum())
    return {"num_examples": total, "recall": float(row[i] / total) if total else None}

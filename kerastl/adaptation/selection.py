"""How far two domains are apart, and which model to take, without labels of the target."""

from typing import Any

import numpy as np


def class_ami(features: Any, predictions: Any, *, seed: int = 0) -> float:
    """How well classes predicted on the target agree with clusters of its features: ClassAMI.

    The adjusted mutual information of the predicted labels and of k-means clusters of the
    features, as many as there are classes among the predictions. Of several models or settings
    take the one with the highest. It is 0 where one class alone is predicted.

    Args:
        features: Array `(num_examples, width)`, of the target.
        predictions: Predicted classes of the same examples, `(num_examples,)`, or scores of each
            class, `(num_examples, num_classes)`.
        seed: Int, of k-means.

    Returns:
        Float, 1 for perfect agreement, about 0 for none.

    Raises:
        ValueError: If the shapes do not fit, or there are fewer than two examples.

    Example:
        >>> features = np.array([[0.0], [0.1], [9.0], [9.1]])
        >>> class_ami(features, [0, 0, 1, 1]), class_ami(features, [0, 1, 0, 1]) < 0.1
        (1.0, True)

    References:
        Musgrave et al., 2022, https://arxiv.org/abs/2208.07360;
        Vinh et al., 2010, https://jmlr.org/papers/v11/vinh10a.html
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    features = _rows(features, "features")
    predictions = np.asarray(predictions)
    labels = predictions.argmax(axis=1) if predictions.ndim == 2 else predictions
    if labels.shape != (len(features),):
        raise ValueError(
            "`predictions` must be one class, or one row of scores, an example. Received: "
            f"{len(features)} examples, predictions of shape {predictions.shape}"
        )
    count = len(np.unique(labels))
    if count < 2:
        return 0.0
    kmeans: Any = KMeans  # whose stub knows no number of starts
    clusters = kmeans(count, n_init=10, random_state=seed).fit_predict(features)
    return float(adjusted_mutual_info_score(labels, clusters))


def batch_nuclear_norm(probabilities: Any) -> float:
    """How sure and how varied predictions on the target are: the nuclear norm of their matrix.

    The sum of the singular values of the matrix of class probabilities, divided by its largest
    possible value, `sqrt(num_examples * min(num_examples, num_classes))`. Of several models or
    settings take the one with the highest.

    Args:
        probabilities: Array `(num_examples, num_classes)` of rows that sum to 1, of the target.

    Returns:
        Float in [0, 1]. 1 is one class an example with certainty, and all classes alike.

    Raises:
        ValueError: If the rows are no probabilities.

    Example:
        >>> round(batch_nuclear_norm(np.eye(2)[[0, 1, 0, 1]]), 6)
        1.0
        >>> round(batch_nuclear_norm(np.full((4, 2), 0.5)), 3)
        0.5

    References:
        Cui et al., 2020, https://arxiv.org/abs/2003.12237
    """
    rows = _rows(probabilities, "probabilities", at_least=1)
    if rows.min() < -1e-6 or np.abs(rows.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError(
            "`probabilities` must be rows of numbers >= 0 that sum to 1. Received: numbers from "
            f"{rows.min():.3g}, sums from {rows.sum(axis=1).min():.3g} to "
            f"{rows.sum(axis=1).max():.3g}. Take the softmax of logits first."
        )
    norm = np.linalg.svd(rows, compute_uv=False).sum()
    return float(norm / np.sqrt(len(rows) * min(rows.shape)))


def proxy_a_distance(source_features: Any, target_features: Any, *, seed: int = 0) -> float:
    """How well a linear classifier tells two domains apart: `2 (1 - 2 e)`.

    `e` is its error, of both domains alike, on halves of both that it was not fitted on: logistic
    regression on standardized features, fitted on one half and judged on the other, and the other
    way round.

    Args:
        source_features: Array `(num_source, width)`.
        target_features: Array `(num_target, width)`.
        seed: Int, which rows go into which half.

    Returns:
        Float, 2 where no example is mistaken, about 0 where the domains look alike, and chance may
        leave it below.

    Raises:
        ValueError: If widths differ or a domain has fewer than four examples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> near, far = rng.normal(size=(100, 2)), rng.normal(size=(80, 2)) + 9
        >>> proxy_a_distance(near, far)
        2.0

    References:
        Ben-David et al., 2006, https://papers.nips.cc/paper/2983;
        Ganin et al., 2016, equation 3, https://arxiv.org/abs/1505.07818
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    domains = [
        _rows(source_features, "source_features", at_least=4),
        _rows(target_features, "target_features", at_least=4),
    ]
    if domains[0].shape[1] != domains[1].shape[1]:
        raise ValueError(
            "`source_features` and `target_features` must have one width. "
            f"Received: shapes {domains[0].shape} and {domains[1].shape}"
        )
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(rows), 2) for rows in domains]
    errors = []
    for fitted in (0, 1):
        rows = np.concatenate([half[fitted] for half in halves])
        labels = np.repeat([0, 1], [len(half[fitted]) for half in halves])
        linear = LogisticRegression(max_iter=1000, class_weight="balanced")
        classifier = make_pipeline(StandardScaler(), linear).fit(rows, labels)
        for label, half in enumerate(halves):
            errors.append(np.mean(classifier.predict(half[1 - fitted]) != label))
    return float(2 * (1 - 2 * np.mean(errors)))


def _rows(array, name, at_least=2):
    array = np.asarray(array, np.float64)
    if array.ndim != 2 or len(array) < at_least or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be at least {at_least} rows of finite numbers, "
            f"(num_examples, width). Received: shape {array.shape}"
        )
    return array

"""TF-IDF and a linear regression: what every network of texts must beat."""

import time
import warnings
from typing import Any

import numpy as np

from kerastl.tasks.protocols import Rival

STRENGTHS = tuple(10.0**power for power in (-1, -0.5, 0, 0.5, 1, 1.5, 2))
FOLDS = 5
WORD = r"(?u)\b\w+\b"  # of one letter, too


def tf_idf(data: Any, *, seed: int = 0) -> Rival | None:
    """Weighted counts of words and of pairs of words, and a linear regression on them.

    Logistic regression for classes and for each of several labels, ridge regression for a number;
    how heavy the penalty is, is chosen by cross-validation on the training texts.

    Args:
        data: `TaskData` of texts.
        seed: Int, of the folds.

    Returns:
        `Rival`, or None where the training texts have no word.

    References:
        Salton & Buckley, 1988, https://doi.org/10.1016/0306-4573(88)90021-0
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    started = time.perf_counter()
    columns = []
    for place in range(data.prepare.num_parts):
        counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD)
        train, test = ([parts[place] for parts in part.parts] for part in (data.train, data.test))
        try:
            columns.append((counts.fit_transform(train), counts.transform(test)))
        except ValueError:  # an empty vocabulary
            return None
    train, test = (hstack([one[i] for one in columns]).tocsr() for i in (0, 1))
    outputs = _OUTPUTS[data.objective.name](train, data.train.targets, test, data, seed)
    return Rival("TF-IDF and a linear regression", outputs, time.perf_counter() - started)


def _classes(train, targets, test, data, seed):
    outputs = np.zeros((test.shape[0], len(data.outputs)))
    found = _logistic(train, targets, seed)
    outputs[:, found.classes_] = found.predict_proba(test)
    return outputs


def _labels(train, targets, test, data, seed):
    columns = []
    for column in np.asarray(targets).T > 0.5:
        if column.all() or not column.any():
            columns.append(np.full(test.shape[0], float(column.mean())))
        else:
            columns.append(_logistic(train, column, seed).predict_proba(test)[:, 1])
    return np.stack(columns, axis=1)


def _numbers(train, targets, test, data, seed):
    from sklearn.linear_model import RidgeCV

    found = RidgeCV([1 / strength for strength in STRENGTHS]).fit(train, np.ravel(targets))
    return found.predict(test).reshape(-1, 1)


_OUTPUTS = {"classification": _classes, "multi_label": _labels, "regression": _numbers}


def _logistic(train, targets, seed):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    _, counts = np.unique(targets, return_counts=True)
    folds = min(FOLDS, int(counts.min()))
    model = LogisticRegression(max_iter=1000, class_weight="balanced" if _uneven(counts) else None)
    if folds < 2:
        return model.fit(train, targets)
    divided = StratifiedKFold(folds, shuffle=True, random_state=seed)
    search = GridSearchCV(model, {"C": STRENGTHS}, cv=divided, scoring="neg_log_loss")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, at strengths that are not chosen
        return search.fit(train, targets).best_estimator_


def _uneven(counts):
    from kerastl.data import UNBALANCED

    return counts.max() >= UNBALANCED * counts.min()

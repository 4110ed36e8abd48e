"""How far domains are apart, and which model to take, without labels of the target."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from kerastl.adaptation import batch_nuclear_norm, class_ami, proxy_a_distance
from tests.tolerances import REDUCTION

RNG = np.random.default_rng(0)
CLUSTERS = np.repeat(np.eye(3) * 9, 20, axis=0) + RNG.normal(size=(60, 3))
CLASSES = np.repeat([0, 1, 2], 20)


def test_class_ami_is_the_agreement_with_clusters():
    """The clusters are far apart, so k-means finds them, and the rest is scikit-learn's number."""
    assert class_ami(CLUSTERS, CLASSES) == pytest.approx(1.0)
    mistaken = np.where(RNG.uniform(size=60) < 0.3, (CLASSES + 1) % 3, CLASSES)
    expected = adjusted_mutual_info_score(mistaken, CLASSES)
    assert class_ami(CLUSTERS, mistaken) == pytest.approx(expected)
    assert class_ami(CLUSTERS, np.eye(3)[mistaken]) == pytest.approx(expected)
    assert class_ami(CLUSTERS, np.zeros(60)) == 0.0


def test_batch_nuclear_norm_is_the_sum_of_singular_values():
    """By the eigenvalues of A'A; a model that gives one class to all is not the surest one."""
    rows = RNG.dirichlet([0.5, 0.5, 0.5], size=40)
    singular = np.sqrt(np.linalg.eigvalsh(rows.T @ rows))
    expected = singular.sum() / np.sqrt(40 * 3)
    np.testing.assert_allclose(batch_nuclear_norm(rows), expected, **REDUCTION)
    sure, one_class = np.eye(3)[CLASSES], np.eye(3)[np.zeros(60, int)]
    assert batch_nuclear_norm(sure) == pytest.approx(1.0)
    assert batch_nuclear_norm(one_class) == pytest.approx(1 / np.sqrt(3))


def test_proxy_a_distance():
    """2 (1 - 2 e), with `e` the error of telling normal distributions a distance apart."""
    one, two = RNG.normal(size=(4000, 2)), RNG.normal(size=(3000, 2))
    assert abs(proxy_a_distance(one, two)) < 0.15  # the error is a half, to 0.03
    away = two + np.array([2.0, 0.0])
    # Half the way between the means one in 6.30 lies on the wrong side: 0.1587.
    assert proxy_a_distance(one, away) == pytest.approx(2 * (1 - 2 * 0.1587), abs=0.08)
    assert proxy_a_distance(one, two + 20) == 2.0


def test_refusals():
    with pytest.raises(ValueError, match="one row of scores, an example"):
        class_ami(CLUSTERS, CLASSES[:-1])
    with pytest.raises(ValueError, match=r"rows of finite numbers.*shape \(3,\)"):
        class_ami(np.ones(3), [0, 1, 1])
    with pytest.raises(ValueError, match="Take the softmax of logits first"):
        batch_nuclear_norm(CLUSTERS)
    with pytest.raises(ValueError, match="must have one width"):
        proxy_a_distance(CLUSTERS, CLUSTERS[:, :2])

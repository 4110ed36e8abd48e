"""By how much a network is too sure of its answers: the temperature that its scores ask for."""

import numpy as np

from kerastl.training.probe.regressions import Regression

HOTTEST = 20.0


def best_temperature(regression: Regression, outputs: np.ndarray, targets: np.ndarray) -> float:
    """The number by which scores must be divided for the lowest mean loss; at least 1.

    A network that has learnt its few training examples by heart is surer of other examples than it
    is right. Dividing all scores by one number changes no answer, only how sure it is. One that is
    not sure enough is left alone: on few examples that are all right nothing would hold the number
    above 0.

    Args:
        regression: `Regression` of the head; that of numbers has no temperature.
        outputs: Outputs for examples that training never saw, of shape `(n, num_outputs)`.
        targets: Theirs, as `regression.targets` gives them.

    Returns:
        Float from 1 to 20.

    Example:
        >>> from kerastl.training.probe.regressions import Classes
        >>> sure = np.tile([0.99, 0.01], (10, 1))
        >>> temperature = best_temperature(Classes(2), sure, np.array([0] * 8 + [1] * 2))
        >>> round(temperature, 2)  # sure to 0.8: log(99) / log(4)
        3.31

    References:
        Guo et al., 2017, section 4.2 (temperature scaling), https://arxiv.org/abs/1706.04599
    """
    from scipy.optimize import minimize_scalar

    if not (regression.sure and len(targets)):
        return 1.0
    scores = regression.scores(np.asarray(outputs, np.float64))

    def loss(inverse):  # convex
        return float(regression.losses(regression.outputs(scores * inverse), targets).mean())

    found = minimize_scalar(loss, bounds=(1 / HOTTEST, 1.0), method="bounded")
    return 1.0 / float(found.x) if loss(found.x) < loss(1.0) else 1.0

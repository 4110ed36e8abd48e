"""Solve the head of a `FineTuner` on the features of its frozen layers."""

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import threadpoolctl

from kerastl import _keras
from kerastl._base import checks
from kerastl._base.types import OnProgress, PathLike
from kerastl.data.passes import ArrayPasses, Passes
from kerastl.freezing import freezing_state, restore_freezing
from kerastl.freezing.groups import train_groups
from kerastl.training.feeding import passes_of
from kerastl.training.frozen import FeatureCache
from kerastl.training.frozen.cached_passes import CacheSettings
from kerastl.training.probe.cross_validation import FOLDS, CrossValidated, cross_validated, folds_of
from kerastl.training.probe.head import head_of
from kerastl.training.probe.regressions import SOFTENING, Linear

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """What `solve_head` found.

    Attributes:
        strength: Float > 0, scikit-learn's `C` of the regression, chosen by cross-validation.
        views: Int, of how many augmented views of each example it learnt besides the plain one.
        linear: `Linear` that the head was set to.
        by_fold: Tuple of the `Linear` for each fold, of examples outside it.
        folds: Int array `(n,)`, the fold of each training example.
        out_of_fold: float64 array `(n, num_outputs)`: what the model would give for each example
            by a regression that had not seen it.
        losses: float64 array `(n,)`, the loss of each of these.
        half_out_of_fold: As `out_of_fold`, by regressions that saw half as many examples.
        half_losses: Their losses.
        seconds: Float, what it took, the features included.
    """

    linear: Linear
    by_fold: tuple[Linear, ...]
    strength: float
    views: int
    folds: np.ndarray
    out_of_fold: np.ndarray
    losses: np.ndarray
    half_out_of_fold: np.ndarray
    half_losses: np.ndarray
    seconds: float


def solve_head(  # noqa: PLR0913 (those of `fit` in their order, and six)
    model: "FineTuner",
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    class_weight: Any = None,
    augmented_copies: int = 0,
    seed: int = 0,
    softening: float = SOFTENING,
    cache_dir: PathLike | None = None,
    progress: OnProgress | None = None,
    shared: bool = False,
) -> "Probe":
    """Set the last Dense of `model` to the regression on what is below it, and train nothing.

    Everything below the head is computed once, in inference mode. The head is then the one that
    fits best under an L2 penalty: multinomial logistic regression before a softmax, a logistic
    regression a label before sigmoids, ridge regression for numbers. How heavy the penalty is, and
    whether augmented views help, is chosen by cross-validation of the examples given, each class
    spread evenly over the folds.

    The features are kept for the next `fit` of `model` on the same dataset.

    Args:
        model: `FineTuner` that ends in a Dense on one vector an example; a softmax, a sigmoid or a
            `Rescaling` may be behind it.
        x: Arrays, a dataset of `kerastl.data.make_dataset` or its `Passes`; as in `fit`, and so
            are `y`, `sample_weight` and `class_weight`.
        augmented_copies: Int >= 0, augmented views of each example to try, of a dataset that
            augments; its `augment` draws them.
        seed: Int, of the folds.
        softening: Float >= 0. Features are divided by `√(σ² + (softening · s)²)`, `σ` the
            deviation of each, `s` the root mean square of all; 0 standardizes plainly, and makes
            weights of rare features so large that later training of the layers below destroys
            what they had.
        cache_dir: Folder for features on disk, used again by later runs. None is memory.
        progress: Called as `progress(done, total)` with numbers of examples.
        shared: Boolean, whether the features are kept for several trainings of `model` from the
            same weights, on some of the rows too: see `FeatureCache`. Those that an earlier call
            kept so are used.

    Returns:
        `Probe`.

    Raises:
        ValueError: If the model has no such head, the data cannot be read again row by row, or
            there are fewer than two examples.

    Example:
        >>> import keras
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> model = FineTuner(inputs, keras.layers.Dense(2, "softmax", name="head")(inputs))
        >>> x = np.random.default_rng(0).normal(size=(40, 2))
        >>> probe = solve_head(model, x, x[:, 0] > 0)
        >>> float(np.mean(model.predict(x, verbose=0).argmax(1) == (x[:, 0] > 0))) > 0.9
        True

    References:
        Alain & Bengio, 2016 (linear classifier probes), https://arxiv.org/abs/1610.01644;
        Kumar et al., 2022, section 3 (a head that fits keeps features from being distorted),
        https://arxiv.org/abs/2202.10054
    """
    started = time.perf_counter()
    checks.whole(augmented_copies, 0, 10**6, "augmented_copies")
    checks.in_range(softening, 0.0, 1e6, "softening")
    head = head_of(model)
    passes: Any = x
    if not isinstance(x, Passes):
        passes = passes_of(x, y, sample_weight, shuffle=True, class_weight=class_weight)
    _check(passes, augmented_copies)
    targets, weights = _targets(passes, class_weight)
    targets = head.regression.targets(targets)
    cache = _cache_of(model, cache_dir, progress, shared)
    views = [None, *range(augmented_copies)]
    features = _features(model, head, cache, passes, views)
    folds = folds_of(
        targets,
        stratified=head.regression.stratified,
        seed=seed,
        count=min(FOLDS, passes.num_examples),
    )
    # Threads of BLAS wait for one another on matrices as small as these: ten times as long.
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        found = cross_validated(
            head.regression, features, targets, weights, folds=folds, softening=softening
        )
    head.set(found.linear)
    probe = Probe(folds=folds, seconds=time.perf_counter() - started, **_said(found))
    model.fit_state.cache, model.fit_state.probe = cache, probe
    return probe


def _cache_of(model, cache_dir, progress, shared):
    """A new `FeatureCache`, or that of an earlier call where both are to be shared."""
    earlier = model.fit_state.cache if shared else None
    asked = CacheSettings(cache_dir=cache_dir)
    if earlier is not None and earlier.shared and earlier.is_for("auto", asked):
        earlier.tell(progress)
        return earlier
    return FeatureCache(model, cache_dir=cache_dir, progress=progress, shared=shared)


def _said(found: CrossValidated):
    names = [field.name for field in dataclasses.fields(found)]
    return {name: getattr(found, name) for name in names}


def _check(passes, augmented_copies):
    if passes is None:
        raise ValueError(
            "A head is solved on data that can be read again row by row: arrays, or a dataset of "
            "`kerastl.data.make_dataset`. Received: data that only Keras can read"
        )
    if passes.num_examples < 2:
        raise ValueError(
            f"A head is solved on two examples or more. Received: {passes.num_examples}"
        )
    if augmented_copies and (not passes.random or passes.changes_targets):
        raise ValueError(
            "`augmented_copies` needs a dataset that augments its inputs alone. Received: "
            f"augmented_copies={augmented_copies} for data "
            + (f"with {passes.random}" if passes.random else "without augmentation")
        )


def _targets(passes, class_weight):
    """Targets of all rows, and how much each row counts."""
    rows = tf.range(passes.num_examples, dtype=tf.int64)
    told = [np.asarray(part) for part in tf.function(passes.targets, autograph=False)(rows)]
    if not told:
        raise ValueError("A head is solved on examples with targets. Received: inputs alone")
    targets = told[0]
    weights = np.ones(len(targets)) if len(told) == 1 else told[1].astype(np.float64)
    in_weights = isinstance(passes, ArrayPasses)  # by which `fit` gives each row its weight
    if class_weight is not None and not in_weights:
        of_row = targets.argmax(axis=1) if targets.ndim > 1 and targets.shape[1] > 1 else targets
        of_row = np.reshape(of_row, len(targets))
        weights = weights * np.array([class_weight[int(label)] for label in of_row])
    return targets, weights


def _features(model, head, cache, passes, views):
    """What the head reads for all rows of `passes`, an array for each of `views`."""
    state = freezing_state(model)
    with _keras.without_train_function(model):  # slots are for what trains in `fit`
        try:
            train_groups(model, model.groups, model.groups.names[-1:], "inference")
            cache.update()
            above = cache.frontier.to(head.features)
            return [
                np.concatenate([above(part).numpy() for part in cache.features(passes, view)])
                for view in views
            ]
        finally:
            restore_freezing(model, state)

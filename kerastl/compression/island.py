"""The only door to TFMOT and tf_keras: they come in, and nothing else in the process changes.

TFMOT 0.8.1 (`python/core/keras/compat.py`) sets `TF_USE_LEGACY_KERAS=1` on import and leaves it
set. Every `tf.keras`-like name of TensorFlow 2.21 that nobody has used yet then becomes tf_keras,
in this process and, through the environment, in its children. Can go when TFMOT speaks Keras 3.
"""

import contextlib
import functools
import importlib
import os
import threading
import types
import warnings
from typing import Any

import tensorflow as tf

from kerastl._base.types import TensorLike

_VARIABLE = "TF_USE_LEGACY_KERAS"
_INTERNALS = "tensorflow_model_optimization.python.core."
_MODULES = ("tensorflow", "tensorflow.compat.v1", "tensorflow.compat.v2")
_lock = threading.RLock()


def tf_keras() -> types.ModuleType:
    """The tf_keras package (Keras 2), loaded on first use, beside Keras 3.

    Returns:
        Module.

    Raises:
        ImportError: If it is not installed.

    Example:
        >>> import keras
        >>> tf_keras().__version__[0], keras.__version__[0]
        ('2', '3')
    """
    return _load("tf_keras")


def tfmot(internal: str | None = None) -> types.ModuleType:
    """TFMOT, or one of its modules that its public API does not show.

    Args:
        internal: String, dotted name below `tensorflow_model_optimization.python.core`, such as
            `"sparsity.keras.pruning_impl"`. None means the public package.

    Returns:
        Module. After the call `tf.keras` and `TF_USE_LEGACY_KERAS` are what they were before.

    Raises:
        ImportError: If TFMOT or what it needs is not installed.

    Example:
        >>> tfmot().sparsity.keras.ConstantSparsity(0.5, begin_step=0).target_sparsity
        0.5
        >>> tfmot("sparsity.keras.pruning_impl").Pruning.__name__
        'Pruning'
    """
    package = _load("tensorflow_model_optimization")
    return package if internal is None else _load(_INTERNALS + internal)


@functools.cache
def _load(name):
    with _lock, _nothing_else_changes():
        try:
            return importlib.import_module(name)
        except ImportError as error:
            if error.name == "distutils":
                hint = "From Python 3.12 on TFMOT needs setuptools: `pip install setuptools`."
            else:
                hint = "`pip install tensorflow-model-optimization tf-keras`."
            raise ImportError(f"{name} could not be imported: {error}. {hint}") from error


@contextlib.contextmanager
def _nothing_else_changes():
    """Import here what asks for Keras 2: the environment and TensorFlow's names come back."""
    before = os.environ.get(_VARIABLE)
    unused = _unused_loaders()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*distutils", DeprecationWarning)
            yield
    finally:
        for module, name, loader in unused:
            setattr(module, name, loader)
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def _unused_loaders():
    """Put a fresh loader for each that has not decided yet between Keras 2 and 3.

    A loader decides on first use, by the environment variable, for good. While TFMOT is imported,
    fresh ones decide; the loaders returned here go back to their places afterwards.

    Returns:
        List of `(module of TensorFlow, name, loader)`.
    """
    import tensorflow as tf
    from tensorflow.python.util.lazy_loader import KerasLazyLoader

    # Decides now, by what the user has set. TFMOT asks it, and takes tf_keras beside a Keras 3.
    getattr(tf, "keras").Model  # noqa: B009, B018
    # By import, not as attributes: the first `import tensorflow.compat.v2` makes a new module.
    modules = [importlib.import_module(name) for name in _MODULES]
    unused = [
        (module, name, loader)
        for module in modules
        for name, loader in vars(module).items()
        if type(loader) is KerasLazyLoader and not loader._tfll_initialized
    ]
    for module, name, old in unused:
        settings = (old._tfll_mode, old._tfll_submodule, old._tfll_name)
        setattr(module, name, KerasLazyLoader(vars(module), *settings))
    return unused


def set_own_weights(layer: Any, trainable: list, non_trainable: list) -> None:
    """Have a tf_keras layer hold these lists of variables in the place of its own.

    Private names: `_trainable_weights` and `_non_trainable_weights` (tf_keras 2.21). The public
    ones are read only, and `trainable` is a flag of a whole layer. In place, for tf_keras tracks
    the lists.
    """
    layer._trainable_weights[:] = trainable
    layer._non_trainable_weights[:] = non_trainable


def schedules() -> types.ModuleType:
    """The module with TFMOT's `ConstantSparsity` and `PolynomialDecay`."""
    return tfmot().sparsity.keras


def new_mask(
    weights: tf.Tensor,
    schedule: Any,
    step: TensorLike,
    *,
    block_size: tuple[int, int] = (1, 1),
    m_by_n: tuple[int, int] | None = None,
) -> tuple[TensorLike, tf.Tensor]:
    """TFMOT's mask for `weights`, by magnitude.

    Private names: `Pruning` and its `_maybe_update_block_mask`. Its public face, the pruning
    wrapper, takes tf_keras layers only, and applies masks before the forward pass, so that weights
    leave zero between two steps.

    Args:
        weights: Tensor of any rank; a matrix for blocks, and of rank 2 or 4 for `m_by_n`.
        schedule: TFMOT `PruningSchedule`.
        step: Tensor or int, the step for which `schedule` is asked.
        block_size: As in TFMOT.
        m_by_n: As in TFMOT.

    Returns:
        Threshold and boolean mask of the shape of `weights`, True for what stays.
    """
    pruning = tfmot("sparsity.keras.pruning_impl").Pruning
    engine = pruning(lambda: step, [], schedule, block_size, "AVG", m_by_n)
    threshold, mask = engine._maybe_update_block_mask(weights)
    return threshold, mask > 0

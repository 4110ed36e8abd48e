"""What each epoch of a FineTuner's `fit` is fed."""

import dataclasses
import inspect
import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl._base.types import CacheDtype, CacheFrozen, PathLike
from kerastl.data.passes import ArrayPasses, Passes
from kerastl.training.fit_state import EpochRead
from kerastl.training.frozen import FeatureCache
from kerastl.training.frozen.cached_passes import CacheSettings
from kerastl.training.row_inputs import RowReading

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


@dataclasses.dataclass(frozen=True)
class Settings:
    """Arguments of `fit`.

    Attributes:
        callbacks: As in `keras.Model.fit`, and so are `epochs`, `verbose` and `batch_size`.
        others: Dict of the arguments that were given by name besides these.
        cache_frozen: As in `FineTuner.fit`, and so are `augmented_copies`, `cache_dir` and
            `cache_dtype`.
    """

    callbacks: Any
    epochs: int
    verbose: str | int
    batch_size: int | None
    others: dict[str, Any]
    cache_frozen: CacheFrozen = "auto"
    augmented_copies: int | None = None
    cache_dir: PathLike | None = None
    cache_dtype: CacheDtype = "float32"

    @property
    def initial_epoch(self) -> int:
        return self.others.get("initial_epoch", 0)


class Feed:
    """Chooses the data of an epoch after callbacks have begun it: raw, or cached features.

    Args:
        model: `FineTuner`.
        settings: `Settings`.
        callbacks: `OneTraining`; told of the progress of computing features, and asked when what
            trains will change.

    Attributes:
        batches_before: Int, batches of the present epoch that an earlier process has trained on.
        report: List of a dict an epoch, those before a kill too: whether training used cached
            features, why, and the seconds spent computing them.
    """

    def __init__(self, model: "FineTuner", settings: Settings, callbacks: Any) -> None:
        self._model, self._settings, self.callbacks = model, settings, callbacks
        self._state = model.fit_state
        self._validation = validation_passes_of(
            settings.others.get("validation_data"),
            settings.others.get("validation_batch_size") or settings.batch_size,
        )
        self._cache = _cache_for(model, settings, callbacks.on_frozen_features)
        self.batches_before = 0
        self.report = []
        self._is_built, self._reading = False, None

    def for_epoch(self, epoch: int) -> tuple[Any, Any]:
        """Training data and validation data of `epoch`, as `keras.Model.fit` takes them."""
        self.batches_before = self._batches_before(epoch)
        self._cache.update()
        self._cached = []
        self.report = [row for row in self._reported() if row["epoch"] < epoch]
        data = self._training_data(epoch)
        if self.batches_before:
            passes: Any = self._state.passes
            left = passes.num_batches - self.batches_before
            data = data.skip(self.batches_before)
            data = data.apply(tf.data.experimental.assert_cardinality(left))
        validation = self._validation_data(epoch)
        self._state.latest_read = EpochRead(self._cache.cut, self._cached, self.report)
        return data, validation

    def _reported(self):
        """The rows of this process, or before its first epoch those of the one before a kill."""
        before = self._state.latest_read
        return self.report or (before.report if before else [])

    def _training_data(self, epoch):
        passes: Any = self._state.passes
        number = epoch + self._state.pass_offset
        decision = self._decide("training", passes, epoch)
        if not decision.use:
            data, seconds = self._raw(passes, number)
            self._say(epoch, decision, seconds)
            return data
        self._prepare()
        started = time.perf_counter()
        data = self._cache.epoch(passes, number)
        self._say(epoch, decision, time.perf_counter() - started)
        return data

    def _raw(self, passes, number):
        """Pass `number` as it is, with what terms say of its examples if they are asked once.

        And the seconds that asking them took.
        """
        settings = self._settings
        keeps = settings.cache_frozen is not False and settings.epochs > 1
        riding = [] if self._model.reads_inputs else self._model.terms.riding(passes, keeps=keeps)
        if not riding:
            return passes.epoch(number), 0.0
        started = time.perf_counter()
        if self._reading is None:
            self._build()
            self._reading = RowReading(passes, self._cache.row_values_of(passes, riding))
        return self._reading.of(number), time.perf_counter() - started

    def _validation_data(self, epoch):
        given = self._settings.others.get("validation_data")
        if self._validation is None:
            return given
        decision = self._decide("validation", self._validation, epoch, optional=True)
        if not decision.use:
            return given
        self._prepare()
        return self._cache.epoch(self._validation, 0, "validation")

    def _decide(self, name, passes, epoch, **options):
        """As in the epoch before at the same frontier, else by the epochs that are left.

        Both are known to a run that goes on after a kill, which must read what it would have read.
        """
        before = self._state.latest_read
        begun = before is not None and name in before.cached and before.cut == self._cache.cut
        epochs_left = self._epochs_left(epoch)
        decision = self._cache.decide(passes, epochs_left=epochs_left, begun=begun, **options)
        self._cached += [name] * decision.use
        return decision

    def _prepare(self):
        """Have the model's steps take features at the present frontier."""
        self._build()
        if self._state.frontier is not self._cache.frontier:
            self._state.frontier = self._cache.frontier
            _keras.remake_train_function(self._model)
            self._model.test_function = None

    def _build(self):
        """Build loss and metrics, which Keras would do by inputs that are something else."""
        if not self._is_built:
            passes: Any = self._state.passes
            _keras.build_compiled(self._model, passes.batch_spec)
            self._is_built = True

    def _epochs_left(self, epoch):
        """Epochs for which what trains will stay as it is, as far as callbacks can tell."""
        told = [c.next_change(epoch) for c in self.callbacks.with_method("next_change")]
        return min([e for e in told if e is not None], default=self._settings.epochs) - epoch

    def _say(self, epoch, decision, seconds):
        self.report.append(
            {"epoch": epoch, "cached": decision.use, "reason": decision.reason, "seconds": seconds}
        )

    def _batches_before(self, epoch):
        begin, step = self._state.resume_at or (None, 0)
        return step if epoch == begin else 0


def _cache_for(model, settings, progress):
    """The cache that is there already, if it keeps features as `settings` say, else a new one."""
    kept, model.fit_state.cache = model.fit_state.cache, None
    asked = {
        "augmented_copies": settings.augmented_copies,
        "cache_dir": settings.cache_dir,
        "dtype": settings.cache_dtype,
    }
    if kept is not None and kept.is_for(settings.cache_frozen, CacheSettings(**asked)):
        kept.tell(progress)
        return kept
    return FeatureCache(model, settings.cache_frozen, **asked, progress=progress)


def passes_of(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    class_weight: Any = None,
) -> Passes | None:
    """`Passes` over training data as `fit` takes it, or None for data that only Keras can read.

    A dataset made by `kerastl.data.make_dataset` carries its passes; arrays in memory have passes
    by their rows, shuffled by the seed of `keras.utils.set_random_seed`. Of any other dataset or
    generator nobody knows whether its next pass will be the same.

    Raises:
        ValueError: If Keras refuses these arguments together.
    """
    passes = getattr(x, "repeatable", None)
    if passes is None:
        parts = [x] if y is None else [x, y] if sample_weight is None else [x, y, sample_weight]
        if not all(_is_array(leaf) for part in parts for leaf in keras.tree.flatten(part)):
            return None
        arrays = _keras.arrays_as_read(x, y, sample_weight, class_weight)
        seed = (_keras.random_seed() or 0) if shuffle else None
        passes = ArrayPasses(*arrays, batch_size=batch_size or 32, seed=seed)
    elif y is not None or sample_weight is not None:
        _keras.data_adapter(x, y, sample_weight)  # says that they belong into the dataset
    return passes


def validation_passes_of(data: Any, batch_size: int | None) -> Passes | None:
    """`Passes` over validation data as `fit` takes it, or None."""
    return passes_of(*keras.utils.unpack_x_y_sample_weight(data), batch_size=batch_size)


def judged_validation(data: Any) -> Any:
    """Validation data for `fit`, refused now where Keras refuses them after an epoch of training.

    A generator, which can be read only once, comes as what reads it on from epoch to epoch.
    """
    if data is None:
        return None
    parts = keras.utils.unpack_x_y_sample_weight(data)
    refuse_empty(parts[0], "validation_data")
    reader = _keras.data_adapter(*parts)
    return reader if inspect.isgenerator(parts[0]) else data


def refuse_empty(x: Any, name: str) -> None:
    """Raise if the data `x`, the argument `name` of `fit`, hold no examples, as far as is seen."""
    passes = getattr(x, "repeatable", None)
    arrays = [leaf for leaf in keras.tree.flatten(x) if _is_array(leaf)]
    rows = [len(array) for array in arrays] + ([passes.num_examples] if passes else [])
    if isinstance(x, tf.data.Dataset):
        rows.append(int(x.cardinality()))
    if 0 in rows:
        raise ValueError(f"`fit` needs at least one example. Received: `{name}` of 0 rows.")


def _is_array(leaf):
    return isinstance(leaf, (np.ndarray, tf.Tensor)) and leaf.ndim > 0

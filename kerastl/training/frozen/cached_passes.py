"""The features of one set of data at one frontier."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base.types import CacheDtype, OnProgress, PathLike
from kerastl.data.passes import Passes
from kerastl.data.rows import Rows
from kerastl.training.frozen.frozen_part import FrozenPart
from kerastl.training.frozen.part import packed
from kerastl.training.frozen.store import Reading, Store, fill, make_store, num_bytes, stored_dtype


@dataclasses.dataclass(frozen=True)
class CacheSettings:
    """How features are kept; the arguments of `FeatureCache`."""

    augmented_copies: int | None = None
    cache_dir: PathLike | None = None
    dtype: CacheDtype = "float32"
    progress: OnProgress | None = None


class CachedPasses:
    """Passes over the features of one set of data, computed when they are first read.

    Args:
        passes: `Passes` over the data.
        frozen_part: `FrozenPart` at the frontier.
        weights: Hash of the weights below the frontier.
        settings: `CacheSettings`.
        moved: `MovedFeatures` from an earlier frontier, or None where there are none.

    Attributes:
        views: Sequence of the views: numbers of augmented copies, or None for the data as they are.
        stores: Dict from the views that are there to their `Store`.
        whole: `(CachedPasses, rows)` of a larger set of data whose features serve here, or None.
    """

    whole: "tuple[CachedPasses, np.ndarray] | None" = None

    def __init__(
        self,
        passes: Passes,
        frozen_part: FrozenPart,
        weights: str,
        settings: CacheSettings,
        moved: "MovedFeatures | None" = None,
    ) -> None:
        self.passes, self.frozen_part, self.settings = passes, frozen_part, settings
        self.views: Any = range(settings.augmented_copies or 0) if passes.random else [None]
        self.stores = {}
        self._readings = {}
        self._weights, self._moved_features = weights, moved

    @property
    def num_bytes(self) -> int:
        """Bytes of one view."""
        return num_bytes(self._layouts())

    @property
    def held(self) -> int:
        """Bytes in memory now."""
        own = sum(store.num_bytes for store in self.stores.values() if store.folder is None)
        if self.whole is not None:
            own -= self.num_bytes * (None in self.stores)  # it is held once, with the others
        return own + (self._moved_features.held if self._moved_features else 0)

    @property
    def to_come(self) -> int:
        """Bytes of the views that have not been computed yet."""
        return self.num_bytes * sum(not self._is_there(view) for view in self.views)

    @property
    def begun(self) -> bool:
        """Whether some features are there."""
        return any(self._is_there(view) for view in self.views)

    @functools.cached_property
    def mixes_rows(self) -> str | None:
        """Why the features of an example depend on its batch, or None; read off the first one."""
        if self.frozen_part.by_rows:
            return None
        first = next(iter(self._inputs(next(iter(self.views), None))))
        return self.frozen_part.why_not_by_rows(tf.nest.map_structure(lambda part: part[:4], first))

    def epoch(self, number: int, reader: str = "training", row_values: Any = ()) -> tf.data.Dataset:
        """Dataset of `(Features, *targets)`: the batches of pass `number` in their order.

        It is one dataset for all that a `reader` asks for: read it before asking for the next.
        `row_values` ride with the features; they are those of the first time.
        """
        store = self.store(self._view(number))
        if reader not in self._readings:
            self._readings[reader] = Reading(self.passes, self.frozen_part.specs, row_values)
        return self._readings[reader].of(number, store)

    def _view(self, number):
        return self.views[number % len(self.views)]

    def store(self, view: int | None) -> Store:
        """`Store` of a view; computed, moved up from an earlier frontier, or opened."""
        if view is None and self.whole is not None and view not in self.stores:
            whole, rows = self.whole
            arrays: Any = [Rows(array, rows) for array in whole.store(None).arrays]
            self.stores[view] = Store(arrays)
        if view not in self.stores:
            self.stores[view] = make_store(
                self._layouts(), lambda arrays: self._fill(arrays, view), folder=self._folder(view)
            )
        if len(self.stores) == len(self.views):
            self._moved_features = None
        return self.stores[view]

    def forget_earlier(self) -> None:
        """Let go of features at an earlier frontier."""
        self._moved_features = None

    def _fill(self, arrays, view):
        batches = self._moved_features.batches(view) if self._moved_features else None
        order = None
        if batches is None:
            order = self.passes.computing_order if view is None else None
            batches = (self.frozen_part(x) for x in self._inputs(view))
        fill(arrays, batches, order=order, progress=self.settings.progress)

    def _inputs(self, view):
        """Dataset of the batches of inputs of a view, in the order in which they are computed."""
        return self.passes.in_computing_order() if view is None else self.passes.view(view)

    def _is_there(self, view):
        if view in self.stores or self.settings.cache_dir is None:
            return view in self.stores
        folder: Any = self._folder(view)
        return folder.is_dir()

    def _layouts(self):
        rows, longest = self.passes.num_examples, self.passes.longest or 0
        return [
            (
                (rows, *(longest if size is None else size for size in spec.shape[1:])),
                stored_dtype(spec.dtype.name, self.settings.dtype),
            )
            for spec in tf.nest.flatten(self.frozen_part.specs)
        ]

    def _folder(self, view):
        """Where a view lies on disk: named after everything that its features depend on."""
        if self.settings.cache_dir is None:
            return None
        key = [tf.__version__, self.frozen_part.digest, self._weights, self._fingerprint]
        key += [self.settings.dtype, view]
        if view is not None:  # its randomness comes from these
            key += [self.passes.seed, self.passes.batch_size]
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return Path(self.settings.cache_dir) / f"features-{name}"

    @functools.cached_property
    def _fingerprint(self):
        return self.passes.fingerprint()


class MovedFeatures:
    """Carries the features of one set of data over from an old frontier to a higher one.

    Args:
        old: `CachedPasses` at the old frontier, in full precision.
        above: Layer from `Features` there to `Features` at the new one, as `Frontier.above` gives.
    """

    def __init__(self, old: CachedPasses, above: keras.Layer) -> None:
        self._old = old
        self._run = tf.function(lambda features: above(features, training=False), autograph=False)

    @property
    def held(self) -> int:
        """Bytes of old features in memory."""
        return self._old.held

    def batches(self, view: int | None) -> Iterator[list[Any]] | None:
        """Iterator of lists of arrays, one list a batch, or None if `view` was not there."""
        if view not in self._old.stores:
            return None
        store, passes = self._old.stores[view], self._old.passes
        starts = range(0, passes.num_examples, passes.batch_size)
        return (self._moved(store, slice(start, start + passes.batch_size)) for start in starts)

    def _moved(self, store, rows):
        features = packed(store.rows(rows), self._old.frozen_part.specs)
        return [tensor.numpy() for tensor in tf.nest.flatten(self._run(features))]

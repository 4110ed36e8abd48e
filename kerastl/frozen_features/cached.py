"""The cache of a training run: features of its data at the present frontier."""

import keras

from kerastl import _checks, _disk
from kerastl.frozen_features.decide import (
    CHOICES,
    Decision,
    decide,
    obstacle_in_data,
    obstacle_in_inputs,
    obstacle_in_room,
)
from kerastl.frozen_features.frontier import find_frontier
from kerastl.frozen_features.lower import Lower, weights_hash
from kerastl.frozen_features.moving import Mover
from kerastl.frozen_features.source import CachedPasses, Keeping
from kerastl.frozen_features.store import DTYPES


class FeatureCache:
    """Features of training and validation data at the frontier of a `FineTuner`.

    Call `update` after callbacks have thawed or frozen what they will; then `decide` for each set
    of data; then, where it is used, `epoch` for its batches. Their inputs are `Features`, to be
    given to `frontier.upper` in place of the model. The model is up to date at every moment,
    because the layers that train are its own.

    Args:
        model: `FineTuner`.
        cache_frozen: `"auto"`, True or False.
        augmented_copies: Int >= 1, how many views of randomly augmented data to cache; pass `n`
            reads view `n % augmented_copies`. None caches no such data.
        cache_dir: Folder for memory-mapped features, which later runs use again; None for memory.
        dtype: `"float32"`, or `"float16"` to keep floats in half precision.
        progress: Called as `progress(done, total)` with numbers of examples.

    Attributes:
        frontier: `Frontier` after the last `update`; None before it and with
            `cache_frozen=False`.

    Raises:
        ValueError: If an argument is none of those named.
    """

    def __init__(
        self,
        model,
        cache_frozen="auto",
        *,
        augmented_copies=None,
        cache_dir=None,
        dtype="float32",
        progress=None,
    ):
        if augmented_copies is not None:
            _checks.whole(augmented_copies, 1, 10**6, "augmented_copies")
        _checks.one_of(dtype, DTYPES, "dtype")
        self._choice = _checks.one_of(cache_frozen, CHOICES, "cache_frozen")
        self._keeping = Keeping(augmented_copies, cache_dir, dtype, progress)
        self._model = model
        self.frontier, self._weights = None, None
        self._lowers, self._cached, self._movers = {}, {}, {}

    def update(self):
        """Find the frontier of the model as its layers are frozen now.

        Features are dropped if a weight below it has changed. If it has moved up, those at the
        old frontier serve to compute the new ones.

        Returns:
            Whether `frontier` is another than before. Functions traced with its `upper` must be
            traced anew then.
        """
        if self._choice is False:
            return False
        frontier = find_frontier(self._model)
        moved = not frontier.same_cut(self.frontier)
        if not moved:
            self.frontier.blocked_by = frontier.blocked_by
        else:
            self._movers = self._movers_to(frontier)
            self.frontier, self._lowers, self._cached = frontier, {}, {}
        weights = weights_hash(self.frontier)
        if not moved and weights != self._weights:
            self._cached, self._movers = {}, {}
        self._weights = weights
        return moved

    @property
    def cut(self):
        """Positions in the model of the layers below the frontier, or None without a cache."""
        if self.frontier is None:
            return None
        place = {id(layer): i for i, layer in enumerate(self._model.layers)}
        return [place[id(layer)] for layer in self.frontier.static_layers]

    def decide(self, passes, *, epochs_left, optional=False, begun=False):
        """Whether to train or evaluate on cached features of `passes`.

        Args:
            passes: `Passes`, or None for data that cannot be read again row by row.
            epochs_left: Int, how often `passes` will be read with the frontier as it is.
            optional: Boolean: an obstacle is no error even with `cache_frozen=True`.
            begun: Boolean, whether features at this frontier were used before, be it in a process
                that was killed.

        Returns:
            `Decision`.

        Raises:
            ValueError: If `cache_frozen` is True and there is an obstacle.
        """
        choice = "auto" if optional and self._choice is True else self._choice
        if choice is False:
            return decide(choice, None, epochs_left=epochs_left)
        if obstacle := self._obstacle_at_sight(passes):
            return decide(choice, obstacle, epochs_left=epochs_left)
        views = self._keeping.augmented_copies if passes.random else 1
        begun = begun or (self._may_have_begun(passes) and self._of(passes).begun)
        decision = decide(choice, None, epochs_left=epochs_left, views=views, begun=begun)
        if not decision.use:
            return decision
        cached = self._of(passes)
        if obstacle := self._obstacle_below(cached):
            return decide(choice, obstacle, epochs_left=epochs_left)
        return Decision(True, self._gain(cached))

    def epoch(self, passes, number, reader="training"):
        """Dataset of `(Features, *targets)`: pass `number` of `passes`, in the same batches.

        Features that are not there yet are computed first. What a `reader` asked for before must
        have been read; two readers may read the same passes at a time.
        """
        return self._of(passes).epoch(number, reader)

    def _obstacle_at_sight(self, passes):
        """Why features cannot be cached, as far as is seen without tracing the frozen part."""
        return (
            self._model.reads_inputs
            or self.frontier.reason
            or obstacle_in_data(passes, self._keeping.augmented_copies)
            or obstacle_in_inputs(passes.input_spec)
        )

    def _obstacle_below(self, cached):
        held = sum(other.held for other in self._cached.values())
        return (
            cached.lower.reason
            or obstacle_in_room(cached.to_come, held, self._keeping.cache_dir)
            or (None if cached.begun else cached.mixes_rows)
        )

    def _may_have_begun(self, passes):
        return self._keeping.cache_dir is not None or id(passes) in self._cached

    def _of(self, passes):
        if id(passes) not in self._cached:  # `CachedPasses` keeps them alive, so the id is theirs
            spec = passes.input_spec
            if repr(spec) not in self._lowers:
                self._lowers[repr(spec)] = Lower(self.frontier, spec)
            lower, mover = self._lowers[repr(spec)], self._movers.pop(id(passes), None)
            cached = CachedPasses(passes, lower, self._weights, self._keeping, mover)
            self._cached[id(passes)] = cached
        return self._cached[id(passes)]

    def _movers_to(self, frontier):
        """Dict from the ids of passes to a `Mover` from the present frontier up to `frontier`."""
        if self.frontier is None or self._keeping.dtype != "float32":
            return {}
        above = frontier.above(self.frontier)
        if above is None or weights_hash(self.frontier) != self._weights:
            return {}
        for cached in self._cached.values():
            cached.forget_earlier()
        return {key: Mover(cached, above) for key, cached in self._cached.items()}

    def _gain(self, cached):
        below = len(self.frontier.static_layers)
        inputs = sum(isinstance(layer, keras.layers.InputLayer) for layer in self._model.layers)
        layers = f"{below} of {len(self._model.layers) - inputs} layers"
        size = _disk.mib(cached.num_bytes * len(cached.views))
        place = f"in {self._keeping.cache_dir}" if self._keeping.cache_dir else "in memory"
        return f"{layers} are computed once, {size} {place}"

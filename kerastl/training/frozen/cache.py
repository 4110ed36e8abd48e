"""The cache of a training run: features of its data at the present frontier.

It is one file of over 400 lines because whether to cache, and why not, is read with the cache.
"""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kerastl._base import checks, files
from kerastl._base.types import CacheDtype, CacheFrozen, OnProgress, PathLike
from kerastl.data.passes import Passes
from kerastl.training.frozen.cached_passes import CachedPasses, CacheSettings, MovedFeatures
from kerastl.training.frozen.frontier import find_frontier
from kerastl.training.frozen.frozen_part import FrozenPart, weights_hash
from kerastl.training.frozen.part import Features, packed
from kerastl.training.frozen.store import DTYPES

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


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
        shared: Boolean, whether it serves several trainings of `model` from the same weights: then
            it keeps what was computed at frontiers left behind, and computes features of some rows
            of a set of data with all the others.

    Attributes:
        shared: As the argument.
        frontier: `Frontier` after the last `update`; None before it and with
            `cache_frozen=False`.

    Raises:
        ValueError: If an argument is none of those named.
    """

    def __init__(
        self,
        model: "FineTuner",
        cache_frozen: CacheFrozen = "auto",
        *,
        augmented_copies: int | None = None,
        cache_dir: PathLike | None = None,
        dtype: CacheDtype = "float32",
        progress: OnProgress | None = None,
        shared: bool = False,
    ) -> None:
        if augmented_copies is not None:
            checks.whole(augmented_copies, 1, 10**6, "augmented_copies")
        checks.one_of(dtype, DTYPES, "dtype")
        self._choice = checks.one_of(cache_frozen, CHOICES, "cache_frozen")
        self._settings = CacheSettings(augmented_copies, cache_dir, dtype, progress)
        self._model = model
        self.frontier: Any = None
        self._weights: Any = None
        self._frozen_parts, self._cached, self._moved_features = {}, {}, {}
        self.shared, self._left, self._wholes = shared, [], []
        self._row_values = {}  # by the id of the passes, which are kept so that it stays theirs

    def update(self) -> bool:
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
            self._leave_for(frontier)
        weights = weights_hash(self.frontier)
        if weights != self._weights and self._weights is not None:
            self._cached, self._moved_features = {}, {}
        self._weights = weights
        return moved

    def _leave_for(self, frontier):
        """Go to `frontier`, with what was computed there before or can be carried up to it."""
        moved = self._moved_features_to(frontier)
        if self.shared and self.frontier is not None:
            self._left.append((self.frontier, self._frozen_parts, self._cached, self._weights))
        before = next((left for left in self._left if frontier.same_cut(left[0])), None)
        if before is None:
            self.frontier, self._frozen_parts, self._cached, self._weights = frontier, {}, {}, None
            self._moved_features = moved
        else:
            self._left.remove(before)
            self.frontier, self._frozen_parts, self._cached, self._weights = before
            self._moved_features = {}

    @property
    def cut(self) -> list[int] | None:
        """Positions in the model of the layers below the frontier, or None without a cache."""
        if self.frontier is None:
            return None
        positions = {id(layer): i for i, layer in enumerate(self._model.layers)}
        return [positions[id(layer)] for layer in self.frontier.static_layers]

    def decide(
        self,
        passes: Passes | None,
        *,
        epochs_left: int,
        optional: bool = False,
        begun: bool = False,
    ) -> "Decision":
        """Whether to train or evaluate on cached features of `passes`.

        Args:
            passes: `Passes`, or None for data that cannot be read again row by row.
            epochs_left: Int, how often `passes` will be read with the frontier as it is.
            optional: Boolean, for validation data: an obstacle is no error even with
                `cache_frozen=True`, and terms of the loss do not read them.
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
        obstacle = self._obstacle_at_sight(passes, of_training=not optional)
        if obstacle:
            return decide(choice, obstacle, epochs_left=epochs_left)
        known: Any = passes  # without any there is an obstacle
        views: Any = self._settings.augmented_copies if known.random else 1
        begun = begun or (self._may_have_begun(passes) and self._of(passes).begun)
        decision = decide(choice, None, epochs_left=epochs_left, views=views, begun=begun)
        if not decision.use:
            return decision
        cached = self._of(passes)
        if obstacle := self._obstacle_below(cached):
            return decide(choice, obstacle, epochs_left=epochs_left)
        return Decision(True, self._gain(cached))

    def epoch(self, passes: Passes, number: int, reader: str = "training") -> tf.data.Dataset:
        """Dataset of `(Features, *targets)`: pass `number` of `passes`, in the same batches.

        Features that are not there yet are computed first. What a `reader` asked for before must
        have been read; two readers may read the same passes at a time.
        """
        row_values = self.row_values_of(passes) if reader == "training" else ()
        return self._of(passes).epoch(number, reader, row_values)

    def features(self, passes: Passes, view: int | None = None) -> Iterator[Features]:
        """`Features` of all rows of `passes` in their order, some hundreds at a time.

        Args:
            passes: `Passes`.
            view: Int, an augmented view of those that are cached; None for the data as they are.

        Raises:
            ValueError: If they cannot be computed once.
        """
        obstacle = self.frontier.no_rows or obstacle_in_inputs(passes.input_spec)
        cached = None if obstacle else self._of(passes)
        if cached is not None:
            obstacle = cached.frozen_part.reason or self._obstacle_below(cached)
        if cached is None or obstacle:
            raise ValueError(
                "The features of frozen layers must be computed once for each example, but "
                f"{obstacle}."
            )
        store, specs = cached.store(view), cached.frozen_part.specs
        for start in range(0, passes.num_examples, AT_ONCE):
            yield packed(store.rows(slice(start, start + AT_ONCE)), specs)

    def is_for(self, cache_frozen: CacheFrozen, settings: CacheSettings) -> bool:
        """Whether it keeps features as these arguments say, whoever is told of its progress."""
        asked = dataclasses.replace(settings, progress=None)
        return cache_frozen == self._choice and asked == dataclasses.replace(
            self._settings, progress=None
        )

    def tell(self, progress: OnProgress | None) -> None:
        """Have `progress` be called from now on."""
        self._settings = dataclasses.replace(self._settings, progress=progress)
        for cached in self._cached.values():
            cached.settings = self._settings

    def row_values_of(self, passes: Passes, only: Sequence[Any] | None = None) -> Any:
        """What the terms of the loss say of the examples of `passes`, computed once.

        `only` are the terms that are asked; None asks all.
        """
        terms = self._model.terms
        known = self._row_values.setdefault(id(passes), (passes, {}))[1]
        asked = [term for term in (terms if only is None else only) if term.name not in known]
        known.update(terms.row_values(passes, asked) or {})
        told = known if only is None else {t.name: known[t.name] for t in only}
        return dict(told) or ()

    def _obstacle_at_sight(self, passes, of_training):
        """Why features cannot be cached, as far as is seen without tracing the frozen part.

        Terms of the loss take part in training alone.
        """
        return (
            self._model.reads_inputs
            or self.frontier.reason
            or obstacle_in_data(passes, self._settings.augmented_copies)
            or (self._why_not_with_terms(passes) if of_training else None)
            or obstacle_in_inputs(passes.input_spec)
        )

    def _why_not_with_terms(self, passes):
        return self._model.terms.why_not_cached(passes, self.frontier.below)

    def _obstacle_below(self, cached):
        sets = [self._cached, *(left[2] for left in self._left)]
        held = sum(other.held for each in sets for other in each.values())
        return (
            cached.frozen_part.reason
            or obstacle_in_room(cached.to_come, held, self._settings.cache_dir)
            or (None if cached.begun else cached.mixes_rows)
        )

    def _may_have_begun(self, passes):
        return self._settings.cache_dir is not None or id(passes) in self._cached

    def _of(self, passes):
        if id(passes) not in self._cached:  # `CachedPasses` keeps them alive, so the id is theirs
            spec = passes.input_spec
            if repr(spec) not in self._frozen_parts:
                self._frozen_parts[repr(spec)] = FrozenPart(self.frontier, spec, passes.longest)
            part, moved = self._frozen_parts[repr(spec)], self._moved_features.pop(id(passes), None)
            cached = CachedPasses(passes, part, self._weights, self._settings, moved)
            cached.whole = self._whole_of(passes)
            self._cached[id(passes)] = cached
        return self._cached[id(passes)]

    def _whole_of(self, passes):
        """Those of whose rows `passes` reads some, `CachedPasses` and the rows, or None."""
        if not self.shared:
            return None
        for whole in self._wholes:
            if whole is not passes and (rows := passes.places_in(whole)) is not None:
                return self._of(whole), rows
        self._wholes.append(passes)
        return None

    def _moved_features_to(self, frontier):
        """Dict from the ids of passes to their `MovedFeatures`, carried up to `frontier`."""
        if self.frontier is None or self._settings.dtype != "float32":
            return {}
        above = frontier.above(self.frontier)
        if above is None or weights_hash(self.frontier) != self._weights:
            return {}
        for cached in self._cached.values():
            cached.forget_earlier()
        return {key: MovedFeatures(cached, above) for key, cached in self._cached.items()}

    def _gain(self, cached):
        below = len(self.frontier.static_layers)
        inputs = sum(isinstance(layer, keras.layers.InputLayer) for layer in self._model.layers)
        layers = f"{below} of {len(self._model.layers) - inputs} layers"
        size = files.mib(cached.num_bytes * len(cached.views))
        place = f"in {self._settings.cache_dir}" if self._settings.cache_dir else "in memory"
        return f"{layers} are computed once, {size} {place}"


CHOICES = ("auto", True, False)
AT_ONCE = 512  # rows of stored features that are handed out at once


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether features are cached, and why.

    Attributes:
        use: Boolean.
        reason: One sentence, without a full stop, to show to a person.
    """

    use: bool
    reason: str


def decide(
    cache_frozen: CacheFrozen,
    obstacle: str | None,
    *,
    epochs_left: int,
    views: int = 1,
    begun: bool = False,
) -> Decision:
    """Carry out what the user chose, or say why not.

    Args:
        cache_frozen: `"auto"`, True or False.
        obstacle: Why features cannot be cached, or None.
        epochs_left: Int, how often the data will be read with these features.
        views: Int, how many augmented copies of the data are computed.
        begun: Boolean, whether features are there already.

    Returns:
        `Decision`.

    Raises:
        ValueError: If `cache_frozen` is True and there is an obstacle, or it is no choice.

    Example:
        >>> decide("auto", "augmentation is random", epochs_left=9)
        Decision(use=False, reason='augmentation is random')
        >>> decide(True, "augmentation is random", epochs_left=9)
        Traceback (most recent call last):
        ValueError: `cache_frozen=True` needs features that can be computed once, but \
augmentation is random. Received: cache_frozen=True. "auto" trains without a cache then.
    """
    checks.one_of(cache_frozen, CHOICES, "cache_frozen")
    if cache_frozen is False:
        return Decision(False, "cache_frozen=False")
    if obstacle and cache_frozen is True:
        raise ValueError(
            f"`cache_frozen=True` needs features that can be computed once, but {obstacle}. "
            'Received: cache_frozen=True. "auto" trains without a cache then.'
        )
    if obstacle:
        return Decision(False, obstacle)
    if cache_frozen == "auto" and not begun and epochs_left <= views:
        return Decision(False, _too_few(epochs_left, views))
    return Decision(True, "the frozen part is computed once")


def obstacle_in_data(passes: Passes | None, augmented_copies: int | None) -> str | None:
    """Why the data cannot be cached by rows, or None.

    Args:
        passes: `Passes`, or None where nobody knows how to read the data again.
        augmented_copies: Int, how many views of augmented data to cache, or None.
    """
    if passes is None:
        return (
            "the data cannot be read again row by row: give arrays, or a dataset made by "
            "`kerastl.data.make_dataset`"
        )
    if passes.changes_targets:
        return f"{passes.random} changes the targets as well, in every epoch anew"
    if passes.random and not augmented_copies:
        return f"{passes.random} is random: pass augmented_copies=k to cache k views of the data"
    return None


def obstacle_in_inputs(spec: Any) -> str | None:
    """Why batches of inputs of the structure `spec` cannot be computed by rows, or None."""
    for part in tf.nest.flatten(spec):
        if not isinstance(part, tf.TensorSpec) or part.dtype == tf.string:
            return f"its inputs are not plain numbers but {part}"
    return None


def obstacle_in_room(num_bytes: int, held: int, cache_dir: PathLike | None) -> str | None:
    """Why there is no room for `num_bytes` of features, or None.

    Args:
        num_bytes: Int.
        held: Int, bytes of features held in memory already.
        cache_dir: Folder for them, or None for memory.
    """
    if cache_dir is None:
        if files.fits_in_memory(num_bytes + held):
            return None
        return (
            f"would need {files.mib(num_bytes + held)} of memory, more than an eighth of this "
            "machine's: give cache_dir, a folder on disk"
        )
    free = shutil.disk_usage(_existing(Path(cache_dir))).free
    if num_bytes <= free:
        return None
    return (
        f"would need {files.mib(num_bytes)} in {cache_dir}, whose disk has {files.mib(free)} free"
    )


def _existing(folder):
    """`folder`, or the nearest folder above it that exists."""
    folder = folder.absolute()
    return next(path for path in [folder, *folder.parents] if path.is_dir())


def _too_few(epochs_left, views):
    if views == 1:
        return "only one epoch left"
    return f"only {epochs_left} epochs left for {views} augmented copies"

"""Where a `fit` of a FineTuner stands: what it reads, what it has read, where it goes on."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from kerastl.data.passes import Passes
from kerastl.training.clock import Clock, Seconds
from kerastl.training.frozen import FeatureCache, Frontier
from kerastl.training.frozen.frontier import unsteady


class StaleFeatures(Exception):
    """Ends what an epoch reads: a layer below its features has been thawed since it began."""


@dataclasses.dataclass
class EpochRead:
    """What the latest epoch of a `fit` was fed.

    A run that goes on after a kill reads what it would have read: cached features where they were
    read at the same cut before, whatever number of epochs is left.

    Attributes:
        cut: Positions in the model of the layers below the frontier, or None without a cache.
        cached: Which data came from cached features, of `"training"` and `"validation"`.
        report: One dict an epoch so far, see `history.frozen_features` of `FineTuner.fit`.
    """

    cut: list[int] | None
    cached: list[int]
    report: list[dict[str, Any]]


@dataclasses.dataclass
class FitState:
    """What a `FineTuner`, its `fit`, its callbacks and its checkpoints know of a training.

    It is one object on the model, `model.fit_state`, and no part of what Keras saves of it.

    Attributes:
        passes: The `Passes` that `fit` reads, or None where Keras reads the data by itself.
        frontier: The `Frontier` whose features `fit` reads, or None.
        passes_done: Int, the pass that the next `fit` begins with.
        pass_offset: Int, number of the pass minus number of the epoch, in the present `fit`.
        latest_read: `EpochRead` of the latest epoch, or None before the first.
        resume_at: `(epoch, batches done in it)`, set by a callback that restores a run, or None.
        class_weight: As `fit` was given it, and so is `initial_epoch`.
        probe: `Probe` of the head, if that was solved, or None.
        cache: `FeatureCache` of features that are there before a `fit`, for that to go on with.
        reads_features: Boolean, whether an epoch is under way that reads cached features.
        clock: `Clock` of the present or latest `fit`.
    """

    passes: Passes | None = None
    frontier: Frontier | None = None
    passes_done: int = 0
    pass_offset: int = 0
    latest_read: EpochRead | None = None
    resume_at: tuple[int, int] | None = None
    class_weight: Any = None
    initial_epoch: int = 0
    probe: Any = None
    cache: FeatureCache | None = None
    reads_features: bool = False
    clock: Clock = dataclasses.field(default_factory=Clock)
    is_running: bool = False

    @contextlib.contextmanager
    def in_epoch(self) -> Iterator[None]:
        """While this lasts the latest epoch is under way."""
        self.reads_features = self.latest_read is not None and bool(self.latest_read.cached)
        try:
            yield
        finally:
            self.reads_features = False

    def check_features(self) -> None:
        """Raise `StaleFeatures` if the epoch under way reads those of a layer thawed since."""
        if not self.reads_features or self.frontier is None:
            return
        if any(unsteady(layer) for layer in self.frontier.static_layers):
            raise StaleFeatures

    def begin(self, initial_epoch: int) -> None:
        """Forget the `fit` before this one, whose first epoch is `initial_epoch`."""
        self.resume_at = self.latest_read = None
        self.pass_offset = max(0, self.passes_done - initial_epoch)

    def capture(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain data."""
        read = self.latest_read
        return {
            "passes_done": self.passes_done,
            "pass_offset": self.pass_offset,
            "latest_read": None if read is None else dataclasses.asdict(read),
            "seconds": dataclasses.asdict(self.clock.seconds),
        }

    def restore(self, state: Any) -> None:
        """Take over what `capture` gave."""
        self.passes_done, self.pass_offset = state["passes_done"], state["pass_offset"]
        read = state["latest_read"]
        self.latest_read = None if read is None else EpochRead(**read)
        self.clock.go_on_from(Seconds(**state["seconds"]))

"""Thaw layer groups from the head down, inside one `fit`."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kerastl._base import checks
from kerastl._base.types import BatchNormPolicy
from kerastl.freezing.groups import train_groups
from kerastl.graph import check_fine_tuner


class GradualUnfreezing(keras.callbacks.Callback):
    """Thaws the layer groups of a `FineTuner`, one after the other, while `fit` runs.

    The head trains from the first epoch; every `every` epochs the next group below joins it. The
    optimizer goes on with its moments, and the weights that join get their own bias correction.
    The state at an epoch depends on that epoch alone, so `initial_epoch` resumes rightly.

    Args:
        schedule: Dict from epoch (int >= 0) to what thaws when it begins: a group name, an int
            `n > 0` for "the `n` groups nearest the head, in all", or a list of group names.
            Epoch 0 says what trains from the start. Groups never named stay frozen. None thaws
            the head at 0 and then one group every `every` epochs, down to the input.
        every: Int > 0, epochs between two thaws when `schedule` is None.
        batch_norm: What batch normalizations of the backbone's groups that train do, also of
            those that train from epoch 0: `"inference"` (their statistics stay as they were
            learned), `"frozen"` or `"train"`. See `unfreeze`. Those of a group called `head` are
            new and learn their statistics.
        verbose: 0 for silence, 1 for a line at each thaw.

    Raises:
        ValueError: If a group is unknown, an epoch negative or the schedule empty.
        TypeError: If the model is not a `FineTuner`.

    Example:
        >>> callback = GradualUnfreezing({0: "head", 2: 2, 4: ["stage_2", "stage_1"]})
        >>> sorted(callback.schedule)
        [0, 2, 4]

    References:
        Howard & Ruder, 2018, section 3.3 (gradual unfreezing),
        https://arxiv.org/abs/1801.06146
    """

    def __init__(
        self,
        schedule: Mapping[int, int | str | Sequence[str]] | None = None,
        *,
        every: int = 1,
        batch_norm: BatchNormPolicy = "inference",
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if schedule is not None:
            _check_epochs(schedule)
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"`every` must be an int > 0, in epochs. Received: every={every!r}")
        self.schedule = schedule
        self.every = every
        self.batch_norm: BatchNormPolicy = batch_norm
        self.verbose = verbose
        self._training = None

    def set_model(self, model: keras.Model) -> None:
        check_fine_tuner(model, "GradualUnfreezing", "whose optimizer takes up weights that thaw")
        super().set_model(model)
        self._plan = self._resolve(list(model.groups.names))
        self._training = None
        names = {name for thawed in self._plan.values() for name in thawed}
        model.reserve([layer for name in sorted(names) for layer in model.groups[name]])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        names = self.groups_training(epoch)
        if names == self._training:
            return
        first = self._training is None
        self._training = names
        train_groups(self.model, self.model.groups, names, self.batch_norm)
        if self.verbose:
            print(
                f"Epoch {epoch + 1}: {'training' if first else 'thawed, now training'} "
                f"{checks.listed(names, 6)}"
            )

    def groups_training(self, epoch: int) -> list[str]:
        """Names of the groups that train in `epoch` (from 0), ordered from input to head."""
        thawed = {name for start, names in self._plan.items() if start <= epoch for name in names}
        return [name for name in self.model.groups.names if name in thawed]

    def next_change(self, epoch: int) -> int | None:
        """The first epoch after `epoch` with which other groups train, or None."""
        return min((start for start in self._plan if start > epoch), default=None)

    def _resolve(self, names):
        schedule = self.schedule
        if schedule is None:
            schedule = {i * self.every: i + 1 for i in range(len(names))}
        return {epoch: _groups_named(value, names) for epoch, value in schedule.items()}


def _groups_named(value: Any, names: list[str]) -> list[str]:
    said: Any = value
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 < value <= len(names):
            raise ValueError(
                f"A number of groups in `schedule` must be in [1, {len(names)}], because the model "
                f"has {len(names)} groups: {checks.listed(names, 40)}. Received: {value}"
            )
        return names[-value:]
    chosen = [value] if isinstance(value, str) else list(said)
    for name in chosen:
        checks.one_of(name, names, "schedule")
    return chosen


def _check_epochs(schedule):
    wrong = [e for e in schedule if isinstance(e, bool) or not isinstance(e, int) or e < 0]
    if wrong or not schedule:
        raise ValueError(
            "`schedule` must map epochs (ints >= 0) to groups, and name at least one. "
            f"Received: schedule={schedule!r}"
        )

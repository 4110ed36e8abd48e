"""Prune the weights of a Keras 3 model by magnitude while it trains."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl._base.types import Where
from kerastl.compression import sparsity as schedules
from kerastl.compression.masks import make_masks, retrace
from kerastl.compression.sparsity import check_pattern_schedule, check_patterns


class MagnitudePruning(keras.callbacks.Callback):
    """Sets the smallest weights of a model to zero while it trains, by TFMOT's engine.

    TFMOT's masks and schedules, on the variables of the Keras 3 model itself, so that they reach
    layers at any depth (a KerasHub BERT) and compose with multipliers, plans and distribution.
    After each optimizer step the weights that are masked are exactly zero, for every optimizer,
    and what other callbacks save is pruned.

    The mask of step `t` comes from the weights after `t` steps of the optimizer since it was made,
    batches of an accumulation counted. TFMOT's wrapper makes the same one when its count is
    `t + 1`, since it starts at 1; it never makes that of step 0, nor that of the last step.

    - **Frozen layers are left alone**, also those whose multiplier is 0. One that thaws when the
      schedule has begun is pruned at once.
    - Biases, norms and position embeddings are never pruned. `skipped` says what else was not.
    - The zeros are held in later trainings too, until `compression.strip(model)`. The model itself
      is as it was: save and export it as ever.

    The logs of an epoch get `sparsity`, the share of zeros in all pruned kernels, and
    `sparsity/LAYER`: list this callback before those that read them, and after those that
    restore weights (`EarlyStopping`). What keeps the best weights should not start before the last
    mask (`start_from_epoch`), or it may keep denser ones.

    Args:
        schedule: Float in [0, 1), a sparsity to be reached in two thirds of the training; or what
            `constant_sparsity` or `polynomial_decay` return. May be None with `m_by_n`.
        where: Layers to prune, as in `kerastl.select_layers`; None for all but the head.
        block_size: Pair of ints > 0: weights become zero in blocks of inputs × outputs. Kernels
            that are no matrix are skipped.
        m_by_n: Pair `(m, n)`: `m` zeros in each `n` consecutive inputs, such as `(2, 4)`, made at
            the first step, or when a `constant_sparsity(m / n)` says. None for no such pattern.
        depthwise: Boolean, whether depthwise kernels are pruned too.
        verbose: 0 for silence, 1 for a line at the start and at the end.

    Attributes:
        skipped: Dict from path to the reason why a layer was left dense.
        sparsities: List of `(step, {path: sparsity})`, one for each step with new masks.

    Raises:
        ValueError: If a sparsity is outside [0, 1), nothing can be pruned, or, in `fit`, the
            schedule ends before the training or begins after it.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([
        ...     keras.Input((8,)), keras.layers.Dense(16, name="body"), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> pruning = MagnitudePruning(0.75)
        >>> history = model.fit(np.ones((32, 8)), np.ones((32, 1)), batch_size=1, verbose=0,
        ...                     callbacks=[pruning])
        >>> history.history["sparsity/body"]
        [0.75]

    References:
        Zhu & Gupta, 2017, https://arxiv.org/abs/1710.01878
    """

    def __init__(
        self,
        schedule: Any,
        where: Where | None = None,
        *,
        block_size: int | tuple[int, int] = (1, 1),
        m_by_n: tuple[int, int] | None = None,
        depthwise: bool = False,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self.block_size, self.m_by_n = check_patterns(block_size, m_by_n)
        self.schedule = check_pattern_schedule(schedule, self.m_by_n)
        self.where = where
        self.depthwise = depthwise
        self.verbose = verbose
        self.skipped = {}
        self.sparsities = []
        self._masks = []
        self._resolved: Any = None
        self._state: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        with self.model.distribute_strategy.scope():
            self._masks, self.skipped = make_masks(
                self.model,
                self.where,
                block_size=self.block_size,
                m_by_n=self.m_by_n,
                depthwise=self.depthwise,
            )
        for mask in self._masks:
            mask.start()
            mask.kernel.variable.constraint = mask
        self._resolved = self._first_epoch = self._seen_function = None
        self._is_traced = False
        if self._state is not None:
            self.set_state(self._state)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._first_epoch is None:
            self._first_epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin, or look whether other layers train than before, which has the step traced anew.

        Not earlier, since other callbacks freeze layers, and restore runs, until the first batch.
        """
        if not self._is_traced:
            self._begin()
        if self.model.train_function is not self._seen_function:
            self._seen_function = self.model.train_function
            self._begin_thawed()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = self._step()
        updates = schedules.updates_between(self._resolved, self._noted, step)
        self._noted = step
        if updates:
            self._note(updates[-1])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            found = self._sparsity_by_path()
            logs["sparsity"] = self._overall(found)
            logs.update((f"sparsity/{path}", value) for path, value in found.items())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        for mask in self._masks:
            mask.apply()  # moving averages may have taken the place of weights
            mask.hold()
        retrace(self.model)
        self._warn_of_what_was_not_pruned()
        if self.verbose:
            print(f"Pruned: sparsity {self._overall(self._sparsity_by_path()):.3f}")

    def get_state(self) -> dict[str, Any]:
        """Masks and history, as values and arrays that a checkpoint takes; empty before `fit`."""
        if not self._masks or self._resolved is None:
            return {}
        return {
            "settings": self._settings(),
            "schedule": self._resolved.get_config()["config"],
            "masks": [mask.get_state() for mask in self._masks],
            "sparsities": [[step, found] for step, found in self.sparsities],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned, in this process or an earlier one.

        Raises:
            ValueError: If it belongs to other settings or another model.
        """
        self._state = None if self._masks else state or None
        if not state or not self._masks:
            return
        if state["settings"] != self._settings():
            raise ValueError(
                "The state must be one that MagnitudePruning saved with these very settings, for "
                f"this model. Received: a state of {state['settings']}, and the settings are "
                f"{self._settings()}. Go on with the settings the run was begun with."
            )
        for mask, said in zip(self._masks, state["masks"], strict=True):
            mask.set_state(said)
        self.sparsities = [(step, dict(found)) for step, found in state["sparsities"]]
        is_target = isinstance(self.schedule, float)
        self._resolved = schedules.restored(state["schedule"]) if is_target else self.schedule
        self._is_traced = False

    def _begin(self):
        begin = self._step()
        if self._resolved is None:
            self._resolved = self._resolve(begin)
        for mask in self._masks:
            mask.follow(self._resolved, self._counter)
        retrace(self.model)
        self._is_traced, self._noted = True, begin
        if self.verbose:
            self._say_what()

    def _step(self):
        return int(self._counter.numpy())

    @property
    def _counter(self):
        return _keras.step_counter(self.model.optimizer)

    def _resolve(self, begin):
        steps = self.params.get("steps")
        total = None if steps is None else steps * (self.params["epochs"] - self._first_epoch)
        if not isinstance(self.schedule, float):
            last = None if total is None else begin + total
            schedules.check_in_training(self.schedule, begin, last)
            return self.schedule
        if total is None:
            raise ValueError(
                "A target sparsity alone is spread over the training, whose steps must be known. "
                f"Received: schedule={self.schedule}, and data of unknown size. Pass "
                "`steps_per_epoch=...` to `fit`, or a `polynomial_decay(target, end_step=...)`."
            )
        initial = self._overall(self._sparsity_by_path())  # held since an earlier training
        return schedules.over_training(self.schedule, begin, total, initial)

    def _begin_thawed(self):
        """Prune what trains now, and has no mask yet though the schedule has begun."""
        step = self._step()
        if step < self._resolved.begin_step:
            return
        training = {id(variable) for variable in self.model.trainable_variables}
        rates = getattr(self.model, "multipliers", {})
        new = [
            mask
            for mask in self._masks
            if id(mask.kernel.variable) in training
            and rates.get(mask.kernel.variable.path, 1)
            and not mask.begun
        ]
        with self.model.distribute_strategy.scope():
            for mask in new:
                mask.renew(step)
        if new:
            self._note(step)

    def _note(self, step):
        self.sparsities.append((step, self._sparsity_by_path()))

    def _sparsity_by_path(self):
        return {mask.kernel.path: mask.pruned / mask.kernel.size for mask in self._masks}

    def _overall(self, found):
        sizes = {mask.kernel.path: mask.kernel.size for mask in self._masks}
        return sum(found[path] * sizes[path] for path in found) / sum(sizes.values())

    def _settings(self):
        schedule = self.schedule
        said = schedule if isinstance(schedule, float) else schedule.get_config()["config"]
        shapes = [list(map(int, mask.kernel.variable.shape)) for mask in self._masks]
        pattern = [list(self.block_size), self.m_by_n and list(self.m_by_n)]
        return {"schedule": said, "pattern": pattern, "shapes": shapes}

    def _warn_of_what_was_not_pruned(self):
        left = [mask.kernel.path for mask in self._masks if not mask.begun]
        if left and self._resolved is not None:  # it is None where no step was taken
            warnings.warn(
                f"{len(left)} of {len(self._masks)} kernels were not pruned in this training, "
                "because they were frozen all the time, or it ended before the schedule began at "
                f"step {self._resolved.begin_step}: {checks.listed(left, 5)}",
                stacklevel=2,
            )

    def _say_what(self):
        weights = sum(mask.kernel.size for mask in self._masks)
        left = [f"{path} {why}" for path, why in self.skipped.items()]
        print(
            f"Pruning {weights:,} weights in {len(self._masks)} kernels of {self.model.name!r}."
            + (f" Left dense: {checks.listed(left, 5)}" if left else "")
        )

"""Carry a transfer plan through one `fit`.

It is one file of over 400 lines because what a plan does at its start, in its phases and at its end
hangs on the one position in it.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base import checks
from kerastl._base.types import PathLike
from kerastl.callbacks.plan_position import PlanPosition, ends_early, from_state, to_state
from kerastl.callbacks.rate_log import RateLog, shared_rates
from kerastl.freezing import freeze
from kerastl.freezing.groups import layers_of, train_groups
from kerastl.graph import check_fine_tuner, select_layers
from kerastl.graph.adapters import acting, without_held
from kerastl.plans import TransferPlan
from kerastl.plans.resolved import ResolvedPhase
from kerastl.training import blend_weights, solve_head
from kerastl.training.probe import head_of

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


class FollowPlan(keras.callbacks.Callback):
    """Carries a `TransferPlan` through one `fit` of a `FineTuner`.

    When a phase begins it freezes and thaws, sets multipliers, rate, weight decay and what batch
    normalizations do, and lays the phase's schedule over its steps; the step is traced anew once.
    The optimizer goes on with its moments, and weights that thaw have a clock of their own.

    Multipliers given to `compile` are replaced. What another callback, such as
    `ReduceLROnPlateau`, has multiplied the learning rate by carries over into the next phase. The
    logs of an epoch get `learning_rate`, the shared rate of its last step, and
    `learning_rate/GROUP` for each group that trains at some time: list FollowPlan before callbacks
    that read them. At the end of the plan its schedule is taken off, and a `fit` of more epochs
    stops.

    A plan that starts with a probe has the head solved on the data of `fit`, with its class
    weights, before its first epoch, unless `training.solve_head` has been called on the model; one
    that ends with a probe has it solved after its last. A plan with `wise_ft` below 1 keeps a copy
    of all weights and goes back towards it at its end; it is begun later by `Resume` alone, which
    begins as the training did. Last, the scores of the head are divided by the `temperature` of the
    plan.

    `initial_epoch` begins at that epoch of the plan. A callback that has been in a `fit`, or was
    given its state, goes on where it stopped and remembers phases that ended early and lowered
    rates; a new one begins as planned.

    Args:
        plan: `TransferPlan`.
        log: Path of a CSV file for the rate of every group at every step, or None. A run that goes
            on appends to it.
        verbose: 0 for silence, 1 for a line at each phase.

    Raises:
        ValueError: In `fit`, if the plan does not fit the model, has fewer epochs than `fit`, or
            has schedules or rates that the optimizer cannot follow; or it trains adapters that the
            model has not; or it has a probe, and the data
            cannot be read again or the head cannot be solved; or it has a temperature and the model
            no head whose answers are more or less sure.
        TypeError: If `plan` is no plan or the model no `FineTuner`.

    Example:
        >>> from kerastl.plans import Phase, TransferPlan
        >>> callback = FollowPlan(TransferPlan([Phase(2, "head"), Phase(3, "all")]))
        >>> callback.plan.epochs
        5
    """

    def __init__(
        self, plan: TransferPlan, *, log: PathLike | None = None, verbose: int = 0
    ) -> None:
        super().__init__()
        if not isinstance(plan, TransferPlan):
            raise TypeError(
                "`plan` must be a `kerastl.plans.TransferPlan`, as the functions of "
                f"kerastl.plans.strategies return. Received: plan={plan!r}"
            )
        self.plan = plan
        self.verbose = verbose
        self._log_path = log
        self._log: Any = None  # a `RateLog` and a `PlanPosition`, once a training has begun
        self._position: Any = None
        self._restored = False
        self._applied = False
        self._midway = False
        self._started_from: Any = None  # weights, where the plan ends between these and others
        self._start_mark = ""
        self._is_to_end = False  # whether its end is still to come

    @property
    def reads_passes(self) -> bool:
        """Whether `fit` must read data that can be read again: asked by `FineTuner.fit`."""
        return "probe" in (self.plan.start, self.plan.end)

    @property
    def rates(self) -> list[tuple[int, dict[str, float]]]:
        """List of `(step, {group: rate})`, one for every optimizer step of the latest `fit`."""
        return [
            (step, {name: shared * phase.multipliers[name] for name in phase.training})
            for step, _, phase, shared in (self._log.rows if self._log else [])
        ]

    def get_state(self) -> dict[str, Any]:
        """Where in the plan the training is, as a dict ready for JSON; empty before it began."""
        if self._position is None:
            return {}
        self._notice_reduction()
        start = {} if self._started_from is None else {"start": self._start_mark}
        return {**to_state(self._position, self.plan), **start}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned, in this process or an earlier one.

        Args:
            state: Dict from `get_state`. The next epoch to begin must be the one it was taken in,
                or the one after it if it was taken after `on_epoch_end`.

        Raises:
            ValueError: If it belongs to another plan.
            RuntimeError: If the plan ends part of the way back to other weights than those that
                the training at hand began with.
        """
        if not state:
            return
        state = dict(state)
        start = state.pop("start", None)
        if start is not None and self._started_from is not None and self._start_mark != start:
            raise RuntimeError(
                f"The plan {self.plan.name!r} ends part of the way back to the weights that it "
                "began with. Build and load the model anew before a training that goes on. "
                "Received: a model with other weights"
            )
        self._position, self._restored = from_state(state, self.plan), True
        self._is_to_end = True

    def next_change(self, epoch: int) -> int | None:
        """The first epoch after `epoch` with which other groups train, or None.

        Asked while `epoch` trains. A phase that ends early brings the change forward.
        """
        now = self._phase
        change = self._position.phase_epoch + now.phase.epochs
        for phase in self._resolved.phases[now.index + 1 :]:
            if (phase.training, phase.phase.batch_norm) != (now.training, now.phase.batch_norm):
                return change
            change += phase.phase.epochs
        return None

    def set_model(self, model: keras.Model) -> None:
        check_fine_tuner(model, "FollowPlan", "whose optimizer takes up weights that thaw")
        if model is not self.model and not self._restored:
            self._position = None
        _check_adapters(model, self.plan)
        super().set_model(model)
        self._resolved = self.plan.resolve(model.groups)
        self._applied = False
        ever = self._resolved.ever_training
        self._log = RateLog(ever, self._log_path)
        never = [name for name in model.groups.names if name not in ever]
        if never:
            freeze(model, layers_of(model.groups, never))
        if ever:
            model.reserve(layers_of(model.groups, ever))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.params["epochs"] > self.plan.epochs:
            raise ValueError(
                f"`fit(epochs=...)` must be at most {self.plan.epochs}, the epochs of the plan "
                f"{self.plan.name!r}. Received: epochs={self.params['epochs']}"
            )
        scheduled = any(schedule is not None for schedule in self.plan.schedules)
        if scheduled and self.params.get("steps") is None:
            raise ValueError(
                f"The plan {self.plan.name!r} has a schedule, which needs to know the steps of an "
                "epoch. Pass `steps_per_epoch=...` to `fit`, or a dataset of known size "
                "(`dataset.apply(tf.data.experimental.assert_cardinality(n))`). "
                "Received: data of unknown size."
            )
        says_rates = scheduled or any(phase.learning_rate for phase in self.plan.phases)
        if says_rates and not isinstance(self._optimizer.learning_rate, keras.Variable):
            raise ValueError(
                f"The plan {self.plan.name!r} says the learning rate, so the model must be "
                "compiled with a number, such as AdamW(1e-3). Received: an optimizer with a "
                "LearningRateSchedule or function for its rate."
            )
        self._start()

    def _start(self):
        """What the plan does before its first step; a callback that restores a run comes later."""
        state = self.model.fit_state
        begins = state.initial_epoch == 0 and not self._restored
        if self.plan.wise_ft < 1 and not begins and self._started_from is None:
            raise RuntimeError(
                f"The plan {self.plan.name!r} ends part of the way back to the weights that it "
                "began with, which are not known to a training that goes on. Go on with "
                f"`callbacks.Resume`. Received: initial_epoch={state.initial_epoch}, "
                f"wise_ft={self.plan.wise_ft:g}"
            )
        self._is_to_end = self._position is None or not self._is_over()
        if self.plan.temperature != 1 and not head_of(self.model).regression.sure:
            raise ValueError(
                f"The plan {self.plan.name!r} divides scores by a temperature, so the model must "
                "answer by a softmax or sigmoids. Received: one that gives numbers, "
                f"temperature={self.plan.temperature:g}"
            )
        if self.plan.start == "probe" and state.probe is None and begins:
            self._solve()
        if self.plan.end == "probe":
            self._passes_to_solve_on()  # or it is refused now, and not when all is trained
        if self.plan.wise_ft < 1 and self._started_from is None:
            self._started_from = [variable.numpy() for variable in self.model.weights]
            self._start_mark = _mark(self._started_from)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        entering = self._find_position(epoch)
        if entering is None:
            return
        if not self._applied:
            self._log.begin(self._step() if epoch or self._restored else 0)
        if entering or not self._applied:
            self._apply(set_rate=entering)
        self._restored, self._midway = False, True
        self._logged = self._step()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step, phase = self._step(), self._phase
        rates = shared_rates(self._optimizer, self._logged, step)
        self._log.add(self._logged, self._position.epoch, phase, rates)
        self._logged = step

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        position, phase = self._position, self._phase.phase
        if logs is not None and self._log.rows:
            *_, resolved, shared = self._log.rows[-1]
            logs["learning_rate"] = shared
            for name, rate in self._log.of_groups(resolved, shared).items():
                logs[f"learning_rate/{name}"] = rate
        early = phase.early_stop is not None and ends_early(
            phase.early_stop, position, self.model, logs
        )
        position.epoch, self._midway = epoch + 1, False
        position.phase_over = early or position.epoch >= position.phase_epoch + phase.epochs
        if early and self.verbose:
            print(f"Epoch {epoch + 1}: {self.plan.label(position.phase)} ends early")
        if self._is_over():
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._restored = False
        if self._position is not None and self._is_over():
            self.model.set_schedule(None)
            self._end()

    def _end(self):
        """End where `wise_ft` of the plan says, the head as `end` and `temperature` say."""
        start, self._started_from = self._started_from, None
        if start is not None:
            blend_weights(self.model, start, self.plan.wise_ft)
        if self._is_to_end and self.plan.end == "probe":
            self._solve()
        if self._is_to_end and self.plan.temperature != 1:
            head_of(self.model).divide(self.plan.temperature)
        self._is_to_end = False

    def _passes_to_solve_on(self):
        if self.model.fit_state.passes is not None:
            return self.model.fit_state.passes
        raise ValueError(
            f"The plan {self.plan.name!r} solves the head by a probe, which reads the data again "
            "row by row. Give `fit` arrays or a dataset of `kerastl.data.make_dataset`. Received: "
            "data that only Keras can read."
        )

    def _solve(self):
        weights = self.model.fit_state.class_weight
        solve_head(self.model, self._passes_to_solve_on(), class_weight=weights)

    @property
    def _optimizer(self):
        return self.model.lr_multiplier

    @property
    def _phase(self):
        return self._resolved.phases[self._position.phase]

    def _step(self):
        return _keras.raw_step(self._optimizer)

    def _is_over(self):
        return self._position.phase_over and self._position.phase == len(self.plan.phases) - 1

    def _notice_reduction(self):
        if self._position.peak is not None:
            self._position.notice_reduction(float(self._optimizer.learning_rate))

    def _find_position(self, epoch):
        """Be where `epoch` is in the plan; return whether the planned rate is to be set.

        It is not where a phase goes on that began before, and None where the plan is over.
        """
        position = self._position
        if position is not None and position.epoch != epoch:
            self._check_not_restored(epoch)
            position = None
        if position is None:
            phase = self._resolved.phase_at(epoch)
            step = self._step() - self._steps_before(epoch, phase.start)
            self._is_to_end = True
            self._position = PlanPosition(epoch, phase.index, phase.start, step)
            return True
        if not position.phase_over:
            if self._midway and not self._restored:  # interrupted, and the epoch begins again
                position.phase_step = self._step() - self._steps_before(epoch, position.phase_epoch)
            return False
        if self._is_over():
            self._stop_before(epoch)
            return None
        self._notice_reduction()
        self._position = position.next_phase(self._step())
        return True

    def _steps_before(self, epoch, start):
        return (epoch - start) * (self.params.get("steps") or 0)

    def _check_not_restored(self, epoch):
        if self._restored:
            raise RuntimeError(
                "The state given to `set_state` must be of the epoch with which `fit` begins. "
                f"Received: a state of epoch {self._position.epoch}, initial_epoch={epoch}"
            )

    def _stop_before(self, epoch):
        self.model.stop_training = True
        # Where Keras reads the data by itself, it looks at `stop_training` after a batch only.
        if self.model.fit_state.passes is None:
            raise RuntimeError(
                f"The plan {self.plan.name!r} ended before epoch {epoch}, because phases ended "
                "early. Nothing is left to train."
            )

    def _apply(self, set_rate):
        """Bring the model into the present phase, whatever it was in."""
        position, phase = self._position, self._phase
        set_up(self.model, phase)
        lay_schedule(self.model, self.plan, position, self.params.get("steps"))
        if set_rate and phase.phase.learning_rate is not None:
            self._optimizer.learning_rate = phase.phase.learning_rate * position.reduction
            position.peak = float(self._optimizer.learning_rate)
        self._applied = True
        if self.verbose:
            self._tell(phase)

    def _tell(self, phase):
        rates = [f"{name} {rate:.3g}" for name, rate in phase.rates.items()]
        said = "at" if phase.phase.learning_rate is not None else "at multiples of the rate"
        print(
            f"Epoch {self._position.epoch + 1}: {self.plan.label(phase.index)} of "
            f"{len(self.plan.phases)} trains {said} {checks.listed(rates, 6)}"
        )


def _check_adapters(model, plan):
    """Refuse a model on which no adapters act that `plan` trains."""
    needed, there = plan.adapters, acting(model)
    if needed is None:
        return
    fitting = [(method, layers) for method, layers in there if needed.fits(method)]
    if any(_are_there(model, needed, *one) for one in fitting):
        also = [] if not needed.also_train else select_layers(model, needed.also_train)
        if len(without_held(model, also)) == len(also):
            return
    found = checks.listed([_told(*one) for one in there], 3) if there else "none"
    raise ValueError(
        f"The plan {plan.name!r} trains adapters, {needed.text}, which the model must have before "
        f"it is compiled: `{needed.line}`. Received: {model.name!r}, on which act {found}"
    )


def _are_there(model, needed, method, layers):
    """Whether `layers`, those that `method` acts on, are those that `needed` says."""
    if needed.where is None:
        return True
    meant = method.among(model, select_layers(model, needed.where))
    return {id(layer) for layer in meant} == {id(layer) for layer in layers}


def _told(method, layers):
    names = checks.listed([layer.name for layer in layers], 3)
    return f"{method!r} beside {len(layers)} layers ({names})"


def set_up(model: "FineTuner", phase: ResolvedPhase) -> None:
    """What trains, at which multipliers and weight decay, as the `ResolvedPhase` says."""
    train_groups(model, model.groups, phase.training, phase.phase.batch_norm)
    model.set_multipliers(dict(phase.multipliers))
    if phase.phase.weight_decay is not None:
        _set_weight_decay(model.lr_multiplier.inner_optimizer, phase.phase.weight_decay)


def lay_schedule(
    model: "FineTuner", plan: TransferPlan, position: PlanPosition, steps: int | None
) -> None:
    """Lay the schedule of the phase at `position`, or of the whole plan, over its steps.

    Args:
        model: `FineTuner`.
        plan: `TransferPlan`.
        position: `PlanPosition`.
        steps: Int, steps an epoch; not needed where the plan has no schedules.
    """
    phase, start = plan.phases[position.phase], position.phase_step
    each: Any = steps  # known where there is a schedule
    if plan.schedules[position.phase] is None:
        model.set_schedule(None)
        return
    if plan.schedule is not None:
        start -= plan.starts[position.phase] * each
    if start < 0:
        raise ValueError(
            "To begin within a schedule, the optimizer must have taken the steps before it. "
            f"Received: epoch {position.epoch}, and {-start} steps are missing. Restore the "
            "optimizer with the weights (a `.keras` file holds both), or begin at epoch 0."
        )
    epochs = phase.epochs if plan.schedule is None else plan.epochs
    model.set_schedule(plan.schedules[position.phase], start=start, num_steps=epochs * each)


def _set_weight_decay(optimizer, weight_decay):
    optimizer.weight_decay = weight_decay
    if hasattr(optimizer, "adam_weight_decay"):  # Muon's, of the weights that it leaves to Adam
        optimizer.adam_weight_decay = weight_decay


def _mark(weights):
    """What tells these weights from others."""
    mark = hashlib.blake2b(digest_size=8)
    for value in weights:
        mark.update(np.ascontiguousarray(value).tobytes())
    return mark.hexdigest()

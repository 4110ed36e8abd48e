"""FineTuner: a Keras model whose frozen layers are inert and whose rates are per layer.

It is one file of over 400 lines because it is one class: what Keras calls on a model (`compile`,
`fit`, the steps, the configs) and what a plan calls on it (`reserve`, rates, the schedule).
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl._base.types import CacheDtype, CacheFrozen, PathLike, Where
from kerastl._keras import hub_repairs
from kerastl.freezing import freezing_state, restore_freezing
from kerastl.freezing.statistics import frozen_norms, hold_statistics, honour_recorded_inference
from kerastl.graph import flatten, layer_groups, leaf_layers, select_layers
from kerastl.graph.adapters import refuse_adapters, without_held
from kerastl.graph.flags import Flags
from kerastl.graph.flatten import is_nested, require_graph
from kerastl.graph.layer_groups import LayerGroups
from kerastl.graph.quantized import quantization_state, restore_quantization
from kerastl.graph.run import run_evaluation, run_training, watched
from kerastl.optimizers import LRMultiplier
from kerastl.optimizers import no_decay as no_decay_paths
from kerastl.optimizers.loss_scale import around, inside
from kerastl.schedules.schedule import Schedule
from kerastl.training.feeding import Settings, judged_validation
from kerastl.training.fit_state import FitState
from kerastl.training.fitting import allowed_epochs, fit_by_epochs, for_keras, plan_fit
from kerastl.training.frozen import Features
from kerastl.training.group_norms import GroupNorms
from kerastl.training.rates import by_position, by_variable_path
from kerastl.training.row_inputs import without_rows
from kerastl.training.step_rates import StepRates
from kerastl.training.terms import Term, Terms, TermStep, targets_of, total_loss
from kerastl.training.weighted_mean import factors_of, is_weighted_mean, loss_of_step

# What Keras documents for subclasses to override, and hands the inputs of a batch to.
_GIVEN_INPUTS = ("__call__", "call", "compute_loss", "compute_metrics", "train_step", "test_step")


@keras.saving.register_keras_serializable(package="kerastl")
class FineTuner(keras.Model):
    """A functional Keras model that trains as it says: frozen is inert, rates are per layer.

    Use it wherever you would use `keras.Model(inputs, outputs)`: `compile`, `fit`, `evaluate`,
    `predict`, `save` and `export` are Keras's own. What differs:

    - A frozen layer runs in inference mode even inside `fit`: batch-normalization statistics,
      dropout and stochastic depth of a frozen part stand still, whatever the container says.
    - `compile(..., multipliers=...)` multiplies each layer's **step** (not its gradient) and its
      decoupled weight decay, under one shared learning rate.
    - Thawing layers inside or between `fit`s keeps the optimizer and its moments; weights that
      never train get no optimizer slots.

    Args:
        inputs: Input `keras.KerasTensor`, or a list or dict of them.
        outputs: Output `keras.KerasTensor`, or a list or dict of them. The graph must be flat;
            `FineTuner.from_model(model)` flattens one that holds nested models.
        name: String, the model's name.

    Example:
        >>> import keras
        >>> base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body")])
        >>> inputs = keras.Input((4,))
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="head")(base(inputs)))
        >>> tuner = FineTuner.from_model(model)
        >>> tuner.compile("adam", "mse", multipliers={"body/.*": 0.1})
        >>> [layer.name for layer in tuner.layers][-2:]
        ['body', 'head']
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        refuse_adapters(self, "A FineTuner over the layers of another")
        honour_recorded_inference(self)
        self._hold_statistics()

    runs_own_graph = True  # what `call` runs is the graph, layer by layer
    _is_evaluating = False
    _has_weighted_loss = False
    is_fine_tuner = True  # asked by `kerastl.graph.is_fine_tuner`
    adapter_bank: Any = None  # of `kerastl.peft`, as soon as something is added

    def set_adapter_bank(self, bank: Any) -> None:
        """Own `bank`, the layer that holds the adapters of this model, or None to own none."""
        with _keras.unlocked(self):
            if self.adapter_bank is not None:
                _keras.untrack(self, self.adapter_bank)
                self.adapter_bank = None
            if bank is not None:
                self.adapter_bank = bank
        self.forget_groups()

    def forget_groups(self) -> None:
        """Have `groups` be made anew, after adapters came or went."""
        self._groups = None

    @property
    def fit_state(self) -> FitState:
        """`FitState`: what the present or latest `fit` reads, has read, and goes on from."""
        if getattr(self, "_fit_state", None) is None:
            self._fit_state = FitState()
        return self._fit_state

    def forget_fits(self) -> None:
        """Have the next `fit` be as the first, from pass 0 on.

        Weights, flags and a head that was solved stay as they are.
        """
        before = self.fit_state
        self._fit_state = FitState(probe=before.probe, cache=before.cache)

    @property
    def reads_inputs(self) -> str | None:
        """Which methods of a subclass may read the inputs, in words, or None.

        On cached features they would be given these in the place of inputs, and compute something
        else without an error.
        """
        own = [
            f"`{name}`"
            for name in _GIVEN_INPUTS
            if getattr(type(self), name) is not getattr(FineTuner, name) or name in vars(self)
        ]
        if not own:
            return None
        return f"{type(self).__name__} has its own {' and '.join(own)}, which may read the inputs"

    @classmethod
    def from_model(cls, model: keras.Model, name: str | None = None) -> "FineTuner":
        """A `FineTuner` over the inlined graph of `model`, sharing every layer and weight.

        Where a call in the graph was recorded with `training=False`, as in `base(x,
        training=False)`, batch normalizations below it keep their statistics. That is all that is
        kept of it: Keras's `fit` overwrites such a constant too. A warning names layers below it
        that draw at random in training.

        Args:
            model: Functional or Sequential `keras.Model`; nested models are inlined.
            name: String, the new model's name. Defaults to that of `model`.

        Returns:
            `FineTuner` with outputs bit-equal to those of `model`.

        Raises:
            ValueError: If `model` is a KerasHub task with a preprocessor, or has no graph.
        """
        _refuse_preprocessor(model)
        graph = require_graph(model)
        if is_nested(graph):  # else its calls are those of the new model, which sees them itself
            honour_recorded_inference(graph)
        return flatten(model, cls=cls, name=name or model.name)

    @property
    def groups(self) -> LayerGroups:
        """`LayerGroups` of this model, from input to head."""
        groups = getattr(self, "_groups", None)
        if groups is None:
            groups = self._groups = layer_groups(self)
        return groups

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph, frozen layers in inference mode whatever `training` is."""
        if not training:
            return super().call(inputs, training=training, mask=mask)
        return run_training(self, inputs, mask)

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: Any = None,
        *rest: Any,
        multipliers: Mapping[str, float] | None = None,
        no_decay: Sequence[str] | bool = (),
        fused: bool = False,
        norms: bool = False,
        terms: Term | Sequence[Term] = (),
        **kwargs: Any,
    ) -> None:
        """Configure the model for training.

        Args:
            optimizer: Keras optimizer, its name, or an `LRMultiplier` made by hand; each may stand
                in a `LossScaleOptimizer`.
            loss: As in `keras.Model.compile`. One with `reduction="mean_with_sample_weight"`, of a
                model with one output, is `sum(w * l) / sum(w)` over the whole optimizer step,
                `gradient_accumulation_steps` and replicas included, and over an epoch in `history`
                and `evaluate`. A subclass with its own `compute_loss` gets Keras's mean by batch.
            *rest: Keras's arguments after `loss`, in its order: `loss_weights`, `metrics`, ...
            multipliers: Dict from group name, layer path, variable path or regex to a float >= 0
                that multiplies the learning rate of those weights. 0 holds them still. What is
                not named has 1.
            no_decay: Paths of variables that weight decay leaves alone, or True for all biases,
                norm parameters and special tokens (`optimizers.no_decay`).
            fused: Boolean, whether one kernel of TensorFlow takes the step of each weight, for
                `Adam`, `AdamW` and `SGD`; see `LRMultiplier`.
            norms: Boolean, whether `fit` reports the gradient norm and the update norm of each
                group that trains, as `gradient_norm/GROUP` and `update_norm/GROUP`.
            terms: List of `kerastl.training.Term`s that are added to the loss in training, such as
                `[kerastl.continual.L2SP()]`; each is reported as a metric of its name. They are
                not saved with the model: compile it again, with them, after loading.
            **kwargs: Everything else that `keras.Model.compile` takes (`loss_weights`, `metrics`,
                `jit_compile`, `steps_per_execution`, ...), by name.

        Raises:
            ValueError: If a multiplier matches nothing, or the optimizer's step is not linear in
                its rate, or has no kernel for `fused=True`, or two terms have one name.
            TypeError: If one of `terms` is no term.
        """
        kwargs = _by_name(keras.Model.compile, 3, rest, kwargs)
        checked = Terms(terms)
        checked.refuse_names(kwargs.get("metrics"), kwargs.get("weighted_metrics"))
        given = keras.optimizers.get(optimizer)
        inner = inside(given)
        if not isinstance(inner, LRMultiplier):
            paths = no_decay_paths(self) if no_decay is True else tuple(no_decay or ())
            keys = by_variable_path(self, multipliers)
            inner = LRMultiplier(inner, keys, groups=self.groups, no_decay=paths, fused=fused)
            given = around(given, inner)
        elif multipliers is not None or no_decay or fused:
            raise ValueError(
                "`multipliers`, `no_decay` and `fused` belong to the LRMultiplier when you pass "
                f"one. Received: optimizer={inner.name!r}, multipliers={multipliers!r}, "
                f"no_decay={no_decay!r}, fused={fused!r}"
            )
        super().compile(given, loss, **kwargs)
        self._wraps_by_hand = given is optimizer
        self._has_weighted_loss = is_weighted_mean(self, loss)
        if self._has_weighted_loss:
            inner.weigh_cycles()
        self._rates_given = (multipliers, no_decay)
        self._group_norms = GroupNorms(self.groups) if norms else None
        self._terms = checked
        for term in checked:
            term.begin(self)
        self._reserved = frozenset()
        if self.adapter_bank is not None:
            self.adapter_bank.compiled()

    @property
    def terms(self) -> Terms:
        """`Terms` that `compile` was given, those of strength 0 left out."""
        return getattr(self, "_terms", None) or Terms()

    def restore_terms(self, state: Any) -> None:
        """Give the terms of the loss back what a checkpoint kept of them."""
        self._prepare_terms()
        self.terms.restore(state)

    @property
    def lr_multiplier(self) -> LRMultiplier:
        """The `LRMultiplier` of the compiled optimizer, also inside a `LossScaleOptimizer`."""
        return inside(self.optimizer)

    @property
    def multipliers(self) -> dict[str, float]:
        """Dict from the path of each variable with optimizer slots to its multiplier."""
        return self.lr_multiplier.multipliers if self.optimizer.built else {}

    def set_multipliers(self, multipliers: Mapping[str, float]) -> None:
        """Change the multipliers, also between two epochs of a `fit`; the moments stay.

        Args:
            multipliers: As in `compile`. Replaces all earlier ones.
        """
        keys = by_variable_path(self, multipliers)
        self.lr_multiplier.set_multipliers(keys, groups=self.groups, retraced=True)
        self._rates_given = (multipliers, self._rates_given[1])
        _keras.remake_train_function(self)

    def set_schedule(
        self, schedule: Schedule | None, *, start: int | None = None, num_steps: int | None = None
    ) -> None:
        """Let the shared rate follow a schedule, also from one epoch of a `fit` to the next.

        Args:
            schedule: Schedule of `kerastl.schedules`, or None for a constant rate. `learning_rate`
                of the optimizer is its peak. See `LRMultiplier.set_schedule`.
            start: Int, the optimizer step at progress 0, or None for the present one.
            num_steps: Int > 0, steps from progress 0 to 1. Not needed with `schedule=None`.
        """
        before = self.lr_multiplier.schedule
        self.lr_multiplier.set_schedule(schedule, start=start, num_steps=num_steps, retraced=True)
        if self.lr_multiplier.schedule != before:
            _keras.remake_train_function(self)

    def reserve(self, where: Where) -> None:
        """Give optimizer slots to layers that will train later, before the first step is traced.

        Layers that stand still because adapters train in their place get none.

        A thaw allocates missing slots by itself; reserving them up front keeps the order of the
        slots, and so checkpoints, the same from the first epoch to the last.

        Args:
            where: As in `freeze`.
        """
        leaves = [leaf for layer in select_layers(self, where) for leaf in leaf_layers(layer)]
        leaves = without_held(self, leaves)
        self._reserved = (
            frozenset(  # ids, since Keras would save a list of variables as the model's own
                id(v) for leaf in leaves for v in _keras.own_trainable_variables(leaf)
            )
        )

    def fit(  # noqa: PLR0913 (Keras's own arguments in their order, and four)
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        *rest: Any,
        cache_frozen: CacheFrozen = "auto",
        augmented_copies: int | None = None,
        cache_dir: PathLike | None = None,
        cache_dtype: CacheDtype = "float32",
        **others: Any,
    ) -> keras.callbacks.History:
        """Train, as `keras.Model.fit` does, and compute what frozen layers give only once.

        Data from `kerastl.data.make_dataset` are read pass by pass, each a function of its number
        alone: epoch `n` of a fresh model is pass `n`, a later `fit` goes on with the passes after
        it. So are arrays in memory, where frozen layers may be computed once or a callback goes on
        after a kill; else Keras reads them, in another order if it shuffles. While layers below
        the first training one are frozen, their outputs are computed once and only the rest runs
        in each epoch, with the same result.
        Other datasets and generators are read by Keras itself.

        Args:
            x: As in `keras.Model.fit`, and so are `y`, `batch_size`, `epochs`, `verbose` and
                `callbacks`.
            *rest: Keras's arguments after `callbacks`, in its order.
            cache_frozen: `"auto"` caches the outputs of frozen layers where nothing speaks
                against it, True refuses to train without, False never does. What was decided in
                each epoch, and why, is in `history.frozen_features`; empty where Keras reads
                the data by itself.
            augmented_copies: Int, how many views of randomly augmented data to cache, or None to
                cache none of such data. Epoch `n` trains on view `n % augmented_copies`.
            cache_dir: Folder for features on disk, used again by later runs. None is memory.
            cache_dtype: `"float32"`, or `"float16"` to keep features in half precision.
            **others: Every other argument of `keras.Model.fit`, by name.

        Returns:
            The `History` callback. Its `seconds` says how long tracing took and how long training,
            as `Seconds`.

        Raises:
            ValueError: If `cache_frozen=True` and the features cannot be computed once, if Keras
                refuses the data or what comes beside them, or if there are no rows.
        """
        others = _by_name(keras.Model.fit, 7, rest, others)
        others["validation_data"] = judged_validation(others.get("validation_data"))
        epochs = allowed_epochs(epochs)
        settings = Settings(
            callbacks,
            epochs,
            verbose,
            batch_size,
            others,
            cache_frozen=cache_frozen,
            augmented_copies=augmented_copies,
            cache_dir=cache_dir,
            cache_dtype=cache_dtype,
        )
        state = self.fit_state
        state.clock.begin()
        state.is_running = True
        state.class_weight, state.initial_epoch = others.get("class_weight"), settings.initial_epoch
        try:
            state.passes = plan_fit(self, x, y, settings)
            history: Any  # with attributes of ours
            if state.passes is not None:
                history = fit_by_epochs(self, super().fit, settings)
            else:
                callbacks = for_keras(self, x, settings)
                history = super().fit(x, y, batch_size, epochs, verbose, callbacks, **others)
                history.frozen_features = []  # Keras read the data
        finally:
            state.is_running = False
        history.seconds = state.clock.seconds
        return history

    def make_train_function(self, force: bool = False) -> Any:
        """Build the optimizer over everything that may train, then trace as Keras does.

        A `trainable` that is set by hand takes effect with the next step: the step is traced anew.
        """
        if self.adapter_bank is not None:
            self.adapter_bank.before_training()
        if self.train_function is not None and not force and not self._flags.changed():
            return self.train_function
        self._hold_statistics()
        if self.optimizer is not None:
            self._allocate_slots()
            self._prepare_terms()
        if self._group_norms is not None:
            with self.distribute_strategy.scope():
                self._group_norms.prepare(self.trainable_variables)
        self._flags = Flags(self)
        super().make_train_function(force=True)
        self.train_function = self._obeying_flags(self._timed(self.train_function))
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """As Keras does; what tracing it takes is told from what evaluation takes."""
        if self.test_function is None or force:
            super().make_test_function(force=force)
            self.test_function = self._timed(self.test_function)
        return self.test_function

    def _timed(self, function):
        return function if self.run_eagerly else self.fit_state.clock.timed(function)

    def _obeying_flags(self, function):
        """`function`, a step as traced, or the one that flags ask for which were set since."""
        begun = False

        @tf.autograph.experimental.do_not_convert
        def train_function(iterator):
            nonlocal begun
            if self._flags.changed():
                return self.make_train_function(force=True)(iterator)
            if not begun:
                self.fit_state.check_features()
                begun = True
            if self.terms:
                with self.distribute_strategy.scope():
                    self.terms.before_steps(self.steps_per_execution)
            return function(iterator)

        return train_function

    def _hold_statistics(self):
        if norms := frozen_norms(self):
            hold_statistics(norms, self.groups)

    def _allocate_slots(self):
        wanted = {id(v) for v in self.trainable_variables} | self._reserved
        variables = [v for v in self.variables if id(v) in wanted]
        if not variables:
            return
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(variables)
        elif new := _keras.unknown_to_optimizer(self, variables):
            with self.distribute_strategy.scope():
                self.lr_multiplier.extend(new)

    @property
    def metrics(self) -> list[Any]:
        """Keras's, the norms of each group if asked for and, in training, those of terms."""
        group_norms = getattr(self, "_group_norms", None)
        norms = group_norms.metrics if group_norms else []
        terms = [] if self._is_evaluating else self.terms.metrics
        return super().metrics + norms + terms

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`: terms of the loss take no part in it."""
        self._is_evaluating = True
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._is_evaluating = False

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step: gradients by `tf.GradientTape`, each layer's step times its multiplier."""
        given, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x, row_values = without_rows(given)
        with tf.GradientTape() as tape:
            with watched(self.terms.features) as features:
                y_pred = self._predicted(x, training=True)
            inputs = None if isinstance(x, Features) else x
            step = TermStep(self, inputs, y, y_pred, sample_weight, features=features)
            steps = self.terms.steps(step, row_values)
            told = targets_of(steps, y)
            given = (x, told, y_pred, sample_weight)
            compiled, weight = self._loss_and_weight(*given, training=True)
            loss, values = total_loss(self, compiled, steps)
            factors = factors_of(self, weight) if self._is_weighted else None
            of_step = loss
            if factors is not None:
                of_step = loss_of_step(self, factors, compiled, steps, values)
            scaled = self.optimizer.scale_loss(of_step)
        self._track(loss, weight)
        self.terms.track(steps, values, _num_rows(x))
        self._step(tape, scaled, steps, factors)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """One step of evaluation, also on features of the frozen layers."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred = self._predicted(x, training=False)
        loss, weight = self._loss_and_weight(x, y, y_pred, sample_weight, training=False)
        self._track(loss, weight)
        metrics = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        of_terms = {metric.name for metric in self.terms.metrics}
        return {name: value for name, value in metrics.items() if name not in of_terms}

    def _predicted(self, x, training):
        """Outputs for inputs, or for features at `frontier` that take their place in `fit`."""
        if isinstance(x, Features):
            features = x._replace(row_values=())
            frontier: Any = self.fit_state.frontier  # there are no features without one
            return frontier.upper(features, training=training)
        if training or self._calls_itself:
            return self(x, training=training)
        return run_evaluation(self, x)

    @property
    def _calls_itself(self):
        """Whether a subclass has a `call` of its own, which evaluation runs too."""
        return type(self).call is not FineTuner.call or "call" in vars(self)

    @property
    def _is_weighted(self):
        """Whether the loss is a mean by weights, over all of an optimizer step and of an epoch."""
        own = type(self).compute_loss is not FineTuner.compute_loss or "compute_loss" in vars(self)
        return self._has_weighted_loss and not own

    def _loss_and_weight(self, x, *given, training):
        """The loss of a batch, and what the batch counts in the mean over an epoch."""
        if not self._is_weighted:
            loss = _keras.compute_loss(self, x, *given, training=training)
            return loss, _num_rows(x)
        with _keras.noting_loss_weights() as weights:
            loss = _keras.compute_loss(self, x, *given, training=training)
        (weight,) = weights
        return loss, weight

    def _track(self, loss, weight):
        self._loss_tracker.update_state(
            _keras.unscale_loss_for_distribution(loss), sample_weight=weight
        )

    def _step(self, tape, loss, steps, factors):
        variables = self.trainable_variables
        if not variables and not self.trainable:
            raise ValueError(
                f"Nothing in {self.name!r} trains: its own `trainable` is off, which hides the "
                "flags of its layers. Set `model.trainable = True` first, then those."
            )
        if not variables:
            raise ValueError(
                f"Nothing in {self.name!r} trains: every layer is frozen. "
                "Call `unfreeze(model, where)`, or `freeze_to(model, -1)` for the head alone."
            )
        own = self.terms.trainable_variables
        gradients = tape.gradient(loss, [*variables, *own])
        gradients, of_terms = gradients[: len(variables)], gradients[len(variables) :]
        apply = self.optimizer.apply_gradients
        scale: Any = self.optimizer.scale_loss(tf.ones(())) if self.terms else None
        rates = StepRates(self) if self.terms else None
        with self.lr_multiplier.applying_share(None if factors is None else factors.share):
            if self._group_norms is None:
                apply(zip(gradients, variables, strict=True))
            else:
                self._group_norms.around(apply, self.optimizer, gradients, variables)
        if self.terms:
            # Their own weights take a step with each batch.
            whole = scale if factors is None else scale * factors.of_rest
            self.terms.apply(of_terms, whole)
            unscaled = [None if g is None else g / tf.cast(scale, g.dtype) for g in gradients]
            taken = [] if rates is None else rates.taken(variables, gradients)
            self.terms.after_step(steps, list(zip(variables, unscaled, strict=True)), taken)

    def _prepare_terms(self):
        if self.terms:
            with self.distribute_strategy.scope():
                self.terms.prepare(self)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save`, to a `.keras` file: a `.h5` file has no room for what trains."""
        if str(filepath).endswith((".h5", ".hdf5")):
            self._refuse_h5(filepath)
        super().save(filepath, *args, **kwargs)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.quantize`, before adapters are added.

        Raises:
            ValueError: If the model has adapters.
        """
        if self.adapter_bank is not None:
            raise ValueError(
                f"{self.name!r} has adapters, which learn beside the kernels as they are. Quantize "
                "the base before `kerastl.peft.add`, or merge for good before "
                "(`kerastl.peft.unload(model, merge=True)`)."
            )
        super().quantize(*args, **kwargs)

    def _refuse_h5(self, what):
        raise ValueError(
            "A FineTuner is saved as a `.keras` file, which keeps what is frozen, the multipliers "
            f"and the optimizer. Received: {what}. Use `model.save('{self.name}.keras')`, or "
            f"`model.save_weights('{self.name}.weights.h5')` for the weights alone."
        )

    # Keras keeps neither the flags inside composite layers, nor the random states of dropout, nor
    # the order in which weights got their optimizer slots, and drops the whole state of the
    # optimizer when the set that trains differs. So the configs say all this. Weights are told by
    # position, because the paths of auto-named layers differ between processes.

    def get_config(self) -> dict[str, Any]:
        if _keras.is_saving_as_h5():  # not by `save`
            self._refuse_h5("a `.h5` file")
        hub_repairs.mend_before_saving(self.layers)
        config = hub_repairs.mend_config(super().get_config())
        seeds = [state.numpy().tolist() for state in _seeds(self)]
        if self.adapter_bank is not None:
            config["adapters"] = keras.saving.serialize_keras_object(self.adapter_bank)
        if quantized := quantization_state(self):
            config["quantized"] = quantized
        return {**config, "freezing": freezing_state(self), "seeds": seeds}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "FineTuner":
        config = dict(config)
        freezing = config.pop("freezing", None)
        seeds, adapters = config.pop("seeds", None), config.pop("adapters", None)
        quantized = config.pop("quantized", ())
        model = super().from_config(config, custom_objects=custom_objects)
        restore_quantization(model, quantized)
        hub_repairs.mend_after_loading(model.layers)
        if adapters is not None:
            keras.saving.deserialize_keras_object(adapters, custom_objects).attach(model)
        if freezing is not None:
            restore_freezing(model, freezing)
        for state, value in zip(_seeds(model), seeds or (), strict=seeds is not None):
            state.assign(value)
        return model

    def get_compile_config(self) -> Any:
        config = super().get_compile_config()
        if not config:  # not compiled
            return config
        lr_multiplier = self.lr_multiplier
        positions = {id(weight): i for i, weight in enumerate(self.weights)}
        given = {
            "norms": self._group_norms is not None,
            # As it is now: `compile` may have put a loss scale around what it was given.
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "slots": [positions[id(variable)] for variable in lr_multiplier.slot_variables],
        }
        if self._wraps_by_hand:
            return {**config, **given, "rates": lr_multiplier.rates_of(self.weights)}
        return {**config, **given, **self._rates_by_position()}

    def _rates_by_position(self):
        """The arguments of `compile` that say rates, and the optimizer without its multipliers."""
        multipliers, no_decay = self._rates_given
        schedule = self.lr_multiplier.schedule
        if no_decay is not True:
            no_decay = [i for i, weight in enumerate(self.weights) if weight.path in no_decay]
        plain = around(self.optimizer, self.lr_multiplier.inner_optimizer)
        return {
            "optimizer": keras.saving.serialize_keras_object(plain),
            "multipliers": by_position(self, multipliers),
            "no_decay": no_decay,
            "fused": self.lr_multiplier.fused,
            "schedule": None if schedule is None else schedule.to_config(),
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        config = keras.saving.deserialize_keras_object(config)
        slots, schedule = config.pop("slots", None), config.pop("schedule", None)
        # Of a clone of the graph alone, which has no adapters: their weights are the last.
        weights, known = self.weights, range(len(self.weights))
        if rates := config.pop("rates", None):
            optimizer = inside(config["optimizer"])
            optimizer.restore_rates(weights, rates[: len(weights)], self.groups)
        if config.get("no_decay", True) is not True:
            config["no_decay"] = [weights[i].path for i in config["no_decay"] if i in known]
        if "multipliers" in config:
            pairs = config["multipliers"]
            config["multipliers"] = {weights[i].path: rate for i, rate in pairs if i in known}
        self.compile(**config)
        if schedule:
            self.set_schedule(**schedule)
        if slots:
            self.optimizer.build([weights[i] for i in slots if i in known])


def _refuse_preprocessor(model):
    """A KerasHub task gives its data to its preprocessor first; its graph knows nothing of it."""
    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is not None:
        raise ValueError(
            f"{model.name!r} is a task with a preprocessor, a {type(preprocessor).__name__}, which "
            "is no part of its graph: a FineTuner would read the data without it and answer "
            "otherwise. Give the data to it yourself, as in `preprocessor = task.preprocessor; "
            "data = data.map(preprocessor)`, and take it off with `task.preprocessor = None` "
            "before `FineTuner.from_model(task)`."
        )


def _num_rows(x):
    """The number of examples in a batch of inputs, or of features in their place."""
    return tf.shape(next(part for part in keras.tree.flatten(x) if part is not None))[0]


def _by_name(method, num_given, rest, named):
    """Keras's arguments of `method` after the first `num_given`, all by name."""
    given = inspect.signature(method).bind_partial(*[None] * num_given, *rest, **named).arguments
    return dict(list(given.items())[num_given:])


def _seeds(model):
    """The random states of a model: what is variable in it but no weight."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]

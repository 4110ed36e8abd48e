"""FineTuner: a Keras model whose frozen layers are inert and whose rates are per layer."""

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl.fine_tuner.feeding import Settings
from kerastl.fine_tuner.fitting import fit_by_epochs, plan_fit
from kerastl.fine_tuner.group_norms import GroupNorms
from kerastl.fine_tuner.inert import run_training
from kerastl.fine_tuner.rates import by_variable_path
from kerastl.fine_tuner.saving import Continues
from kerastl.groups import flatten, layer_groups, leaf_layers, select_layers
from kerastl.optimizers import LRMultiplier
from kerastl.optimizers import no_decay as no_decay_paths


@keras.saving.register_keras_serializable(package="kerastl")
class FineTuner(Continues, keras.Model):
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

    passes = None  # the `Passes` that `fit` reads
    passes_done = 0  # the pass that the next `fit` begins with
    pass_offset = 0  # number of the pass minus number of the epoch, in the present `fit`
    resume_at = None  # (epoch, batches done in it), set by a callback that restores a run
    runs_own_graph = True  # what `call` runs is the graph, layer by layer
    honours_fixed_statistics = True

    @classmethod
    def from_model(cls, model, name=None):
        """A `FineTuner` over the inlined graph of `model`, sharing every layer and weight.

        Args:
            model: Functional or Sequential `keras.Model`; nested models are inlined.
            name: String, the new model's name. Defaults to that of `model`.

        Returns:
            `FineTuner` with outputs bit-equal to those of `model`.
        """
        return flatten(model, cls=cls, name=name or model.name)

    @property
    def groups(self):
        """`LayerGroups` of this model, from input to head."""
        if getattr(self, "_groups", None) is None:
            self._groups = layer_groups(self)
        return self._groups

    @property
    def lr_multiplier(self):
        """The `LRMultiplier` of the compiled optimizer, also inside a `LossScaleOptimizer`."""
        optimizer = self.optimizer
        if optimizer is not None and not isinstance(optimizer, LRMultiplier):
            optimizer = optimizer.inner_optimizer
        return optimizer

    def call(self, inputs, training=None, mask=None):
        """Run the graph, frozen layers in inference mode whatever `training` is."""
        if not training:
            return super().call(inputs, training=training, mask=mask)
        return run_training(self, inputs, mask)

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        *,
        multipliers=None,
        no_decay=(),
        norms=False,
        **kwargs,
    ):
        """Configure the model for training.

        Args:
            optimizer: Keras optimizer, its name, or an `LRMultiplier` made by hand.
            loss: As in `keras.Model.compile`.
            multipliers: Dict from group name, layer path, variable path or regex to a float >= 0
                that multiplies the learning rate of those weights. 0 holds them still. What is
                not named has 1.
            no_decay: Paths of variables that weight decay leaves alone, or True for all biases,
                norm parameters and special tokens (`optimizers.no_decay`).
            norms: Boolean, whether `fit` reports the gradient norm and the update norm of each
                group that trains, as `gradient_norm/GROUP` and `update_norm/GROUP`.
            **kwargs: Everything else that `keras.Model.compile` takes (`loss_weights`, `metrics`,
                `jit_compile`, `steps_per_execution`, ...), by name.

        Raises:
            ValueError: If a multiplier matches nothing, or the optimizer's step is not linear in
                its rate.
        """
        given = keras.optimizers.get(optimizer)
        if not isinstance(given, LRMultiplier):
            paths = no_decay_paths(self) if no_decay is True else tuple(no_decay or ())
            keys = by_variable_path(self, multipliers)
            given = LRMultiplier(given, keys, groups=self.groups, no_decay=paths)
        elif multipliers is not None or no_decay:
            raise ValueError(
                "`multipliers` and `no_decay` belong to the LRMultiplier when you pass one. "
                f"Received: optimizer={given.name!r}, multipliers={multipliers!r}, "
                f"no_decay={no_decay!r}"
            )
        super().compile(given, loss, **kwargs)
        self._wraps_by_hand = given is optimizer
        self._rates_given = (multipliers, no_decay)
        self._group_norms = GroupNorms(self.groups) if norms else None
        self._reserved = frozenset()

    @property
    def multipliers(self):
        """Dict from the path of each variable with optimizer slots to its multiplier."""
        return self.lr_multiplier.multipliers if self.optimizer.built else {}

    def set_multipliers(self, multipliers):
        """Change the multipliers, also between two epochs of a `fit`; the moments stay.

        Args:
            multipliers: As in `compile`. Replaces all earlier ones.
        """
        keys = by_variable_path(self, multipliers)
        self.lr_multiplier.set_multipliers(keys, groups=self.groups, retraced=True)
        self._rates_given = (multipliers, self._rates_given[1])
        _keras.remake_train_function(self)

    def reserve(self, where):
        """Give optimizer slots to layers that will train later, before the first step is traced.

        A thaw allocates missing slots by itself; reserving them up front keeps the order of the
        slots, and so checkpoints, the same from the first epoch to the last.

        Args:
            where: As in `freeze`.
        """
        leaves = [leaf for layer in select_layers(self, where) for leaf in leaf_layers(layer)]
        self._reserved = (
            frozenset(  # ids, since Keras would save a list of variables as the model's own
                id(v) for leaf in leaves for v in _keras.own_trainable_variables(leaf)
            )
        )

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        **others,
    ):
        """Train, as `keras.Model.fit` does, with passes over the data that can be repeated.

        Data from `kerastl.data.make_dataset` and arrays in memory are read pass by pass, each a
        function of its number alone: epoch `n` of a fresh model is pass `n`, a later `fit` goes
        on with the passes after it. Other datasets and generators are read by Keras itself.

        Args:
            x: As in `keras.Model.fit`, and so are `y`, `batch_size`, `epochs`, `verbose` and
                `callbacks`.
            **others: Every other argument of `keras.Model.fit`, by name.

        Returns:
            The `History` callback.
        """
        settings = Settings(callbacks, epochs, verbose, batch_size, others)
        self.passes = plan_fit(self, x, y, settings)
        if self.passes is None:
            return super().fit(x, y, batch_size, epochs, verbose, callbacks, **others)
        return fit_by_epochs(self, super().fit, settings)

    def make_train_function(self, force=False):
        """Build the optimizer over everything that may train, then trace as Keras does."""
        if self.optimizer is not None:
            self._allocate_slots()
        if self._group_norms is not None:
            with self.distribute_strategy.scope():
                self._group_norms.prepare(self.trainable_variables)
        return super().make_train_function(force=force)

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
    def metrics(self):
        """Keras's metrics and, if asked for, the norms of each group."""
        norms = self._group_norms.metrics if getattr(self, "_group_norms", None) else []
        return super().metrics + norms

    def train_step(self, data):
        """One step: gradients by `tf.GradientTape`, each layer's step times its multiplier."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        self._loss_tracker.update_state(
            _keras.unscale_loss_for_distribution(loss),
            sample_weight=tf.shape(keras.tree.flatten(x)[0])[0],
        )
        self._step(tape, scaled)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _step(self, tape, loss):
        variables = self.trainable_variables
        if not variables:
            raise ValueError(
                f"Nothing in {self.name!r} trains: every layer is frozen. "
                "Call `unfreeze(model, where)`, or `freeze_to(model, -1)` for the head alone."
            )
        gradients = tape.gradient(loss, variables)
        apply = self.optimizer.apply_gradients
        if self._group_norms is None:
            apply(zip(gradients, variables, strict=True))
        else:
            self._group_norms.around(apply, self.optimizer, gradients, variables)

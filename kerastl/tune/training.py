"""Build the network of a run and train it."""

import keras

from kerastl import backbones, glyphs, strategies
from kerastl.callbacks import Audit, GradualUnfreezing
from kerastl.data import UNBALANCED, class_weights, imbalance, make_dataset
from kerastl.fine_tuner import FineTuner
from kerastl.freezing import freeze_to


def build(backbone, num_classes, *, dropout, name):
    """A `FineTuner`: `backbone`, dropout and a softmax head for `num_classes` classes.

    The head starts at zero, so that it gives every class the same probability and nothing of a
    random start is left when it has few pictures to learn from.
    """
    x = keras.layers.Dropout(dropout, name="head_dropout")(backbone.output)
    head = keras.layers.Dense(
        num_classes,
        activation="softmax",
        kernel_initializer="zeros",
        dtype="float32",
        name="predictions",
    )
    return FineTuner.from_model(keras.Model(backbone.input, head(x)), name=name)


def load_backbone(config):
    """The backbone that `config` names, pooled to one vector a picture.

    `"glyphnet"` is the embedded default, which needs no download: letters and digits, 32 px.
    """
    if config.backbone == "glyphnet":
        return glyphs.load_glyphnet()
    return backbones.load(
        config.backbone,
        weights=config.weights,
        image_size=config.image_size,
        **config.options,
    )


def compile_for(model, config, num_steps):
    """Compile `model` for a run of `num_steps`; return the strategy carried out.

    AdamW under one cosine schedule with a tenth of the steps as warm-up; layers below the head
    learn more slowly, by the strategy's multipliers.
    """
    strategy = strategies.make(config.strategy, model.groups, config.epochs)
    freeze_to(model, -1)
    warmup = max(1, num_steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 25,
        max(1, num_steps - warmup),
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, global_clipnorm=1.0),
        keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        multipliers=strategy.multipliers,
        no_decay=True,
    )
    return strategy


def train(model, data, config, *, callbacks=(), verbose=0):
    """Train `model` on `data.train` by the strategy of `config`.

    Args:
        model: `FineTuner` over the backbone and its new head.
        data: `ImageData`.
        config: `TuneConfig`.
        callbacks: Further Keras callbacks.
        verbose: As in `fit`.

    Returns:
        The strategy and the `History.history` dict.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    batches = make_dataset(
        data.train.images,
        data.train.labels,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=config.augment,
        num_classes=len(data.class_names),
    )
    strategy = compile_for(model, config, config.epochs * int(batches.cardinality()))
    history = model.fit(
        batches,
        epochs=config.epochs,
        validation_data=_validation(data, config),
        class_weight=_weights(data.train.labels),
        shuffle=False,  # the dataset shuffles
        callbacks=[
            GradualUnfreezing(strategy.schedule),
            Audit(),
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
        ],
        verbose=verbose,
    ).history
    if len(history["loss"]) < config.epochs or history["loss"][-1] != history["loss"][-1]:
        raise FloatingPointError(
            f"The loss stopped being a number in epoch {len(history['loss'])}. "
            "Lower --learning-rate (a tenth of it is a good next try). "
            f"Received: learning_rate={config.learning_rate}"
        )
    return strategy, history


def _validation(data, config):
    if not len(data.val):
        return None
    return make_dataset(
        data.val.images,
        data.val.labels,
        batch_size=config.batch_size,
        num_classes=len(data.class_names),
    )


def _weights(labels):
    return class_weights(labels) if imbalance(labels) >= UNBALANCED else None

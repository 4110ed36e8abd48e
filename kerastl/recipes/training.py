"""Build the network of a run and train it."""

import math

import keras
import numpy as np

from kerastl import backbones
from kerastl.adaptation import adapt_batch_norm
from kerastl.backbones import glyphs
from kerastl.callbacks import Audit, EvaluateAverages, FollowPlan, Resume
from kerastl.data import UNBALANCED, class_weights, imbalance, load_image_folder, make_dataset
from kerastl.plans import strategies
from kerastl.training import FineTuner


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


ADAPTED = 2000  # training pictures at most that statistics are measured on


def adapt(model, data, config):
    """Give the batch normalizations of a pretrained network the statistics of `data.train`.

    They stand still in training, so they had better be those of the pictures at hand.
    """
    if not config.adapt_statistics or config.weights is None:
        return
    # At random: in a batch of one class its own mean would be taken away.
    rows = np.random.default_rng(config.seed).permutation(len(data.train))[:ADAPTED]
    starts = range(0, len(rows), config.batch_size)
    chosen = (np.sort(rows[start : start + config.batch_size]) for start in starts)
    adapt_batch_norm(model, (np.asarray(data.train.images[k], "float32") for k in chosen))


def load_backbone(config):
    """The backbone that `config` names, pooled to one vector a picture.

    `"glyphnet"` is the embedded default, which needs no download: letters and digits, 32 px.
    """
    if config.backbone == "glyphnet":
        return _embedded(config)
    return backbones.load(
        config.backbone,
        weights=config.weights,
        image_size=config.image_size or _transfer_size(config),
        **config.options,
    )


def _transfer_size(config):
    return None if config.weights is None else backbones.transfer_size(config.backbone)


def _embedded(config):
    """The glyph network, for settings that it can follow."""
    if config.weights == "imagenet" and not config.options and config.image_size in (None, 32):
        return glyphs.load_glyphnet()
    raise ValueError(
        "The backbone 'glyphnet' has weights of its own for pictures of 32 pixels. Leave out "
        "--weights, --alpha and --image-size, or choose another backbone. Received: "
        f"weights={config.weights!r}, alpha={config.alpha}, image_size={config.image_size}"
    )


def read(data, backbone, config, progress=None):
    """`ImageData` of the folder `data`, at the size that `backbone` takes."""
    shape = backbone.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            "The backbone must take pictures, (batch, height, width, 3). Received: "
            f"{config.backbone!r}, which takes {shape}"
        )
    size = shape[1:3]
    if None in size:
        raise ValueError(
            f"The backbone {config.backbone!r} takes pictures of any size, so `image_size` must "
            "say which. Pass image_size=224 (--image-size 224), say. Received: image_size=None"
        )
    return load_image_folder(
        data,
        image_size=size,
        seed=config.seed,
        strict=config.strict,
        val_share=config.validation,
        cache_dir=config.cache_dir,
        progress=progress,
    )


def batches(data, config):
    """The dataset to train on, shuffled and augmented as `config` says."""
    return make_dataset(
        data.train.images,
        data.train.labels,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=config.augment,
        num_classes=len(data.class_names),
    )


def compile_for(model, config, num_examples):
    """Compile `model` for the plan that `config` names; return the plan.

    Layers below the head learn more slowly, by the plan's multipliers. Where weights are averaged,
    the rate stands still: their average settles in its place.
    """
    plan = strategies.by_name(
        config.strategy,
        model.groups,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        schedule=None if config.averages else strategies.COSINE,
    )
    steps = config.epochs * math.ceil(num_examples / config.batch_size)
    compile_at_peak(model, config, averaged=config.averaging * steps if config.averages else 0)
    return plan


def compile_at_peak(model, config, averaged=0.0):
    """Compile `model` with AdamW at the peak rate, which a plan's shape leads over the steps.

    Args:
        model: `FineTuner`.
        config: `TuneConfig` or `CompressConfig`.
        averaged: Float >= 0, the time constant in steps of the moving averages of the weights,
            which `fit` puts in their place when it ends. None are kept if it is at most 1.
    """
    average = {"use_ema": True, "ema_momentum": 1 - 1 / averaged} if averaged > 1 else {}
    model.compile(
        keras.optimizers.AdamW(
            config.learning_rate,
            weight_decay=config.weight_decay,
            global_clipnorm=1.0,
            **average,
        ),
        keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        metrics=["accuracy"],
        no_decay=True,
    )


def train(model, data, config, *, callbacks=(), checkpoints=None):
    """Train `model` on `data.train` by the plan that `config` names.

    Args:
        model: `FineTuner` over the backbone and its new head.
        data: `ImageData`.
        config: `TuneConfig`.
        callbacks: Further Keras callbacks.
        checkpoints: Folder in which a training that is stopped finds where to go on, or None.

    Returns:
        The `TransferPlan` and the `History` callback; its `frozen_features` says in which epochs
        frozen layers were computed from a cache.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    adapt(model, data, config)
    plan = compile_for(model, config, len(data.train))
    resume = [Resume(checkpoints)] if checkpoints else []
    history = model.fit(
        batches(data, config),
        epochs=config.epochs,
        validation_data=_validation(data, config),
        class_weight=weights(data),
        callbacks=[
            FollowPlan(plan),
            Audit(),
            EvaluateAverages(),
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
            *resume,
        ],
        verbose=0,
        augmented_copies=config.augmented_copies,
    )
    check_losses(history.history["loss"], config)
    return plan, history


def check_losses(losses, config):
    """Refuse the losses of the epochs of a training that stopped being numbers.

    Raises:
        FloatingPointError: If they did.
    """
    if len(losses) < config.epochs or losses[-1] != losses[-1]:
        raise FloatingPointError(
            f"The loss stopped being a number in epoch {len(losses)}. "
            "Lower --learning-rate (a tenth of it is a good next try). "
            f"Received: learning_rate={config.learning_rate}"
        )


def _validation(data, config):
    if not len(data.val):
        return None
    return make_dataset(
        data.val.images,
        data.val.labels,
        batch_size=config.batch_size,
        num_classes=len(data.class_names),
    )


def weights(data):
    """The class weights for `data.train` if its classes are far from even, else None."""
    labels = data.train.labels
    return class_weights(labels) if imbalance(labels) >= UNBALANCED else None


def cache_summary(report):
    """What `History.frozen_features` says, for `metrics.json`.

    Returns:
        Dict with `epochs`, those trained on features of frozen layers that were computed once;
        `seconds`, spent computing them; `seconds_saved`, about what the frozen layers would have
        taken in these epochs besides; and `reason`, why the first epoch had no cache, or None.

    Example:
        >>> row = {"reason": "the frozen part is computed once", "cached": True}
        >>> cache_summary([{**row, "seconds": 3.0}, {**row, "seconds": 0.0}])["seconds_saved"]
        3.0
    """
    cached = [row for row in report if row["cached"]]
    passes = [row["seconds"] for row in cached if row["seconds"] > 0.01]
    spent, each = sum(passes), min(passes, default=0.0)
    return {
        "epochs": len(cached),
        "seconds": round(spent, 1),
        "seconds_saved": round(max(0.0, len(cached) * each - spent), 1),
        "reason": report[0]["reason"] if report and not report[0]["cached"] else None,
    }

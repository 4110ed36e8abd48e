"""Go on with the pretraining of a network on examples without labels, before labels are learnt."""

import dataclasses
import json
import math
import pathlib
import shutil
import time
from typing import Any

import keras
import numpy as np

from kerastl._base import files
from kerastl.callbacks import Audit, Resume
from kerastl.data.passes import dataset_of
from kerastl.freezing import freeze_to, freezing_state, restore_freezing, unfreeze
from kerastl.recipes.run_folder import Progress
from kerastl.tasks.protocols import Source, TaskData
from kerastl.tasks.settings import TuneSettings
from kerastl.training import FineTuner

HEAD_RATE = 2e-3  # of the new head alone, in a first pass over the frozen network
HEAD_STEPS = 50  # that this takes at least, in several passes if need be
RATE = 3e-4  # of everything after it
WARM_UP = 0.1  # share of the steps in which the rate rises, to fall to 0 in those that are left
WEIGHT_DECAY = 0.01


@dataclasses.dataclass(frozen=True)
class LearntUnlabelled:
    """What came of the examples without labels.

    Attributes:
        file: Path of their file.
        what: What the network says of them, such as `"pieces that were hidden"`.
        num_examples: Int, how many it learnt from.
        num_rows: Int, how many rows these are: an example that is long is several.
        num_held_out: Int, how many it was measured on.
        num_left_out: Int, how many nothing could be learnt of.
        epochs: Int, passes over them.
        loss_before: Float, the mean loss of what is asked for in those held out, in nats, of the
            network as it was loaded; where its head is new, under one that has learnt alone.
        loss_after: The same in the end.
        num_shown: Int, how many of the examples held out with labels stand in the file.
        seconds: Float.
    """

    file: str
    what: str
    num_examples: int
    num_rows: int
    num_held_out: int
    num_left_out: int
    epochs: int
    loss_before: float
    loss_after: float
    num_shown: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` says of it."""
        return dataclasses.asdict(self)

    @property
    def notices(self) -> list[str]:
        """Lines for the user."""
        rows = f" in {self.num_rows} rows" if self.num_rows > self.num_examples else ""
        told = [
            f"First the network went on with its pretraining on {self.num_examples} examples of "
            f"{self.file}{rows}, {self.epochs} passes of it: the loss of {self.what} in "
            f"{self.num_held_out} others went from {self.loss_before:.3f} to {self.loss_after:.3f}."
        ]
        if self.num_left_out:
            told.append(
                f"{self.num_left_out} examples of {self.file} were left out: the vocabulary knows "
                "nothing of them."
            )
        if self.num_shown:
            told.append(
                f"{self.num_shown} of the examples held out stand in {self.file}, too: the network "
                "has read them, without their labels."
            )
        return told


def learn_unlabelled(
    model: FineTuner,
    data: TaskData,
    *,
    source: Source,
    settings: TuneSettings,
    folder: pathlib.Path,
    progress: Progress,
) -> LearntUnlabelled | None:
    """Have the network in `model` learn of the examples without labels that `settings` name.

    A head that is new learns alone first, for one pass or 50 steps; then everything does. What the
    network has learnt stays; heads, flags and random states are as they were. A process that was
    killed finds in `folder` where to go on.

    Args:
        model: `FineTuner` over the network.
        data: `TaskData` of the examples with labels.
        source: `Source` of both.
        settings: `TuneSettings`.
        folder: `pathlib.Path` of a folder that a later process finds again.
        progress: `Progress`.

    Returns:
        `LearntUnlabelled`, or None if there are no such examples.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    given = source.unlabelled(model, data, settings)
    if given is None:
        return None
    folder = folder / "unlabelled"
    folder.mkdir(exist_ok=True)
    said, weights = folder / "learnt.json", folder / "weights.npz"
    flags, drawn = freezing_state(model), _random_states(model)
    if not said.is_file():
        progress.stage(f"Learning of {settings.unlabelled}", settings.unlabelled_epochs)
        told = _learn(given, settings, folder, progress)
        with files.replacing(weights) as new:
            np.savez(new, *model.get_weights())
        files.write(said, json.dumps(told.to_dict()))  # last: with it all is done
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    with np.load(weights) as loaded:
        model.set_weights([loaded[name] for name in loaded.files])
    restore_freezing(model, flags)
    for variable, value in drawn:
        variable.assign(value)
    keras.utils.set_random_seed(settings.seed)
    return LearntUnlabelled(**json.loads(said.read_text(encoding="utf-8")))


def _random_states(model):
    """`(variable, value)` of each variable of `model` that is no weight."""
    weights = {id(variable) for variable in model.weights}
    return [(one, one.numpy()) for one in model.variables if id(one) not in weights]


def _learn(given, settings, folder, progress):
    """`LearntUnlabelled` of the head alone, and then of everything."""
    started, learner = time.perf_counter(), FineTuner.from_model(given.model, name="unlabelled")
    checkpoints, epochs = folder / "checkpoints", settings.unlabelled_epochs
    if given.has_new_head:
        freeze_to(learner, -1)
        first = max(1, math.ceil(HEAD_STEPS / given.train.num_batches))
        _fit(learner, given, first, HEAD_RATE, [Resume(checkpoints / "head")])
    before = _loss(learner, given)
    unfreeze(learner, slice(None))
    callbacks = [*progress.callbacks(), Resume(checkpoints / "everything")]
    _fit(learner, given, epochs, RATE, callbacks)
    return LearntUnlabelled(
        file=str(settings.unlabelled),
        what=given.what,
        num_examples=given.num_examples,
        num_rows=given.train.num_examples,
        num_held_out=given.num_held_out,
        num_left_out=given.num_left_out,
        epochs=epochs,
        loss_before=before,
        loss_after=_loss(learner, given),
        num_shown=given.num_shown,
        seconds=round(time.perf_counter() - started, 1),
    )


def _fit(learner, given, epochs, rate, callbacks):
    """Train what is not frozen: the rate rises, then falls to 0 by half a cosine."""
    steps = epochs * given.train.num_batches
    rising = math.ceil(WARM_UP * steps)
    schedule: Any = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - rising), warmup_target=rate, warmup_steps=rising
    )
    crossentropy = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    learner.compile(
        keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=1.0),
        crossentropy,
        no_decay=True,
    )
    callbacks = [Audit(), keras.callbacks.TerminateOnNaN(), *callbacks]
    history = learner.fit(dataset_of(given.train), epochs=epochs, callbacks=callbacks, verbose=0)
    losses = history.history["loss"]
    if len(losses) < epochs or losses[-1] != losses[-1]:
        raise FloatingPointError(
            "The loss stopped being a number while the network learnt of examples without labels. "
            f"Received: losses {losses}. Do they hold what the network was made for?"
        )


def _loss(learner, given):
    """The mean over all that is asked for in the examples held out, of one pass.

    Keras's weighted mean would count batches alike in which unlike numbers are asked for.
    """
    total = count = 0.0
    for inputs, targets, weights in given.held_out.epoch(0):
        losses = keras.losses.sparse_categorical_crossentropy(
            targets, learner(inputs, training=False), from_logits=True
        )
        asked = np.asarray(weights, "float64")
        total += float((np.asarray(losses, "float64") * asked).sum())
        count += float(asked.sum())
    return total / count

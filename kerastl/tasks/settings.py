"""What a user may say of a run: each setting once, with its default, range, choices and help.

Python, the command line and the documentation read them here. Nothing but the standard library is
imported at the top, so that `kerastl --help` need not wait for TensorFlow.

It is one file of over 400 lines because the verbs share most of their settings: a setting is
looked for here, whatever the verb.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

# Those that train adapters, with the settings that each has, and what its function calls them.
ADAPTED = {
    "lora": {"rank": "rank", "lora_alpha": "alpha", "where": "where"},
    "adapters": {"style": "style", "reduction": "reduction", "where": "where"},
}
PLAIN = ("head", "partial", "full", "gradual", *ADAPTED)  # whose schedule is ours to choose
STRATEGIES = (*PLAIN, "lp_ft", "fastai", "few_shot")
FEW_SHOT = STRATEGIES[-1]  # learns from pairs, so that it is for classes alone
STYLES = ("houlsby", "pfeiffer", "parallel")  # of bottleneck adapters
CHOSEN = ("auto", "probe")  # the one by comparing, the other without any training
STARTS = {"probe": "probe", "zero": "as_is"}  # of a head, with what a plan calls each
METRICS = (  # what a score may be, by objective; the first of each is the default
    *("accuracy", "macro_f1", "matthews", "auc"),
    *("mean_average_precision",),
    *("r2", "spearman", "pearson"),
)
EPOCHS, BATCH_SIZE = 20, 32  # where nobody and no source says others
RATE = 1e-2  # of a head that starts at zero, where nobody and no source says another
POOLINGS = ("mean", "pooled", "first")  # of what a network of texts says of each token
AUGMENTATIONS = ("none", "light", "medium", "strong")
AUGMENT = "light"  # of pictures to train on, where nobody says another
# Of a run's device file, with what `export.to_litert` calls each.
EXPORTS = {"float": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
FORMATS = ("litert", "saved_model", "onnx", "huggingface")
# Ways to choose what is written next, with the settings that each has besides the seed.
SAMPLERS = {
    "greedy": (),
    "top_k": ("k", "temperature"),
    "top_p": ("p", "k", "temperature"),
    "random": ("temperature",),
    "beam": ("beams",),
    "contrastive": ("k", "alpha"),
}
PACKINGS = ("auto", "on", "off")
IO_DTYPES = ("float32", "int8", "uint8", "int16")
# What is tried when one way to quantize loses too much.
LADDERS = {
    "float16": ("float16",),
    "dynamic": ("dynamic", "float16"),
    "int8": ("int8", "int8_mixed", "dynamic", "float16"),
    "int16x8": ("int16x8", "dynamic", "float16"),
}
LARGEST_SEED = 2**31 - 1
TAKES = "What MODEL takes, such as 0 255, 0 1 or -1 1, if it does not say so itself."


def setting(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    low: float | None = None,
    high: float | None = None,
    what: str = "a number",
    count: int | None = None,
) -> Any:
    """A field of a settings class.

    Args:
        default: Its value where nothing is said.
        help: String, what it means, for `--help`.
        choices: Sequence of the strings it may be, or None.
        low: Int or float, the least it may be, and `high` the most; None for no bounds.
        what: String, what the number is, for the message.
        count: Int, of how many values it consists on the command line, or None for one.
    """
    said = {"help": help, "choices": choices, "low": low, "high": high, "what": what}
    return dataclasses.field(default=default, metadata={**said, "count": count})


@dataclasses.dataclass(frozen=True)
class Settings:
    """Plain data: equal when equal, checked before any work is done, saved with the run."""

    def __post_init__(self) -> None:
        from kerastl._base import checks

        for field in dataclasses.fields(self):
            value, said = getattr(self, field.name), field.metadata
            if value is None and field.default is None:
                continue
            if said["choices"]:
                checks.one_of(value, said["choices"], field.name)
            elif said["low"] is not None and "int" in str(field.type):
                checks.whole(value, said["low"], said["high"], field.name)
            elif said["low"] is not None:
                checks.in_range(value, said["low"], said["high"], field.name, said["what"])

    @classmethod
    def of(cls, settings: Self | None, options: Mapping[str, Any]) -> Self:
        """`settings` if they are given, else those that `options`, a dict of fields, say.

        Raises:
            ValueError: If both are given.
            TypeError: If an option is no field; the message names the closest.
        """
        if settings is not None and options:
            raise ValueError(f"Give either `settings` or options. Received both: {sorted(options)}")
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := [name for name in options if name not in known]:
            from kerastl._base.checks import closest

            raise TypeError(
                f"{cls.__name__} has no setting {unknown[0]!r}. "
                f"Closest: {closest(unknown[0], known)}."
            )
        return cls(**options) if settings is None else settings

    def to_dict(self) -> dict[str, Any]:
        """Its fields as a dict ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class ReadSettings(Settings):
    """How data are read and divided.

    Attributes:
        validation: Float in [0, 0.5], share of the examples, those of a `test/` apart, held back to
            draw validation curves, or to judge `max_drop` on, where DATA has no `val/`. By default
            they train.
        strict: Boolean, whether unreadable files stop the run.
        cache_dir: Folder for decoded examples, needed when they do not fit in memory.
    """

    validation: float = setting(
        0.0,
        "Share of the examples held back for curves and choices, if DATA has no val/.",
        low=0.0,
        high=0.5,
        what="a share",
    )
    strict: bool = setting(False, "Stop at files that cannot be read.")
    cache_dir: str | None = setting(None, "Folder for decoded examples, if memory is short.")


@dataclasses.dataclass(frozen=True)
class TrainSettings(ReadSettings):
    """How to train, by whichever strategy.

    What is None where nobody says it is filled in by the source of the data, `Source.settled`,
    before anything reads it.

    Attributes:
        backbone: A name that `backbones.load` knows, a preset, a run folder or a `.keras` file. The
            model of a run is taken without its head. None is `"mobilenet_v2"` of pictures and
            `"prosenet"` of texts; a language model has to be named.
        weights: `"imagenet"`, None for random ones, or the path of a weights file.
        alpha: Float, width multiplier of the networks that have one, or None.
        image_size: Int, side in pixels. None takes `backbones.transfer_size`, for most networks
            9/7 of the size the weights were trained on; random weights and presets, their own.
        max_length: Int > 0, ids of a text at most. None takes the 99th percentile of the texts to
            train on, and at most what the network has positions for; of running text at most 512.
        packing: `"on"` puts several short texts into a row of a language model, which are kept
            apart by a mask; `"off"` never does; `"auto"` where rows would be half empty and the
            blocks of the network take a mask.
        epochs: Int > 0. None is 20, and 3 of a language model.
        pooling: `"mean"`, `"pooled"` or `"first"`: what a head reads of a text. The mean over its
            real tokens; the network's own pooled output; or what it gives for the first token. None
            is the mean, or what the network of a run has already.
        metric: What the score is that choices, `compare` and `max_drop` count, one of `METRICS`:
            `"accuracy"`, `"macro_f1"`, `"matthews"` or `"auc"` of classes,
            `"mean_average_precision"` or `"macro_f1"` of several labels, `"r2"`, `"spearman"` or
            `"pearson"` of a number. None is the first of these.
        learning_rate: Float > 0, peak rate of a head that starts at zero; the layers below learn
            more slowly, and a head from the probe no faster than what is below it. None is 0.01,
            0.001 of texts, and 0.0002 of a language model.
        averaging: Float in [0, 1), the share of the training whose weights make the final ones:
            their exponential moving average, with a time constant of that share of all steps,
            while the rate stands still (from the probe, after a warm-up). 0 keeps the last weights
            and lets the rate fall to 0 by half a cosine, as `lp_ft` and `fastai` have schedules of
            their own.
        batch_size: Int > 0. None is 32, and 8 of a language model.
        augment: `"none"`, `"light"`, `"medium"` or `"strong"`. None is `"light"` of pictures, and
            `"none"` of texts, which are read as they are.
        augmented_copies: Int > 0, views of each augmented example to cache at the frozen layers'
            outputs, or None to run frozen layers in every epoch where examples are augmented.
        seed: Int, of the split, the head, dropout, shuffling and augmentation.
        start: What the head begins with: `"probe"`, the regression on frozen features
            (`training.solve_head`), or `"zero"`.
        dropout: Float in [0, 1), before the head.
        label_smoothing: Float in [0, 1), where classes are learnt. A head that starts at the probe
            is torn from what it knows by it; 0.1 suits one that starts at zero.
        weight_decay: Float, decoupled, not applied to biases and norms.
        adapt_statistics: Boolean, whether the batch normalizations of a pretrained network get the
            statistics of the training examples before training
            (`adaptation.adapt_batch_norm`), which then stand still.
        rank: Int >= 1, of the adapters of the strategy `"lora"`. None is 8.
        lora_alpha: Float > 0, how much these count: `alpha` of `peft.LoRA`. None is 8.
        style: `"houlsby"`, `"pfeiffer"` or `"parallel"`, of those of `"adapters"`. None is
            `"pfeiffer"`.
        reduction: Int >= 1, how many times as narrow as their layer these are. None is 16.
        where: Which layers either act on: a path, a regex of whole paths or the name of a group.
            None is what the method chooses, mostly all linear layers of the blocks.
    """

    usual_epochs: ClassVar[int] = EPOCHS
    usual_rate: ClassVar[float] = RATE
    usual_augment: ClassVar[str] = AUGMENT

    backbone: str = setting(
        None,
        "Network of keras.applications, hub:PRESET, preset or run folder, .keras file; if not "
        "said, mobilenet_v2 of pictures, and of texts prosenet, which is small and ships.",
    )
    weights: str | None = setting(
        "imagenet", "'imagenet', 'none' for random ones, or a weights file."
    )
    alpha: float | None = setting(None, "Width multiplier of networks that have one.")
    image_size: int | None = setting(
        None,
        "Side in pixels; if not said, 288 for weights trained at 224, else theirs.",
        low=1,
        high=10_000,
    )
    max_length: int | None = setting(
        None,
        "Ids of a text at most; if not said, as many as 99 of 100 texts have.",
        low=4,
        high=100_000,
    )
    packing: str = setting(
        "auto", "Several short texts in a row of a language model, kept apart.", choices=PACKINGS
    )
    pooling: str | None = setting(
        None,
        "What the head reads of a text; if not said, the mean over its tokens.",
        choices=POOLINGS,
    )
    metric: str | None = setting(
        None,
        "What the score is that counts; if not said, accuracy, or what suits DATA.",
        choices=METRICS,
    )
    epochs: int = setting(
        None,
        "Passes over the training examples; if not said, 20, and 3 of a language model.",
        low=1,
        high=100_000,
    )
    learning_rate: float | None = setting(
        None,
        "Peak rate of a head that starts at zero; if not said, 0.01, and 0.001 of texts; of a "
        "language model, which has no new head, 0.0002 of its last layers.",
        low=1e-12,
        high=1e3,
    )
    averaging: float = setting(
        0.2,
        "Share of the training over which weights are averaged; 0 for the last weights.",
        low=0.0,
        high=0.99,
        what="a share",
    )
    batch_size: int = setting(
        None,
        "Examples a step; if not said, 32, and 8 rows of a language model.",
        low=1,
        high=100_000,
    )
    augment: str = setting(
        None,
        "Random changes of training pictures; if not said, light.",
        choices=AUGMENTATIONS,
    )
    augmented_copies: int | None = setting(
        None,
        "Cache so many views of each example at the frozen layers; if not said, none.",
        low=1,
        high=10_000,
    )
    seed: int = setting(
        0, "Of the split, the head, dropout, order and augmentation.", low=0, high=LARGEST_SEED
    )
    start: str = setting(
        "probe", "What the head begins with: a regression, or nothing.", choices=tuple(STARTS)
    )
    dropout: float = setting(0.2, "Dropout before the head.", low=0.0, high=0.99)
    label_smoothing: float = setting(
        0.0, "Label smoothing, where classes are learnt.", low=0.0, high=0.99
    )
    weight_decay: float = setting(
        1e-4, "Decoupled weight decay, not of biases and norms.", low=0.0, high=10.0
    )
    adapt_statistics: bool = setting(
        False, "Give batch normalizations the statistics of the training examples first."
    )
    rank: int | None = setting(
        None, "Of the adapters of lora; if not said, 8.", low=1, high=1_000_000
    )
    lora_alpha: float | None = setting(
        None,
        "How much the adapters of lora count; if not said, 8. Their product is multiplied by this "
        "over the root of the rank.",
        low=1e-9,
        high=1e9,
    )
    style: str | None = setting(
        None, "Where the bottlenecks of adapters lie; if not said, pfeiffer.", choices=STYLES
    )
    reduction: int | None = setting(
        None,
        "How many times as narrow as their layer bottlenecks are; if not said, 16.",
        low=1,
        high=1_000_000,
    )
    where: str | None = setting(
        None,
        "Which layers get adapters of lora or adapters: a group of `kerastl inspect`, a path or a "
        "regex of whole paths; if not said, all linear ones of the blocks.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.backbone, (str, os.PathLike, type(None))):
            given = type(self.backbone)
            raise TypeError(
                "`backbone` must be a name or a path, so that the run can be written down and gone "
                f"on with. Received: a {given.__module__}.{given.__qualname__}. Save it first: a "
                "task of KerasHub by `task.save_to_preset(folder)`, which saves its tokenizer too; "
                "any other model by `model.save('mine.keras')`"
            )
        if self.where is not None and (not isinstance(self.where, str) or not self.where):
            raise TypeError(
                "`where` must be a string: the name of a group, a path or a regex of whole paths. "
                f"Received: where={self.where!r}"
            )

    def check_adapters(self, strategies: Sequence[str]) -> None:
        """Refuse a setting of adapters that none of `strategies` has."""
        for name in dict.fromkeys(key for own in ADAPTED.values() for key in own):
            takers = [taker for taker, own in ADAPTED.items() if name in own]
            if getattr(self, name) is not None and not set(takers) & set(strategies):
                said = " or ".join(f"--strategy {taker}" for taker in takers)
                raise ValueError(
                    f"`{name}` (--{name.replace('_', '-')}) is for {said}. Received: "
                    f"{name}={getattr(self, name)!r} with {', '.join(map(repr, strategies))}"
                )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the backbone that were given."""
        return {} if self.alpha is None else {"alpha": self.alpha}


@dataclasses.dataclass(frozen=True)
class StrategySettings(TrainSettings):
    """How to train by one strategy.

    Attributes:
        strategy: One of `strategies.NAMES`.
    """

    strategy: str = setting("full", "Which layers thaw, and when.", choices=STRATEGIES)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_adapters([self.strategy])
        if self.strategy in CHOSEN:
            return
        from kerastl.plans import strategies

        # What a strategy refuses, it refuses whatever the groups: now, not when all is read.
        groups, rate = ("stem", "body", "head"), self.learning_rate or RATE
        epochs = self.epochs or EPOCHS
        given = {"epochs": epochs, "learning_rate": rate, **self.of_adapters}
        strategies.by_name(self.strategy, groups, **given)

    @property
    def of_adapters(self) -> dict[str, Any]:
        """What was said of the adapters that the strategy trains, as its function calls it."""
        own = ADAPTED.get(self.strategy, {})
        said = {called: getattr(self, name) for name, called in own.items()}
        return {called: value for called, value in said.items() if value is not None}

    @property
    def averages(self) -> bool:
        """Whether the weights are averaged."""
        return self.averaging > 0 and self.strategy in PLAIN


@dataclasses.dataclass(frozen=True)
class TuneSettings(StrategySettings):
    """How to tune.

    Attributes:
        strategy: `"auto"` compares the probe with several strategies on held-back folds of the
            training examples and takes the best; `"probe"` solves the head and trains nothing;
            else one of `strategies.NAMES`.
        minutes: Float > 0, how long `auto` may compare and train, the probe left out. What it
            would choose with more time may be another; it says so.
        keep: `"best"`: of a strategy that is named, too, a fifth of the training examples is held
            back first (or `val/` is asked), and the probe is kept where it does better there.
            `"last"`: what was trained is kept; without `val/` that takes half the time.
        export: The `.tflite` to write: `"none"`, `"float"`, `"float16"`, `"dynamic"` or `"int8"`;
            see `export.to_litert`. int8 is calibrated on training examples. None writes `"float"`
            of pictures, and of texts `"dynamic"`, which is smaller and faster.
        unlabelled: Path of a file of texts without labels, of which the network goes on learning
            what is hidden in them, or what comes next, before it learns of labels; None for none.
        unlabelled_epochs: Int > 0, passes over these.
    """

    strategy: str = setting(
        "auto",
        "Which layers thaw, and when; auto compares and takes the best.",
        choices=(*CHOSEN, *STRATEGIES),
    )
    minutes: float = setting(
        10.0, "How long auto may compare and train.", low=1e-3, high=1e5, what="minutes"
    )
    keep: str = setting(
        "best",
        "The better of probe and trained, by examples held back; or what was trained last.",
        choices=("best", "last"),
    )
    export: str | None = setting(
        None,
        "Device file to write and check, a quantized one with float.tflite beside it; if not said, "
        "float of pictures and dynamic of texts.",
        choices=("none", *EXPORTS),
    )
    unlabelled: str | None = setting(
        None, "File of texts without labels, one a line, to go on pretraining with first."
    )
    unlabelled_epochs: int = setting(3, "Passes over these.", low=1, high=100_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unlabelled is None and self.unlabelled_epochs != type(self).unlabelled_epochs:
            raise ValueError(
                "`unlabelled_epochs` needs `unlabelled`, a file of texts. Received: "
                f"unlabelled_epochs={self.unlabelled_epochs}, unlabelled=None"
            )
        if self.strategy == "auto" and self.keep == "last":
            raise ValueError(
                "`keep='last'` is for a strategy that is named; 'auto' keeps what did best. "
                "Received: strategy='auto', keep='last'"
            )
        if self.strategy != "auto" and self.minutes != type(self).minutes:
            raise ValueError(
                "`minutes` is for the strategy 'auto'; a strategy that is named takes its epochs. "
                f"Received: strategy={self.strategy!r}, minutes={self.minutes}"
            )
        if self.strategy in CHOSEN and self.start != "probe":
            raise ValueError(
                f"The strategy {self.strategy!r} starts from the probe. Received: "
                f"start={self.start!r}. Name a strategy, such as strategy='gradual'."
            )


@dataclasses.dataclass(frozen=True)
class CompareSettings(TrainSettings):
    """How to compare strategies, all under one budget.

    Attributes:
        strategies: Names of strategies, or one string of them with commas between. The probe is
            always there, and first.
        seeds: Int > 0, trainings by each.
        epochs: Int > 0, the budget of each.
        augment: As in `TuneSettings`, but None is `"none"`: then frozen layers run once.
    """

    usual_epochs: ClassVar[int] = 10
    usual_augment: ClassVar[str] = "none"

    strategies: str | tuple = setting(
        "head,partial,full,gradual,lp_ft", "Names, separated by commas; the probe comes first."
    )
    seeds: int = setting(2, "Trainings by each.", low=1, high=1000)
    epochs: int = setting(
        None,
        "The budget of each; if not said, 10, and 3 of a language model.",
        low=1,
        high=100_000,
    )
    augment: str = setting(
        None,
        "Random changes of training pictures; if not said, none: frozen layers run once.",
        choices=AUGMENTATIONS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.names:
            from kerastl._base import checks

            checks.one_of(name, ("probe", *STRATEGIES), "strategies")
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(
                "`strategies` must name at least one strategy, none twice. "
                f"Received: strategies={self.strategies!r}"
            )
        self.check_adapters(self.names)
        for name in self.names:
            self.for_strategy(name)

    @property
    def names(self) -> list[str]:
        """The names of the strategies as a list."""
        said = self.strategies
        listed = said.split(",") if isinstance(said, str) else said
        return [name.strip().replace("-", "_") for name in listed if name.strip()]

    def for_strategy(self, name: str) -> TuneSettings:
        """`TuneSettings` for one training by the strategy `name`; `"probe"` is for none."""
        shared = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(TrainSettings)
        }
        if name == "probe":
            shared["start"] = "probe"
        own = ADAPTED.get(name, {})
        others = {key for keys in ADAPTED.values() for key in keys} - set(own)
        shared |= dict.fromkeys(others)
        return TuneSettings(**shared, strategy=name, keep="last", export="none")


@dataclasses.dataclass(frozen=True)
class DistillSettings(StrategySettings):
    """How a student learns what a teacher answers.

    Attributes:
        student: The network that learns, as `backbone` of other settings, and in its place.
        share: Float in (0, 1], of what is learnt from the teacher's answers; the rest are labels.
        temperature: Float in [0.001, 1000], as in `distillation.Distill`. None is 2, and 1 where
            numbers are learnt.
        unlabelled: Path of examples without labels, a folder or a file as `predict` takes them, of
            which the teacher's answers alone are learnt; None for none.
        strategy: One of `strategies.NAMES` that train the network itself.
        augment: As in `TuneSettings`, but None is `"none"`. The teacher answers each example once,
            as it is.
        seed: As in `TuneSettings`, but None is that of the first teacher's run, so that what was
            held out of its training is held out again.
        export: As in `TuneSettings`.
    """

    usual_augment: ClassVar[str] = "none"

    student: str | None = setting(
        None, "Network that learns, as --backbone of tune: a name, a preset, a run or a file."
    )
    share: float = setting(
        0.9,
        "Share of the teacher's answers in what is learnt; the rest are labels.",
        low=1e-6,
        high=1.0,
        what="a share",
    )
    temperature: float | None = setting(
        None,
        "Softens what both say; if not said, 2, and 1 where numbers are learnt.",
        low=1e-3,
        high=1e3,
    )
    unlabelled: str | None = setting(
        None, "Folder or file of examples without labels, to learn the teacher's answers of."
    )
    strategy: str = setting(
        "full",
        "Which layers thaw, and when.",
        choices=[name for name in STRATEGIES if name not in (*ADAPTED, FEW_SHOT)],
    )
    augment: str = setting(
        None, "Random changes of training pictures; if not said, none.", choices=AUGMENTATIONS
    )
    seed: int | None = setting(
        None,
        "Of the split, the head, dropout and order; if not said, that of TEACHER's run.",
        low=0,
        high=LARGEST_SEED,
    )
    export: str | None = setting(
        None,
        "Device file to write and check; if not said, float of pictures and dynamic of texts.",
        choices=("none", *EXPORTS),
    )

    def __post_init__(self) -> None:
        if self.student is not None:  # one network, whichever way it was named
            if self.backbone not in (None, self.student):
                raise ValueError(
                    "`student` is the network that learns, so leave `backbone` out. Received: "
                    f"student={self.student!r}, backbone={self.backbone!r}"
                )
            object.__setattr__(self, "backbone", self.student)
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class LRFindSettings(StrategySettings):
    """How to find a learning rate.

    Attributes:
        steps: Int >= 20, steps of the ramp; of fewer too little is left to suggest anything by.
        strategy: One of `strategies.NAMES`; what it trains in its last phase trains.
        start: As in `TuneSettings`. The loss of a head that is solved already hardly falls, so that
            nothing can be suggested: by default it starts at zero.
        augment: As in `TuneSettings`, but None is `"none"`.
    """

    usual_augment: ClassVar[str] = "none"

    start: str = setting(
        "zero", "What the head begins with: a regression, or nothing.", choices=tuple(STARTS)
    )
    steps: int = setting(100, "Steps of the ramp.", low=20, high=1_000_000)
    strategy: str = setting(
        "full",
        "What trains: the head alone, or every layer, those below the head more slowly.",
        choices=[name for name in STRATEGIES if name != FEW_SHOT],
    )
    augment: str = setting(
        None,
        "Random changes of training pictures; if not said, none.",
        choices=AUGMENTATIONS,
    )


@dataclasses.dataclass(frozen=True)
class CompressSettings(ReadSettings):
    """How to compress.

    Attributes:
        prune: Sparsity in [0, 1), share of the weights of all kernels but the head's and depthwise
            ones that become zero; or None. Kernels with less than a hundredth of these weights
            stay dense, and the others make up for them.
        block_size: Pair of ints > 0, as in `compression.MagnitudePruning`.
        m_by_n: Pair such as `(2, 4)`, in place of `prune`, as in `MagnitudePruning`; or None.
        prune_channels: Float in (0, 1), share of whole channels to take away; or None.
        qat: Boolean, whether the model trains with its quantization before the int8 file is
            written; else that is calibrated on training examples.
        epochs: Int > 0, of each stage that trains.
        learning_rate: Float > 0, peak rate of each of these trainings, the same in all layers. None
            is 0.003, and 0.0001 of texts. A tenth of it where zeros were made up for by the other
            weights, a thirtieth with quantization in the loop.
        distill: Float in [0, 1], share of the answers of the model as it was in what each stage
            learns; the rest are labels.
        batch_size: Int > 0.
        augment: `"none"`, `"light"`, `"medium"` or `"strong"`. None is `"light"` of pictures, and
            `"none"` of texts, which are read as they are.
        seed: Int, of shuffling and augmentation. It also divides the examples of a model whose run
            is unknown. None is the seed of the model's run.
        max_drop: Float in [0, 1], how much of its score a calibrated file may lose. Where int8
            loses more, files with layers in float are tried; see `export.to_litert_within`.
        label_smoothing: Float in [0, 1), where classes are learnt.
        weight_decay: Float, decoupled, not applied to biases and norms.
        input_range: Pair of numbers between which the model takes values, which must be (0, 255),
            or None where it says so itself.
    """

    usual_rate: ClassVar[float] = 3e-3

    prune: float | None = setting(None, "Share of the weights that become zero, in [0, 1).")
    block_size: tuple = setting((1, 1), "Zeros in blocks of so many inputs and outputs.", count=2)
    m_by_n: tuple | None = setting(
        None, "M zeros in each N inputs, such as 2 4, in place of --prune.", count=2
    )
    prune_channels: float | None = setting(None, "Share of whole channels to take away, in (0, 1).")
    qat: bool = setting(False, "Train with quantization in the loop; else int8 is calibrated.")
    epochs: int = setting(10, "Of each stage that trains.", low=1, high=100_000)
    learning_rate: float = setting(
        None,
        "Peak rate; if not said, 0.003, and 0.0001 of texts. A tenth of it with zeros, a thirtieth "
        "with quantization in the loop.",
        low=1e-12,
        high=1e3,
    )
    distill: float = setting(
        0.5,
        "Share of MODEL's own answers, in place of labels, in what each stage learns.",
        low=0.0,
        high=1.0,
        what="a share",
    )
    batch_size: int = setting(32, "Examples a step.", low=1, high=100_000)
    augment: str = setting(
        None,
        "Random changes of training pictures; if not said, light.",
        choices=AUGMENTATIONS,
    )
    seed: int | None = setting(
        None, "Of order and augmentation; if not said, that of the model's run.",
        low=0, high=LARGEST_SEED,
    )  # fmt: skip
    max_drop: float = setting(
        0.01,
        "How much of its score a calibrated file may lose; else layers stay in float.",
        low=0.0,
        high=1.0,
    )
    label_smoothing: float = setting(
        0.1, "Label smoothing, where classes are learnt.", low=0.0, high=0.99
    )
    weight_decay: float = setting(
        1e-4, "Decoupled weight decay, not of biases and norms.", low=0.0, high=10.0
    )
    input_range: tuple | None = setting(None, TAKES, count=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        from kerastl.compression.sparsity import check_patterns, check_sparsity

        if self.prune is not None:
            check_sparsity(self.prune, "prune")
        block_size, m_by_n = check_patterns(self.block_size, self.m_by_n)
        if self.prune is not None and m_by_n is not None:
            raise ValueError(
                "Pass `prune` or `m_by_n`, which is a sparsity of m / n. "
                f"Received: prune={self.prune}, m_by_n={self.m_by_n}"
            )
        if self.prune is None and block_size != (1, 1):
            raise ValueError(
                f"`block_size` needs `prune`, a sparsity. Received: block_size={self.block_size}"
            )
        channels = self.prune_channels
        if channels is not None and not check_sparsity(channels, "prune_channels"):
            raise ValueError(
                "`prune_channels` must be a share in (0, 1). Received: prune_channels=0"
            )

    @property
    def prunes(self) -> bool:
        """Whether weights become zero."""
        return self.prune is not None or self.m_by_n is not None


@dataclasses.dataclass(frozen=True)
class ExportSettings(Settings):
    """How to export.

    Attributes:
        quantize: `"none"`, `"float16"`, `"dynamic"`, `"int8"` or `"int16x8"`. None is `"none"` of
            pictures and `"dynamic"` of texts.
        max_drop: Float in [0, 1], how much lower the score of the file may be. Where a file
            loses more, others are tried by `export.to_litert_within`. None takes the file as it is.
        io_dtype: Dtype of the file's inputs and outputs, as in `export.to_litert`.
        length: Int >= 4, ids of a text that the file takes, no more and no fewer. None takes those
            of the run.
        format: `"litert"`, `"saved_model"`, `"onnx"`, or `"huggingface"` for a language model.
        seed: Int that divides the examples of a model of unknown seed.
        input_range: Pair of numbers between which the model takes values, or None where it says so
            itself.
    """

    quantize: str | None = setting(
        None,
        "Smaller numbers in the file: weights alone, or activations too (int8, int16x8); if not "
        "said, none of pictures and dynamic of texts.",
        choices=("none", *LADDERS),
    )
    max_drop: float | None = setting(
        None,
        "How much of its score may be lost (0.01: one point); else larger files are tried.",
        low=0.0,
        high=1.0,
    )
    io_dtype: str = setting("float32", "What the file takes and gives.", choices=IO_DTYPES)
    length: int | None = setting(
        None,
        "Ids of a text that the file takes, 4 or more; if not said, those of the run.",
        low=4,
        high=10**6,
    )
    format: str = setting("litert", "Kind of file.", choices=FORMATS)
    seed: int = setting(
        0, "Divides the examples of a model of unknown seed.", low=0, high=LARGEST_SEED
    )
    input_range: tuple | None = setting(None, TAKES, count=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        from kerastl.export.quantization import checked

        io_dtype: Any = self.io_dtype
        checked(self.quantization, io_dtype)
        if self.length is not None and self.format == "huggingface":
            raise ValueError(
                "`length` (--length) is for files of one length; those of Hugging Face take any. "
                f"Received: length={self.length} with format='huggingface'"
            )
        if self.max_drop is not None and self.quantize == "none":
            raise ValueError(
                "`max_drop` is for a quantized file. Received: quantize='none'. "
                "Pass quantize='int8' (--quantize int8), say."
            )
        if self.max_drop is not None and self.io_dtype != "float32":
            raise ValueError(
                "With `max_drop` the file takes and gives float32, since it need not become int8. "
                f"Received: io_dtype={self.io_dtype!r}. Leave one of the two out."
            )
        plain = {"quantize": "none", "io_dtype": "float32", "max_drop": None}
        for name, value in plain.items():
            if self.format != "litert" and getattr(self, name) not in (None, value):
                raise ValueError(
                    f"`{name}` (--{name.replace('_', '-')}) is for the format 'litert'. "
                    f"Received: format={self.format!r}, {name}={getattr(self, name)!r}"
                )

    def check_format(self, data: Any) -> None:
        """Refuse `data` for a format whose files are not measured."""
        if data is not None and self.format != "litert":
            raise ValueError(
                "`data` (--data) is for the format 'litert', whose files are calibrated and "
                f"measured; leave it out. Received: data={str(data)!r}, format={self.format!r}"
            )

    def check_data(self, data: Any, has_ranges: bool = False) -> None:
        """Refuse settings that need examples where `data` is None.

        Args:
            data: Path, or None.
            has_ranges: Boolean, whether the model brings the ranges that int8 needs.
        """
        if data is not None:
            return
        calibrated = self.quantize in ("int8", "int16x8")
        if calibrated and not (self.quantize == "int8" and has_ranges):
            raise ValueError(
                f"`quantize={self.quantize!r}` needs `data` (--data), examples as in training, to "
                "measure the ranges of activations on. Received: None. About 100 are enough."
            )
        if self.max_drop is not None:
            raise ValueError(
                "`max_drop` needs `data` (--data), examples to measure the score on. Received: None"
            )

    @property
    def quantization(self) -> Any:
        """`quantize` as `export.to_litert` names it."""
        return None if self.quantize in (None, "none") else self.quantize


@dataclasses.dataclass(frozen=True)
class GenerateSettings(Settings):
    """How a language model writes on.

    Attributes:
        sampler: One of `SAMPLERS`: what comes next is the likeliest (`"greedy"`), drawn from all
            (`"random"`), from the `k` likeliest (`"top_k"`) or from those that make up `p`
            (`"top_p"`), what is best along with what follows it (`"beam"`), or what is likely and
            unlike what stands there (`"contrastive"`).
        temperature: Float > 0; below 1 the likely becomes likelier still.
        k: Int, as `sampler` says.
        p: Float in [0, 1], as `sampler` says.
        beams: Int, how many continuations `"beam"` follows.
        alpha: Float in [0, 1], how much `"contrastive"` shuns what is alike.
        max_length: Int, tokens of a prompt and its continuation together. None is 128 more than the
            longest prompt has, as far as the model reaches.
        seed: Int that draws what is drawn.
    """

    sampler: str = setting("greedy", "How what comes next is chosen.", choices=tuple(SAMPLERS))
    temperature: float | None = setting(
        None, "Below 1 the likely is likelier still. [default: 1]", low=0.01, high=100.0
    )
    k: int | None = setting(
        None, "Choose among so many. [default: 5 of top_k, contrastive]", low=1, high=10**6
    )
    p: float | None = setting(
        None, "Choose among what makes up this share. [default: 0.9]", low=0.0, high=1.0
    )
    beams: int | None = setting(
        None, "Continuations that beam follows. [default: 5]", low=1, high=1000
    )
    alpha: float | None = setting(
        None, "How much contrastive shuns what is alike. [default: 0.6]", low=0.0, high=1.0
    )
    max_length: int | None = setting(
        None,
        "Tokens of prompt and continuation. [default: 128 more than the longest prompt]",
        low=2,
        high=10**6,
    )
    seed: int = setting(0, "Draws what is drawn.", low=0, high=LARGEST_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        own = SAMPLERS[self.sampler]
        for name in ("temperature", "k", "p", "beams", "alpha"):
            value = getattr(self, name)
            if value is not None and name not in own:
                takers = [sampler for sampler, names in SAMPLERS.items() if name in names]
                raise ValueError(
                    f"`{name}` is for the samplers {', '.join(takers)}. Received: {name}={value!r} "
                    f"with sampler={self.sampler!r}. Leave it out, or pass one of them (--sampler)."
                )

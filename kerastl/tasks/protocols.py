"""The seam between what data are and what is learnt of them: Source × Objective.

A recipe knows these and nothing of pictures or texts. A new modality is a new `Source` with its
`Prepare`; a new kind of answer is a new `Objective`; each goes with every one of the other.

It is one file of over 400 lines because the seam, nearly all of it docstrings, is read together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kerastl.tasks.settings import LADDERS

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from kerastl._base.types import OnProgress, PathLike
    from kerastl.data.passes import Passes
    from kerastl.tasks.settings import ReadSettings, TrainSettings

APART = ("test", "val")  # parts that are not to train on
S = TypeVar("S")  # a class of settings

# A docstring is all that a method of a Protocol has here.
# pyright: reportReturnType=false


class Source(Protocol):
    """Where examples come from, found once at a path.

    Attributes:
        path: `pathlib.Path` that it was found at.
        objective: `Objective` that its targets are for.
        noun: What its examples are called, in the plural, such as `"pictures"`.
    """

    path: Path
    noun: str

    @property
    def objective(self) -> Objective: ...

    @classmethod
    def scan(cls, path: PathLike, *, least: int = 2) -> Source | None:
        """The source at `path`; None if it is not of this kind. Raises what is wrong with it.

        `least` is how many classes there must be: one is enough to measure on, and then no part
        need have all of them.
        """

    def load_backbone(self, settings: TrainSettings) -> keras.Model:
        """The network that the settings name, with one feature vector an example as its output."""

    def prepare_for(self, model: keras.Model, settings: TrainSettings) -> Prepare:
        """How examples are brought into the form that `model` takes."""

    def read(
        self,
        prepare: Prepare,
        settings: ReadSettings,
        *,
        seed: int,
        progress: OnProgress | None = None,
    ) -> TaskData:
        """All examples, prepared and divided into training, validation and test."""

    def read_held_out(self, prepare: Prepare, *, progress: OnProgress | None = None) -> HeldOut:
        """The examples to measure a finished model on: those of `test/` or `val/`, else all."""

    def settled(self, settings: S) -> S:
        """`settings` as they are for these data; refuses what is for others."""

    def rival(self, data: TaskData, settings: TrainSettings) -> Rival | None:
        """What the cheapest way without any network gives, or None where there is none."""

    def write(self, folder: Path) -> None:
        """Write into the folder of a run what else it keeps of the network that was loaded."""

    def finer(self, prepare: Prepare, settings: TrainSettings) -> Finer | None:
        """The next finer form of the examples than `prepare` gives; None if there is none."""

    def unlabelled(self, model: keras.Model, data: TaskData, settings: Any) -> Unlabelled | None:
        """Examples without labels that the settings name, for `model` to learn of; None if none."""


class Prepare(Protocol):
    """From an example as it lies on disk to the numbers that a model takes: plain data.

    Saved with the run, and shared by training, prediction, evaluation, calibration and export.

    Attributes:
        kind: Word that says so in `task.json`.
        noun: What examples are called, in the plural.
        gives: What it gives, for a person, such as `"pixels 0 to 255"`.
    """

    kind: str
    noun: str

    @property
    def gives(self) -> str: ...

    def __call__(self, raw: Any) -> Any:
        """Inputs of the model for a batch of raw examples; raises for one that is unusable."""

    def find(self, paths: Any) -> list[Any]:
        """The raw examples that `paths` stand for, to predict."""

    def named(self, raw: Any) -> dict[str, str]:
        """What says in an answer which raw example it is about."""

    def check(self, model_path: Path, input_shape: Any) -> None:
        """Refuse a model that does not take what this gives."""

    def in_range(self, input_range: Sequence[float]) -> Prepare:
        """The same for a model that takes values between two others."""

    def check_range(
        self, model_path: Path, model: keras.Model, inputs: Any, asked: bool
    ) -> str | None:
        """Refuse inputs of another range than the model takes; a question where nothing says it."""

    def check_backbone(self, model: keras.Model, inputs: Any) -> None:
        """Refuse a backbone that says of itself that it takes other values than these inputs."""

    def question(self, model_path: Path) -> str:
        """What the user is asked of a model that does not say which values it takes."""

    def check_file_range(self, model_path: Path, taken: tuple | None) -> None:
        """Refuse a device file that takes values between two others."""

    def check_training(self, model_path: Path) -> None:
        """Refuse inputs that cannot be trained on."""

    def settled(self, settings: S, model_path: Path) -> S:
        """`settings` of `compress` or `export` as they are for these; refuses others' by name."""

    def for_device(self, model: keras.Model, length: int | None = None) -> DeviceForm:
        """`DeviceForm` of a network: of so many ids an example, where those are counted."""

    def device_notices(self, data: TaskData | None) -> tuple[str, ...]:
        """What whoever puts a device file into an app must know, with `data` to count in."""

    def of_file(self, model_path: Path, input_shape: Any) -> Prepare:
        """The same for a device file; refuses one that takes something else."""

    def for_network(self, inputs: Any) -> Any:
        """What the network itself takes of the inputs of its device file."""

    def goes_with(self, other: Any) -> bool:
        """Whether a model of another `Prepare` can be measured on what this gives."""

    @property
    def words(self) -> tuple[str, ...] | None:
        """The words for the inside of a device file, or None."""

    def check_beside(self, folder: Path) -> None:
        """Refuse a folder for a device file in which others' files lie."""

    def write_beside(self, folder: Path) -> None:
        """Write beside a device file what it does not carry inside."""

    def to_config(self) -> dict:
        """Dict ready for JSON."""

    def write(self, folder: Path) -> None:
        """Write into the folder of a run what does not fit into JSON."""

    def describe(self) -> list[tuple[str, str]]:
        """Rows for the table of a run."""


class Objective(Protocol):
    """What is learnt of examples, and how good an answer is.

    Attributes:
        name: Word that says so in `task.json`.
        scored_by: Which of its measures the score is, as the setting `metric` calls it.
        score_name: What its score is called; higher is better, and `max_drop` counts it.
        cost_name: What minus the score is called where a person knows that, and lower is better;
            None where the score is shown as it is.
        metric: Name under which `fit` reports progress beside the loss.
        is_share: Boolean, whether the score lies in [0, 1] and is shown in percent.
        solves: Boolean, whether it has a new head, which a regression on frozen features can solve.
            Without one a run begins with the network as it was loaded, in the place of the probe.
    """

    name: str
    scored_by: str
    score_name: str
    cost_name: str | None
    metric: str
    is_share: bool
    solves: bool

    def by(self, metric: str | None) -> Objective:
        """The same whose score is `metric`; None is its default. Refuses what is none of it."""

    def check_data(self, data: TaskData) -> None:
        """Refuse data that cannot be learnt from or measured on, before anything trains."""

    def head(self, features: keras.KerasTensor, data: TaskData) -> keras.KerasTensor:
        """Outputs from features, by new layers that start at zero."""

    def compile_args(self, data: TaskData, settings: Any) -> dict:
        """`loss` and `metrics` of `compile`."""

    def class_weight(self, data: TaskData) -> dict | None:
        """`class_weight` of `fit`, or None."""

    def outputs_of(
        self, model: keras.Model, examples: Examples, batch_size: int = 32
    ) -> np.ndarray:
        """What is judged of what `model` gives for `examples`: an array with a row for each."""

    def judge(self, outputs: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> Judgement:
        """How good `outputs` are for `targets`."""

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """The score alone."""

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """Whether each answer is right, booleans `(n,)`; None where the score is no mean of it."""

    def scores(self, outputs: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The score of resamples, `(draws,)`; NaN for one that has none.

        `counts`, ints `(draws, n)`, says how often each example is in each resample.
        """

    def agreement(self, ours: np.ndarray, theirs: np.ndarray) -> float | None:
        """How often two sets of outputs decide alike, in [0, 1]; None where nothing is decided."""

    def companions(self, names: Sequence[str]) -> dict[str, str]:
        """Texts of the files beside a model, by name."""

    def num_names(self, output_shape: tuple) -> int:
        """How many names the outputs of a model of this shape have."""

    def names_inside(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """Names of the scores for the inside of a device file, or None where they have none."""

    def check_model(self, path: Path, output_shape: tuple, names: Sequence[str] | None) -> None:
        """Refuse a model whose outputs are none of this objective, or not for these `names`."""

    def check_outputs(self, path: Path, outputs: np.ndarray) -> None:
        """Refuse outputs that the loss cannot be computed of."""

    def aligned(
        self, targets: np.ndarray, given: Sequence[str], known: Sequence[str]
    ) -> np.ndarray:
        """`targets` that mean the names `given`, as they would be for the names `known`."""

    def answer(self, output: np.ndarray, names: Sequence[str], top: int) -> dict:
        """What one row of outputs says, ready for JSON."""

    def tables(self, metrics: dict) -> list[tuple[str, tuple, list]]:
        """What a judgement shows beside its score: `(title, header, rows)` of each table."""

    def sentence(self, answer: dict) -> str:
        """`answer` as one line for a person."""


class Examples(Protocol):
    """Prepared examples for one purpose, with their targets.

    Attributes:
        targets: Array with one row or number an example.
    """

    targets: np.ndarray

    def __len__(self) -> int: ...

    def inputs(self, rows: Any = slice(None)) -> Any:
        """The inputs of some rows, as the model takes them, in memory."""

    def sample(self, count: int, *, seed: int = 0) -> tuple[Any, np.ndarray]:
        """`(inputs, targets)` of at most `count` examples, drawn at random, in their order."""

    def for_device(self, prepare: Any) -> Examples:
        """The same examples as the `prepare` of a device file gives them."""

    def at(self, rows: np.ndarray) -> Examples:
        """The examples of some rows, an int array, in its order."""

    def with_targets(self, targets: np.ndarray) -> Examples:
        """The same examples with other targets."""

    def prepared(self, prepare: Prepare, rows: np.ndarray) -> Examples:
        """The examples of some rows, read again as another `prepare` gives them."""

    def with_further(self, raw: Sequence[Any], prepare: Prepare) -> tuple[Examples, list[int]]:
        """These and raw ones behind them, without labels, and which of `raw` can be used."""

    def batches(
        self, batch_size: int, *, seed: int | None = None, augment: str = "none"
    ) -> tf.data.Dataset:
        """Dataset of `(inputs, targets)`, with its `Passes` as its attribute `repeatable`."""


@dataclass(frozen=True, eq=False)
class DeviceForm:
    """A network as its device file computes it, and how examples are prepared for that.

    Attributes:
        model: `keras.Model`, which shares its weights.
        prepare: `Prepare`, or None where nobody knows how examples are prepared.
        ladders: Dict from a way to quantize to what is tried, that first, where it loses too much.
        smallest: String, the way to quantize that `compress` begins with.
        slower: Boolean, whether such a file may be slower than the float32 one.
        carries: Boolean, whether the file says inside how examples are prepared for it.
    """

    model: keras.Model
    prepare: Any
    ladders: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: LADDERS)
    smallest: str = "int8"
    slower: bool = True
    carries: bool = False

    def examples(self, data: TaskData) -> TaskData:
        """`data` as the file takes them."""
        if self.prepare is None:
            return data
        train, val, test = (
            part.for_device(self.prepare) for part in (data.train, data.val, data.test)
        )
        return replace(data, train=train, val=val, test=test, prepare=self.prepare)


@dataclass(frozen=True)
class Finer:
    """Examples in more detail than a network is given by default, at more computation.

    Attributes:
        settings: Settings that load the network and read the examples so.
        cost: Float > 1, how many times as long an example takes.
        said: What they are, for a person, such as `"pictures of 384 pixels"`.
    """

    settings: Any
    cost: float
    said: str


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Examples without labels, of which a network learns before it learns of labels.

    Attributes:
        model: `keras.Model` over the layers of the network, with a head of its own. Its outputs are
            logits.
        train: `Passes` to learn from, with targets and sample weights.
        held_out: `Passes` to measure on.
        what: What the model says of them, for a person.
        has_new_head: Bool, whether the head knows nothing yet and has to learn first, alone.
        num_examples: Int, how many are learnt from, of which each may be several rows of `train`.
        num_held_out: Int, how many are measured on.
        num_left_out: Int, how many there are of which nothing can be learnt.
        num_shown: Int, how many of the examples held out in the end stand among them.
    """

    model: keras.Model
    train: Passes
    held_out: Passes
    what: str
    has_new_head: bool
    num_examples: int
    num_held_out: int
    num_left_out: int
    num_shown: int


@dataclass(frozen=True, eq=False)
class Rival:
    """What the cheapest way without any network gives for the examples held out.

    Attributes:
        name: What it is, for a person.
        outputs: Array, as `Objective.outputs_of` gives it.
        seconds: Float, what it took.
        by_row: Boolean, whether each row of `outputs` says what it gives for that example, and not
            all of them together.
    """

    name: str
    outputs: np.ndarray
    seconds: float
    by_row: bool = True


@dataclass(frozen=True, eq=False)
class TaskData:
    """Everything that a run trains and is measured on.

    Attributes:
        train: `Examples` to fit on.
        val: `Examples` for curves and choices; may be empty.
        test: `Examples` held out, seen by nothing before.
        outputs: Names of the outputs; `()` where they have none.
        prepare: `Prepare` that made them.
        objective: `Objective` of their targets.
        notices: Lines for the user.
        skipped: Tuple of `(path, reason)` of what could not be read.
    """

    train: Examples
    val: Examples
    test: Examples
    outputs: tuple[str, ...]
    prepare: Prepare
    objective: Objective
    notices: tuple[str, ...] = ()
    skipped: tuple = ()


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Examples to measure a finished model on.

    Attributes:
        examples: `Examples`.
        outputs: Names of what their targets mean.
        path: String, where they lie.
        skipped: List of `{"file", "reason"}` of what could not be read.
        objective: `Objective` to judge a model's answers by.
        is_apart: Boolean, whether the data say that they are not to train on.
    """

    examples: Examples
    outputs: tuple[str, ...]
    path: str
    skipped: list = field(default_factory=list)
    objective: Any = None
    is_apart: bool = False


@dataclass(frozen=True)
class Judgement:
    """How good a model's outputs are.

    Attributes:
        score: Float, higher is better; None where it is not defined on what was held out.
        loss: Float, the loss on what was held out.
        details: Dict ready for JSON: what else is to be told, by objective.
    """

    score: float | None
    loss: float
    details: dict

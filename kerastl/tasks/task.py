"""Which source and which objective belong to data, and what a finished run keeps of both."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from kerastl._base import checks
from kerastl._base.checks import one_spelling
from kerastl._base.types import PathLike
from kerastl.export import Carried, labels
from kerastl.export.answers import Answers
from kerastl.tasks.classification import Classification
from kerastl.tasks.image_folder import ImageFolder
from kerastl.tasks.image_table import ImageTable
from kerastl.tasks.multi_label import MultiLabel
from kerastl.tasks.next_token import NextToken
from kerastl.tasks.pictures import PreparePictures, without_length
from kerastl.tasks.prepare_lines import PrepareLines
from kerastl.tasks.prepare_texts import PrepareTexts
from kerastl.tasks.protocols import DeviceForm, Objective, S, Source
from kerastl.tasks.regression import Regression
from kerastl.tasks.text_lines import TextLines
from kerastl.tasks.text_table import TextTable

SOURCES = (TextLines, TextTable, ImageTable, ImageFolder)  # asked in this order
OBJECTIVES = {one.name: one for one in (Classification, MultiLabel, Regression, NextToken)}
PREPARES = {one.kind: one for one in (PreparePictures, PrepareTexts, PrepareLines)}
FILE = "task.json"


def find_source(path: PathLike, *, least: int = 2) -> Source:
    """The `Source` of the data at `path`, found without opening an example.

    Args:
        path: A folder of class folders; a table, or a folder with tables in it; or texts to learn
            to write.
        least: Int > 0, classes that must be there: one is enough to measure a model on, and then
            no part need have all of them.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is data of no known kind, or what is wrong with them.

    Example:
        >>> find_source("no/such/folder")
        Traceback (most recent call last):
        FileNotFoundError: There is no file or folder no/such/folder.
    """
    if not os.path.exists(path):
        near = checks.near_path(pathlib.Path(path))
        raise FileNotFoundError(f"There is no file or folder {path}.{near}")
    for kind in SOURCES:
        if (source := kind.scan(path, least=least)) is not None:
            return source
    raise ValueError(
        f"{path} must be a folder of class folders; or a .csv or .tsv table with the columns file "
        "and label, labels or value; or a .csv, .tsv or .jsonl table with text in place of file; "
        "or, to learn to write, .txt files or a .jsonl of prompt and response. "
        "Received: a file of another kind"
    )


def objective_named(name: str, metric: str | None = None) -> Objective:
    """The `Objective` called `name`, scored by `metric`; None is its default."""
    return OBJECTIVES[checks.one_of(name, list(OBJECTIVES), "objective")]().by(metric)


def said_of(objective: Objective) -> dict[str, str]:
    """What a file of a run says of its objective; `objective_of` reads it.

    Example:
        >>> said_of(Classification(scored_by="auc"))
        {'objective': 'classification', 'metric': 'auc', 'score_name': 'AUC'}
    """
    score = {"metric": objective.scored_by, "score_name": objective.score_name}
    return {"objective": objective.name, **score}


def objective_of(said: Mapping[str, Any]) -> Objective:
    """The `Objective` that a run has written down; earlier ones did not say by which metric."""
    return objective_named(said["objective"], said.get("metric"))


@dataclasses.dataclass(frozen=True)
class TrainedFor:
    """What a run that is done needs to read new examples and to say what answers mean.

    Attributes:
        objective: `Objective`.
        prepare: `Prepare`, the very one of training; None where nobody wrote it down.
        outputs: Tuple of the names of the outputs, or None where nobody wrote them down.
        seed: Int that divided the examples, or None if that is unknown.
        notices: Lines for the user about what was found beside the model.
        inferred: Bool, whether nobody wrote the objective down, and it was read off the model.
    """

    objective: Objective
    prepare: Any
    outputs: tuple[str, ...] | None
    seed: int | None = None
    notices: tuple[str, ...] = ()
    inferred: bool = False

    def to_json(self) -> str:
        """What stands in `task.json`."""
        said = {
            "objective": self.objective.name,
            "metric": self.objective.scored_by,
            "outputs": None if self.outputs is None else list(self.outputs),
            "prepare": {"kind": self.prepare.kind, **self.prepare.to_config()},
            "seed": self.seed,
        }
        return json.dumps(said, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: pathlib.Path) -> "TrainedFor":
        """What `to_json` told, with what its `prepare` wrote into `folder`."""
        said = json.loads(text)
        prepare = PREPARES[said["prepare"].pop("kind")].from_config(said["prepare"], folder)
        outputs = None if said["outputs"] is None else tuple(said["outputs"])
        return cls(objective_of(said), prepare, outputs, said["seed"])

    @classmethod
    def inside(cls, text: str, words: Sequence[str] | None, path: pathlib.Path) -> "TrainedFor":
        """What `carried` put into the device file at `path`.

        Raises:
            ValueError: If kerastl has not written it.
            FileNotFoundError: If the vocabulary of texts is neither inside nor beside it.
        """
        try:
            said = json.loads(text)
            prepare = PrepareTexts.inside(said["prepare"], words, path)
            outputs = None if said["outputs"] is None else tuple(said["outputs"])
            return cls(objective_of(said), prepare, outputs, said["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"The {FILE} inside {path} must be one that kerastl wrote. Received: {error}. "
                "Export the model again."
            ) from error

    def settled(self, settings: S, path: pathlib.Path) -> S:
        """`settings` of `compress` or `export` as they are for the model at `path`.

        Raises:
            ValueError: If one of them is for other examples than the model takes.
        """
        if self.prepare is None:
            return without_length(settings, path)
        return self.prepare.settled(settings, path)

    def on_device(self, model: Any, length: int | None = None) -> DeviceForm:
        """`DeviceForm` of a model; `length` as in `Prepare.for_device`."""
        if self.prepare is None:
            return DeviceForm(model, None)
        return self.prepare.for_device(model, length)

    def carried(self, form: DeviceForm) -> Carried | None:
        """What the device file of `form` carries inside, or None."""
        if not form.carries:
            return None
        told = dataclasses.replace(self, prepare=form.prepare)
        return Carried(told.to_json(), form.prepare.words)

    @classmethod
    def beside(
        cls,
        path: pathlib.Path,
        inside: tuple[str, ...] | None = None,
        answers: Answers | None = None,
        carried: Carried | None = None,
    ) -> "TrainedFor":
        """What the device file at `path` carries, else what the `task.json` beside it says.

        Without one, what a model answers is read off its last layer and its loss, and `check`
        finds how examples are prepared for it. Names of outputs are those inside a `.tflite`, else
        of `task.json`, else of a `labels.txt` beside it; where the latter says otherwise, `notices`
        tell so.

        Args:
            path: `pathlib.Path` of the model's file.
            inside: Names of the outputs inside the file, or None.
            answers: `export.answers.Answers` of the model, or None if they are not known.
            carried: `Carried` of a device file, or None.
        """
        file, beside = path.with_name(FILE), labels.beside(path)
        if carried is not None:
            known = cls.inside(carried.task, carried.words, path)
        elif file.is_file():
            known = cls.from_json(file.read_text(encoding="utf-8"), file.parent)
        else:
            known = cls(_objective_of(answers or Answers(), beside), None, None, inferred=True)
        own, names = inside or known.outputs, inside or known.outputs or beside
        notices = ()
        if own and beside and known.objective.companions(own) and _spelt(own) != _spelt(beside):
            notices = (
                f"The labels.txt beside {path} says other names than the "
                f"{'file itself' if inside else FILE}, which is believed: {checks.listed(own, 5)}. "
                f"labels.txt: {checks.listed(beside, 5)}.",
            )
        outputs = None if names is None else _spelt(names)
        return dataclasses.replace(known, outputs=outputs, notices=notices)

    def for_data(self, path: PathLike, source: Source) -> "TrainedFor":
        """The same for the kind of answer that data are for.

        Several labels and one class are told apart by the data where nobody wrote down which it
        is: a sigmoid a class was often trained on one class an example.

        Raises:
            ValueError: If the model at `path` has learnt another kind.
        """
        ours, theirs = self.objective, source.objective
        if self.prepare is not None and self.prepare.noun != source.noun:
            raise ValueError(
                f"The model {path} takes {self.prepare.noun}; the data must be such. "
                f"Received: {source.path}, which holds {source.noun}"
            )
        if ours.name == theirs.name:
            return self
        if self.inferred and isinstance(ours, MultiLabel) and isinstance(theirs, Classification):
            reads = dataclasses.replace(ours.reads, kind="classes")
            return dataclasses.replace(self, objective=Classification(reads))
        raise ValueError(
            f"The model {path} learnt {ours.name}; the data must be for that. "
            f"Received: {source.path}, which is for {theirs.name}"
        )

    def check(
        self,
        path: pathlib.Path,
        input_shape: Any,
        output_shape: Any,
        input_range: Sequence[float] | None = None,
    ) -> "TrainedFor":
        """The same for a model of these shapes, with a `prepare` that fits it.

        Args:
            path: Of the model.
            input_shape: Its input shape.
            output_shape: Its output shape.
            input_range: Pair of numbers between which it takes values, if the user says so.

        Raises:
            ValueError: If the model does not take what is prepared, or does not answer so.
        """
        prepare = self.prepare or PreparePictures.of_model(path, input_shape)
        prepare.check(path, input_shape)
        if input_range is not None:
            prepare = prepare.in_range(input_range)
        self.objective.check_model(path, output_shape, self.outputs)
        return dataclasses.replace(self, prepare=prepare)


def _objective_of(answers, names):
    """The `Objective` of a model that nobody wrote anything down of but these `answers`."""
    if answers.kind == "labels":
        return MultiLabel(answers)
    if answers.kind == "numbers":
        return Regression()
    if answers.kind is None:
        # One number beside two names is a score of two classes.
        either = names is not None and len(names) == 2 and answers.width == 1
        answers = dataclasses.replace(answers, kind="either" if either else "classes")
    return Classification(answers)


def _spelt(names):
    return tuple(map(one_spelling, names))

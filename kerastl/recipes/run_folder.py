"""The folder of a run: written whole or not at all, and gone on with after a kill."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import keras

from kerastl._base import files
from kerastl._base.types import PathLike
from kerastl.tasks.task import TrainedFor

MARK = "metrics.json"
WORK = ".work"  # what a run needs to go on and its folder does not show
JOB = "job.json"


class RunFolder:
    """Collects the files of a run in a hidden folder beside `path` and moves it there at the end.

    Made before training, so that a place where nothing can be written is found at once. Leaving
    the `with` block by an exception removes what was collected, unless an earlier process left it.

    With a `job` the hidden folder outlives a kill and Ctrl-C, and the same job finds it again: what
    it put under `work` is there. Another job at the same path is refused while it lies there.

    Args:
        path: Folder to create.
        overwrite: Boolean, whether an earlier run at `path` is replaced, and an unfinished one
            of another job removed. A folder that is not a run of kerastl is never replaced.
        job: Dict ready for JSON that says all that the run depends on, or None for a run that
            begins anew each time.

    Raises:
        FileExistsError: If something is at `path` already, or an unfinished run of another job.
        OSError: If nothing can be written there, or another process is at this run.

    Example:
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with RunFolder(f"{home}/run") as run:
        ...         run.write_json("metrics.json", {"accuracy": 1.0})
        ...     sorted(os.listdir(home))
        ['run']
    """

    def __init__(
        self, path: PathLike, *, overwrite: bool = False, job: Mapping[str, Any] | None = None
    ) -> None:
        self.path = pathlib.Path(path)
        self._job = _plain(job)
        self._goes_on = False  # whether an earlier process has left work here
        self._lock = contextlib.ExitStack()
        self._check_free(overwrite)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.partial = self._new_folder() if job is None else self._lasting_folder(overwrite)
        except OSError as error:
            if isinstance(error, FileExistsError) and error.errno is None:
                raise  # ours, and whole
            raise OSError(
                f"The run folder {self.path} cannot be written: {error.strerror or error}. "
                "Choose another with --out."
            ) from error
        self.partial.chmod(0o755)

    @property
    def work(self) -> pathlib.Path:
        """Folder for what a later process needs to go on; it is not part of the run."""
        folder = self.partial / WORK
        folder.mkdir(exist_ok=True)
        return folder

    def _new_folder(self):
        name = f".{self.path.name}.partial-"
        return pathlib.Path(tempfile.mkdtemp(prefix=name, dir=self.path.parent))

    def _lasting_folder(self, overwrite):
        folder = self.path.with_name(f".{self.path.name}.unfinished")
        folder.mkdir(exist_ok=True)
        self._lock.enter_context(files.held(folder))
        job = folder / JOB
        self._goes_on = job.is_file()
        known = json.loads(job.read_text(encoding="utf-8")) if job.is_file() else self._job
        if known != self._job:
            if not overwrite:
                self._lock.close()
                raise FileExistsError(
                    f"An unfinished run with other settings lies in {folder}. Run its command "
                    "again to finish it, pass --overwrite to drop it, or choose another folder "
                    "with --out."
                )
            _empty(folder)
            self._goes_on = False
        if not job.is_file():
            files.write(job, json.dumps(self._job, indent=2) + "\n")
        return folder

    def _check_free(self, overwrite):
        if not os.path.lexists(self.path) or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if overwrite and (self.path / MARK).is_file():
            return
        raise FileExistsError(
            f"{self.path} exists already"
            + (
                f" and holds no {MARK}, so it is not a run that may be replaced. "
                "Choose another folder with --out."
                if overwrite
                else ". Pass --overwrite to replace an earlier run, or choose another folder with "
                "--out."
            )
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        with self._lock:
            if kind is None:
                self._publish()
            elif not issubclass(kind, KeyboardInterrupt):
                if self._goes_on:  # else what is done would be lost to an error that may pass
                    warnings.warn(_LEFT.format(self.partial), stacklevel=2)
                else:
                    shutil.rmtree(self.partial, ignore_errors=True)
            elif self._job is None:
                shutil.rmtree(self.partial, ignore_errors=True)
            else:
                raise KeyboardInterrupt(
                    f"What is done lies in {self.partial}: the same command goes on from there."
                ) from error

    def _publish(self):
        shutil.rmtree(self.partial / WORK, ignore_errors=True)
        (self.partial / JOB).unlink(missing_ok=True)
        files.replaced(self.partial, self.path)

    def file(self, name: str) -> pathlib.Path:
        """Path at which to write the file `name` of the run."""
        return self.partial / name

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` as indented JSON."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
        # A file's name that is no UTF-8 is written as JSON's own escapes.
        self.file(name).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    def write_task(self, trained_for: TrainedFor) -> None:
        """Write what the model was trained for: `task.json`, and the names of its outputs."""
        self.file("task.json").write_text(trained_for.to_json(), encoding="utf-8")
        if trained_for.prepare is not None:
            trained_for.prepare.write(self.file("task.json").parent)
        names = trained_for.objective.companions(trained_for.outputs or ())
        for name, text in names.items():
            self.file(name).write_text(text, encoding="utf-8")

    def write_lines(self, name: str, lines: Iterable[str]) -> None:
        """Write `lines`, one a line, in UTF-8."""
        self.file(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


_LEFT = (
    "What an earlier process has done is kept in {}: the same command goes on from there, and "
    "--overwrite drops it."
)


def _empty(folder):
    for item in folder.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()


def free_name(folder: PathLike, name: str, job: Mapping[str, Any] | None = None) -> pathlib.Path:
    """`folder/name`, or with the first number that makes it new.

    A name under which another job than `job` lies unfinished is not free.

    Example:
        >>> with tempfile.TemporaryDirectory() as home:
        ...     os.mkdir(f"{home}/run")
        ...     free_name(home, "run").name
        'run-2'
    """
    path, number = pathlib.Path(folder, name), 2
    while os.path.lexists(path) or _unfinished_job(path) not in (None, _plain(job)):
        path, number = pathlib.Path(folder, f"{name}-{number}"), number + 1
    return path


def _unfinished_job(path):
    job = path.with_name(f".{path.name}.unfinished") / JOB
    return json.loads(job.read_text(encoding="utf-8")) if job.is_file() else None


def _plain(job):
    """`job` as it comes back from its file."""
    return None if job is None else json.loads(json.dumps(job, default=str))


class Progress(Protocol):
    """What a recipe tells its progress to: `Silent`, the command line's, or anybody's."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of the run begins, of `total` pieces if that is known."""

    def count(self, done: int, total: int) -> None:
        """`done` of `total` pieces of the stage are done."""

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Keras callbacks that show steps and epochs."""
        ...


class Silent:
    """Progress that shows nothing; a class with these methods can show anything."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of the run begins, of `total` pieces if that is known."""

    def count(self, done: int, total: int) -> None:
        """`done` of `total` pieces of the stage are done."""

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Keras callbacks that show steps and epochs."""
        return []

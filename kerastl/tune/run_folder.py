"""The folder of a run: written whole or not at all."""

import json
import os
import pathlib
import shutil
import tempfile

MARK = "metrics.json"


class RunFolder:
    """Collects the files of a run in a hidden folder beside `path` and moves it there at the end.

    Made before training, so that a place where nothing can be written is found at once. Leaving
    the `with` block by an exception, Ctrl-C included, removes what was collected.

    Args:
        path: Folder to create.
        overwrite: Boolean, whether an earlier run at `path` is replaced. A folder that is not a
            run of kerastl is never replaced.

    Raises:
        FileExistsError: If something is at `path` already.
        OSError: If nothing can be written there.

    Example:
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with RunFolder(f"{home}/run") as run:
        ...         run.write_json("metrics.json", {"accuracy": 1.0})
        ...     sorted(os.listdir(home))
        ['run']
    """

    def __init__(self, path, *, overwrite=False):
        self.path = pathlib.Path(path)
        self._check_free(overwrite)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.partial = pathlib.Path(
                tempfile.mkdtemp(prefix=f".{self.path.name}.partial-", dir=self.path.parent)
            )
        except OSError as error:
            raise OSError(
                f"The run folder {self.path} cannot be written: {error.strerror}. "
                "Choose another with --out."
            ) from error
        self.partial.chmod(0o755)

    def _check_free(self, overwrite):
        if not os.path.lexists(self.path) or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if overwrite and (self.path / MARK).is_file():
            return
        raise FileExistsError(
            f"{self.path} exists already"
            + (
                f" and holds no {MARK}, so it is not a run that may be replaced. "
                if overwrite
                else ". Pass --overwrite to replace an earlier run, or "
            )
            + "choose another folder with --out."
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            shutil.rmtree(self.partial, ignore_errors=True)
            return
        if self.path.is_dir():
            earlier = self.partial.with_name(self.partial.name.replace("partial", "earlier"))
            os.replace(self.path, earlier)
            os.replace(self.partial, self.path)
            shutil.rmtree(earlier)
        else:
            os.replace(self.partial, self.path)

    def file(self, name):
        """Path at which to write the file `name` of the run."""
        return self.partial / name

    def write_json(self, name, value):
        """Write `value` as indented JSON."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False)
        self.file(name).write_text(text + "\n", encoding="utf-8")

    def write_lines(self, name, lines):
        """Write `lines`, one a line, in UTF-8."""
        self.file(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def free_name(folder, name):
    """`folder/name`, or with the first number that makes it new.

    Example:
        >>> with tempfile.TemporaryDirectory() as home:
        ...     os.mkdir(f"{home}/run")
        ...     free_name(home, "run").name
        'run-2'
    """
    path, number = pathlib.Path(folder, name), 2
    while os.path.lexists(path):
        path, number = pathlib.Path(folder, f"{name}-{number}"), number + 1
    return path

"""Progress on the terminal: a line a stage, a bar for what takes long."""

from typing import Any

import rich.console
import rich.progress


class Progress:
    """Shows the stages of a run on standard error; `fine_tune(progress=...)` drives it.

    Where standard error is no terminal, each stage is one plain line and there are no bars.
    """

    def __init__(self) -> None:
        self._console = rich.console.Console(stderr=True, highlight=False)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=30),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """A stage of the run begins."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._console.print(f"[dim]{name}[/dim]")
        self._task = self._bar.add_task(name, total=total, note="")

    def count(self, done: int, total: int) -> None:
        """`done` of `total` pieces of the stage are done."""
        self._bar.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        """A few words behind the bar."""
        self._bar.update(self._task, note=text)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text)

    def callbacks(self) -> list[Any]:
        """Keras callbacks that show steps and epochs."""
        import keras

        progress = self

        class Epochs(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self._epoch = epoch

            def on_train_batch_end(self, batch, logs=None):
                steps = self.params.get("steps") or batch + 1
                done = self._epoch * steps + batch + 1
                progress.count(done, self.params["epochs"] * steps)

            def on_epoch_end(self, epoch, logs=None):
                shown = {k: v for k, v in (logs or {}).items() if not k.startswith(HIDDEN)}
                text = "  ".join(f"{k} {v:.3f}" for k, v in shown.items())
                progress.say(f"  epoch {epoch + 1:>3}/{self.params['epochs']}  {text}")

        return [Epochs()]


HIDDEN = ("learning_rate", "gradient_norm", "update_norm")  # a column a group

"""What preparations of texts share: they give ids of a vocabulary, which have no range."""

import abc
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import keras

from kerastl import backbones
from kerastl.tasks.device_texts import FOLDER


class PrepareIds(abc.ABC):
    """Texts to ids; each kind says how, and what it is asked of device files.

    Attributes:
        tokens: `backbones.Tokens`.
    """

    tokens: backbones.Tokens

    @property
    def gives(self) -> str:
        return f"ids below {self.tokens.vocabulary_size:,}"

    @abc.abstractmethod
    def check(self, model_path: pathlib.Path, input_shape: Any) -> None:
        """Refuse a model that does not take the inputs that texts become."""

    def check_backbone(self, model: keras.Model, inputs: Any) -> None:
        """Refuse a network that has no embedding for some of the ids, or takes other inputs."""
        self.tokens.check_fits(model)
        self.check(pathlib.Path(model.name), shapes_of(model))

    def in_range(self, input_range: Sequence[float]) -> NoReturn:
        """Refused: ids have no range to choose.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`input_range` is for models of pictures, and this one takes texts. "
            f"Received: input_range={tuple(input_range)}"
        )

    def check_range(
        self, model_path: pathlib.Path, model: keras.Model, inputs: Any, asked: bool
    ) -> str | None:
        """None: a vocabulary is written down with the run."""
        return None

    def question(self, model_path: pathlib.Path) -> str:
        """What is missing of a model that nobody wrote down the vocabulary of."""
        return f"{model_path} takes ids, and nothing says of which words."

    def check_file_range(self, model_path: pathlib.Path, taken: Any) -> None:  # noqa: B027 (an answer)
        """Nothing to refuse."""

    def check_training(self, model_path: pathlib.Path) -> None:  # noqa: B027 (an answer)
        """Nothing to refuse."""

    def write(self, folder: pathlib.Path) -> None:
        """Write into the folder of a run what `from_config` reads there."""
        self.tokens.save(folder / FOLDER)


def shapes_of(model: keras.Model) -> Any:
    """The shape of the input of `model`; of several with names, a dict of them.

    `input_shape` alone has lost the names.
    """
    # A Sequential has one input, and no `input` before its first call.
    inputs: Any = None if isinstance(model, keras.Sequential) else model.input
    if isinstance(inputs, Mapping):
        return {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    return model.input_shape


def tokens_of(name: str, model: keras.Model) -> backbones.Tokens:
    """The tokenizer of the preset `name`, or that which a run has written down, for `model`."""
    run = pathlib.Path(name)
    run = (run.parent if run.suffix == ".keras" else run) / FOLDER
    return backbones.load_tokens(run if run.is_dir() else name, backbone=model)

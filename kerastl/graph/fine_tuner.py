"""Whether a model is a `FineTuner`: the one answer, for rooms on floors below and above it."""

from typing import Any


def is_fine_tuner(model: Any) -> bool:
    """Whether `model` is a `kerastl.FineTuner` or of a class derived from it.

    Its frozen layers and held statistics stand still whatever its containers say, its optimizer
    takes up weights that thaw and multiplies rates, and it reads data pass by pass. The class
    answers by an attribute, because it stands on a floor above those who ask.

    Example:
        >>> import keras
        >>> is_fine_tuner(keras.Sequential())
        False
    """
    return getattr(type(model), "is_fine_tuner", False) is True


def check_fine_tuner(model: Any, who: str, reason: str) -> None:
    """Raise unless `model` is a `FineTuner`.

    Args:
        model: `keras.Model`.
        who: String, what needs one.
        reason: String, why: a clause whose subject is the FineTuner, such as "which ...".

    Raises:
        TypeError: With what to do.
    """
    if not is_fine_tuner(model):
        raise TypeError(
            f"{who} needs a FineTuner, {reason}. Use `FineTuner.from_model(model)`. "
            f"Received: a {type(model).__module__}.{type(model).__qualname__}"
        )

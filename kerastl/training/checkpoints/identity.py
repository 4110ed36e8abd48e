"""What makes a training that training: the model, the optimizer, the data and the plan."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kerastl._base.checks import listed
from kerastl._base.types import PathLike
from kerastl.freezing import freezing_state
from kerastl.training.checkpoints.file import CheckpointError

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


def identity_of(model: "FineTuner") -> dict[str, Any]:
    """A description of `model`, its optimizer and its data, as JSON values.

    Names are left out where Keras makes them up, since they differ from one process to the next:
    weights and layers are told by position. Take it when a `fit` begins, before anything changes.

    Args:
        model: `FineTuner`, compiled, in a `fit`.

    Returns:
        Nested dict. Equal for two processes that run the same script.
    """
    said = {
        "model": {
            "layers": [_layer(layer) for layer in model.layers],
            "variables": [_variable(v) for v in model.variables],
        },
        "optimizer": _optimizer(model.optimizer),
        "start": {
            "frozen": freezing_state(model),
            "rates": _rates(model),
            "schedule": _schedule(model.lr_multiplier),
        },
        "adapters": None if model.adapter_bank is None else model.adapter_bank.identity(),
        "terms": model.terms.identity(),
        "data": _data(model.fit_state.passes),
    }
    return json.loads(json.dumps(said, default=_text))


def check_same(path: PathLike, saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Raise if the identity `saved` in the checkpoint at `path` is not the `present` one.

    Raises:
        CheckpointError: With the first differences and what to do.
    """
    found = list(_differences(saved, present, ""))
    if found:
        raise CheckpointError(
            f"{path} is a checkpoint of another training. Different: {listed(found, 5)}. Run what "
            "was run before to go on with it, or begin anew in another folder."
        )


def _differences(saved, present, where):
    if isinstance(saved, list) and isinstance(present, list):
        saved, present = dict(enumerate(saved)), dict(enumerate(present))
    if isinstance(saved, dict) and isinstance(present, dict):
        for key in dict.fromkeys([*saved, *present]):
            yield from _differences(saved.get(key), present.get(key), f"{where}/{key}".lstrip("/"))
    elif saved != present:
        yield f"`{where}` (in the checkpoint {_short(saved)}, now {_short(present)})"


def _short(value):
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _variable(variable):
    return f"{variable.name} {tuple(variable.shape)} {variable.dtype}"


def _layer(layer):
    """The class of a layer, and what its config says in plain values if it is one of Keras's."""
    said = {"class": type(layer).__name__}
    if not type(layer).__module__.startswith("keras."):
        return said  # whoever wrote it may have no config, or objects in it
    config = {k: v for k, v in layer.get_config().items() if k not in ("name", "trainable")}
    return said | {key: value for key, value in config.items() if _is_plain(value)}


def _is_plain(value):
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _optimizer(optimizer):
    """Class and settings of `optimizer` and of those it wraps, without names and rows of rates."""
    inner = getattr(optimizer, "inner_optimizer", None)
    said = {"class": type(optimizer).__name__}
    if inner is None:
        return said | {k: v for k, v in optimizer.get_config().items() if k != "name"}
    own = ("initial_scale", "dynamic_growth_steps")
    said |= {name: getattr(optimizer, name) for name in own if hasattr(optimizer, name)}
    return said | {"inner": _optimizer(inner)}


def _rates(model):
    """Multipliers and sparing from decay by position of the weight, where they are not 1 and no."""
    rates = model.lr_multiplier.rates_of(model.weights)
    return {str(i): rate for i, rate in enumerate(rates) if rate != [1.0, False]}


def _schedule(lr_multiplier):
    placed = lr_multiplier.schedule
    return None if placed is None else placed.to_config()


def _data(passes):
    if passes is None:
        return None
    return {
        "contents": passes.fingerprint(),
        "num_examples": passes.num_examples,
        "batch_size": passes.batch_size,
        "seed": passes.seed,
    }


def _text(value):
    """What JSON does not know: NumPy numbers as numbers, anything else as its type."""
    return value.item() if hasattr(value, "item") else type(value).__qualname__

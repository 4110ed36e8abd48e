"""A plan as JSON: versioned, refused when not understood, written whole or not at all."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kerastl import schedules
from kerastl._base import checks, files
from kerastl._base.types import PathLike
from kerastl.plans.adapter_plan import AdapterPlan
from kerastl.plans.phase import EarlyStop, Phase

if TYPE_CHECKING:
    from kerastl.plans.transfer_plan import TransferPlan

VERSION = 1


def to_json(plan: "TransferPlan") -> str:
    """`plan` as indented JSON text."""
    return json.dumps(encode(plan), indent=2, ensure_ascii=False, allow_nan=False)


def encode(plan: "TransferPlan") -> dict[str, Any]:
    """`plan` as a dict ready for JSON."""
    # Left out where there are none, so that such a plan is that of an earlier kerastl.
    adapters = {} if plan.adapters is None else {"adapters": dataclasses.asdict(plan.adapters)}
    return {
        "version": VERSION,
        "name": plan.name,
        "reason": plan.reason,
        "schedule": _config(plan.schedule),
        "start": plan.start,
        "wise_ft": plan.wise_ft,
        "temperature": plan.temperature,
        "end": plan.end,
        "tried": list(plan.tried),
        **adapters,
        "phases": [_encode_phase(phase) for phase in plan.phases],
    }


def _encode_phase(phase):
    early_stop = phase.early_stop
    return {
        "name": phase.name,
        "epochs": phase.epochs,
        "train": list(phase.train) if isinstance(phase.train, tuple) else phase.train,
        "learning_rate": phase.learning_rate,
        "multipliers": dict(phase.multipliers),
        "schedule": _config(phase.schedule),
        "weight_decay": phase.weight_decay,
        "batch_norm": phase.batch_norm,
        "early_stop": None if early_stop is None else dataclasses.asdict(early_stop),
    }


def _config(schedule):
    return None if schedule is None else schedule.to_config()


def from_json(text: str, cls: type["TransferPlan"]) -> "TransferPlan":
    """The plan of class `cls` that `to_json` wrote."""
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"A plan must be JSON text. Received: {text[:60]!r} ({error})") from error
    return decode(config, cls)


def decode(config: Mapping[str, Any], cls: type["TransferPlan"]) -> "TransferPlan":
    """The plan of class `cls` that `encode` made `config` of."""
    if not isinstance(config, dict) or "version" not in config or "phases" not in config:
        raise ValueError(
            "A saved plan must be an object with `version` and `phases`, as `plan.save(path)` "
            f"writes it. Received: {str(config)[:60]}"
        )
    if config["version"] != VERSION:
        raise ValueError(
            f"The version of a saved plan must be {VERSION}. Received: version="
            f"{config['version']!r}. It was written by another kerastl: update this one, or write "
            "the plan again."
        )
    fields = _known(config, {"version", *_fields(cls)}, "the plan")
    del fields["version"]
    fields["schedule"] = _schedule(fields.get("schedule"), "the plan")
    fields["adapters"] = _adapters(fields.get("adapters"))
    phases = [_decode_phase(phase, f"phases[{i}]") for i, phase in enumerate(fields.pop("phases"))]
    return cls(phases, **fields)


def _decode_phase(config, where):
    fields = _known(config, _fields(Phase), where)
    fields["schedule"] = _schedule(fields.get("schedule"), where)
    if fields.get("early_stop") is not None:
        fields["early_stop"] = EarlyStop(
            **_known(fields["early_stop"], _fields(EarlyStop), f"`early_stop` of {where}")
        )
    missing = {"epochs", "train"} - set(fields)
    if missing:
        raise ValueError(f"{where} must say `epochs` and `train`. Missing: {sorted(missing)}")
    try:
        return Phase(fields.pop("epochs"), fields.pop("train"), **fields)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def _adapters(config):
    if config is None:
        return None
    fields = _known(config, _fields(AdapterPlan), "`adapters` of the plan")
    try:
        return AdapterPlan(fields.pop("method", None), fields.pop("settings", {}), **fields)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`adapters` of the plan: {error}") from error


def _schedule(config, where):
    if config is None:
        return None
    try:
        return schedules.from_config(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`schedule` of {where}: {error}") from error


def _known(config, allowed, where):
    if not isinstance(config, dict):
        raise ValueError(f"{where} must be an object of JSON. Received: {str(config)[:60]}")
    for key in config:
        if key not in allowed:
            raise ValueError(
                f"{where} must hold known keys only: {checks.listed(sorted(allowed), 40)}. "
                f"Received: {key!r}. Closest: {checks.closest(key, sorted(allowed), 1)}."
            )
    return dict(config)


def _fields(cls):
    return {field.name for field in dataclasses.fields(cls)}


def save(plan: "TransferPlan", path: PathLike) -> None:
    """Write `plan` to `path`, wholly or not at all."""
    files.write(path, to_json(plan) + "\n")


def load(path: PathLike, cls: type["TransferPlan"]) -> "TransferPlan":
    """The plan in the file `path`."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        return from_json(text, cls)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error

"""A plan as a table that people read: a column a phase, a row a group."""

import dataclasses
from typing import TYPE_CHECKING, Any

from kerastl._base.text_table import in_columns
from kerastl.plans.phase import ALL

if TYPE_CHECKING:
    from kerastl.plans.resolved import ResolvedPlan
    from kerastl.plans.transfer_plan import TransferPlan

FROZEN = "·"
WIDTH = 100  # characters; more phases than fit go on below


def resolved(plan: "ResolvedPlan") -> str:
    """Table of a `ResolvedPlan`: every group's rate in every phase."""
    columns = [
        [phase.rates.get(group) for group in plan.groups]  # None for one that is frozen
        for phase in plan.phases
    ]
    cells = [
        [FROZEN if rate is None else _rate(phase.phase, rate) for rate in column]
        for phase, column in zip(plan.phases, columns, strict=True)
    ]
    return _table(plan.plan, plan.groups, cells, show_train=False)


def symbolic(plan: "TransferPlan") -> str:
    """Table of a `TransferPlan`, which knows only the groups that it names."""
    named = [name for phase in plan.phases for name in _named(phase)]
    groups = list(dict.fromkeys(named))
    cells = [[_symbol(phase, group) for group in groups] for phase in plan.phases]
    if any(phase.is_symbolic for phase in plan.phases):
        groups.append("others")
        for phase, column in zip(plan.phases, cells, strict=True):
            column.append(_symbol(phase, None))
    text = _table(plan, groups, cells, show_train=True)
    if any(cell.endswith("?") for column in cells for cell in column):
        text += "\n? if among the groups nearest the head; print(plan.resolve(groups)) tells"
    return text


def _named(phase):
    return [*(() if phase.is_symbolic else phase.train), *phase.multipliers]


def _symbol(phase, group):
    shared = 1.0 if phase.learning_rate is None else phase.learning_rate
    rate = _rate(phase, shared * phase.multipliers.get(group, 1.0))
    if phase.train == ALL:
        return rate
    if phase.is_symbolic:
        return f"{rate}?"
    return rate if group in phase.train else FROZEN


def _rate(phase, rate):
    """A rate as a number, or as a multiple of one that the plan does not say."""
    return f"{rate:.3g}" if phase.learning_rate is not None else f"×{rate:.3g}"


def _table(plan, groups, cells, *, show_train):
    heads = [phase.name or f"phase {i + 1}" for i, phase in enumerate(plan.phases)]
    rows = [("", heads), ("epochs", [str(phase.epochs) for phase in plan.phases])]
    if show_train:
        rows.append(("train", [_train(phase.train) for phase in plan.phases]))
    rows += _settings(plan.phases)
    rows += [(group, [column[i] for column in cells]) for i, group in enumerate(groups)]
    lines = [_title(plan)]
    if plan.start == "probe":
        lines.append("begins with the head solved on frozen features")
    if plan.adapters is not None:
        lines.append(f"below the head adapters train alone: {plan.adapters.text}")
    if plan.wise_ft != 1:
        lines.append(f"ends {plan.wise_ft:.3g} of the way from there to the trained weights")
    if plan.end == "probe":
        lines.append("ends with the head solved on the trained features")
    if plan.temperature != 1:
        lines.append(f"ends with the scores of the head divided by {plan.temperature:.3g}")
    if plan.schedule is not None:
        lines.append(f"schedule over the whole plan: {short(plan.schedule)}")
    if plan.reason:
        lines.append(plan.reason)
    lines += [f"tried: {line}" for line in plan.tried]
    return "\n".join(lines + (_aligned(rows) if plan.phases else []))


def _title(plan):
    phases = f"{len(plan.phases)} phase{'s' * (len(plan.phases) != 1)}"
    return f"TransferPlan {plan.name!r}: {phases}, {plan.epochs} epoch{'s' * (plan.epochs != 1)}"


def _settings(phases):
    """Rows of what the phases say besides rates; a row that says nothing is left out."""
    rows = [
        ("schedule", [short(phase.schedule) for phase in phases]),
        ("weight decay", [_number(phase.weight_decay) for phase in phases]),
        ("batch norm", [phase.batch_norm for phase in phases]),
        ("early stop", [short(phase.early_stop) for phase in phases]),
    ]
    return [(name, cells) for name, cells in rows if any(cell != "-" for cell in cells)]


def _train(train):
    if isinstance(train, tuple):
        return train[0] if len(train) == 1 else f"{len(train)} groups"
    return train if train == ALL else f"top {train}"


def _number(value):
    return "-" if value is None else f"{value:.3g}"


def short(value: Any) -> str:
    """A dataclass by its class and what differs from its defaults, such as `OneCycle(warmup=0.3)`.

    Example:
        >>> from kerastl.plans import EarlyStop
        >>> short(EarlyStop(patience=5)), short(None)
        ('EarlyStop(patience=5)', '-')
    """
    if value is None:
        return "-"
    changed = [
        f"{field.name}={_plain(getattr(value, field.name))}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    ]
    return type(value).__name__ + (f"({', '.join(changed)})" if changed else "")


def _plain(value):
    return f"{value:.3g}" if isinstance(value, float) else repr(value)


def _aligned(rows):
    """The rows as lines; columns that do not fit beside the others go on below them."""
    margin = max(len(name) for name, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    lines, start = [], 0
    while start < len(widths):
        end = start + 1
        while end < len(widths) and margin + sum(w + 2 for w in widths[start : end + 1]) <= WIDTH:
            end += 1
        lines += [""] * bool(lines)
        shown = [(name, *cells[start:end]) for name, cells in rows]
        lines += in_columns(shown, right=range(1, end - start + 1)).split("\n")
        start = end
    return lines

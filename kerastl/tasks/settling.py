"""What sources of every kind make of settings before any work is done."""

import dataclasses
from typing import Any

from kerastl.tasks.protocols import Objective, S
from kerastl.tasks.settings import BATCH_SIZE, FEW_SHOT


def settled_for(objective: Objective, settings: S, **others: Any) -> S:
    """`settings` for an objective: what nobody said is what suits the examples.

    Args:
        objective: `Objective` of the data.
        settings: Of `tune`, `compare` or `lr-find`.
        **others: What a setting is where nobody says it: `learning_rate`, `export`, `backbone`, and
            others than the usual `epochs`, `batch_size` and `augment`.

    Raises:
        ValueError: If they ask for what the objective has not: a metric or a strategy of others.

    Example:
        >>> from kerastl.tasks import Classification
        >>> from kerastl.tasks.settings import TuneSettings
        >>> settled_for(Classification(), TuneSettings(), learning_rate=0.01).learning_rate
        0.01
    """
    said: Any = settings
    objective.by(said.metric)
    strategies = getattr(said, "names", [getattr(said, "strategy", None)])
    if FEW_SHOT in strategies and objective.name != "classification":
        raise ValueError(
            f"The strategy {FEW_SHOT!r} learns from pairs of the same class and of two, so the "
            f"data must be for classification. Received: strategy={FEW_SHOT!r} for "
            f"{objective.name}"
        )
    usual = {"epochs": said.usual_epochs, "augment": said.usual_augment, "batch_size": BATCH_SIZE}
    usual |= others
    given = {name: value for name, value in usual.items() if getattr(said, name, "") is None}
    return dataclasses.replace(said, **given)

"""Which strategy fits the data at hand, with the reason."""

import dataclasses
from typing import Literal

from kerastl._base import checks
from kerastl.graph.layer_groups import Groups
from kerastl.plans.resolved import group_names
from kerastl.plans.strategies import full, head, partial
from kerastl.plans.transfer_plan import TransferPlan

SHIFTS = ("near", "far")
FEW = 5  # examples a class below which nothing can be held back to measure on
SMALL = 1_000  # examples up to which the head alone is trained
LARGE = 10_000  # examples from which everything is trained
VAST = 100_000  # examples from which far data may do without a transfer


def recommend(
    groups: Groups,
    *,
    num_examples: int,
    num_classes: int,
    shift: Literal["near", "far"] = "near",
    epochs: int = 20,
    learning_rate: float = 5e-3,
) -> TransferPlan:
    """A plan for this much data, with the reason in one sentence as `plan.reason`.

    | examples | near | far |
    | --- | --- | --- |
    | fewer than 5 a class | the head, and a warning | the head, and a warning |
    | fewer than 1,000 | the head | the top blocks |
    | fewer than 10,000 | the top blocks | everything |
    | more | everything | everything |
    | 100,000 or more | the same | the same, and that a start from scratch may do as well |

    "The head" is `strategies.head`, "the top blocks" `strategies.partial`, "everything"
    `strategies.full`, as `tune` and `compare` have them: layers below the head learn at a
    thirtieth of its rate and less. These are rules of thumb: `kerastl compare` measures.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        num_examples: Int > 0, labelled examples to train on.
        num_classes: Int > 1.
        shift: `"near"` if the data resemble what the network was pretrained on (photographs, for
            ImageNet), `"far"` if not (scans, spectrograms, drawings).
        epochs: Int > 0.
        learning_rate: Float > 0, the peak rate of the head.

    Returns:
        `TransferPlan`.

    Raises:
        ValueError: If a number is out of its range or `shift` is unknown.

    Example:
        >>> plan = recommend(["stem", "body", "head"], num_examples=425, num_classes=5)
        >>> plan.name, plan.reason
        ('head', '425 examples of 5 classes near the pretraining data: too few to \
change pretrained features for the better, so only the head trains.')

    References:
        Kornblith et al., 2019 (the gain of a transfer over the number of examples),
        https://arxiv.org/abs/1805.08974; He et al., 2019 (from scratch is as good with enough
        examples), https://arxiv.org/abs/1811.08883; Raghu et al., 2019 (far data),
        https://arxiv.org/abs/1902.07208
    """
    names = group_names(groups)
    checks.whole(num_examples, 1, 10**12, "num_examples")
    checks.whole(num_classes, 2, 10**9, "num_classes")
    checks.one_of(shift, SHIFTS, "shift")
    strategy, why = _choose(num_examples, num_classes, shift)
    plan = strategy(names, epochs=epochs, learning_rate=learning_rate)
    classes = f"{num_examples:,} examples of {num_classes:,} classes"
    return dataclasses.replace(
        plan, reason=f"{classes} {_SHIFT_SAID[shift]} the pretraining data: {why}."
    )


_SHIFT_SAID = {"near": "near", "far": "far from"}


def _choose(num_examples, num_classes, shift):
    far = shift == "far"
    if num_examples < FEW * num_classes:
        return head, (
            f"fewer than {FEW} a class cannot even be evaluated, so only the head trains, and "
            "collecting more comes before any other choice"
        )
    if num_examples < SMALL:
        if far:
            return partial, (
                "too few to change early features, but the top blocks are specific to other data "
                "and train with the head"
            )
        return head, (
            "too few to change pretrained features for the better, so only the head trains"
        )
    if num_examples < LARGE and not far:
        return partial, "enough for the head and the top blocks, too few for the early ones"
    why = "enough to adapt every layer, the pretrained ones far slower than the head"
    if far and num_examples < LARGE:
        why = "early features do not fit them either, so all layers adapt, far slower than the head"
    if far and num_examples >= VAST:
        why += ", though training from scratch may do as well here and is worth comparing"
    return full, why

"""Bring a `FineTuner` into a phase of a plan, whatever it was in before."""

from kerastl.freezing import freeze, unfreeze
from kerastl.freezing.batch_norm import is_batch_norm
from kerastl.freezing.flags import with_leaves

HEAD = "head"  # what `layer_groups` calls the new layers behind a backbone


def set_up(model, phase):
    """What trains, at which multipliers and weight decay, as the `ResolvedPhase` says."""
    _thaw(model, phase)
    model.set_multipliers(dict(phase.multipliers))
    if phase.phase.weight_decay is not None:
        _set_weight_decay(model.lr_multiplier.inner_optimizer, phase.phase.weight_decay)


def lay_shape(model, plan, place, steps):
    """Lay the shape of the phase at `place`, or of the whole plan, over the steps it is meant for.

    Args:
        model: `FineTuner`.
        plan: `TransferPlan`.
        place: `Place`.
        steps: Int, steps an epoch; not needed where the plan has no shapes.
    """
    phase, start = plan.phases[place.phase], place.phase_step
    if plan.schedules[place.phase] is None:
        model.set_shape(None)
        return
    if plan.schedule is not None:
        start -= plan.starts[place.phase] * steps
    if start < 0:
        raise ValueError(
            "To begin within a schedule, the optimizer must have taken the steps before it. "
            f"Received: epoch {place.epoch}, and {-start} steps are missing. Restore the optimizer "
            "with the weights (a `.keras` file holds both), or begin at epoch 0."
        )
    epochs = phase.epochs if plan.schedule is None else plan.epochs
    model.set_shape(plan.schedules[place.phase], start=start, num_steps=epochs * steps)


def layers_of(groups, names):
    """The layers of the groups called `names`, as a list: a name alone may also be a layer's."""
    return [layer for name in names for layer in groups[name]]


def _thaw(model, phase):
    """Freeze and thaw as the phase says; the result depends on the phase alone.

    Batch normalizations of the backbone obey the phase whatever they did before. Those of the
    head are new: in inference mode they would never learn the statistics that they use.
    """
    groups, training = model.groups, phase.training
    resting = layers_of(groups, [name for name in groups.names if name not in training])
    backbone = layers_of(groups, [name for name in training if name != HEAD])
    norms = [leaf for leaf in with_leaves(backbone) if is_batch_norm(leaf)]
    if resting or norms:
        freeze(model, resting + norms)
    if backbone:
        unfreeze(model, backbone, batch_norm=phase.phase.batch_norm)
    if HEAD in training:
        unfreeze(model, list(groups[HEAD]), batch_norm="train")


def _set_weight_decay(optimizer, weight_decay):
    optimizer.weight_decay = weight_decay
    if hasattr(optimizer, "adam_weight_decay"):  # Muon's, of the weights that it leaves to Adam
        optimizer.adam_weight_decay = weight_decay

"""TFMOT's pruning engine on any tensor: its schedules and its masks, seen in version 0.8.1."""

from kerastl.compression.island import tfmot


def schedules():
    """The module with TFMOT's `ConstantSparsity` and `PolynomialDecay`."""
    return tfmot().sparsity.keras


def new_mask(weights, schedule, step, *, block_size=(1, 1), m_by_n=None):
    """TFMOT's mask for `weights`, by magnitude.

    Private names: `Pruning` and its `_maybe_update_block_mask`. Its public face, the pruning
    wrapper, takes tf_keras layers only, and applies masks before the forward pass, so that weights
    leave zero between two steps.

    Args:
        weights: Tensor of any rank; a matrix for blocks, and of rank 2 or 4 for `m_by_n`.
        schedule: TFMOT `PruningSchedule`.
        step: Tensor or int, the step for which `schedule` is asked.
        block_size: As in TFMOT.
        m_by_n: As in TFMOT.

    Returns:
        Threshold and boolean mask of the shape of `weights`, True for what stays.
    """
    pruning = tfmot("sparsity.keras.pruning_impl").Pruning
    engine = pruning(lambda: step, [], schedule, block_size, "AVG", m_by_n)
    threshold, mask = engine._maybe_update_block_mask(weights)
    return threshold, mask > 0

"""Which pass over the training set this is, so that it can be repeated exactly."""

import numpy as np

from kerastl.data.split import check_seed


class Epochs:
    """Counts the passes over a training set.

    The order and the augmentation of a pass are a pure function of `seed`, the number of the
    pass and the position of the batch in it. So a run that stopped after three epochs goes on
    exactly as it would have, given `epoch=3`; and a callback that sets `epoch` when an epoch
    begins is right even where something else has looked into the dataset in between.

    Args:
        seed: Int in [0, 2**31).
        epoch: Number of the next pass.

    Example:
        >>> epochs = Epochs(seed=7)
        >>> int(epochs.advance()), int(epochs.advance()), epochs.epoch
        (0, 1, 2)
    """

    def __init__(self, seed=0, epoch=0):
        self.seed = check_seed(seed)
        self.epoch = epoch

    def advance(self):
        """The number of the pass that begins now, as an int64 scalar."""
        current = np.int64(self.epoch)
        self.epoch += 1
        return current

"""What a call to `freeze` or `unfreeze` changed, as data and as one line."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Change:
    """What a call changed: number of layers chosen, trainable weights before and after.

    `str(change)` is one line for a log.
    """

    action: str
    num_layers: int
    before: int
    after: int
    total: int

    def __str__(self):
        return (
            f"{self.action} {self.num_layers} layers: trainable weights "
            f"{self.before:,} -> {self.after:,} of {self.total:,}"
        )

"""What the stages of one compression share."""

import dataclasses

from kerastl.compress.config import CompressConfig
from kerastl.tune.progress import Silent


@dataclasses.dataclass(frozen=True)
class Task:
    """What stages train on and by.

    Attributes:
        images: `ImageData`.
        config: `CompressConfig` with a seed.
        teacher: The model as it was before any stage, a copy that stages do not change; or None to
            learn from labels alone.
        progress: Object with the methods of `tune.progress.Silent`.
        checkpoints: Folder in which the training of a stage that is stopped finds where to go on,
            or None.
    """

    images: object
    config: CompressConfig
    teacher: object = None
    progress: object = dataclasses.field(default_factory=Silent)
    checkpoints: object = None

    def slower(self, factor):
        """The same at `factor` times the learning rate."""
        config = dataclasses.replace(self.config, learning_rate=factor * self.config.learning_rate)
        return dataclasses.replace(self, config=config)

"""What is raised where a checkpoint cannot be trusted."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to another training."""

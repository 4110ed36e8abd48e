"""Whether to train on cached features, with the reason in one sentence."""

import dataclasses
import shutil
from pathlib import Path

import tensorflow as tf

from kerastl import _checks, _disk

CHOICES = ("auto", True, False)


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether features are cached, and why.

    Attributes:
        use: Boolean.
        reason: One sentence, without a full stop, to show to a person.
    """

    use: bool
    reason: str


def decide(cache_frozen, obstacle, *, epochs_left, views=1, begun=False):
    """Carry out what the user chose, or say why not.

    Args:
        cache_frozen: `"auto"`, True or False.
        obstacle: Why features cannot be cached, or None.
        epochs_left: Int, how often the data will be read with these features.
        views: Int, how many augmented copies of the data are computed.
        begun: Boolean, whether features are there already.

    Returns:
        `Decision`.

    Raises:
        ValueError: If `cache_frozen` is True and there is an obstacle, or it is no choice.

    Example:
        >>> decide("auto", "augmentation is random", epochs_left=9)
        Decision(use=False, reason='augmentation is random')
        >>> decide(True, "augmentation is random", epochs_left=9)
        Traceback (most recent call last):
        ValueError: `cache_frozen=True` needs features that can be computed once, but \
augmentation is random. Received: cache_frozen=True. "auto" trains without a cache then.
    """
    _checks.one_of(cache_frozen, CHOICES, "cache_frozen")
    if cache_frozen is False:
        return Decision(False, "cache_frozen=False")
    if obstacle and cache_frozen is True:
        raise ValueError(
            f"`cache_frozen=True` needs features that can be computed once, but {obstacle}. "
            'Received: cache_frozen=True. "auto" trains without a cache then.'
        )
    if obstacle:
        return Decision(False, obstacle)
    if cache_frozen == "auto" and not begun and epochs_left <= views:
        return Decision(False, _too_few(epochs_left, views))
    return Decision(True, "the frozen part is computed once")


def obstacle_in_data(passes, augmented_copies):
    """Why the data cannot be cached by rows, or None.

    Args:
        passes: `Passes`, or None where nobody knows how to read the data again.
        augmented_copies: Int, how many views of augmented data to cache, or None.
    """
    if passes is None:
        return (
            "the data cannot be read again row by row: give arrays, or a dataset made by "
            "`kerastl.data.make_dataset`"
        )
    if passes.random and "labels" in passes.random:
        return f"{passes.random} changes the targets as well, in every epoch anew"
    if passes.random and not augmented_copies:
        return f"{passes.random} is random: pass augmented_copies=k to cache k views of the data"
    return None


def obstacle_in_inputs(spec):
    """Why batches of inputs of the structure `spec` cannot be computed by rows, or None."""
    for part in tf.nest.flatten(spec):
        if not isinstance(part, tf.TensorSpec) or part.dtype == tf.string:
            return f"its inputs are not plain numbers but {part}"
    return None


def obstacle_in_room(num_bytes, held, cache_dir):
    """Why there is no room for `num_bytes` of features, or None.

    Args:
        num_bytes: Int.
        held: Int, bytes of features held in memory already.
        cache_dir: Folder for them, or None for memory.
    """
    if cache_dir is None:
        if _disk.fits_in_memory(num_bytes + held):
            return None
        return (
            f"would need {_disk.mib(num_bytes + held)} of memory, more than an eighth of this "
            "machine's: give cache_dir, a folder on disk"
        )
    free = shutil.disk_usage(_existing(Path(cache_dir))).free
    if num_bytes <= free:
        return None
    return (
        f"would need {_disk.mib(num_bytes)} in {cache_dir}, whose disk has {_disk.mib(free)} free"
    )


def _existing(folder):
    """`folder`, or the nearest folder above it that exists."""
    folder = folder.absolute()
    return next(path for path in [folder, *folder.parents] if path.is_dir())


def _too_few(epochs_left, views):
    if views == 1:
        return "only one epoch left"
    return f"only {epochs_left} epochs left for {views} augmented copies"

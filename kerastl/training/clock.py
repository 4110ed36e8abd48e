"""How long a `fit` took to trace, and how long to train."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

ORDINARY = 64  # calls after the first, of which the median is an ordinary one


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Seconds of a `fit`, those of processes before a kill among them.

    Attributes:
        tracing: Making graphs of the step, of validation and of the frozen part: what the first
            call of each took beyond the median of its next ones. The first call of a step that was
            taken once counts whole.
        training: All the rest of `fit`, validation and the features of frozen layers included.
        traces: Int, how many graphs were made.
    """

    tracing: float = 0.0
    training: float = 0.0
    traces: int = 0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(
            self.tracing + other.tracing,
            self.training + other.training,
            self.traces + other.traces,
        )


class Clock:
    """Tells the seconds of tracing from those of training, from one `begin` to the next.

    Example:
        >>> clock = Clock()
        >>> double = clock.timed(tf.function(lambda x: 2 * x))
        >>> [int(double(tf.constant(n))) for n in range(3)], clock.seconds.traces
        ([0, 2, 4], 1)
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A `fit` begins."""
        self._started, self._before, self._graphs = time.perf_counter(), Seconds(), []

    @property
    def seconds(self) -> Seconds:
        """`Seconds` so far."""
        tracing = sum(graph.seconds for graph in self._graphs)
        passed = time.perf_counter() - self._started
        return self._before + Seconds(tracing, max(0.0, passed - tracing), len(self._graphs))

    def go_on_from(self, before: Seconds) -> None:
        """What processes before this one took; said again, it takes the place of the first."""
        self._before = before

    def timed(
        self, function: Callable[[Any], Any], *, built: float = 0.0, ordinary: int = ORDINARY
    ) -> Callable[[Any], Any]:
        """`function`, with its calls told.

        Args:
            function: Compiled function of one argument: an iterator over batches, or a batch. Each
                structure of what an iterator gives is taken for one graph.
            built: Float, seconds that its first graph took before it was ever called.
            ordinary: Int, how many calls after the first say how long one takes.
        """
        graphs = []

        @tf.autograph.experimental.do_not_convert
        def call(given):
            spec = getattr(given, "element_spec", None)
            started = time.perf_counter()
            result = function(given)
            passed = time.perf_counter() - started
            graph = next((graph for graph in graphs if graph.spec == spec), None)
            if graph is None:
                graphs.append(_Graph(spec, 0.0 if graphs else built, passed))
                self._graphs.append(graphs[-1])
            elif len(graph.later) < ordinary:
                graph.later.append(passed)
            return result

        return call


@dataclasses.dataclass
class _Graph:
    """The calls of one graph: seconds before the first, of the first, and of the next ones."""

    spec: Any
    built: float
    first: float
    later: list[float] = dataclasses.field(default_factory=list)

    @property
    def seconds(self) -> float:
        ordinary = statistics.median(self.later) if self.later else 0.0
        return self.built + max(0.0, self.first - ordinary)

"""What the LR finder found."""

import dataclasses

from kerastl.callbacks._suggestions import suggest


@dataclasses.dataclass(frozen=True)
class LRFinderResult:
    """A curve of losses over learning rates, and what it suggests.

    Attributes:
        rates: Tuple of the shared learning rate of each step.
        losses: Tuple of the loss after each, an average of the batches' losses (weights 0.98,
            bias-corrected).
        suggestions: Dict from `"valley"`, `"steep"`, `"slide"` and `"minimum"` to a rate or None.
        reason: String that says why nothing is suggested, or None.
        batch_losses: Tuple of the loss of each batch.
    """

    rates: tuple
    losses: tuple
    suggestions: dict
    reason: str | None = None
    batch_losses: tuple = ()

    @classmethod
    def of_curve(cls, rates, losses, batch_losses, num_steps):
        """The result for a curve that would have had `num_steps` points without divergence."""
        suggestions, reason = suggest(rates, losses, batch_losses, num_steps)
        return cls(tuple(rates), tuple(losses), suggestions, reason, tuple(batch_losses))

    @property
    def suggestion(self):
        """The rate to use, that of the longest valley, or None where the curve has none."""
        return self.suggestions["valley"]

    def summary(self):
        """Text: what each rule suggests, or why none does."""
        if self.reason is not None:
            return f"No suggestion: {self.reason}."
        shown = [
            f"{rule} {'none' if rate is None else format(rate, '.2g')}"
            for rule, rate in self.suggestions.items()
        ]
        return f"Suggested learning rate {self.suggestion:.2g} ({', '.join(shown)})."

    def __repr__(self):
        return f"<LRFinderResult of {len(self.rates)} steps: {self.summary()}>"

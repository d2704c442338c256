"""How a batch stands, in figures."""

from dataclasses import dataclass

from ddim_interp.batch.task import Outcome

__all__ = ["Tally"]


@dataclass(frozen=True)
class Tally:
    """What came of films.

    Args:
        made: How many were made.
        found: How many were there, made by an earlier run.
        failed: How many could not be made.
        bad: Of how many that are there a verdict is bad.
        nfe: Network evaluations for those made now, counted per picture.

    Example:
        >>> Tally().plus(Outcome({"name": "a", "nfe": 12})).in_words
        '1 made, 0 found, 0 failed'
    """

    made: int = 0
    found: int = 0
    failed: int = 0
    bad: int = 0
    nfe: int = 0

    def plus(self, outcome: Outcome) -> "Tally":
        """And one more."""
        new = not outcome.failed and not outcome.found
        return Tally(
            self.made + new,
            self.found + outcome.found,
            self.failed + outcome.failed,
            self.bad + (not outcome.failed and not outcome.good),
            self.nfe + (outcome.entry.get("nfe", 0) if new else 0),
        )

    @property
    def in_words(self) -> str:
        """In a line."""
        words = f"{self.made} made, {self.found} found, {self.failed} failed"
        return f"{words}; {self.bad} with a bad verdict" if self.bad else words

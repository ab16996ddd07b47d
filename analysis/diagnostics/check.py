"""One check of a result: what was asked, what came out, and in plain words what it means."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "note", "failed", "unchecked"]

# What a failed check casts doubt on.
POSTERIOR, ELPD, PREDICTIONS = "posterior", "elpd", "predictions"


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes
    ----------
    name
        What was checked, such as ``"R-hat"``.
    concern
        What a failure casts doubt on: ``"posterior"`` (the draws are not the posterior), ``"elpd"``
        (the leave-one-out estimate), or ``"predictions"`` (the predictive intervals).
    status
        ``"passed"``; ``"failed"``; ``"note"``, worth knowing and no reason for doubt; or
        ``"unchecked"``, where what the check needs was not given: the message says what that is.
    message
        One sentence in plain words, with the remedy where one is needed.
    value, limit
        The figure that decided and what it was held against; None where there is none.
    figure
        Name of the figure that shows it: a function ``analysis.plots.plot_<figure>``.
    """

    name: str
    concern: str
    status: Status
    message: str
    value: float | None = None
    limit: float | None = None
    figure: str | None = None

    @property
    def failed(self) -> bool:
        """Whether this check is a reason for doubt."""
        return self.status == "failed"

"""One check of a result: what was asked, what came out, and in plain words what it means."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "note", "failed", "unchecked"]

# What a failed check casts doubt on.
POSTERIOR, ELPD, PREDICTIONS = "posterior", "elpd", "predictions"


@dataclass(frozen=True)
class Check:
    """The outcome of one check, `name`.

    A failure casts doubt on its `concern`: ``"posterior"`` (the draws are not the posterior),
    ``"elpd"`` (the leave-one-out estimate), or ``"predictions"`` (the predictive intervals). The
    `status` is ``"passed"``, ``"failed"``, ``"note"`` (worth knowing and no reason for doubt) or
    ``"unchecked"``, where the `message` says what was not given; it is one sentence in plain words,
    with the remedy where one is needed. `value` decided, held against `limit`; the function
    ``analysis.plots.plot_<figure>`` shows it.
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

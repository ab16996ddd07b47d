"""What is known of a problem's posterior: means and standard deviations of functions, with errors."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

FIGURES = ("mean", "sd", "mean_se", "sd_se")


@dataclass(frozen=True)
class Reference:
    """The reference answer of a problem, or why there is none.

    Attributes
    ----------
    status
        ``"exact"`` (closed form), ``"sampled"`` (two samplers agree), or ``"none"``: `reason` says
        why, and `functions` are of no use but to see how far the samplers differ.
    functions
        Of each function (:mod:`analysis.scoring.functions`) the posterior mean and standard
        deviation, and the Monte-Carlo standard errors of both: :data:`FIGURES`. Weights are
        exchangeable between neurons, so that they have no reference.
    data
        Figures of the data set, by which data made elsewhere are known to be the same.
    recipe
        How it was made: kernel, steps, seed, R-hat, ESS, gradient evaluations, seconds.
    cross_check
        The second sampler's recipe, its verdict against the first, and the largest differences.
    versions, date
        Of the packages, and the day.
    """

    status: Literal["exact", "sampled", "none"]
    reason: str
    functions: dict[str, list[float]]
    data: dict[str, list[float]]
    recipe: dict
    cross_check: dict = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    date: str = ""

    def to_text(self) -> str:
        """The file's text: JSON, a function a line."""
        parts = []
        for name, value in asdict(self).items():
            if isinstance(value, dict) and value:
                inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
                parts.append(f' "{name}": {{\n{inner}\n }}')
            else:
                parts.append(f' "{name}": {json.dumps(value)}')
        return "{\n" + ",\n".join(parts) + "\n}\n"


def load_reference(path: Path) -> Reference | None:
    """The reference in a file; None where there is no file yet, ``ValueError`` for another file."""
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Reference(**{each.name: stored[each.name] for each in fields(Reference)})
    except (ValueError, KeyError, TypeError, OSError):
        raise ValueError(
            f"reference file {str(path)!r} is damaged; make it again with mfzoo problems --make-reference."
        ) from None

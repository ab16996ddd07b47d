"""The schemes' scores side by side: run on the named problems, kept as rows of a file."""

from __future__ import annotations

from pathlib import Path

import jax
import pandas as pd

from analysis.schemes.registry import SCHEMES, check_scheme
from analysis.scoring.references import run_model
from analysis.scoring.score import Score, score, usable_reference
from inference.runs.progress import ProgressCallback
from models import checks
from models.problems import Problem

FILE = Path(__file__).parent / "leaderboard.csv"
SHOWN = ("problem", "scheme", "verdict", "bias", "bias_se", "bias_of", "rms_bias", "resolution")
PLAIN_SCHEMES = ("nuts", "langevin")
"""The schemes for models that are no networks of ours."""


def score_scheme(of: Problem, name: str, seed: int = 0, progress: ProgressCallback | None = None) -> Score:
    """Run the scheme `name` on a problem, at its own length, and score it.

    ``ValueError`` for an unknown scheme, one that does not cover the problem, or a problem without
    reference.
    """
    usable_reference(of)
    progress = progress or (lambda done, total, text: None)
    key = jax.random.fold_in(jax.random.key(seed), 3)  # apart from those of the references
    if of.of_network:
        check_scheme(name, of.network)
        tree, _ = SCHEMES[name].run(of.network, of.data, key, progress)
        return score(tree, of, scheme=name)
    checks.one_of("scheme of a model that is no network", name, PLAIN_SCHEMES)
    return score(run_model(of, name, key, effort=0.2)[0], of, scheme=name)


def schemes_for(of: Problem) -> list[str]:
    """The schemes that cover a problem."""
    if not of.of_network:
        return list(PLAIN_SCHEMES)
    return [name for name, scheme in SCHEMES.items() if scheme.covers(of.network)]


def leaderboard(file: Path = FILE) -> pd.DataFrame:
    """The committed rows, a problem after the other, right ones first and by bias.

    Examples
    --------
    >>> set(SHOWN) <= set(leaderboard())
    True
    """
    if not file.is_file():
        raise ValueError("there is no leaderboard yet; make one with python benchmarks/leaderboard.py.")
    table = pd.read_csv(file)
    order = table["verdict"].map({"right": 0, "cannot tell": 1, "biased": 2}).fillna(3)
    table = table.assign(order=order).sort_values(["problem", "order", "rms_bias"], kind="stable")
    return table.drop(columns="order").reset_index(drop=True)

"""How rankings of the inputs treat probes (:func:`models.probes.add_probes`): truth on real data."""

import numpy as np
import pandas as pd
import xarray as xr

from analysis.diagnostics.feature_selection import input_scores, selection_scores
from analysis.results.inclusion import has_inclusion, inclusion_probabilities


def probe_scores(relevance: np.ndarray, inclusion: np.ndarray | None = None) -> dict[str, float]:
    """How well a ranking keeps the probes out.

    `relevance` is a score of every input of a dataset of :func:`models.probes.add_probes`, at least 0, shape
    (2d,), the probes last (any other shape is a ``ValueError``); `inclusion`, of the same shape,
    are the posterior inclusion probabilities under a prior that has them. ``false_selection`` is
    the share of probes among the d highest ranked (1/2 by chance; ties are broken at random, on
    average); ``auc``, the chance that a real input ranks above a probe (1/2 likewise; 1 is not to
    be had where some real inputs are irrelevant); ``above_mean``, the share of the probes above the
    mean relevance of all inputs; ``above_probes``, the share of the real inputs that rank above
    every probe; with inclusion probabilities ``included``, the share of probes with one above 1/2.

    Examples
    --------
    >>> probe_scores(np.array([3.0, 1.0, 2.0, 0.0]))
    {'false_selection': 0.5, 'auc': 0.75, 'above_mean': 0.5, 'above_probes': 0.5}
    """
    relevance = np.asarray(relevance, float)
    if relevance.ndim != 1 or len(relevance) < 2 or len(relevance) % 2:
        raise ValueError(
            f"relevance must have a value for each of d inputs and d probes, got shape {relevance.shape}."
        )
    size = len(relevance) // 2
    probe = np.arange(2 * size) >= size
    table = pd.DataFrame({"score": relevance, "inclusion": 0.0, "relevant": ~probe})
    scores = {
        "false_selection": float(_chance_of_the_highest(relevance, size)[probe].sum() / size),
        "auc": selection_scores(table)["auc"],
        "above_mean": float(np.mean(relevance[probe] > relevance.mean())),
        "above_probes": float(np.mean(relevance[~probe] > relevance[probe].max())),
    }
    if inclusion is not None:
        scores["included"] = float(np.mean(np.asarray(inclusion)[probe] > 0.5))
    return scores


def rank_probes(tree: xr.DataTree) -> dict[str, float]:
    """:func:`probe_scores` by the mean over draws of Σ_i a_i² w_ij²/Σ_i a_i².

    Neurons count by their readouts: idle ones have the prior's weights and would blur the ranking.
    """
    relevance = input_scores(tree, "weighted").mean(("chain", "draw")).to_numpy()
    inclusion = inclusion_probabilities(tree)["probability"].to_numpy() if has_inclusion(tree) else None
    return probe_scores(relevance, inclusion)


def _chance_of_the_highest(values: np.ndarray, count: int) -> np.ndarray:
    """Probability of each value to be among the `count` highest when ties are broken at random."""
    border = np.sort(values)[-count]
    above, tied = values > border, values == border
    return above + tied * (count - above.sum()) / tied.sum()

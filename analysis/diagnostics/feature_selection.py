"""Which inputs does a posterior select, and are they the relevant ones?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from analysis.diagnostics.functions import all_draws, outgoing_strength
from analysis.results.inclusion import has_inclusion, inclusion_probabilities
from analysis.results.order_parameters import group


def input_scores(tree: xr.DataTree, score: str = "second_moment") -> xr.DataArray:
    """How strongly every draw uses every input, (chain, draw, input).

    ``"second_moment"``: the mean of w_ij² over neurons. ``"weighted"``: Σ_i a_i² w_ij² / Σ_i a_i²,
    in which neurons count by their readouts (or, with layers above the first, by the norm of their
    outgoing weights), so that idle ones, whose weights are those of the prior, do not. Any other is a ``ValueError``.
    """
    if score == "second_moment":
        return group(tree, "order_parameters").second_moment.astype(float)
    if score == "weighted":
        posterior = group(tree, "posterior")
        weight = outgoing_strength(posterior) ** 2
        return xr.dot(weight, posterior.w.astype(float) ** 2, dim="neuron") / weight.sum("neuron")
    raise ValueError(f"score must be one of second_moment, weighted; got {score!r}.")


def rank_inputs(tree: xr.DataTree, num_selected: int | None = None) -> pd.DataFrame:
    """Ranking and inclusion probability of the inputs under one result, by their second moments.

    A draw selects its k = `num_selected` highest inputs, by default as many as there are relevant
    ones; ``ValueError`` where their number is unknown, and for k outside 1 … d. By ``input``:
    ``score``, the posterior mean of the weights' second moment; ``rank``, 1 for the highest;
    ``inclusion``, the share of draws that select it, which sums to k; ``relevant``, where that is
    known; and, for a prior with indicators, ``posterior_inclusion``, see
    :func:`analysis.inclusion_probabilities`.

    Examples
    --------
    >>> round(float(rank_inputs(tree).inclusion.sum()), 6)
    2.0
    """
    values, constant = all_draws(input_scores(tree)), group(tree, "constant_data")
    mean, count = values.mean(axis=0), values.shape[1]
    relevant = np.isin(np.arange(count), constant.relevant) if "relevant" in constant else None
    if num_selected is None and relevant is None:
        raise ValueError("the relevant inputs are unknown; say with num_selected how many a draw selects.")
    num_selected = int(relevant.sum()) if num_selected is None else num_selected
    if not 1 <= num_selected <= count:
        raise ValueError(f"num_selected must lie between 1 and the {count} inputs, got {num_selected!r}.")
    columns = {
        "score": mean,
        "rank": rankdata(-mean, method="ordinal").astype(int),
        "inclusion": np.mean(rankdata(-values, axis=1, method="ordinal") <= num_selected, axis=0),
    }
    if relevant is not None:
        columns["relevant"] = relevant
    if has_inclusion(tree):
        columns["posterior_inclusion"] = inclusion_probabilities(tree)["probability"].to_numpy()
    return pd.DataFrame(columns, index=pd.RangeIndex(count, name="input"))


def selection_scores(table: pd.DataFrame) -> dict[str, float]:
    """How well a ranking of :func:`rank_inputs` finds the relevant inputs S.

    ``auc`` is the chance that a relevant input scores higher than an irrelevant one (ties count
    half), the Mann-Whitney statistic over |S|(d - |S|); ``precision_at_k`` the share of relevant
    inputs among the k = |S| highest; ``inclusion_relevant`` and ``inclusion_irrelevant`` are the
    mean inclusion probability on and off S. ``ValueError`` where S is unknown, or all inputs.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = {"score": [3, 1, 2], "inclusion": [1, 0.2, 0.8], "relevant": [True, True, False]}
    >>> scores = selection_scores(pd.DataFrame(columns))
    >>> scores["auc"], scores["precision_at_k"]
    (0.5, 0.5)
    """
    if "relevant" not in table or not 0 < table["relevant"].sum() < len(table):
        raise ValueError(
            "AUC and precision need relevant and irrelevant inputs, both known; name them in the data."
        )
    relevant, score = table["relevant"].to_numpy(bool), table["score"].to_numpy()
    size = int(relevant.sum())
    rank_sum = rankdata(score)[relevant].sum() - size * (size + 1) / 2
    highest = np.argsort(-score, kind="stable")[:size]
    return {
        "auc": float(rank_sum / (size * (len(table) - size))),
        "precision_at_k": float(relevant[highest].mean()),
        "inclusion_relevant": float(table["inclusion"][relevant].mean()),
        "inclusion_irrelevant": float(table["inclusion"][~relevant].mean()),
    }


def feature_selection(runs: Mapping[str, xr.DataTree | Sequence[xr.DataTree]]) -> pd.DataFrame:
    """AUC, precision at k and inclusion probabilities by scheme, with error bars over seeds.

    `runs` are, by scheme (any label), one result or one for each seed of the data and the scheme.
    The table holds the means over seeds of the figures of :func:`selection_scores`, ``<figure>_se``
    = sd over seeds/√seeds (NaN for one seed), and ``num_seeds``.
    """
    rows = {}
    for label, trees in runs.items():
        trees = [trees] if isinstance(trees, xr.DataTree) else list(trees)
        figures = pd.DataFrame([selection_scores(rank_inputs(tree)) for tree in trees])
        rows[label] = {**figures.mean(), **figures.sem().add_suffix("_se"), "num_seeds": len(trees)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("scheme")
    return table.astype({"num_seeds": int})

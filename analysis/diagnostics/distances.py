"""How far apart are the answers of two schemes? Distances of functions, with their noise floors."""

from collections.abc import Mapping

import arviz_stats
import numpy as np
import xarray as xr
from scipy.spatial.distance import cdist, pdist
from scipy.stats import wasserstein_distance

from analysis.diagnostics.diagnose import diagnose
from analysis.diagnostics.differences import function_differences
from analysis.diagnostics.functions import all_draws
from analysis.results.order_parameters import is_independent

# Draws of each result and test points that are used in W, MMD and TV.
_MOST_DRAWS, _MOST_POINTS = 500, 200
_BINS = 10
_SPLITS = 20


def distances(trees: Mapping[str, xr.DataTree], reference: str | None = None) -> xr.Dataset:
    """Distances of results of one problem from a reference, on f at the test points and on m.

    The `reference` is a label, by default the first result of NUTS that has converged. No such
    result, an unknown label and results with other test data are a ``ValueError``. For every
    distance (scheme) there is a ``<name>_floor``, what two sets of independent draws from one law,
    as large as these, give: below it no difference can be seen.

    - ``wasserstein``: mean over test points of the one-dimensional Wasserstein-1 distance
      ∫|F - F_ref| df of f(x), in units of y.
    - ``mmd2``: unbiased estimate of MMD² = E k(f,f') + E k(g,g') - 2 E k(f,g) between the vectors
      of f at all test points, k(f,g) = exp(-|f-g|²/(2h²)), h the median distance between draws of
      the reference. Zero on average for equal laws, it may be negative; its floor is a standard
      deviation.
    - ``total_variation``: ½ Σ_b |p_b - p_b^ref| of f(x) sorted into ten bins between the deciles of
      the reference at each test point, averaged over the test points: between 0 and 0.9.
    - ``mean_rms``: root mean square over test points of the difference of the means E f(x).
    - ``spread``: median over test points of sd f(x)/sd_ref f(x): below 1 for over-confidence.
    - ``order_parameter_difference``, ``second_moment_difference`` (input), each with ``_se``: of
      posterior means, see :func:`mean_differences`.
    - ``effective_draws``: that the first three were taken from: at most 500, evenly spaced, no more
      than the effective sample size (the median over the test points), since repeated draws would
      only look like more data.

    Floors are means (that of MMD² the standard deviation) over 20 random splits of the pooled draws
    into two sets of the original sizes; where the two laws differ, the pooled law is wider and the
    floor somewhat too high.

    References
    ----------
    Gretton, Borgwardt, Rasch, Schölkopf and Smola, *A kernel two-sample test* (2012).

    Examples
    --------
    >>> table = distances({"all": tree, "two chains": tree.isel(chain=[0, 1])}, reference="all")
    >>> table.wasserstein.sel(scheme="all").item(), table.mmd2_floor.dims
    (0.0, ('scheme',))
    """
    reference = _reference(trees, reference)
    x_test = trees[reference]["predictions_constant_data"].x_test
    if not all(np.array_equal(tree["predictions_constant_data"].x_test, x_test) for tree in trees.values()):
        raise ValueError("trees must share their test inputs; compare results on the same data.")
    f = {n: t["predictions"].f.isel(test=slice(_MOST_POINTS)).astype(float) for n, t in trees.items()}
    draws = {label: _effective_draws(f[label], is_independent(trees[label])) for label in trees}
    bandwidth = float(np.median(pdist(draws[reference]))) or 1.0
    rows = []
    for label, tree in trees.items():
        row = _distances(draws[label], draws[reference], bandwidth) | _moments(tree, trees[reference])
        # Moments of f use every draw: thinning would only add noise.
        row["spread"] = float(np.median(_sd(f[label]) / _sd(f[reference])))
        rows.append(row | {"effective_draws": len(draws[label])})
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return xr.Dataset(
        {name: (("scheme", "input")[: column.ndim], column) for name, column in columns.items()},
        coords={"scheme": list(trees)},
        attrs={"reference": reference, "bandwidth": bandwidth},
    )


def wasserstein(f: np.ndarray, g: np.ndarray) -> float:
    """Mean over columns of the Wasserstein-1 distance of two samples, (draw, point)."""
    return float(np.mean([wasserstein_distance(a, b) for a, b in zip(f.T, g.T, strict=True)]))


def mmd2(f: np.ndarray, g: np.ndarray, bandwidth: float) -> float:
    """Unbiased MMD² of two samples of vectors, with the Gaussian kernel of that bandwidth."""
    return _mmd2(_gaussian(np.concatenate([f, g]), bandwidth), np.arange(len(f) + len(g)), len(f))


def total_variation(f: np.ndarray, g: np.ndarray) -> float:
    """Mean over columns of ½ Σ_b |p_b - q_b|, ten bins between the deciles of `g` (draw, point)."""
    edges = np.quantile(g, np.arange(1, _BINS) / _BINS, axis=0)
    below = (np.mean(values <= edges[:, None], axis=1) for values in (f, g))
    p, q = (np.diff(share, axis=0, prepend=0.0, append=1.0) for share in below)
    return float(np.mean(0.5 * np.abs(p - q).sum(axis=0)))


def mean_rms(f: np.ndarray, g: np.ndarray) -> float:
    """Root mean square over columns of the difference of the means."""
    return float(np.sqrt(np.mean((f.mean(axis=0) - g.mean(axis=0)) ** 2)))


_MEASURES = {"wasserstein": wasserstein, "total_variation": total_variation, "mean_rms": mean_rms}


def _distances(f: np.ndarray, g: np.ndarray, bandwidth: float) -> dict[str, float]:
    """Every distance and its floor; zeros where `f` and `g` are the same draws."""
    if f is g:
        return {key: 0.0 for name in (*_MEASURES, "mmd2") for key in (name, f"{name}_floor")}
    rng = np.random.default_rng(0)
    pooled, size = np.concatenate([f, g]), len(f)
    orders = [rng.permutation(len(pooled)) for _ in range(_SPLITS)]
    out = {}
    for name, measure in _MEASURES.items():
        out[name] = measure(f, g)
        out[f"{name}_floor"] = float(np.mean([measure(pooled[o[:size]], pooled[o[size:]]) for o in orders]))
    gram = _gaussian(pooled, bandwidth)
    out["mmd2"] = _mmd2(gram, np.arange(len(pooled)), size)
    out["mmd2_floor"] = float(np.std([_mmd2(gram, order, size) for order in orders], ddof=1))
    return out


def _gaussian(pooled: np.ndarray, bandwidth: float) -> np.ndarray:
    return np.exp(-cdist(pooled, pooled, "sqeuclidean") / (2 * bandwidth**2))


def _mmd2(gram: np.ndarray, order: np.ndarray, size: int) -> float:
    first, second = order[:size], order[size:]
    if min(len(first), len(second)) < 2:
        return float("nan")
    # Without the diagonal: a draw is not compared with itself, which makes the estimate unbiased.
    within = sum((gram[np.ix_(o, o)].sum() - len(o)) / (len(o) * (len(o) - 1)) for o in (first, second))
    return float(within - 2 * gram[np.ix_(first, second)].mean())


def _moments(tree: xr.DataTree, reference: xr.DataTree) -> dict:
    table = function_differences(tree, reference)[["difference", "se"]]
    if tree is reference:
        table["se"] = 0.0
    m, moments = table.loc["order_parameter"], table[table.index.str.startswith("second_moment")]
    row = {"order_parameter_difference": m["difference"], "order_parameter_difference_se": m["se"]}
    row["second_moment_difference"], row["second_moment_difference_se"] = moments.to_numpy().T
    return row


def _effective_draws(f: xr.DataArray, independent: bool) -> np.ndarray:
    draws = all_draws(f)
    total = wanted = len(draws)
    if not independent:
        ess = arviz_stats.ess(f.isel(test=slice(0, 20)))
        wanted = int(ess.median()) if ess.notnull().any() else total
    wanted = min(max(4, wanted), _MOST_DRAWS, total)
    return draws[np.linspace(0, total - 1, wanted).round().astype(int)]


def _sd(f: xr.DataArray) -> np.ndarray:
    return np.maximum(f.std(("chain", "draw")).to_numpy(), np.finfo(float).tiny)


def is_converged_nuts(tree: xr.DataTree) -> bool:
    """Whether a result can be the reference for others: NUTS that has converged."""
    return tree.attrs.get("scheme") == "nuts" and diagnose(tree).converged


def _reference(trees: Mapping[str, xr.DataTree], reference: str | None) -> str:
    if reference is None:
        reference = next((label for label, tree in trees.items() if is_converged_nuts(tree)), None)
    if reference is None:
        fault = "no result of NUTS in trees has converged"
        raise ValueError(f"{fault}; run NUTS longer, or name another reference.")
    if reference not in trees:
        raise ValueError(f"reference {reference!r} is not among the results; they are {', '.join(trees)}.")
    return reference

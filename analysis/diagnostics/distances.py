"""How far apart are the answers of two schemes? Distances of functions, with their noise floors."""

from collections.abc import Mapping

import arviz_stats
import numpy as np
import xarray as xr
from scipy.spatial.distance import cdist, pdist
from scipy.stats import wasserstein_distance

from analysis.diagnostics.diagnose import diagnose
from analysis.diagnostics.differences import mean_differences
from analysis.diagnostics.functions import functions_of
from analysis.results.order_parameters import is_independent

# Draws of each result and test points that are used in W, MMD and TV.
_MOST_DRAWS, _MOST_POINTS = 500, 200
_BINS = 10
_SPLITS = 20


def distances(trees: Mapping[str, xr.DataTree], reference: str | None = None) -> xr.Dataset:
    """Distances of results of one problem from a reference, on f at the test points and on m.

    Parameters
    ----------
    trees
        Results in the schema by label, of any networks with the same test data.
    reference
        Label of the reference; by default the first result of NUTS that has converged.

    Returns
    -------
    xarray.Dataset
        Dimension ``scheme`` (all labels, the reference too) and ``input``. For every distance
        ``name`` there is a ``name_floor``, what two sets of independent draws from one law, as large
        as these, give: below it no difference can be seen.

        ``wasserstein``
            Mean over test points of the one-dimensional Wasserstein-1 distance ∫|F - F_ref| df of
            f(x), in units of y.
        ``mmd2``
            Unbiased estimate of MMD² = E k(f,f') + E k(g,g') - 2 E k(f,g) between the vectors of f at
            all test points, k(f,g) = exp(-|f-g|²/(2h²)), h the median distance between draws of the
            reference. It is zero on average for equal laws, and may be negative; its floor is a
            standard deviation.
        ``total_variation``
            Total variation ½ Σ_b |p_b - p_b^ref| of f(x) sorted into ten bins between the deciles of
            the reference at each test point, averaged over the test points: between 0 and 0.9. (The
            predictive means are numbers, between which there is no total variation; their distance
            is ``mean_rms``.)
        ``mean_rms``
            Root mean square over test points of the difference of the predictive means E f(x).
        ``spread``
            Median over test points of sd f(x)/sd_ref f(x): below 1 where a scheme is over-confident.
        ``order_parameter_difference``, ``second_moment_difference`` (input), each with ``_se``
            Difference of posterior means, see :func:`mean_differences`.
        ``effective_draws``
            Draws that the first three were taken from: at most 500, evenly spaced, no more than the
            effective sample size (the median over the test points), since repeated draws would only
            look like more data.

    Raises
    ------
    ValueError
        For an unknown reference, for results with other test data, and, without `reference`, where
        no result of NUTS has converged.

    Notes
    -----
    Gretton, Borgwardt, Rasch, Schölkopf and Smola, *A kernel two-sample test* (2012). Floors are
    means (that of MMD² the standard deviation) over 20 random splits of the pooled draws into two
    sets of the original sizes; where the two laws differ, the pooled law is wider and the floor
    somewhat too high.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD, sample
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40, num_test=50)
    >>> kernel, keys = SGLD(step_size=0.01), map(jax.random.key, (1, 2))
    >>> trees = {n: sample(network, data, kernel, key, num_samples=2000) for n, key in zip("ab", keys)}
    >>> bool(distances(trees, reference="a").wasserstein.sel(scheme="b") < 0.1)
    True
    """
    reference = _reference(trees, reference)
    _check_test_data(trees)
    f = {n: t["predictions"].f.isel(test=slice(_MOST_POINTS)).astype(float) for n, t in trees.items()}
    draws = {label: _effective_draws(f[label], is_independent(trees[label])) for label in trees}
    bandwidth = float(np.median(pdist(draws[reference]))) or 1.0
    centre = _sd(f[reference])
    rows = []
    for label, tree in trees.items():
        row = _distances(draws[label], draws[reference], bandwidth, label == reference)
        row |= _moments(tree, trees[reference])
        # Moments of f use every draw: thinning would only add noise.
        row["spread"] = float(np.median(_sd(f[label]) / centre))
        row["effective_draws"] = len(draws[label])
        rows.append(row)
    dims = {name: ("scheme", "input") if np.ndim(v) else ("scheme",) for name, v in rows[0].items()}
    return xr.Dataset(
        {name: (dim, np.array([row[name] for row in rows])) for name, dim in dims.items()},
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
    """Mean over columns of ½ Σ_b |p_b - q_b| with ten bins between the deciles of `g`, (draw, point)."""
    edges = np.quantile(g, np.arange(1, _BINS) / _BINS, axis=0)
    shares = []
    for values in (f, g):
        below = np.mean(values <= edges[:, None], axis=1)
        shares.append(np.diff(below, axis=0, prepend=0.0, append=1.0))
    return float(np.mean(0.5 * np.abs(shares[0] - shares[1]).sum(axis=0)))


def mean_rms(f: np.ndarray, g: np.ndarray) -> float:
    """Root mean square over columns of the difference of the means."""
    return float(np.sqrt(np.mean((f.mean(axis=0) - g.mean(axis=0)) ** 2)))


_MEASURES = {"wasserstein": wasserstein, "total_variation": total_variation, "mean_rms": mean_rms}


def _distances(f: np.ndarray, g: np.ndarray, bandwidth: float, same: bool) -> dict[str, float]:
    """Every distance and its floor; zeros where `f` and `g` are the `same` draws."""
    if same:
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
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return float("nan")
    # Without the diagonal: a draw is not compared with itself, which makes the estimate unbiased.
    within = (gram[np.ix_(first, first)].sum() - n) / (n * (n - 1))
    within += (gram[np.ix_(second, second)].sum() - m) / (m * (m - 1))
    return float(within - 2 * gram[np.ix_(first, second)].mean())


def _moments(tree: xr.DataTree, reference: xr.DataTree) -> dict:
    alone = (is_independent(tree), is_independent(reference))
    table = mean_differences(functions_of(tree), functions_of(reference), alone)
    if tree is reference:
        table["se"] = 0.0
    moments = table[table.index.str.startswith("second_moment")]
    m = table.loc["order_parameter"]
    return {
        "order_parameter_difference": float(m["difference"]),
        "order_parameter_difference_se": float(m["se"]),
        "second_moment_difference": moments["difference"].to_numpy(),
        "second_moment_difference_se": moments["se"].to_numpy(),
    }


def _effective_draws(f: xr.DataArray, independent: bool) -> np.ndarray:
    total = wanted = f.sizes["chain"] * f.sizes["draw"]
    if not independent:
        ess = arviz_stats.ess(f.isel(test=slice(0, 20)).to_dataset(name="f")).f
        wanted = int(ess.median()) if ess.notnull().any() else total
    wanted = min(max(4, wanted), _MOST_DRAWS, total)
    flat = f.transpose("chain", "draw", "test").to_numpy().reshape(total, -1)
    return flat[np.linspace(0, total - 1, wanted).round().astype(int)]


def _sd(f: xr.DataArray) -> np.ndarray:
    return np.maximum(f.std(("chain", "draw")).to_numpy(), np.finfo(float).tiny)


def _reference(trees: Mapping[str, xr.DataTree], reference: str | None) -> str:
    if not trees:
        raise ValueError("trees must hold at least one result.")
    if reference is None:
        for label, tree in trees.items():
            if tree.attrs.get("scheme") == "nuts" and diagnose(tree).converged:
                return label
        raise ValueError(
            "no result of NUTS in trees has converged; run NUTS longer, or name another reference."
        )
    if reference not in trees:
        raise ValueError(f"reference {reference!r} is not among the results; they are {', '.join(trees)}.")
    return reference


def _check_test_data(trees: Mapping[str, xr.DataTree]) -> None:
    first, *others = trees.values()
    for other in others:
        if not np.array_equal(first["constant_data"].x_test, other["constant_data"].x_test):
            raise ValueError("trees must share their test inputs; compare results on the same data.")

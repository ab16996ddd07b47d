"""Are the predictive intervals honest? Coverage at test points, LOO-PIT at training points."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from scipy.special import ndtr, ndtri

from analysis.diagnostics.check import PREDICTIONS, Check
from analysis.diagnostics.functions import all_draws
from analysis.diagnostics.importance import NoTailError, has_seen_data
from analysis.results.predictions import function_of_draws, network_of

LEVELS = (0.5, 0.8, 0.9, 0.95)
# Chance of a false alarm of each of the two checks (coverage: over all its levels together).
SIGNIFICANCE = 0.01
_PSEUDO_TRUTHS = 400


@dataclass(frozen=True)
class Calibration:
    """Calibration of one result's predictions, see :func:`calibrate`.

    `coverage` has a row per level: ``y``, the share of test targets inside the central predictive
    interval of y = f(x) + κ√P ξ, noise of the model included; ``expected_low``, ``expected_high``,
    the 99 % range of that share if the result were right, the levels together; ``f``, the share
    inside the credible interval of f(x) alone, a coverage only where the targets are free of noise
    (as a teacher's are). `pit` and `loo_pit` are of every test and training target, the second None
    where leave-one-out has no meaning or the draws are the same; `loo_pit_p_value` is of
    uniformity, for dependent values (POT-C); `target_noise` is κ√P.
    """

    coverage: pd.DataFrame
    pit: np.ndarray
    loo_pit: np.ndarray | None
    loo_pit_p_value: float | None
    target_noise: float


def calibrate(tree: xr.DataTree, seed: int = 0) -> Calibration:
    """Calibration of the predictions of a result.

    What is predicted is a target of the model, y = f(x) + κ√P ξ with ξ ~ Normal(0, 1), given the
    training data:

        PIT_μ = E_draws[ Φ((y_μ - f(x_μ))/(κ√P)) ]                         at a test point μ
        LOO-PIT_μ = Σ_draws r_μ Φ((y_μ - f(x_μ))/(κ√P)),  r_μ ∝ 1/p(y_μ|f)   at a training point,

    with weights r by PSIS. Test points share one posterior, so that their hits are not independent.
    What coverage to expect is found from the posterior itself: each of several hundred draws of f
    takes the place of the truth, its targets are drawn with noise (from `seed`), and the share that
    the intervals cover is counted. For a right posterior the observed share is one more draw from
    that law.

    The noise κ√P is part of the model, a temperature. Where the targets have none (a teacher's),
    y's intervals are wider than they need be once f has been learned; that is no error of the
    inference.

    References
    ----------
    Gelman and others, *Bayesian Data Analysis* (2013), chapter 6, for PIT and LOO-PIT; Tesso and
    Vehtari, *LOO-PIT predictive model checking* (arXiv:2603.02928), for the test of uniformity of
    dependent values; Vehtari, Simpson, Gelman, Yao and Gabry, *Pareto smoothed importance sampling*
    (2024).

    Examples
    --------
    >>> calibrate(tree).coverage.index.tolist()
    [0.5, 0.8, 0.9, 0.95]
    """
    target_noise = network_of(tree).kappa * tree["observed_data"].sizes["data"] ** 0.5
    f, y_test = all_draws(tree["predictions"].f), tree["predictions_constant_data"].y_test.to_numpy()
    coverage = _coverage(f, y_test, target_noise, np.random.default_rng(seed))
    pit = np.mean(ndtr((y_test - f) / target_noise), axis=0)
    loo_pit = _loo_pit(tree, target_noise) if has_seen_data(tree) else None
    p_value = None if loo_pit is None else float(array_stats.uniformity_test(loo_pit)[0])
    return Calibration(coverage, pit, loo_pit, p_value, target_noise)


def _coverage(f: np.ndarray, y: np.ndarray, target_noise: float, rng) -> pd.DataFrame:
    predictive = f + target_noise * rng.standard_normal(f.shape)
    truths = f[np.linspace(0, len(f) - 1, min(_PSEUDO_TRUTHS, len(f))).round().astype(int)]
    # The range of several hundred pseudo-truths is widened to the wanted tails of a Normal law.
    reach = ndtri(1 - SIGNIFICANCE / len(LEVELS) / 2)
    rows = {}
    for level in LEVELS:
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(predictive, tails, axis=0)
        f_low, f_high = np.quantile(f, tails, axis=0)
        hits = ndtr((high - truths) / target_noise) - ndtr((low - truths) / target_noise)
        expected = np.mean(rng.uniform(size=hits.shape) < hits, axis=1)
        width = reach * expected.std(ddof=1) if len(expected) > 1 else 1.0
        rows[level] = {
            "y": np.mean((low <= y) & (y <= high)),
            "expected_low": max(0.0, expected.mean() - width),
            "expected_high": min(1.0, expected.mean() + width),
            "f": np.mean((f_low <= y) & (y <= f_high)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("level")


def _loo_pit(tree: xr.DataTree, target_noise: float) -> np.ndarray | None:
    """The noise is integrated exactly (ArviZ's draws it); None for draws too few or too alike."""
    log_likelihood = all_draws(tree["log_likelihood"].y)
    weights = np.full(log_likelihood.shape, 1 / len(log_likelihood))
    # Where f is the same in all draws (no neuron sees the point) there is nothing to reweight.
    varies = np.ptp(log_likelihood, axis=0) > 0
    # psislw takes the log likelihood and weights by its inverse.
    try:
        weights[:, varies] = np.exp(array_stats.psislw(log_likelihood[:, varies].T, axis=-1)[0]).T
    except NoTailError:
        return None
    f = function_of_draws(tree, tree["constant_data"].x.to_numpy())
    residual = tree["observed_data"].y.to_numpy() - f
    return np.sum(weights * ndtr(residual / target_noise), axis=0)


def check_calibration(calibration: Calibration) -> list[Check]:
    """The checks on a :class:`Calibration`: intervals too narrow fail, too wide are noted."""
    checks = [_check_coverage(calibration)]
    return checks if calibration.loo_pit is None else [*checks, _check_loo_pit(calibration)]


def _check_coverage(calibration: Calibration) -> Check:
    table = calibration.coverage
    short, over = table["expected_low"] - table["y"], table["y"] - table["expected_high"]
    low, high = bool((short > 0).any()), bool((over > 0).any())
    worst = (short if low else over if high else (table["y"] - table.index).abs()).idxmax()
    share = float(table["y"][worst])
    status, held = "passed", f"the {worst:.0%} intervals of y hold {share:.1%} of the test targets"
    if low:
        status = "failed"
        as_of = "as that of f plus Normal noise has for targets of two values that f does not tell apart"
        shape = f", while others hold too many: the predictive distribution has the wrong shape, {as_of}"
        held += shape if high else ": over-confident, the intervals are too narrow or in the wrong place"
    elif high:
        status = "note"
        held += f": wider than they need be, since {_too_noisy(calibration)}"
    return Check("coverage", PREDICTIONS, status, held, share, worst, "calibration")


def _check_loo_pit(calibration: Calibration) -> Check:
    p_value, fall = calibration.loo_pit_p_value, "left-out training targets fall"
    status, message = "passed", f"{fall} where they are predicted to"
    if p_value < SIGNIFICANCE and np.mean(np.abs(2 * calibration.loo_pit - 1)) > 0.5:  # 1/2 if uniform
        status, why = "failed", "over-confident, or the residuals have heavier tails than the model's Normal"
        message = f"{fall} too often in the tails of their predictions: {why}"
    elif p_value < SIGNIFICANCE:
        status = "note"
        message = f"{fall} too often in the middle of their predictions: {_too_noisy(calibration)}"
    return Check("LOO-PIT", PREDICTIONS, status, message, p_value, SIGNIFICANCE, "calibration")


def _too_noisy(calibration: Calibration) -> str:
    return f"the model's noise κ√P = {calibration.target_noise:.2g} is more than the targets have"

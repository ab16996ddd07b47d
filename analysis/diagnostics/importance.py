"""Pareto k̂: is a guide close to the posterior, and is PSIS-LOO to be trusted?"""

import warnings
from functools import partial

import arviz_stats
import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from scipy.stats import norm

from analysis.diagnostics.check import ELPD, POSTERIOR, Check
from analysis.diagnostics.functions import stats_of

# Vehtari et al. (2024).
PARETO_K_LIMIT = 0.7
# The group of a Gaussian process's leave-one-out.
EXACT_LOO = "exact_loo"
# What arviz-stats raises where draws are too few, or their ratios too alike, to have a tail.
NoTailError = (ValueError, IndexError)


def guide_pareto_k(tree: xr.DataTree) -> float | None:
    """k̂ of a guide, the tail's shape of p(y, θ)/q(θ), θ ~ q; None where no Pareto law fits."""
    stats = stats_of(tree)
    if "log_q" not in stats:
        return None
    log_ratios = (stats["log_p"] - stats["log_q"]).to_numpy().astype(float).ravel()
    # psislw takes minus their log, as for log likelihoods, whose leave-one-out ratios are 1/p(y|θ).
    try:
        k = float(array_stats.psislw(-log_ratios)[1])
    except NoTailError:
        return None
    return k if np.isfinite(k) else None


def leave_one_out(tree: xr.DataTree):
    """PSIS-LOO, pointwise, or the exact one; None without any, or of draws too few or too alike."""
    if EXACT_LOO in tree.children:
        return _exact_loo(tree)
    if not has_seen_data(tree):
        return None
    with warnings.catch_warnings():
        # A high Pareto k is reported in the result and the table instead of on standard error.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return arviz_stats.loo(tree, pointwise=True)
        except NoTailError:
            return None


def with_exact_loo(
    tree: xr.DataTree, elpd: np.ndarray, log_density: np.ndarray, prior_weights: bool
) -> xr.DataTree:
    """`tree` with a theory's leave-one-out in closed form, instead of by PSIS.

    `elpd` are log p(y_μ | the other targets), `log_density` log p(y_μ | all of them), each (P,).
    With `prior_weights` they are of the process at infinite width, and the draws networks of finite
    width whose hidden weights have not seen the data: nothing that reweights them has a meaning,
    and their groups ``log_likelihood`` and ``log_prior`` go.
    """
    if prior_weights:
        tree = tree.drop_nodes(["log_likelihood", "log_prior"], errors="ignore")
    points = {"data": np.arange(len(elpd))}
    tree[EXACT_LOO] = xr.Dataset({"elpd": ("data", elpd), "log_density": ("data", log_density)}, points)
    return tree


def _exact_loo(tree: xr.DataTree) -> arviz_stats.utils.ELPDDataLOO:
    exact, sizes = tree[EXACT_LOO].to_dataset(), tree["posterior"].sizes
    return arviz_stats.utils.ELPDDataLOO(
        elpd=float(exact.elpd.sum()),
        se=float(np.sqrt(exact.elpd.size * exact.elpd.var())),
        p=float(exact.log_density.sum() - exact.elpd.sum()),
        n_samples=sizes["chain"] * sizes["draw"],
        n_data_points=exact.elpd.size,
        scale="log",
        warning=False,
        good_k=PARETO_K_LIMIT,
        elpd_i=exact.elpd.rename("y"),
        pareto_k=xr.zeros_like(exact.elpd),
    )


def has_seen_data(tree: xr.DataTree) -> bool:
    """Whether reweighting its draws leaves a training point out: not with infinite data, or NNGP."""
    return "log_likelihood" in tree.children and not tree.attrs.get("population", 0)


def check_guide(tree: xr.DataTree, pareto_k: float | None) -> list[Check]:
    """The checks on a guide's draws: Pareto k̂ of the importance ratios, agreement of the restarts.

    Below k̂ = 0.7 reweighting the draws gives posterior means; above, the guide misses parts of the
    posterior, or is too narrow: Yao, Vehtari, Simpson and Gelman, *Yes, but did it work? Evaluating
    variational inference* (2018). High values are expected of a mean-field guide on a multimodal
    posterior. The figure of the restarts is the ELBO: where the runner-up is within its error of
    the best and others are far below, the bound has several optima and each is an answer.
    """
    checks = []
    if "log_q" in stats_of(tree):
        status, message = "passed", "importance weights would correct the guide: it covers the posterior"
        if pareto_k is None:
            status = "failed"
            message = "Pareto k̂ of the guide cannot be judged: no Pareto law fits its importance ratios"
        elif pareto_k > PARETO_K_LIMIT:
            status, why = "failed", "it is narrower than the posterior or misses parts of it"
            far = f"the guide is not close to the posterior (Pareto k̂ {pareto_k:.2f})"
            message = f"{far}: {why}; compare with a sampler"
        checks.append(Check("guide k̂", POSTERIOR, status, message, pareto_k, PARETO_K_LIMIT, "pareto_k"))
    if "restarts" in tree.children and tree["restarts"].sizes.get("restart", 1) > 1:
        checks.append(_check_restarts(tree["restarts"].to_dataset()))
    return checks


def _check_restarts(restarts: xr.Dataset) -> Check:
    elbo, se = restarts.elbo.to_numpy(), restarts.elbo_se.to_numpy()
    finite = np.isfinite(elbo)
    best, *others = np.argsort(np.where(finite, elbo, -np.inf))[::-1]
    gap = elbo[best] - elbo[others]
    # Bounds of one optimum still differ by the noise of the last steps: a nat is no second optimum.
    limit = norm.isf(0.01 / len(others)) * np.hypot(se[best], se[others]) + 1.0
    reached = 1 + int((gap <= limit).sum())
    status, message = "passed", f"{reached} of {len(elbo)} restarts reach the best bound"
    if not finite[others].any() or bool((gap > limit).all()):
        status, bounds = "note", f"{elbo[best]:.1f} (next {elbo[others[0]]:.1f})"
        message = f"only one of {len(elbo)} restarts reaches the bound {bounds}; more restarts may find a better one"
    return Check("restarts", POSTERIOR, status, message, float(gap[0]), figure="restarts")


def check_loo(loo) -> Check:
    """The check on :func:`leave_one_out`: k̂ of every point (Vehtari, Simpson and others 2024)."""
    if loo is None:
        message = "leave-one-out cannot be judged: the draws are too few, or the same; run longer"
        return Check("LOO k̂", ELPD, "failed", message)
    k, limit = np.asarray(loo.pareto_k, float), float(loo.good_k)
    bad = int((~(k <= limit)).sum())  # a tail that no Pareto law fits has no k̂, and is as bad
    make = partial(Check, "LOO k̂", ELPD, value=float(k.max()), limit=limit, figure="pareto_k")
    if not bad:
        return make("passed", f"leave-one-out by reweighting is safe at all {k.size} points")
    why = "leaving one out changes the posterior too much for reweighting"
    remedy = "refit without them, or use K-fold cross-validation"
    return make("failed", f"{bad} of {k.size} points have Pareto k̂ above {limit:.2f}: {why}; {remedy}")

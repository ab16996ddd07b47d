"""Pareto k̂: is a guide close to the posterior, and is PSIS-LOO to be trusted?"""

from functools import partial

import numpy as np
import xarray as xr
from scipy.stats import norm

from analysis.diagnostics.check import ELPD, POSTERIOR, Check
from analysis.diagnostics.diagnose import PARETO_K_LIMIT


def check_guide(tree: xr.DataTree, pareto_k: float | None) -> list[Check]:
    """The checks on a guide's draws: Pareto k̂ of the importance ratios, agreement of the restarts.

    k̂ is the fitted shape of the tail of p(y, θ)/q(θ) over draws θ from the guide q. Below 0.7 reweighting the draws
    gives posterior means; above, the guide misses parts of the posterior, or is too narrow. The figure of the
    restarts is the ELBO: where the runner-up is within its error of the best and others are far below, the bound
    has several optima and each is an answer.

    Notes
    -----
    Yao, Vehtari, Simpson and Gelman, *Yes, but did it work? Evaluating variational inference* (2018).
    """
    checks = []
    if pareto_k is not None:
        make = partial(Check, "guide k̂", POSTERIOR, value=pareto_k, limit=PARETO_K_LIMIT, figure="pareto_k")
        if pareto_k > PARETO_K_LIMIT:
            message = (
                f"the guide is not close to the posterior (Pareto k̂ {pareto_k:.2f}): it is narrower than the "
                "posterior or misses parts of it; compare with a sampler"
            )
            checks.append(make(status="failed", message=message))
        else:
            message = "importance weights would correct the guide: it covers the posterior"
            checks.append(make(status="passed", message=message))
    if "restarts" in tree.children and tree["restarts"].sizes.get("restart", 1) > 1:
        checks.append(_check_restarts(tree["restarts"].to_dataset()))
    return checks


def _check_restarts(restarts: xr.Dataset) -> Check:
    elbo, se = restarts.elbo.to_numpy(), restarts.elbo_se.to_numpy()
    finite = np.isfinite(elbo)
    order = np.argsort(np.where(finite, elbo, -np.inf))[::-1]
    best, others = order[0], order[1:]
    gap = elbo[best] - elbo[others]
    # Bounds of one optimum still differ by the noise of the last steps: a nat is no second optimum.
    limit = norm.isf(0.01 / len(others)) * np.hypot(se[best], se[others]) + 1.0
    alone = not finite[others].any() or bool((gap > limit).all())
    make = partial(Check, "restarts", POSTERIOR, value=float(gap[0]), figure="restarts")
    if alone:
        message = (
            f"only one of {len(elbo)} restarts reaches the bound {elbo[best]:.1f} (next {elbo[others[0]]:.1f}); "
            "more restarts may find a better one"
        )
        return make(status="note", message=message)
    reached = 1 + int((gap <= limit).sum())
    return make(status="passed", message=f"{reached} of {len(elbo)} restarts reach the best bound")


def check_loo(loo) -> Check:
    """The check on PSIS-LOO: Pareto k̂ of every data point (Vehtari, Simpson, Gelman, Yao and Gabry 2024)."""
    k = np.asarray(loo.pareto_k, float)
    limit = float(loo.good_k)
    bad = int((~(k <= limit)).sum())  # a tail that no Pareto law fits has no k̂, and is as bad
    make = partial(Check, "LOO k̂", ELPD, value=float(k.max()), limit=limit, figure="pareto_k")
    if bad:
        message = (
            f"{bad} of {k.size} points have Pareto k̂ above {limit:.2f}: leaving one out changes the posterior too "
            "much for reweighting; refit without them, or use K-fold cross-validation"
        )
        return make(status="failed", message=message)
    return make(status="passed", message=f"leave-one-out by reweighting is safe at all {k.size} points")

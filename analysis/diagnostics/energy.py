"""Did NUTS explore? Energies (E-BFMI), divergent trajectories, saturated trees."""

import json
from functools import partial

import arviz_stats
import numpy as np
import xarray as xr

from analysis.diagnostics.check import POSTERIOR, Check

# Betancourt (2016) finds trouble below 0.3 or so; arviz-stats and Stan warn there too.
BFMI_LIMIT = 0.3


def check_energy(tree: xr.DataTree) -> list[Check]:
    """The checks on the trajectories of an HMC or NUTS result; none for other results.

    E-BFMI = E[(E_t - E_{t-1})²]/Var[E] compares the energies that one momentum draw reaches with those of the
    posterior; it is small where heavy tails or a funnel hold more energy than a draw of the momentum can give.
    A divergent trajectory has met curvature that its step size does not resolve, the neck of a funnel: the
    draws leave that region out, whatever R-hat says.

    Notes
    -----
    Betancourt, *Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo* (2016) and *A
    conceptual introduction to Hamiltonian Monte Carlo* (2017). E-BFMI by arviz-stats.
    """
    stats = tree["sample_stats"] if "sample_stats" in tree.children else {}
    checks = []
    if "energy" in stats:
        checks.append(_check_bfmi(stats["energy"].astype(float)))
    if "diverging" in stats:
        checks.append(_check_divergences(stats["diverging"].to_numpy()))
    if "n_steps" in stats:
        checks.append(_check_tree_depth(tree, stats["n_steps"].to_numpy()))
    return checks


def _check_bfmi(energy: xr.DataArray) -> Check:
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(arviz_stats.bfmi(energy.to_dataset(name="energy"))["energy"])
    make = partial(Check, "E-BFMI", POSTERIOR, limit=BFMI_LIMIT, figure="energy")
    if not np.isfinite(values).all():
        chain = int(np.argmin(np.isfinite(values)))
        return make(
            status="failed", message=f"chain {chain} does not move: its energy never changes; start it anew"
        )
    worst, chain = float(np.min(values)), int(np.argmin(values))
    if worst < BFMI_LIMIT:
        return make(
            status="failed",
            value=worst,
            message=f"chain {chain} moves too slowly between energies (E-BFMI {worst:.2f}): heavy tails or a "
            "funnel; use a non-centred parametrisation",
        )
    message = "every draw of the momentum reaches the energies of the posterior"
    return make(status="passed", value=worst, message=message)


def _check_divergences(diverging: np.ndarray) -> Check:
    count = int(diverging.sum())
    make = partial(Check, "divergences", POSTERIOR, value=float(count), limit=0.0, figure="energy")
    if count:
        return make(
            status="failed",
            message=f"{count} of {diverging.size} trajectories diverged: the draws leave out a region of high "
            "curvature; use a non-centred parametrisation, or raise target_accept_prob",
        )
    return make(status="passed", message=f"none of {diverging.size} trajectories diverged")


def _check_tree_depth(tree: xr.DataTree, num_steps: np.ndarray) -> Check:
    settings = json.loads(tree.attrs.get("settings", "{}"))
    depth = settings.get("max_tree_depth") or int(np.ceil(np.log2(num_steps.max() + 1)))
    share = float(np.mean(num_steps >= 2**depth - 1))
    make = partial(Check, "tree depth", POSTERIOR, value=share, limit=0.5, figure="energy")
    if share > 0.5 and depth >= 8:
        return make(
            status="note",
            message=f"{share:.0%} of the trajectories have the largest length, {2**depth - 1} steps: longer ones "
            "(max_tree_depth) would mix faster",
        )
    return make(status="passed", message="trajectories turn round before they reach the largest length")

"""Did NUTS explore? Energies (E-BFMI), divergent trajectories, saturated trees."""

from functools import partial

import arviz_stats
import numpy as np
import xarray as xr

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.functions import stats_of
from analysis.diagnostics.provenance import settings_of

# Betancourt (2016) finds trouble below 0.3 or so; arviz-stats and Stan warn there too.
BFMI_LIMIT = 0.3
_DEEP = 8  # a tree of so many doublings that saturates mixes slowly; shallower ones are chosen


def check_energy(tree: xr.DataTree) -> list[Check]:
    """The checks on the trajectories of an HMC or NUTS result; none for other results.

    E-BFMI = E[(E_t - E_{t-1})²]/Var[E] compares the energies that one momentum draw reaches with
    those of the posterior; it is small where heavy tails or a funnel hold more energy than a draw
    of the momentum can give. A divergent trajectory has met curvature that its step size does not
    resolve, the neck of a funnel: the draws leave that region out, whatever R-hat says.

    References
    ----------
    Betancourt, *Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo* (2016)
    and *A conceptual introduction to Hamiltonian Monte Carlo* (2017). E-BFMI by arviz-stats.
    """
    stats, checks = stats_of(tree), []
    if "energy" in stats:
        checks.append(_check_bfmi(stats["energy"].astype(float)))
    if {"energy", "diverging"} <= set(stats):  # where a Langevin step diverges the run is stopped instead
        checks.append(_check_divergences(stats["diverging"].to_numpy()))
    if "n_steps" in stats:
        checks.append(_check_tree_depth(settings_of(tree), stats["n_steps"].to_numpy()))
    return checks


def _check_bfmi(energy: xr.DataArray) -> Check:
    make = partial(Check, "E-BFMI", POSTERIOR, limit=BFMI_LIMIT, figure="energy")
    if energy.sizes["draw"] < 2:
        return make("failed", "E-BFMI cannot be judged: one draw a chain has no change of energy")
    with np.errstate(invalid="ignore", divide="ignore"):  # of chains that do not move
        values = np.asarray(arviz_stats.bfmi(energy.to_dataset(name="energy")).energy)
    worst, chain = float(np.min(values)), int(np.argmin(values))  # NaN counts as the least
    if not np.isfinite(worst):
        return make("failed", f"chain {chain} does not move: its energy never changes; start it anew")
    if worst >= BFMI_LIMIT:
        return make("passed", "every draw of the momentum reaches the energies of the posterior", value=worst)
    why = "heavy tails or a funnel; use a non-centred parametrisation"
    message = f"chain {chain} moves too slowly between energies (E-BFMI {worst:.2f}): {why}"
    return make("failed", message, value=worst)


def _check_divergences(diverging: np.ndarray) -> Check:
    count, total = int(diverging.sum()), diverging.size
    status, message = "passed", f"none of {total} trajectories diverged"
    if count:
        status, why = "failed", "the draws leave out a region of high curvature"
        remedy = "use a non-centred parametrisation, or raise target_accept_prob"
        message = f"{count} of {total} trajectories diverged: {why}; {remedy}"
    return Check("divergences", POSTERIOR, status, message, float(count), 0.0, "energy")


def _check_tree_depth(settings: dict, num_steps: np.ndarray) -> Check:
    depth = settings.get("max_tree_depth") or int(np.ceil(np.log2(num_steps.max() + 1)))
    share = float(np.mean(num_steps >= 2**depth - 1))
    status, message = "passed", "trajectories turn round before they reach the largest length"
    if share > 0.5 and depth >= _DEEP:
        status, remedy = "note", "longer ones (max_tree_depth) would mix faster"
        message = f"{share:.0%} of the trajectories have the largest length, {2**depth - 1} steps: {remedy}"
    return Check("tree depth", POSTERIOR, status, message, share, 0.5, "energy")

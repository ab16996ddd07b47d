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
    those of the posterior; it is small where heavy tails or a funnel hold more energy than a draw of
    the momentum can give. A divergent trajectory has met curvature that its step size does not
    resolve, the neck of a funnel: the draws leave that region out, whatever R-hat says.

    Notes
    -----
    Betancourt, *Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo* (2016)
    and *A conceptual introduction to Hamiltonian Monte Carlo* (2017). E-BFMI by arviz-stats.
    """
    stats, checks = stats_of(tree), []
    if "energy" in stats:
        checks.append(_check_bfmi(stats["energy"].astype(float)))
    if "diverging" in stats:
        figure = "energy" if "energy" in stats else None
        checks.append(_check_divergences(stats["diverging"].to_numpy(), figure))
    if "n_steps" in stats:
        checks.append(_check_tree_depth(settings_of(tree), stats["n_steps"].to_numpy()))
    return checks


def bfmi(energy: xr.DataArray) -> np.ndarray:
    """E-BFMI of every chain; NaN for one whose energy never changes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(arviz_stats.bfmi(energy.to_dataset(name="energy"))["energy"])


def _check_bfmi(energy: xr.DataArray) -> Check:
    make = partial(Check, "E-BFMI", POSTERIOR, limit=BFMI_LIMIT, figure="energy")
    if energy.sizes["draw"] < 2:
        return make("failed", "E-BFMI cannot be judged: one draw a chain has no change of energy")
    values = bfmi(energy)
    if not np.isfinite(values).all():
        chain = int(np.argmin(np.isfinite(values)))
        return make("failed", f"chain {chain} does not move: its energy never changes; start it anew")
    worst, chain = float(np.min(values)), int(np.argmin(values))
    if worst < BFMI_LIMIT:
        message = (
            f"chain {chain} moves too slowly between energies (E-BFMI {worst:.2f}): heavy tails or a "
            "funnel; use a non-centred parametrisation"
        )
        return make("failed", message, value=worst)
    message = "every draw of the momentum reaches the energies of the posterior"
    return make("passed", message, value=worst)


def _check_divergences(diverging: np.ndarray, figure: str | None) -> Check:
    count, total = int(diverging.sum()), diverging.size
    make = partial(Check, "divergences", POSTERIOR, value=float(count), limit=0.0, figure=figure)
    if not count:
        return make("passed", f"none of {total} trajectories diverged")
    message = (
        f"{count} of {total} trajectories diverged: the draws leave out a region of high curvature; "
        "use a non-centred parametrisation, or raise target_accept_prob"
    )
    return make("failed", message)


def _check_tree_depth(settings: dict, num_steps: np.ndarray) -> Check:
    depth = settings.get("max_tree_depth") or int(np.ceil(np.log2(num_steps.max() + 1)))
    share = float(np.mean(num_steps >= 2**depth - 1))
    make = partial(Check, "tree depth", POSTERIOR, value=share, limit=0.5, figure="energy")
    if share <= 0.5 or depth < _DEEP:
        return make("passed", "trajectories turn round before they reach the largest length")
    message = (
        f"{share:.0%} of the trajectories have the largest length, {2**depth - 1} steps: longer ones "
        "(max_tree_depth) would mix faster"
    )
    return make("note", message)

"""Simulation-based calibration: does a scheme return the posterior, on data of the model itself?"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.ecdf_utils import ecdf_pit
from jax import random
from numpyro.infer.mcmc import MCMCKernel
from scipy.stats import chisquare

from analysis.diagnostics.sbc_runs import fit_all, quantities, sample_all, simulate
from inference import MeanFieldGuide
from inference.runs.binding import bind_kernel
from models import Network, checks

NUM_BINS = 16  # of the ranks, in the χ² test and in figures
SIGNIFICANCE = 0.01
_POINTS = 2  # new points at which f is a quantity whose ranks are taken
_BAND_SIMULATIONS = 1000


@dataclass(frozen=True)
class SimulationBasedCalibration:
    """Ranks of the truth among posterior draws, over data sets simulated from the model.

    `ranks` (simulation) say, by quantity, how many of the L = `num_draws` draws lie below the true
    value, 0 … L; `settings`, JSON-able, what was run.
    """

    ranks: xr.Dataset
    num_draws: int
    settings: dict

    @property
    def num_simulations(self) -> int:
        """Number of simulated data sets."""
        return self.ranks.sizes["simulation"]

    @property
    def fractional_ranks(self) -> xr.Dataset:
        """(rank + u)/(L + 1), u uniform on (0, 1): uniform on (0, 1), for a right scheme."""
        rng = np.random.default_rng(0)
        return self.ranks.map(lambda rank: (rank + rng.uniform(size=rank.shape)) / (self.num_draws + 1))

    def table(self) -> pd.DataFrame:
        """Tests of uniformity, a row per quantity.

        ``chi2`` of the counts in 16 bins and its ``p_value``; ``outside``, whether the ranks'
        empirical distribution leaves its simultaneous 99 % band (Säilynoja and others 2022);
        ``mean`` of the fractional ranks, below 1/2 where the draws are too high; ``spread``, their
        standard deviation times √12, above 1 for over-confident draws, below 1 for too broad ones.
        """
        rows = {}
        for name, rank in self.fractional_ranks.data_vars.items():
            chi2, p_value = _uniformity(rank)
            rng = np.random.default_rng(0)
            _, ecdf, low, high = ecdf_pit(rank.to_numpy(), 1 - SIGNIFICANCE, _BAND_SIMULATIONS, rng=rng)
            rows[name] = {
                "chi2": chi2,
                "p_value": p_value,
                "outside": bool(((ecdf < low) | (ecdf > high)).any()),
                "mean": float(rank.mean()),
                "spread": float(rank.std()) * 12**0.5,
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("quantity")

    @property
    def p_values(self) -> dict[str, float]:
        """p-value of the χ² test, by quantity."""
        return {name: _uniformity(rank)[1] for name, rank in self.fractional_ranks.data_vars.items()}

    @property
    def passed(self) -> bool:
        """Whether every quantity's ranks are uniform: χ² at the 1 % level over all together."""
        p_values = self.p_values
        return min(p_values.values()) > SIGNIFICANCE / len(p_values)

    @property
    def message(self) -> str:
        """The outcome in plain words."""
        p_values = self.p_values
        if self.passed:
            found = f"{len(p_values)} quantities have uniform ranks over {self.num_simulations} data sets"
            return f"calibrated: {found}."
        worst = min(p_values, key=p_values.get)
        mean, spread = self.table().loc[worst, ["mean", "spread"]]
        # In standard errors of the mean and the spread of uniform ranks: 1/√(12 n) and 0.447/√n.
        off, wide = (mean - 0.5) * 12**0.5, (spread - 1) / 0.447
        kind = "over-confident" if wide > 0 else "too broad"
        if abs(off) > abs(wide):
            kind = "too high" if off < 0 else "too low"
        figures = f"mean of the ranks {mean:.2f}, spread {spread:.2f}, χ² p-value {p_values[worst]:.1g}"
        return f"not calibrated: the draws of {worst} are {kind} ({figures})."


def _uniformity(values: xr.DataArray) -> tuple[float, float]:
    """χ² of values in (0, 1) against uniform counts, and its p-value."""
    return tuple(map(float, chisquare(np.histogram(values, NUM_BINS, (0, 1))[0])))


def simulation_based_calibration(
    network: Network,
    scheme: MCMCKernel | MeanFieldGuide | Callable,
    key: jax.Array,
    num_simulations: int = 256,
    *,
    num_data: int = 10,
    num_draws: int = 63,
    num_warmup: int = 500,
    thinning: int = 5,
    num_steps: int = 2000,
) -> SimulationBasedCalibration:
    """Ranks of true quantities among a scheme's draws, over data sets drawn from the model.

    θ* ~ prior, y ~ p(y | θ*), θ_1 … θ_L ~ scheme(y): if the scheme draws from the posterior, then
    for every function g(θ, y) the rank of g(θ*, y) among g(θ_l, y) is uniform on 0 … L (Talts et
    al. 2018). The functions are identified ones, since single weights are exchangeable: f at two
    new points, the train MSE (which sees the data, and so errors that leave the prior's averages
    alone), the mean second moment of the weights, and log ρ of the first two inputs where the prior
    has it.

    All data sets are run at the same time, so that `network` has to be small; every chain starts
    from a draw of the prior of its own, not from θ*.

    Parameters
    ----------
    scheme
        A kernel or a callable from a model to one, as for :func:`inference.sample`; or a guide, as
        for :func:`inference.fit` (one restart a data set).
    num_simulations, num_data
        Data sets, at least 20, and their standard normal training inputs, the same for all.
    num_draws
        L; with L + 1 a multiple of 16, the number of bins, the χ² test loses nothing.
    num_warmup, thinning
        For kernels. Draws that are not independent look over-confident.
    num_steps
        For guides: steps of Adam with a cosine schedule.

    References
    ----------
    Talts, Betancourt, Simpson, Vehtari and Gelman, *Validating Bayesian inference algorithms with
    simulation-based calibration* (2018); Modrák and others, *Simulation-based calibration checking
    for Bayesian computation: the choice of test quantities shapes sensitivity* (2023); bands:
    Säilynoja, Bürkner and Vehtari (2022).

    Examples
    --------
    >>> from models import TwoLayerNetwork
    >>> from inference import SGLD
    >>> network, kernel = TwoLayerNetwork(input_dim=2, width=2, kappa=0.3), SGLD(step_size=0.01)
    >>> options = {"num_draws": 15, "num_warmup": 50}
    >>> result = simulation_based_calibration(network, kernel, random.key(0), 20, **options)
    >>> list(result.ranks), int(result.ranks.train_mse.max()) <= 15
    (['f[0]', 'f[1]', 'second_moment', 'train_mse'], True)
    """
    counts = {"num_simulations": num_simulations, "num_data": num_data, "num_draws": num_draws}
    lowest = {"num_simulations": 20, "num_warmup": 0}
    for name, count in {
        **counts,
        "num_warmup": num_warmup,
        "thinning": thinning,
        "num_steps": num_steps,
    }.items():
        checks.whole(name, count, lowest.get(name, 1))
    key_x, key_truth, key_run = random.split(key, 3)
    x = random.normal(key_x, (num_data, network.input_dim), jnp.float32)
    x_new = random.normal(random.fold_in(key_x, 1), (_POINTS, network.input_dim), jnp.float32)
    truth, y = simulate(network, random.split(key_truth, num_simulations), x)
    if isinstance(scheme, MeanFieldGuide):
        settings = {**scheme.settings(), "num_steps": num_steps}
        draws = fit_all(network, scheme, key_run, x, y, num_draws, num_steps)
    else:
        kernel = bind_kernel(scheme, network)
        settings = {"kernel": type(kernel).__name__, "num_warmup": num_warmup, "thinning": thinning}
        draws = sample_all(network, kernel, key_run, x, y, num_warmup, num_draws, thinning)
    true = quantities(network, jax.tree.map(lambda v: v[:, None], truth), x, x_new, y)
    drawn = quantities(network, draws, x, x_new, y)
    ranks = {name: np.asarray(jnp.sum(drawn[name] < true[name], axis=1)) for name in true}
    return SimulationBasedCalibration(
        xr.Dataset({name: ("simulation", rank) for name, rank in ranks.items()}),
        num_draws,
        {**settings, **counts},
    )

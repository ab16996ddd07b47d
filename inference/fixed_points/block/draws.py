"""Draws of the reduced network: pooled over starts, their statistics, and as a DataTree."""

from __future__ import annotations

from dataclasses import dataclass

import arviz_base
import jax
import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from inference.fixed_points.block.density import Background
from inference.fixed_points.populations.problem import PopulationProblem
from inference.fixed_points.precisions import Precisions

_SITES = ("w_relevant", "rest_norm", "rho_relevant", "rho_rest")
_DIMS = {
    "w_relevant": ["neuron", "relevant_input"],
    "rest_norm": ["neuron"],
    "rho_relevant": ["relevant_input"],
    "rho_rest": ["rest_input"],
    "relevant": ["relevant_input"],
}


@dataclass(frozen=True)
class BlockDraws:
    """Draws from one start, or from both.

    Order parameters: order_parameter, test_mse, num_specialised (neurons with more than half of
    |w_i|² on S), moment_relevant and moment_rest (means of w_ij² on S and off S).
    """

    sites: dict[str, np.ndarray]  # each (chain, draw, ...)
    stats: dict[str, np.ndarray]  # fields of the state, each (chain, draw, ...)
    order_parameters: dict[str, np.ndarray]  # each (chain, draw)
    background: Background  # in which they were drawn; the mean where that differs
    test_mse_mean: float  # this and the residual as of `BlockAverages`
    residual: float
    gradient_evaluations: int  # leapfrog or Langevin steps of all chains, warm-up included

    @classmethod
    def pooled(cls, runs: list[BlockDraws]) -> BlockDraws:
        """The chains of several runs side by side."""
        arrays = [(run.sites, run.stats, run.order_parameters) for run in runs]
        backgrounds = [run.background for run in runs]
        return cls(
            *jax.tree.map(lambda *v: np.concatenate(v), *arrays),
            background=jax.tree.map(lambda *v: np.mean(v, axis=0), *backgrounds),
            test_mse_mean=float(np.mean([run.test_mse_mean for run in runs])),
            residual=max(run.residual for run in runs),
            gradient_evaluations=sum(run.gradient_evaluations for run in runs),
        )

    def mean(self, name: str) -> float:
        """Of an order parameter."""
        return float(self.order_parameters[name].mean())

    def error(self, name: str) -> float:
        """Monte-Carlo standard error of the mean of an order parameter."""
        values = self.order_parameters[name]
        return float(values.std(ddof=1) / np.sqrt(float(array_stats.ess(values, method="mean"))))

    def r_hat(self) -> float:
        """Rank-normalised R-hat of m."""
        return float(array_stats.rhat(self.order_parameters["order_parameter"]))

    def effective_sample_size(self) -> float:
        """Bulk effective sample size of m."""
        return float(array_stats.ess(self.order_parameters["order_parameter"], method="bulk"))

    def precisions(self, problem: PopulationProblem) -> Precisions:
        """Posterior means."""
        if problem.prior is None:
            return Precisions(problem.precision, problem.precision)
        return Precisions(*(float(self.sites[name].mean()) for name in ("rho_relevant", "rho_rest")))

    def tree(self, relevant: tuple[int, ...], attributes: dict) -> xr.DataTree:
        """In the schema of the reduced variables."""
        groups = {
            "posterior": {name: self.sites[name] for name in _SITES if name in self.sites},
            "sample_stats": self.stats,
            "order_parameters": self.order_parameters,
            "constant_data": {"relevant": np.asarray(relevant)},
        }
        groups = {name: values for name, values in groups.items() if values}
        return arviz_base.from_dict(groups, dims=_DIMS, check_conventions=False, attrs={"/": attributes})

"""What the block theory returns: its figures with Monte-Carlo errors, its draws and networks."""

from __future__ import annotations

from dataclasses import dataclass, field

import xarray as xr

from inference.fixed_points.block.draws import BlockDraws
from inference.fixed_points.point import Branch, FixedPoint, plain
from inference.fixed_points.populations.problem import PopulationProblem


@dataclass(frozen=True, kw_only=True)
class BlockBranch(Branch):
    """What the chains from one start, or from both, settle on."""

    num_aligned: float  # mean number of neurons with more than half of |w_i|² on S
    test_mse_error: float  # Monte-Carlo standard error of `test_mse`
    r_hat: float  # rank-normalised, of m over the chains
    effective_ridge: float  # κ̃

    @classmethod
    def of(cls, problem: PopulationProblem, draws: BlockDraws, starts: tuple[str, ...]) -> BlockBranch:
        return cls(
            order_parameter=draws.mean("order_parameter"),
            test_mse=draws.mean("test_mse"),
            precisions=draws.precisions(problem),
            stable=True,
            starts=starts,
            residual=draws.residual,
            error=draws.error("order_parameter"),
            num_aligned=draws.mean("num_specialised"),
            test_mse_error=draws.error("test_mse"),
            r_hat=draws.r_hat(),
            effective_ridge=float(draws.background.ridge),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockAdaptiveKernelPoint(FixedPoint):
    """The block theory's averages over its draws.

    `error` and `test_mse_error` are Monte-Carlo standard errors, from effective sample sizes;
    `residual` is the change of the background that the draws call for, and `iterations` counts
    gradients of the density. `sample_networks` needs training points, with the teacher's relevant
    inputs, on whose posterior the readouts are drawn.

    `tree` has the draws: ``posterior`` with w_relevant (chain, draw, neuron, relevant_input),
    rest_norm (chain, draw, neuron) and, with ARD, rho_relevant and rho_rest; ``sample_stats``;
    ``order_parameters`` of every draw.
    """

    num_data: int | None  # P, or None for the population
    effective_ridge: float  # κ̃
    noise: float  # ε
    # λ_ij with j ≥ 1 by (i, j), Walsh degree in S and Hermite degree in the rest.
    eigenvalues: dict[tuple[int, int], float] = field(repr=False)
    num_aligned: float  # this and the next two as in `BlockBranch`
    test_mse_error: float
    r_hat: float
    moment_relevant: float  # E[w_j²] on S and off S
    moment_rest: float
    tree: xr.DataTree = field(repr=False)

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with the further figures; without the draws."""
        names = ("num_data", "effective_ridge", "num_aligned", "test_mse_error", "r_hat")
        names += ("moment_relevant", "moment_rest")
        return super().to_dict() | plain({name: getattr(self, name) for name in names})

"""A solution of the self-consistency equations: its error estimate, stability and test error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inference.fixed_points.directions import DirectionNodes
from inference.fixed_points.equations import PrecisionPrior, jacobian, residuals
from inference.fixed_points.neuron_density import Averages, Parameters, averages
from inference.fixed_points.parity import ParityProblem
from inference.fixed_points.point import Branch, FixedPoint, Precisions

_RADIAL_ERROR = 1e-7
_T_FACTOR = 1.08  # a Student t with 7 degrees of freedom has 68 % of its mass within 1.08


@dataclass(frozen=True)
class Solution:
    """What a solution θ means.

    Parameters
    ----------
    parameters
        θ.
    residual
        max |T(θ) - θ|.
    error
        Standard error of m.
    stable
        Whether the damped iteration is attracted.
    test_mse
        Of one draw, (1-m)² + N^(1-2γ) E_p[E[a²|w] Σ] - m²/N: squared bias plus the variance of N independent
        neurons.
    relevance_ratio
        E[w_j²: j ∈ S]/E[w_j²: j ∉ S].
    effective_sample_size
        Of the direction nodes.
    node_weights
        Weights of the nodes, one array per replicate.
    """

    parameters: Parameters
    residual: float
    error: float
    stable: bool
    test_mse: float
    relevance_ratio: float
    effective_sample_size: float
    node_weights: list[np.ndarray]

    def branch(self, starts: tuple[str, ...]) -> Branch:
        """This solution as a branch to which `starts` lead."""
        return Branch(
            order_parameter=self.parameters.order_parameter,
            test_mse=self.test_mse,
            precisions=self._precisions(),
            stable=self.stable,
            starts=starts,
            residual=self.residual,
            error=self.error,
        )

    def point(
        self,
        theory: str,
        start: str,
        branches: tuple[Branch, ...],
        iterations: int,
        converged: bool,
        sampler: Callable,
    ) -> FixedPoint:
        """This solution as the reported fixed point."""
        return FixedPoint(
            theory=theory,
            start=start,
            order_parameter=self.parameters.order_parameter,
            test_mse=self.test_mse,
            # The mean of f is m χ_S exactly, so that nothing but the bias is left.
            test_mse_mean=(1 - self.parameters.order_parameter) ** 2,
            precisions=self._precisions(),
            relevance_ratio=self.relevance_ratio,
            residual=self.residual,
            error=self.error,
            effective_sample_size=self.effective_sample_size,
            iterations=iterations,
            converged=converged,
            branches=branches,
            sampler=sampler,
        )

    def _precisions(self) -> Precisions:
        return Precisions(self.parameters.rho_relevant, self.parameters.rho_rest)


def describe(
    problem: ParityProblem,
    prior: PrecisionPrior | None,
    parameters: Parameters,
    replicates: list[DirectionNodes],
    average: Averages | None = None,
) -> Solution:
    """Error estimate, stability and test error at a solution.

    The error: each replicate's own root is one Newton step away, δ_r = -F'⁻¹ F_r(θ); their scatter gives the
    standard error. What all replicates share, the radial rule and the border of the grid, is a relative error of
    every average, and goes through the same F'⁻¹: next to a fold it is amplified.
    `average` over `replicates`, where it is known, saves evaluating it again.
    """
    average = averages(problem, parameters, replicates) if average is None else average
    mean, covariance, (q, driven) = average.pooled()
    slope = jacobian(problem, prior, parameters, mean, covariance)
    own = residuals(problem, prior, parameters, average.mean)
    inverse = np.linalg.pinv(slope)[0]
    shifts = -own @ inverse
    m, n = parameters.order_parameter, problem.width
    shared = (average.edge + _RADIAL_ERROR) * np.linalg.norm(inverse * [m, 1.0, 1.0][: len(inverse)])
    scatter = _T_FACTOR * shifts.std(ddof=1) / np.sqrt(len(shifts))
    # E[a²|w] Σ = (1/(2α) + (β/2α)²) R²/2 = q/4 + b (1-m)² J_t² q²/2.
    variance = n ** (1 - 2 * problem.gamma) * (q / 4 + 0.5 * problem.drive * (1 - m) ** 2 * driven) - m**2 / n
    return Solution(
        parameters=parameters,
        residual=float(np.abs(residuals(problem, prior, parameters, mean)).max()),
        error=float(np.hypot(scatter, shared)),
        stable=bool(np.linalg.eigvals(slope).real.max() < 0),
        test_mse=float((1 - m) ** 2 + variance),
        relevance_ratio=float((mean[1] / problem.degree) / (mean[2] / problem.num_rest)),
        effective_sample_size=average.effective_sample_size,
        node_weights=average.node_weights,
    )

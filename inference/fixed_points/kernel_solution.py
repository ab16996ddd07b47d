"""A solution of the adaptive-kernel equations: figures, error estimates and stability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.kernel_equations import KernelEquations
from inference.fixed_points.kernel_modes import ModeNodes
from inference.fixed_points.kernel_point import KernelBranch
from inference.fixed_points.neuron_density import Parameters
from inference.fixed_points.point import Branch
from inference.fixed_points.solution import Solution
from inference.fixed_points.spectrum import LearningCurve

_RADIAL_ERROR = 1e-7
_T_FACTOR = 1.08  # a Student t with 7 degrees of freedom has 68 % of its mass within 1.08


@dataclass(frozen=True)
class KernelSolution(Solution):
    """What a solution θ means; the fields of :class:`Solution` and these.

    Parameters
    ----------
    theta
        Unknowns of :class:`KernelEquations`.
    mse_error
        Standard error of `test_mse`.
    curve
        κ̃, E0 and the test errors.
    """

    theta: np.ndarray
    mse_error: float
    curve: LearningCurve

    def branch(self, starts: tuple[str, ...]) -> Branch:
        """This solution as a branch to which `starts` lead."""
        return KernelBranch(
            **vars(super().branch(starts)),
            effective_ridge=self.curve.effective_ridge,
            amplification=self.curve.amplification,
        )


def figures(equations: KernelEquations, theta: np.ndarray) -> LearningCurve:
    """m and the test errors at θ.

    MSE of the mean = E0 (1-m)²,    MSE of a draw = E0 (1-m)² + Σ mult λκ̃/(λ+κ̃) + tail
    """
    return LearningCurve.at_ridge(equations.spectrum(theta), equations.state(theta).ridge, equations.num_data)


def describe(
    equations: KernelEquations, theta: np.ndarray, log_kappa: float, replicates: list[ModeNodes]
) -> KernelSolution:
    """Figures, errors and stability at a solution.

    Each replicate's own root is one Newton step away, δ_r = -F'⁻¹ F_r(θ); the scatter of the figures at θ + δ_r
    gives their standard errors. What all replicates share, the radial rule and the border of the grid, is a
    relative error of every average and goes through the same F'⁻¹. On strongly aligned branches at k = 4 the
    scatter has heavy tails: of eight independent node sets one lay at 3.8 errors.
    """
    average = equations.average(theta, replicates)
    mean, response = average.pooled()
    residual = equations.residuals(theta, log_kappa, mean)
    slope = equations.jacobian(theta, log_kappa, mean, response)
    inverse = np.linalg.pinv(slope)
    curve = figures(equations, theta)

    # δ is linear in F_r: the figures' derivatives along each unknown, by central differences.
    step = 1e-5
    gradient = np.empty((2, len(theta)))
    for index, direction in enumerate(step * np.eye(len(theta))):
        ahead, behind = (figures(equations, theta + sign * direction) for sign in (1, -1))
        gradient[:, index] = (
            ahead.order_parameter - behind.order_parameter,
            ahead.mse_draw - behind.mse_draw,
        )
    sensitivity = gradient / (2 * step) @ inverse
    scatter = -equations.residuals(theta, log_kappa, average.mean) @ sensitivity.T
    spread = _T_FACTOR * scatter.std(axis=0, ddof=1) / np.sqrt(len(scatter))
    averaged = np.arange(len(theta)) != len(equations.modes) + 1  # the ridge's equation takes no average
    shared = (average.edge + _RADIAL_ERROR) * np.linalg.norm(sensitivity * averaged, axis=1)
    errors = np.hypot(spread, shared)

    state, problem = equations.state(theta), equations.problem
    return KernelSolution(
        parameters=Parameters(curve.order_parameter, state.rho_relevant, state.rho_rest),
        residual=float(np.abs(residual).max()),
        error=float(errors[0]),
        stable=bool(np.linalg.eigvals(slope).real.max() < 0),
        test_mse=curve.mse_draw,
        relevance_ratio=float((mean[-2] / problem.degree) / (mean[-1] / problem.num_rest)),
        effective_sample_size=average.effective_sample_size,
        node_weights=average.node_weights,
        theta=theta,
        mse_error=float(errors[1]),
        curve=curve,
    )

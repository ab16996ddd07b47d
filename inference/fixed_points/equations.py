"""The self-consistency equations of the mean-field theories on population parity.

    m    = (1-m) · N^(1-2γ)/κ² · E_p[J²/(2α)]
    ρ_S  = (α0 + N/2)/(β0 + (N/2) E_p[|w_S|²]/k)
    ρ_⊥  = (α0 + N/2)/(β0 + (N/2) E_p[s²]/(d-k))

The unknowns are θ = (m, log ρ_S, log ρ_⊥), and T(θ) stands for the right sides. Source: arXiv:2510.15174; the
analytic Jacobian is beyond the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.neuron_density import Averages, Parameters
from inference.fixed_points.parity import ParityProblem
from models import ARD


@dataclass(frozen=True)
class PrecisionPrior:
    """Gamma(α0, β0) prior of every precision.

    Parameters
    ----------
    shape, rate
        α0 and β0.
    """

    shape: float
    rate: float

    @classmethod
    def of(cls, prior: ARD, input_dim: int) -> PrecisionPrior:
        """That of :class:`models.ARD` at d = `input_dim`."""
        return cls(float(prior.shape), float(prior.rate_for(input_dim)))

    @property
    def mean(self) -> float:
        """E[ρ] = α0/β0."""
        return self.shape / self.rate

    def update(self, width: int, second_moment: np.ndarray) -> np.ndarray:
        """ρ = (α0 + N/2)/(β0 + (N/2) E[w_j²])."""
        return (self.shape + width / 2) / (self.rate + width / 2 * second_moment)


def order_parameter_update(problem: ParityProblem, m: float, mean: np.ndarray) -> np.ndarray:
    """Right side of the equation for m, given E[u] (..., 3)."""
    return 0.5 * problem.gain * (1 - m) * mean[..., 0]


def residuals(
    problem: ParityProblem, prior: PrecisionPrior | None, parameters: Parameters, mean: np.ndarray
) -> np.ndarray:
    """T(θ) - θ, shape (..., 3) or, without a prior over precisions, (..., 1), given E[u] (..., 3)."""
    m = parameters.order_parameter
    first = order_parameter_update(problem, m, mean) - m
    if prior is None:
        return first[..., None]
    relevant = prior.update(problem.width, mean[..., 1] / problem.degree) / parameters.rho_relevant
    rest = prior.update(problem.width, mean[..., 2] / problem.num_rest) / parameters.rho_rest
    return np.stack([first, np.log(relevant), np.log(rest)], axis=-1)


def jacobian(
    problem: ParityProblem,
    prior: PrecisionPrior | None,
    parameters: Parameters,
    mean: np.ndarray,
    covariance: np.ndarray,
) -> np.ndarray:
    """Derivative of :func:`residuals` in θ, from dE[u]/dη = Cov(u, u); shape (3, 3) or (1, 1)."""
    m, n = parameters.order_parameter, problem.width
    # dη/dθ is diagonal: η = (b (1-m)², -ρ_S/2, -ρ_⊥/2).
    d_natural = np.array(
        [-2 * problem.drive * (1 - m), -0.5 * parameters.rho_relevant, -0.5 * parameters.rho_rest]
    )
    d_mean = covariance * d_natural
    rows = np.empty((3, 3))
    rows[0] = 0.5 * problem.gain * (1 - m) * d_mean[0]
    rows[0, 0] -= 0.5 * problem.gain * mean[0]
    if prior is None:
        return rows[:1, :1] - 1
    for row, count in ((1, problem.degree), (2, problem.num_rest)):
        rows[row] = -(n / 2) * d_mean[row] / count / (prior.rate + n / 2 * mean[row] / count)
    return rows - np.eye(3)


def noise_derivative(
    problem: ParityProblem,
    prior: PrecisionPrior | None,
    parameters: Parameters,
    mean: np.ndarray,
    response: np.ndarray,
) -> np.ndarray:
    """Derivative of :func:`residuals` in log κ, given E[u] and dE[u]/dlog κ (3,); shape (3,) or (1,)."""
    m, n = parameters.order_parameter, problem.width
    first = 0.5 * problem.gain * (1 - m) * (response[0] - 2 * mean[0])
    if prior is None:
        return np.array([first])
    size = np.array([problem.degree, problem.num_rest])
    return np.append(first, -(n / 2) * response[1:] / size / (prior.rate + n / 2 * mean[1:] / size))


def system(problem: ParityProblem, prior: PrecisionPrior | None, parameters: Parameters, average: Averages):
    """Residuals and Jacobian from averages pooled over replicates."""
    mean, covariance, _ = average.pooled()
    return (
        residuals(problem, prior, parameters, mean),
        jacobian(problem, prior, parameters, mean, covariance),
    )

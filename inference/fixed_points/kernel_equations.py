"""The self-consistency equations of the adaptive-kernel theory on sparse parity.

    λ_ij = N c E_p[q_ij]/mult_ij,      tail = N c E_p[Σ - Σ_ij q_ij],        c = σ_a²/N^(2γ)
    κ̃    = κ² + (1/P) ( Σ_ij mult_ij λ_ij κ̃/(λ_ij + κ̃) + tail )               (κ² at P = ∞)
    ρ_S  = (α0 + N/2)/(β0 + (N/2) E_p[|w_S|²]/k),   ρ_⊥ likewise over the d - k others        (ARD only)

The equation for κ̃ is that of the effective ridge of kernel ridge regression, multiplied by κ̃/P. The unknowns are
θ = (log λ_ij, log tail, log κ̃ [, log ρ_S, log ρ_⊥]), T(θ) the logs of the right sides; the Jacobian of
T(θ) - θ is exact, from covariances. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.equations import PrecisionPrior
from inference.fixed_points.kernel_density import KernelAverages, KernelState, kernel_averages
from inference.fixed_points.kernel_modes import ModeNodes, Modes
from inference.fixed_points.parity import ParityProblem
from inference.fixed_points.spectrum import Spectrum


@dataclass(frozen=True)
class KernelEquations:
    """T(θ) - θ, its Jacobian, and θ's meaning.

    Parameters
    ----------
    problem, modes
        Constants; `problem.kappa` is not used, κ is an argument.
    num_data
        P, or None for the population.
    precision
        Isotropic precision d/σ_w²; under ARD only the scale of the starting point.
    prior
        Of the precisions; None keeps both at `precision`.
    """

    problem: ParityProblem
    modes: Modes
    num_data: int | None
    precision: float
    prior: PrecisionPrior | None = None

    @classmethod
    def build(
        cls,
        problem: ParityProblem,
        max_order: int,
        num_data: int | None,
        precision: float,
        prior: PrecisionPrior | None = None,
    ) -> KernelEquations:
        """The equations with modes of Hermite degree up to `max_order`."""
        modes = Modes.upto(problem.degree, problem.input_dim, max_order)
        return cls(problem, modes, num_data, precision, prior)

    @property
    def coupling(self) -> float:
        """c = σ_a²/N^(2γ)."""
        return self.problem.readout_scale**2 / self.problem.width ** (2 * self.problem.gamma)

    def state(self, theta: np.ndarray) -> KernelState:
        """θ as named quantities."""
        values, count = np.exp(theta), len(self.modes)
        rho = values[count + 2 :] if self.prior is not None else (self.precision, self.precision)
        return KernelState(values[:count], *(float(v) for v in (values[count], values[count + 1], *rho)))

    def theta(self, state: KernelState) -> np.ndarray:
        """Inverse of :meth:`state`."""
        rho = [] if self.prior is None else [state.rho_relevant, state.rho_rest]
        return np.log(np.concatenate([state.eigenvalues, [state.tail, state.ridge], rho]))

    def average(self, theta: np.ndarray, nodes: list[ModeNodes]) -> KernelAverages:
        """Averages over the density at θ."""
        return kernel_averages(self.coupling, self.problem.input_dim, self.state(theta), nodes)

    def residuals(self, theta: np.ndarray, log_kappa: float, mean: np.ndarray) -> np.ndarray:
        """T(θ) - θ, shape (..., n), given E[v s] (..., M + 3)."""
        n, num_modes = self.problem.width, len(self.modes) + 1
        multiplicities = np.append(self.modes.multiplicities, 1.0)
        powers = n * self.coupling * mean[..., :num_modes] / multiplicities
        ridge = np.log(self._ridge(self.state(theta), log_kappa))
        parts = [np.log(np.maximum(powers, 1e-300)), np.full((*powers.shape[:-1], 1), ridge)]
        if self.prior is not None:
            second = mean[..., -2:] / np.array([self.problem.degree, self.problem.num_rest])
            parts.append(np.log(self.prior.update(n, second)))
        return np.concatenate(parts, axis=-1) - theta

    def _ridge(self, state: KernelState, log_kappa: float) -> float:
        """Right side of the equation for κ̃."""
        noise = float(np.exp(2 * log_kappa))
        if self.num_data is None:
            return noise
        shrunk = state.eigenvalues * state.ridge / (state.eigenvalues + state.ridge)
        return noise + (float(self.modes.multiplicities @ shrunk) + state.tail) / self.num_data

    def noise_squared(self, theta: np.ndarray, num_data: int | None) -> np.ndarray:
        """κ² that belongs to θ (..., n) at P = `num_data`: the equation for κ̃ read backwards; below 0 for none."""
        values, count = np.exp(theta), len(self.modes)
        eigenvalue, tail, ridge = values[..., :count], values[..., count], values[..., count + 1]
        if num_data is None:
            return ridge
        shrunk = eigenvalue * ridge[..., None] / (eigenvalue + ridge[..., None])
        return ridge - (shrunk @ self.modes.multiplicities + tail) / num_data

    def noise_derivative(self, theta: np.ndarray, log_kappa: float) -> np.ndarray:
        """Derivative of the residuals in log κ, shape (n,): only the ridge's row is not 0."""
        out = np.zeros(len(theta))
        out[len(self.modes) + 1] = 2 * np.exp(2 * log_kappa) / self._ridge(self.state(theta), log_kappa)
        return out

    def jacobian(
        self, theta: np.ndarray, log_kappa: float, mean: np.ndarray, response: np.ndarray
    ) -> np.ndarray:
        """Derivative of :meth:`residuals` in θ, given E[v s] and its derivatives in the naturals."""
        state, count, n = self.state(theta), len(self.modes), self.problem.width
        target, value, ridge = self.modes.target, state.eigenvalues, state.ridge
        gamma = state.weights()
        # Naturals (γ of modes and tail, ρ_S, ρ_⊥, γ_k0²) by θ.
        natural = np.zeros((count + 4, len(theta)))
        natural[np.arange(count), np.arange(count)] = -(gamma[:-1] ** 2) * value
        natural[: count + 1, count + 1] = -(gamma**2) * ridge
        natural[-1] = 2 * gamma[target] * natural[target]
        if self.prior is not None:
            natural[count + 1, -2], natural[count + 2, -1] = state.rho_relevant, state.rho_rest
        d_mean = response @ natural
        rows = np.zeros((len(theta), len(theta)))
        rows[: count + 1] = d_mean[: count + 1] / np.maximum(mean[: count + 1, None], 1e-300)
        if self.num_data is not None:
            mult = self.modes.multiplicities
            scale = self.num_data * self._ridge(state, log_kappa)
            rows[count + 1, :count] = mult * value * (ridge * gamma[:-1]) ** 2 / scale
            rows[count + 1, count] = state.tail / scale
            rows[count + 1, count + 1] = mult @ (ridge * (value * gamma[:-1]) ** 2) / scale
        if self.prior is not None:
            for row, size in ((-2, self.problem.degree), (-1, self.problem.num_rest)):
                rate = self.prior.rate + n / 2 * mean[row] / size
                rows[row] = -(n / 2) * d_mean[row] / size / rate
        return rows - np.eye(len(theta))

    def system(self, theta: np.ndarray, log_kappa: float, nodes: list[ModeNodes]):
        """Residuals, Jacobian and derivative in log κ, with averages pooled over `nodes`."""
        mean, response = self.average(theta, nodes).pooled()
        return (
            self.residuals(theta, log_kappa, mean),
            self.jacobian(theta, log_kappa, mean, response),
            self.noise_derivative(theta, log_kappa),
        )

    def order_parameter(self, theta: np.ndarray) -> np.ndarray:
        """m = λ_k0/(κ̃ + λ_k0) at θ (..., n)."""
        theta = np.asarray(theta)
        return 1 / (1 + np.exp(theta[..., len(self.modes) + 1] - theta[..., self.modes.target]))

    def spectrum(self, theta: np.ndarray) -> Spectrum:
        """The learned kernel's eigenvalues at θ."""
        state = self.state(theta)
        target = float(state.eigenvalues[self.modes.target])
        return Spectrum(target, state.eigenvalues, self.modes.multiplicities, state.tail, 0.0, None)

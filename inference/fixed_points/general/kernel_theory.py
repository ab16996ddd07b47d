"""AK on the general machinery: the adaptive kernel as a block matrix over the sectors of modes.

    p(w) ∝ prior(w) (1 + cG)^(-1/2) exp(½ c B²/(1 + cG)),        c = σ_a²/N^(2γ)
    Λ_s = N c E_p[a_s a_sᵀ]/dim_s,   Γ_s = (κ̃ + Λ_s)⁻¹,   tail = N c E_p[Σ - Σ_s |a_s|²]
    G = Σ_s a_sᵀ Γ_s a_s + (Σ - Σ_s |a_s|²)/κ̃,               B = A e_tᵀ Γ_0 a_0,    A² = E[y²]
    κ̃ = κ² + (1/P) ( Σ_s dim_s κ̃ tr[Λ_s Γ_s] + tail )         (κ² at P = ∞)
    ρ_S = (α0 + N/2)/(β0 + (N/2) E_p[|w_S|²]/k), ρ_⊥ likewise  (ARD only)

The unknowns are θ = (log of Λ's diagonal, correlations Λ_ab/√(Λ_aa Λ_bb) within sectors, log κ̃ [, log ρ_S,
log ρ_⊥]), T(θ) the right sides; the Jacobian of T(θ) - θ is exact, from covariances. With sectors of one mode each it
is :mod:`inference.fixed_points.kernel_equations`. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inference.fixed_points.general.averages import Averages, averages
from inference.fixed_points.general.nodes import NeuronNodes
from inference.fixed_points.general.problem import GeneralProblem

_TINY = 1e-300


@dataclass(frozen=True)
class Layout:
    """Where the entries of Λ are: pairs (first ≤ second) of kept modes that share a sector.

    Parameters
    ----------
    first, second
        Modes of each pair, shape (pairs,); the diagonal first.
    dimensions
        dim of each pair's sector.
    size
        Number of modes M.
    """

    first: np.ndarray
    second: np.ndarray
    dimensions: np.ndarray
    size: int

    @classmethod
    def of(cls, problem: GeneralProblem) -> Layout:
        """The pairs of a problem's kept modes."""
        modes = [m for m, kept in zip(problem.geometry.modes, problem.quadrature.kept, strict=True) if kept]
        count = range(len(modes))
        pairs = [(a, a) for a in count]
        pairs += [(a, b) for a in count for b in range(a) if modes[a].sector == modes[b].sector]
        first, second = np.array(pairs).T
        dimensions = np.array([float(modes[a].dimension) for a in first])
        return cls(first, second, dimensions, len(modes))

    @property
    def doubling(self) -> np.ndarray:
        """1 on the diagonal, 2 off it: how often a pair occurs in a trace."""
        return np.where(self.first == self.second, 1.0, 2.0)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """Symmetric (M, M) with the given entries, 0 between sectors."""
        out = np.zeros((self.size, self.size))
        out[self.first, self.second] = out[self.second, self.first] = values
        return out

    def entries(self, matrix: np.ndarray) -> np.ndarray:
        """The pairs' entries of a matrix."""
        return matrix[self.first, self.second]


@dataclass(frozen=True)
class KernelState:
    """θ as named quantities.

    Parameters
    ----------
    kernel
        Λ, (M, M), block diagonal.
    ridge
        κ̃.
    rho
        ρ_S and ρ_⊥.
    """

    kernel: np.ndarray
    ridge: float
    rho: np.ndarray

    @cached_property
    def inverse(self) -> np.ndarray:
        """Γ = (κ̃ + Λ)⁻¹."""
        return np.linalg.inv(self.kernel + self.ridge * np.eye(len(self.kernel)))


@dataclass(frozen=True)
class KernelLaw:
    """The density of one neuron at a state.

    Observables: a_a a_b of the pairs, Σ - Σ|a|², |w_S|², |w_rest|². Parameters: entries of Λ, κ̃, log ρ_S, log ρ_⊥.
    """

    problem: GeneralProblem
    layout: Layout
    state: KernelState

    @property
    def rho(self) -> np.ndarray:
        """ρ_S and ρ_⊥."""
        return self.state.rho

    @property
    def rho_column(self) -> int:
        """See :class:`Law`."""
        return len(self.layout.first) + 1

    def _drive(self, nodes: NeuronNodes, part):
        """a, Γa, unresolved power, 1 + cG and A e_tᵀΓa."""
        a = nodes.amplitudes[part]
        filtered = a @ self.state.inverse
        rest = np.maximum(nodes.power[part] - np.einsum("na,na->n", a, a), 0.0)
        strength = np.einsum("na,na->n", a, filtered) + rest / self.state.ridge
        overlap = self.problem.amplitude * (filtered @ self.problem.target_vector)
        # At most rounding, or a trial state that is no kernel, makes G negative.
        screened = 1 + self.problem.coupling * np.maximum(strength, 0.0)
        return a, filtered, rest, screened, overlap

    def log_weight(self, nodes: NeuronNodes, part) -> np.ndarray:
        """See :class:`Law`."""
        _, _, _, screened, overlap = self._drive(nodes, part)
        gain = 0.5 * self.problem.coupling * overlap**2 / screened - 0.5 * np.log(screened)
        return nodes.log_measure[part] + gain - 0.5 * nodes.moments[part] @ self.state.rho

    def observables(self, nodes: NeuronNodes, part) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Law`."""
        layout, state, c = self.layout, self.state, self.problem.coupling
        a, filtered, rest, screened, overlap = self._drive(nodes, part)
        moments = nodes.moments[part]
        by_strength = -0.5 * c / screened - 0.5 * (c * overlap / screened) ** 2
        by_overlap = c * overlap / screened
        gamma = self.problem.amplitude * (state.inverse @ self.problem.target_vector)
        left, right = filtered[:, layout.first], filtered[:, layout.second]
        by_entry = -(by_strength[:, None] * left * right) * layout.doubling
        # d(Γ a)_t = -Γ_t· dΛ (Γ a), both orders of a pair.
        cross = gamma[layout.first] * right + gamma[layout.second] * left
        by_entry -= by_overlap[:, None] * cross * (0.5 * layout.doubling)
        by_ridge = -by_strength * (np.einsum("na,na->n", filtered, filtered) + rest / state.ridge**2)
        by_ridge -= by_overlap * (filtered @ gamma)
        values = np.column_stack([a[:, layout.first] * a[:, layout.second], rest, moments])
        return values, np.column_stack([by_entry, by_ridge, -0.5 * moments * state.rho])


@dataclass(frozen=True)
class KernelTheory:
    """T(θ) - θ, its derivatives, and θ's meaning.

    Parameters
    ----------
    problem
        Constants; κ is an argument.
    num_data
        P, or None for the population.
    """

    problem: GeneralProblem
    num_data: int | None

    name = "adaptive-kernel"

    @cached_property
    def layout(self) -> Layout:
        """Pairs of modes."""
        return Layout.of(self.problem)

    @property
    def _ridge_row(self) -> int:
        return len(self.layout.first)

    def state(self, theta: np.ndarray) -> KernelState:
        """θ as named quantities."""
        layout, size = self.layout, self.layout.size
        scale = np.exp(0.5 * theta[:size])
        correlations = np.append(np.ones(size), theta[size : self._ridge_row])
        kernel = layout.matrix(correlations * scale[layout.first] * scale[layout.second])
        rho = np.full(2, self.problem.precision)
        if self.problem.prior is not None:
            rho = np.exp(theta[-2:])
        return KernelState(kernel, float(np.exp(theta[self._ridge_row])), rho)

    def law(self, theta: np.ndarray, log_kappa: float) -> KernelLaw:
        """The density at θ."""
        return KernelLaw(self.problem, self.layout, self.state(theta))

    def start(self, log_kappa: float, nodes: list[NeuronNodes]) -> np.ndarray:
        """θ of the prior's own kernel."""
        size, pairs = self.layout.size, self._ridge_row
        theta = np.concatenate([np.full(size, -690.0), np.zeros(pairs - size), [2 * log_kappa]])
        if self.problem.prior is not None:
            theta = np.append(theta, np.log([self.problem.precision] * 2))
        for _ in range(30):
            theta = theta + self.system(theta, log_kappa, nodes)[0]
        return theta

    def free(self, theta: np.ndarray) -> np.ndarray:
        """The unknowns that are not eliminated: all."""
        return theta

    def complete(
        self, free: np.ndarray, log_kappa: float, nodes: list[NeuronNodes], guess: np.ndarray
    ) -> np.ndarray:
        """θ given the free unknowns, see :meth:`free`."""
        return free

    def _ridge(self, state: KernelState, tail: np.ndarray, log_kappa: float) -> np.ndarray:
        noise = np.exp(2 * log_kappa)
        if self.num_data is None:
            return noise + 0 * tail
        freedom = (
            self.layout.doubling * self.layout.entries(state.kernel) * self.layout.entries(state.inverse)
        )
        return noise + (state.ridge * float(self.layout.dimensions @ freedom) + tail) / self.num_data

    def residuals(self, theta: np.ndarray, log_kappa: float, mean: np.ndarray) -> np.ndarray:
        """T(θ) - θ, shape (..., n), given the observables' averages (..., K)."""
        layout, size, pairs = self.layout, self.layout.size, self._ridge_row
        unit = self.problem.network.width * self.problem.coupling
        entries = unit * mean[..., :pairs] / layout.dimensions
        diagonal = np.maximum(entries[..., :size], _TINY)
        root = np.sqrt(diagonal)
        correlations = entries[..., size:] / (
            root[..., layout.first[size:]] * root[..., layout.second[size:]]
        )
        ridge = np.log(self._ridge(self.state(theta), unit * mean[..., pairs], log_kappa))
        parts = [np.log(diagonal), correlations, ridge[..., None]]
        if self.problem.prior is not None:
            second = mean[..., -2:] / self.problem.counts
            parts.append(np.log(self.problem.prior.update(self.problem.network.width, second)))
        return np.concatenate(parts, axis=-1) - theta

    def jacobian(self, theta: np.ndarray, log_kappa: float, average: Averages) -> np.ndarray:
        """Derivative of :meth:`residuals` in θ."""
        layout, size, pairs, n = self.layout, self.layout.size, self._ridge_row, len(theta)
        state, mean = self.state(theta), average.mean
        first, second = layout.first[size:], layout.second[size:]
        entries = layout.entries(state.kernel)
        # Λ's entries and κ̃, log ρ_S, log ρ_⊥ by θ.
        natural = np.zeros((pairs + 3, n))
        rows = np.arange(pairs)
        np.add.at(natural, (rows, layout.first), 0.5 * entries)
        np.add.at(natural, (rows, layout.second), 0.5 * entries)
        scale = np.exp(0.5 * theta[:size])
        natural[rows[size:], rows[size:]] = scale[first] * scale[second]
        natural[pairs, pairs] = state.ridge
        if self.problem.prior is not None:
            natural[pairs + 1, -2] = natural[pairs + 2, -1] = 1.0
        d_mean = average.response @ natural
        out = np.zeros((n, n))
        diagonal = np.maximum(mean[:size], _TINY)
        out[:size] = d_mean[:size] / diagonal[:, None]
        ratio = layout.dimensions[first] / layout.dimensions[size:]  # 1: a pair has its sector's dimension
        root = np.sqrt(diagonal[first] * diagonal[second]) / ratio
        correlation = mean[size:pairs] / root
        out[size:pairs] = d_mean[size:pairs] / root[:, None]
        out[size:pairs] -= 0.5 * correlation[:, None] * (out[first] + out[second])
        self._ridge_derivatives(state, mean, d_mean, natural, log_kappa, out[pairs])
        if self.problem.prior is not None:
            width = self.problem.network.width
            for row, count in zip((-2, -1), self.problem.counts, strict=True):
                rate = self.problem.prior.rate + width / 2 * mean[row] / count
                out[row] = -(width / 2) * d_mean[row] / count / rate
        return out - np.eye(n)

    def _ridge_derivatives(self, state, mean, d_mean, natural, log_kappa, row) -> None:
        """Fill the row of the equation for κ̃."""
        if self.num_data is None:
            return
        layout, pairs, unit = self.layout, self._ridge_row, self.problem.network.width * self.problem.coupling
        squared = state.inverse @ state.inverse
        by_entry = state.ridge**2 * layout.dimensions * layout.doubling * layout.entries(squared)
        shrunk = state.kernel @ state.inverse
        own = (layout.dimensions[: layout.size] * np.einsum("ab,ba->a", shrunk, shrunk)).sum()
        total = self._ridge(state, unit * mean[pairs], log_kappa) * self.num_data
        row += (by_entry @ natural[:pairs] + own * natural[pairs] + unit * d_mean[pairs]) / total

    def system(self, theta: np.ndarray, log_kappa: float, nodes: list[NeuronNodes]):
        """Residuals, Jacobian and derivative in log κ, with averages pooled over `nodes`."""
        average = averages(self.law(theta, log_kappa), nodes)
        noise = np.zeros(len(theta))
        pairs, unit = self._ridge_row, self.problem.network.width * self.problem.coupling
        ridge = self._ridge(self.state(theta), unit * average.mean[pairs], log_kappa)
        noise[pairs] = 2 * np.exp(2 * log_kappa) / ridge
        residual = self.residuals(theta, log_kappa, average.mean)
        return residual, self.jacobian(theta, log_kappa, average), noise

    def figures(self, theta: np.ndarray, log_kappa: float, mean: np.ndarray) -> dict[str, float]:
        """m, test errors, κ̃ and E0 at θ.

        bias = A² |e_t - Λ_0 Γ_0 e_t|²,   E0 = P/(P - Σ dim tr[(ΛΓ)²])
        MSE of the mean = E0 bias,   of a draw = E0 bias + Σ dim κ̃ tr[ΛΓ] + tail
        """
        state, layout = self.state(theta), self.layout
        tail = self.problem.network.width * self.problem.coupling * float(mean[self._ridge_row])
        dimensions = layout.dimensions[: layout.size]
        return kernel_figures(self.problem, state, dimensions, tail, self.num_data)


def kernel_figures(
    problem: GeneralProblem, state: KernelState, dimensions: np.ndarray, tail: float, num_data: int | None
) -> dict[str, float]:
    """Kernel ridge regression with kernel Λ and effective ridge κ̃, see :meth:`KernelTheory.figures`."""
    shrunk, target = state.kernel @ state.inverse, problem.target_vector
    learned = shrunk @ target
    m = float(learned @ target)
    bias = problem.amplitude**2 * float(1 - 2 * m + learned @ learned)
    amplification = 1.0
    if num_data is not None:
        amplification = 1 / (1 - float(dimensions @ np.einsum("ab,ba->a", shrunk, shrunk)) / num_data)
    variance = state.ridge * float(dimensions @ np.diag(shrunk)) + tail
    return {
        "order_parameter": m,
        "mse_mean": amplification * bias,
        "mse_draw": amplification * bias + variance,
        "effective_ridge": state.ridge,
        "amplification": amplification,
    }

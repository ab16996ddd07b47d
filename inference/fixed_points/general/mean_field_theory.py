"""MF and MF-ARD on the general machinery: the mean prediction as a vector in the target's sector.

    p(w) ∝ prior(w) α^(-1/2) exp(β²/(4α)),    α = 1/(2σ_a²) + Σ/(2κ²N^(2γ)),    β = A e·a/(κ²N^γ),   e = e_t - x
    x    = N^(1-2γ)/κ² E_p[(e·a) a/(2α)],     ⟨f⟩ = A Σ_i x_i ψ_i,    A² = E[y²]
    ρ_S  = (α0 + N/2)/(β0 + (N/2) E_p[|w_S|²]/k), ρ_⊥ likewise   (ARD only)

with a the components of a neuron in the modes ψ_i of the target's sector. On a single index ⟨f⟩ is not a multiple of
y. At fixed ρ the equation for e is that of a minimum, e + N κ² ∇_e log Z(e)/A² = e_t with Z the normaliser, and log Z
is convex: the solution is unique. With one mode it is :mod:`inference.fixed_points.equations`. Source of the density:
arXiv:2510.15174; the vector form and the Jacobian are beyond the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inference.fixed_points.general.averages import Averages, averages
from inference.fixed_points.general.nodes import NeuronNodes
from inference.fixed_points.general.problem import GeneralProblem

_NEWTON_STEPS = 60
_TOLERANCE = 1e-11


@dataclass(frozen=True)
class MeanFieldLaw:
    """The density of one neuron at (x, ρ, κ).

    Observables: g = (e·a) a/(2α), g (α-a0)/α, a, E[a²|w] Σ, |w_S|², |w_rest|². Parameters: x, log ρ_S, log ρ_⊥,
    log κ; the last columns of the scores are a/(2α), for the sake of E[a aᵀ/(2α)].
    """

    problem: GeneralProblem
    columns: np.ndarray
    error: np.ndarray
    rho: np.ndarray
    kappa: float

    @property
    def rho_column(self) -> int:
        """See :class:`Law`."""
        return len(self.columns)

    @property
    def constant(self) -> float:
        """a0 = 1/(2σ_a²)."""
        return 0.5 / self.problem.network.readout_scale**2

    @property
    def drive(self) -> float:
        """A²/(κ⁴N^(2γ)), so that β²/(4α) = drive (e·a)²/(4α)."""
        network = self.problem.network
        return self.problem.amplitude**2 / (self.kappa**4 * network.width ** (2 * network.gamma))

    def precision(self, power: np.ndarray) -> np.ndarray:
        """α."""
        network = self.problem.network
        return self.constant + power / (2 * self.kappa**2 * network.width ** (2 * network.gamma))

    def log_weight(self, nodes: NeuronNodes, part) -> np.ndarray:
        """See :class:`Law`."""
        alpha = self.precision(nodes.power[part])
        overlap = nodes.amplitudes[part][:, self.columns] @ self.error
        gain = 0.25 * self.drive * overlap**2 / alpha - 0.5 * np.log(alpha)
        return nodes.log_measure[part] + gain - 0.5 * nodes.moments[part] @ self.rho

    def observables(self, nodes: NeuronNodes, part) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Law`."""
        a, power, moments = nodes.amplitudes[part][:, self.columns], nodes.power[part], nodes.moments[part]
        alpha = self.precision(power)
        overlap = a @ self.error
        pull = (overlap / (2 * alpha))[:, None] * a
        share = (alpha - self.constant) / alpha
        exponent = 0.25 * self.drive * overlap**2 / alpha
        square = (0.5 / alpha + exponent / alpha) * power
        values = np.column_stack([pull, pull * share[:, None], a, square, moments])
        by_kappa = share - exponent * (4 - 2 * share)
        scores = [-self.drive * pull, -0.5 * moments * self.rho, by_kappa, a / (2 * alpha)[:, None]]
        return values, np.column_stack(scores)


@dataclass(frozen=True)
class MeanFieldTheory:
    """T(θ) - θ, its derivatives, and θ = (x [, log ρ_S, log ρ_⊥]).

    x is eliminated at given precisions, by :meth:`complete`; branches are those of the precisions.

    Parameters
    ----------
    problem
        Constants; κ is an argument.
    """

    problem: GeneralProblem

    @property
    def name(self) -> str:
        """As :class:`FixedPoint.theory`."""
        return "mean-field" if self.problem.prior is None else "mean-field-ard"

    @cached_property
    def columns(self) -> np.ndarray:
        """Kept modes of the target's sector."""
        modes = self.problem.geometry.modes
        sector = modes[self.problem.geometry.target].sector
        kept = [m for m, kept in zip(modes, self.problem.quadrature.kept, strict=True) if kept]
        return np.flatnonzero([m.sector == sector for m in kept])

    @cached_property
    def target(self) -> np.ndarray:
        """e_t in those modes."""
        return self.problem.target_vector[self.columns]

    def prediction(self, theta: np.ndarray) -> np.ndarray:
        """x."""
        return theta[: len(self.target)]

    def law(self, theta: np.ndarray, log_kappa: float) -> MeanFieldLaw:
        """The density at θ."""
        rho = np.full(2, self.problem.precision) if self.problem.prior is None else np.exp(theta[-2:])
        error = self.target - self.prediction(theta)
        return MeanFieldLaw(self.problem, self.columns, error, rho, float(np.exp(log_kappa)))

    def start(self, log_kappa: float, nodes: list[NeuronNodes]) -> np.ndarray:
        """θ of the prior."""
        rho = [] if self.problem.prior is None else np.log([self.problem.precision] * 2)
        theta = np.concatenate([np.zeros(len(self.target)), rho])
        return self.complete(self.free(theta), log_kappa, nodes, theta)

    def free(self, theta: np.ndarray) -> np.ndarray:
        """The unknowns that are not eliminated, log ρ_S and log ρ_⊥, or none."""
        return theta[len(self.target) :]

    def complete(
        self, free: np.ndarray, log_kappa: float, nodes: list[NeuronNodes], guess: np.ndarray
    ) -> np.ndarray:
        """θ with x solved for at given precisions: Newton on a convex function of e, with a line search on it.

            ½|e|² - e_t·e + (N κ²/A²) log Z(e),    gradient x(e) - T,    minus Hessian the Jacobian of T - x

        Parameters
        ----------
        free, log_kappa, nodes
            log precisions, log κ and node sets.
        guess
            Some θ nearby.
        """
        count = len(self.target)
        scale = self.problem.network.width * np.exp(2 * log_kappa) / self.problem.amplitude**2

        def evaluate(theta):
            error, average = self.target - theta[:count], averages(self.law(theta, log_kappa), nodes)
            objective = 0.5 * error @ error - self.target @ error + scale * average.log_normaliser
            return objective, average

        theta = np.concatenate([guess[:count], free])
        objective, average = evaluate(theta)
        for _ in range(_NEWTON_STEPS):
            value = self.residuals(theta, log_kappa, average.mean)[:count]
            if np.abs(value).max(initial=0.0) < _TOLERANCE:
                break
            slope = self.jacobian(theta, log_kappa, average)[:count, :count]
            step = np.concatenate([-np.linalg.solve(slope, value), 0 * free])
            descent, before = float(value @ step[:count]), objective
            for _ in range(30):
                objective, average = evaluate(theta + step)
                # Next to the minimum rounding hides the descent; there full steps are safe.
                if objective <= before - 1e-4 * descent + 1e-13 * abs(before):
                    break
                step, descent = 0.5 * step, 0.5 * descent
            theta = theta + step
        return theta

    def _gain(self, log_kappa: float) -> float:
        network = self.problem.network
        return network.width ** (1 - 2 * network.gamma) * float(np.exp(-2 * log_kappa))

    def residuals(self, theta: np.ndarray, log_kappa: float, mean: np.ndarray) -> np.ndarray:
        """T(θ) - θ, shape (..., n), given the observables' averages (..., K)."""
        parts = [self._gain(log_kappa) * mean[..., : len(self.target)]]
        if self.problem.prior is not None:
            second = mean[..., -2:] / self.problem.counts
            parts.append(np.log(self.problem.prior.update(self.problem.network.width, second)))
        return np.concatenate(parts, axis=-1) - theta

    def jacobian(self, theta: np.ndarray, log_kappa: float, average: Averages) -> np.ndarray:
        """Derivative of :meth:`residuals` in (θ, log κ), shape (n, n + 1)."""
        count, n, mean, gain = len(self.target), len(theta), average.mean, self._gain(log_kappa)
        columns = [*range(count), *([] if self.problem.prior is None else [count, count + 1]), count + 2]
        response = average.response[:, columns]
        out = np.empty((n, n + 1))
        out[:count] = gain * response[:count]
        # What depends on x and on κ in the observables themselves.
        outer = average.response[2 * count : 3 * count, count + 3 :]
        out[:count, :count] -= gain * (
            outer + np.outer(mean[2 * count : 3 * count], average.score[count + 3 :])
        )
        out[:count, -1] += gain * (2 * mean[count : 2 * count] - 2 * mean[:count])
        if self.problem.prior is not None:
            width = self.problem.network.width
            for row, size in zip((-2, -1), self.problem.counts, strict=True):
                rate = self.problem.prior.rate + width / 2 * mean[row] / size
                out[row] = -(width / 2) * response[row] / size / rate
        out[:, :-1] -= np.eye(n)
        return out

    def system(self, theta: np.ndarray, log_kappa: float, nodes: list[NeuronNodes]):
        """Residuals, Jacobian and derivative in log κ, with averages pooled over `nodes`."""
        average = averages(self.law(theta, log_kappa), nodes)
        slope = self.jacobian(theta, log_kappa, average)
        return self.residuals(theta, log_kappa, average.mean), slope[:, :-1], slope[:, -1]

    def figures(self, theta: np.ndarray, log_kappa: float, mean: np.ndarray) -> dict[str, float]:
        """m and test errors at θ.

        m = x_t,   MSE of the mean = A² |e_t - x|²,   of a draw: + N^(1-2γ) E_p[E[a²|w] Σ] - A² |x|²/N
        """
        network, scale = self.problem.network, self.problem.amplitude**2
        x = self.prediction(theta)
        m = float(x @ self.target)
        bias = scale * float(1 - 2 * m + x @ x)
        variance = (
            network.width ** (1 - 2 * network.gamma) * float(mean[-3]) - scale * float(x @ x) / network.width
        )
        return {"order_parameter": m, "mse_mean": bias, "mse_draw": bias + variance}

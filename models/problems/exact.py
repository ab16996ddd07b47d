"""Posteriors in closed form: a linear regression, and the two-layer linear network."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from models.problems.plain import NOISE
from models.problems.problem import Problem

# Of log u, within so many standard deviations of it; the trapezoid rule then converges fast.
_NODES, _REACH = 400, 12.0


@dataclass(frozen=True)
class Gaussian:
    """Mean and variance of linear and quadratic functions of v ~ Normal(mean, cov)."""

    mean: np.ndarray
    cov: np.ndarray

    @classmethod
    def posterior(cls, x, y, noise_variance: float, prior_variance: float) -> "Gaussian":
        """β of y ~ Normal(Xβ, s²I), β ~ Normal(0, v²I): cov = (XᵀX/s² + I/v²)⁻¹, mean = cov Xᵀy/s²."""
        precision = x.T @ x / noise_variance + np.eye(x.shape[1]) / prior_variance
        cov = np.linalg.inv(precision)
        return cls(cov @ (x.T @ y) / noise_variance, cov)

    def linear(self, a) -> tuple[float, float]:
        """Of a·v: a·mean and aᵀ cov a."""
        return float(a @ self.mean), float(a @ self.cov @ a)

    def square(self, matrix, offset) -> tuple[float, float]:
        """Of |Av - b|²: |Am - b|² + tr(GC) and 2 tr(GCGC) + 4 rᵀCr, with G = AᵀA and r = Gm - Aᵀb."""
        gram, shift = matrix.T @ matrix, matrix.T @ offset
        product, slope = gram @ self.cov, gram @ self.mean - shift
        level = float(np.sum((matrix @ self.mean - offset) ** 2))
        variance = 2 * float(np.sum(product * product.T)) + 4 * float(slope @ self.cov @ slope)
        return level + float(np.trace(product)), variance


def linear_regression_exact(problem: Problem) -> dict[str, tuple[float, float]]:
    """Mean and sd of θ and of log p(y, θ) = -|Xθ - y|²/(2s²) - |θ|²/2 - P log s - (P + d)/2 log 2π."""
    x, y = (np.asarray(problem.data[name], float) for name in ("x", "y"))
    law = Gaussian.posterior(x, y, NOISE**2, 1.0)
    moments = {f"theta[{j}]": law.linear(e) for j, e in enumerate(np.eye(x.shape[1]))}
    stacked = (
        np.concatenate([x / NOISE, np.eye(x.shape[1])]),
        np.concatenate([y / NOISE, np.zeros(x.shape[1])]),
    )
    mean, variance = law.square(*stacked)
    constant = -len(y) * np.log(NOISE) - 0.5 * sum(x.shape) * np.log(2 * np.pi)
    moments["log_density"] = constant - mean / 2, variance / 4
    return {name: (mean, variance**0.5) for name, (mean, variance) in moments.items()}


def linear_network_exact(problem: Problem) -> dict[str, tuple[float, float]]:
    """Mean and sd of every function of the two-layer linear network, isotropic prior, no biases.

    f(x) = β·x with β = N^-γ Wᵀa depends on the readouts by u = N^-2γ |a|² alone:

        u N^2γ/σ_a² ~ χ²_N,     β | u ~ Normal(0, u τ² I),  τ² = σ_w²/d,     y | β ~ Normal(Xβ, κ²P I)

    so that given u all is Gaussian, and p(u | y) ∝ p(u) Normal(y; 0, u τ² XXᵀ + κ²P I) is one
    integral, here the trapezoid rule in log u. Column j of W given β and a is β_j/√u along a, and
    free in the N - 1 directions across it: Σ_i w_ij² = β_j²/u + τ² χ²_{N-1}. Means and variances
    are those over u of the conditional ones.

    References
    ----------
    Li and Sompolinsky, *Statistical mechanics of deep linear neural networks* (2021); Hanin and
    Zlokapa, *Bayesian interpolation with deep linear networks* (2023).
    """
    network, data = problem.network, problem.data
    if network.activation != "identity" or network.bias or network.prior.name != "isotropic":
        raise ValueError("network must be linear (identity), with isotropic prior and no biases.")
    n, d, x, y = network.width, network.input_dim, data.x, data.y
    spread = network.readout_scale**2 * n ** (-2 * network.gamma)  # of u: spread χ²_N
    tau2, noise2 = network.prior.scale**2 / d, network.kappa**2 * len(y)
    values, vectors = np.linalg.eigh(x @ x.T)
    projected = vectors.T @ y

    def log_density(log_u):
        u = np.exp(log_u)[:, None]
        variance = u * tau2 * values.clip(0) + noise2
        evidence = -0.5 * np.sum(np.log(variance) + projected**2 / variance, axis=1)
        return n / 2 * log_u - u[:, 0] / (2 * spread) + evidence

    # First wide, then where the mass is.
    centre, width = np.log(n * spread), 10.0
    for _ in range(3):
        log_u = centre + width * np.linspace(-1, 1, _NODES)
        weights = np.exp((log_p := log_density(log_u)) - logsumexp(log_p))
        centre = weights @ log_u
        width = _REACH * np.sqrt(weights @ (log_u - centre) ** 2 + (log_u[1] - log_u[0]) ** 2)
    log_u = centre + width * np.linspace(-1, 1, _NODES)
    weights = np.exp((log_p := log_density(log_u)) - logsumexp(log_p))

    constant = -0.5 * (
        len(y) * np.log(2 * np.pi * noise2)
        + n * np.log(2 * np.pi * network.readout_scale**2)
        + n * d * np.log(2 * np.pi * tau2)
    )

    def given(u):
        """Mean and variance of every function given u."""
        law = Gaussian.posterior(x, y, noise2, u * tau2)
        power = np.sum(data.y_test**2)
        out = {"order_parameter": law.linear(data.x_test.T @ data.y_test / power)}
        for name, (inputs, targets) in {"train": (x, y), "test": (data.x_test, data.y_test)}.items():
            scale = len(targets) ** -0.5
            out[f"{name}_mse"] = law.square(scale * inputs, scale * targets)
        out |= {f"f[{i}]": law.linear(data.x_test[i]) for i in problem.test_points}
        for j in problem.inputs:
            mean, variance = law.square(np.eye(d)[[j]] / u**0.5, np.zeros(1))
            free = tau2 * (n - 1), 2 * tau2**2 * (n - 1)
            out[f"second_moment[{j}]"] = (mean + free[0]) / n, (variance + free[1]) / n**2
        stacked = np.concatenate([x / noise2**0.5, np.eye(d) / (u * tau2) ** 0.5])
        mean, variance = law.square(stacked, np.concatenate([y / noise2**0.5, np.zeros(d)]))
        free = (n - 1) * d
        out["log_density"] = constant - u / (2 * spread) - (mean + free) / 2, (variance + 2 * free) / 4
        return out

    rows = [given(u) for u in np.exp(log_u)]
    moments = {}
    for name in rows[0]:
        means, variances = np.array([row[name] for row in rows]).T
        mean = weights @ means
        moments[name] = float(mean), float(np.sqrt(weights @ (variances + (means - mean) ** 2)))
    return moments

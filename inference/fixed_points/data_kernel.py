"""The learned kernel of a theory on a dataset, from weighted particles with a control variate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.lapack import dpotri

from inference.fixed_points.data_problem import DataProblem
from inference.fixed_points.particles import features


@dataclass(frozen=True, eq=False)
class ParticleKernel:
    """K(x, x') = t K_Gauss(x, x') + N c Σ_i b_i φ_i(x) φ_i(x'), an estimate of N c E_p[s φφ'].

    The control variate: under the Gaussian prior with precisions ρ the particles have weights q_i, and their estimate
    of its known kernel has nearly the noise of that of p(w), whose bulk is close to the prior. b_i = p_i s_i - t q_i,
    and t minimises Σ_i b_i². Without it the noise of n particles in P directions would bias Ā⁻¹.

    Parameters
    ----------
    problem, neurons
        Constants, and the hidden weights of the particles (n, D).
    precisions
        ρ of K_Gauss.
    share
        t.
    prior_weights
        q, (n,).
    coefficients
        b, (n,).
    """

    problem: DataProblem
    neurons: np.ndarray
    precisions: np.ndarray
    share: float
    prior_weights: np.ndarray
    coefficients: np.ndarray

    def learned(self, hidden: np.ndarray, hidden_other: np.ndarray) -> np.ndarray:
        """The sum over particles, given their activations on both sets of inputs, (n, P) and (n, P')."""
        scale = self.problem.width * self.problem.coupling
        return weighted_gram(hidden, hidden_other, scale * self.coefficients)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """Activations of the particles on inputs (m, d), float32 (n, m)."""
        return np.asarray(features(self.problem.network.activation, self.neurons, self.problem.extend(x)))

    def __call__(self, x: np.ndarray, x_other: np.ndarray) -> np.ndarray:
        """K of inputs (m, d) and (m', d), shape (m, m')."""
        out = self.learned(self.hidden(x), self.hidden(x_other))
        if self.share:
            extend = self.problem.extend
            out += self.share * self.problem.gaussian_kernel(self.precisions, extend(x), extend(x_other))
        return out

    def diagonal(self, x: np.ndarray) -> np.ndarray:
        """K(x, x) at every row of `x`, shape (m,)."""
        scale = self.problem.width * self.problem.coupling
        out = scale * (self.coefficients @ self.hidden(x).astype(float) ** 2)
        return out + self.share * self.problem.gaussian_variance(self.precisions, self.problem.extend(x))


def weighted_gram(hidden: np.ndarray, hidden_other: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Σ_i b_i φ_i(x) φ_i(x') from activations (n, P) and (n, P'), multiplied in float32."""
    return ((hidden.T * coefficients.astype(np.float32)) @ hidden_other).astype(float)


def inverse(matrix: np.ndarray, noise: float) -> np.ndarray:
    """(matrix + noise I)⁻¹ by Cholesky; ``LinAlgError`` where it is not positive definite."""
    factor = cholesky(matrix + noise * np.eye(len(matrix)), lower=True, overwrite_a=True, check_finite=False)
    result, info = dpotri(factor, lower=1, overwrite_c=1)
    if info:
        raise LinAlgError("singular")
    lower = np.tril(result)
    return lower + np.tril(lower, -1).T

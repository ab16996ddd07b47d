"""The learned kernel of a theory on a dataset, from weighted particles with a control variate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.lapack import dpotri

from inference.fixed_points.particles.moves import features
from inference.fixed_points.particles.problem import DataProblem
from inference.fixed_points.regression.covariances import gaussian_kernel, gaussian_variance


@dataclass(frozen=True, eq=False)
class ParticleKernel:
    """K(x, x') = t K_Gauss(x, x') + N c Σ_i b_i φ_i(x) φ_i(x'), an estimate of N c E_p[h φφ'].

    The control variate: under the Gaussian prior with precisions ρ the particles have weights q_i,
    and their estimate of its known kernel has nearly the noise of that of p(w), whose bulk is close
    to the prior. b_i = p_i h_i - t q_i, and t minimises Σ_i b_i². Without it the noise of n
    particles in P directions would bias Ā⁻¹.
    """

    problem: DataProblem
    neurons: np.ndarray  # hidden weights of the particles, (n, D)
    precisions: np.ndarray  # ρ of K_Gauss
    share: float  # t
    coefficients: np.ndarray  # b, (n,)

    def learned(self, hidden: np.ndarray, hidden_other: np.ndarray) -> np.ndarray:
        """The sum over particles, given their activations on both sets of inputs."""
        return weighted_gram(hidden, hidden_other, self.problem.scale * self.coefficients)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """Activations of the particles on inputs (m, d), float32 (n, m)."""
        return np.asarray(features(self.problem.network.activation, self.neurons, self.problem.seen(x)))

    def __call__(self, x: np.ndarray, x_other: np.ndarray) -> np.ndarray:
        """K of inputs (m, d) and (m', d), shape (m, m')."""
        out = self.learned(self.hidden(x), self.hidden(x_other))
        if self.share:
            single = [each.astype(np.float32) for each in (x, x_other)]
            out += self.share * gaussian_kernel(self.problem.network, self.precisions, *single)
        return out

    def diagonal(self, x: np.ndarray) -> np.ndarray:
        """K(x, x) at every row of `x`, shape (m,)."""
        out = self.problem.scale * (self.coefficients @ self.hidden(x).astype(float) ** 2)
        single = x.astype(np.float32)
        return out + self.share * gaussian_variance(self.problem.network, self.precisions, single)


def weighted_gram(hidden: np.ndarray, hidden_other: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Σ_i b_i φ_i(x) φ_i(x') from activations (n, P) and (n, P'), multiplied in float32."""
    return ((hidden.T * coefficients.astype(np.float32)) @ hidden_other).astype(float)


def inverse(matrix: np.ndarray, ridge: float) -> np.ndarray:
    """(matrix + ridge I)⁻¹ by Cholesky; ``LinAlgError`` where it is not positive definite."""
    factor = cholesky(matrix + ridge * np.eye(len(matrix)), lower=True, overwrite_a=True, check_finite=False)
    result, info = dpotri(factor, lower=1, overwrite_c=1)
    if info:
        raise LinAlgError("singular")
    lower = np.tril(result)
    return lower + np.tril(lower, -1).T

"""The self-consistency equations of MF and AK on a dataset, on a fixed set of weighted particles.

    κ²P v + N c E_p[h B φ] = y,      B = φ·v,      ρ_j = T(E_p[w_j²]),      h = 1 (AK), 1/(1 + cG) (MF)

for v = (y - ⟨f⟩)/(κ²P), of length P, and the precisions ρ. For both theories ⟨f⟩ = K v with K = N c
E_p[h φφᵀ], so that the mean prediction of MF, too, is kernel ridge regression. Beyond the paper
(arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError
from scipy.special import softmax

from inference.fixed_points.neuron.density import log_gain, screening
from inference.fixed_points.particles.kernel import ParticleKernel, inverse, weighted_gram
from inference.fixed_points.particles.moves import features, quadratic
from inference.fixed_points.particles.problem import DataProblem
from inference.fixed_points.regression.covariances import gaussian_kernel
from inference.fixed_points.regression.gaussian_process import not_invertible

_LARGEST_STEP = 0.4  # of log ρ in one update


@dataclass(frozen=True, eq=False)
class Population:
    """Particles, and the density that they sample."""

    # z = w_j √ρ_j and b/σ_b, kept when ρ changes: the bulk follows the prior. float32 (n, D)
    z: np.ndarray
    log_density: np.ndarray  # of z, up to a constant, (n,)

    def take(self, part) -> Population:
        """Some of the particles."""
        return Population(self.z[part], self.log_density[part])


@dataclass(frozen=True, eq=False)
class Field:
    """What a neuron feels."""

    residual: np.ndarray  # v, (P,)
    precisions: np.ndarray  # ρ, (d,)
    inverse: np.ndarray  # Ā⁻¹ = (κ²P I + K)⁻¹, float32 (P, P)


class ParticleEquations:
    """The equations on one population at given precisions; AK takes `screened` from a field."""

    def __init__(self, problem: DataProblem, population: Population, precisions: np.ndarray):
        self.problem, self.population, self.precisions = problem, population, precisions
        self.neurons = (population.z * problem.scales(precisions)).astype(np.float32)
        self.hidden = np.asarray(features(problem.network.activation, self.neurons, problem.inputs))
        self._log_ratio = -0.5 * (population.z.astype(float) ** 2).sum(axis=1) - population.log_density
        self.screened = np.ones(len(self.hidden))  # h, (n,)
        if not problem.adaptive:
            strength = np.einsum("np,np->n", self.hidden, self.hidden).astype(float) / problem.ridge
            self.screened = screening(problem.coupling, strength)

    @cached_property
    def prior_weights(self) -> np.ndarray:
        """q, weights of the particles under the prior, (n,)."""
        return softmax(self._log_ratio)

    @cached_property
    def gaussian(self) -> np.ndarray:
        """Kernel of Gaussian neurons on the training inputs, (P, P)."""
        single = self.problem.data.x.astype(np.float32)
        return gaussian_kernel(self.problem.network, self.precisions, single, single)

    def use(self, field: Field) -> None:
        """Take AK's G = φᵀ Ā⁻¹ φ from `field`; MF's G = |φ|²/(κ²P) is that of the neuron alone."""
        if self.problem.adaptive:
            strength = np.asarray(quadratic(self.hidden, field.inverse), float)
            self.screened = screening(self.problem.coupling, np.maximum(strength, 0.0))

    def energy(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """B, and E = log p/prior, at every particle."""
        overlap = (self.hidden @ residual.astype(np.float32)).astype(float)
        return overlap, log_gain(np, self.problem.coupling, self.screened, overlap**2)

    def density(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p_i, of sum 1, and B_i."""
        overlap, energy = self.energy(residual)
        return softmax(self._log_ratio + energy), overlap

    def weights(self, residual: np.ndarray) -> np.ndarray:
        """p_i, of sum 1."""
        return self.density(residual)[0]

    def kernel_weights(self, p: np.ndarray) -> np.ndarray:
        """p_i h_i of the learned kernel, with h = 1 for AK."""
        return p if self.problem.adaptive else p * self.screened

    def second_moment(self, p: np.ndarray) -> np.ndarray:
        """E_p[w_j²] (d,), with the prior's as a control variate."""
        q = self.prior_weights
        share = float(p @ q / (q @ q))
        return np.maximum(share + (p - share * q) @ self._squares, 1e-3) / self.precisions

    @property
    def _squares(self) -> np.ndarray:
        return self.population.z[:, : self.problem.num_inputs].astype(float) ** 2

    def precision_step(self, p: np.ndarray) -> np.ndarray:
        """A change of log ρ: a Newton step, input by input, on log T(E_p[w_j²]) - log ρ_j.

        At a fixed field d log E_p[w_j²]/d log ρ_j = -χ_j with χ_j = ½ Var_p(z_j²)/E_p[z_j²]: 1 for
        the prior, where the plain iteration is slow, and near 0 where the data fix w_j, where it
        converges at once. Zeros where ρ is fixed.
        """
        update = self.problem.rule.update
        if update is None:
            return np.zeros_like(self.precisions)
        moment, square, h = self.second_moment(p), self._squares, 1e-4
        mean = p @ square
        response = 0.5 * (p @ square**2 - mean**2) / mean
        elasticity = -np.log(update(moment * (1 + h)) / update(moment * (1 - h))) / (2 * h)
        step = np.log(update(moment) / self.precisions) / (1 - np.clip(elasticity * response, 0.0, 0.95))
        return np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)

    def kernel(self, coefficients: np.ndarray, share: float = 1.0) -> ParticleKernel:
        """N c Σ_i b_i φφ' given b; `share` < 1 reduces its control variate."""
        if self.problem.network.activation == "tanh" and self.problem.rule.update is not None:
            share = 0.0  # no closed form: affordable once, for fixed precisions
        q = self.prior_weights
        t = share * float(coefficients @ q / (q @ q))
        return ParticleKernel(self.problem, self.neurons, self.precisions, t, coefficients - t * q)

    def matrix(self, kernel: ParticleKernel) -> np.ndarray:
        """A kernel of these particles on the training inputs, (P, P)."""
        matrix = kernel.learned(self.hidden, self.hidden)
        return matrix + kernel.share * self.gaussian if kernel.share else matrix

    def sum(self, coefficients: np.ndarray) -> np.ndarray:
        """N c Σ_i b_i φ_i φ_iᵀ on the training inputs, (P, P)."""
        return weighted_gram(self.hidden, self.hidden, self.problem.scale * coefficients)

    def project(self, coefficients: np.ndarray) -> np.ndarray:
        """N c Σ_i b_i φ_i on the training inputs, (P,)."""
        return (self.hidden.T @ (self.problem.scale * coefficients).astype(np.float32)).astype(float)

    def invert(self, p: np.ndarray) -> tuple[ParticleKernel, np.ndarray]:
        """The learned kernel at weights p, and (κ²P I + K)⁻¹ in float64."""
        for share in (1.0, 0.5, 0.0):
            kernel = self.kernel(self.kernel_weights(p), share)
            try:
                return kernel, inverse(self.matrix(kernel), self.problem.ridge)
            except LinAlgError:  # the difference of two noisy kernels need not be positive
                continue
        raise not_invertible(self.problem.ridge)

"""The self-consistency equations of MF and AK on a dataset, on a fixed set of weighted particles.

    κ²P v + N c E_p[s B φ] = y,      B = φ·v,      ρ_j = T(E_p[w_j²]),      s = 1 (AK), 1/(1 + cG) (MF)

for v = (y - ⟨f⟩)/(κ²P), of length P, and the precisions ρ. For both theories ⟨f⟩ = K v with K = N c E_p[s φφᵀ], so
that the mean prediction of MF, too, is kernel ridge regression. For MF at given ρ the left side is the gradient of
½ κ²P |v|² + N log E_prior[exp(E)], which is convex in v: the solution is unique. Beyond the paper
(arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import LinearOperator, gmres

from inference.fixed_points.data_kernel import ParticleKernel, inverse, weighted_gram
from inference.fixed_points.data_problem import DataProblem
from inference.fixed_points.particles import features, quadratic

_NEWTON_STEPS = 12
_HALVINGS = 8
_LARGEST_STEP = 0.4  # of log ρ in one update


@dataclass(frozen=True, eq=False)
class Population:
    """Particles, by their weights in units of the prior's scales, and the density that they sample.

    Parameters
    ----------
    z
        w_j √ρ_j, and b/σ_b where there are hidden biases; float32 (n, D). The particles keep their z when ρ changes,
        so that the bulk of the neurons, which follows the prior, stays where it belongs.
    log_density
        Log of the density of z that they were drawn from, up to a constant, (n,).
    """

    z: np.ndarray
    log_density: np.ndarray

    def take(self, part) -> Population:
        """Some of the particles."""
        return Population(self.z[part], self.log_density[part])


@dataclass(frozen=True, eq=False)
class Field:
    """What a neuron feels.

    Parameters
    ----------
    residual
        v, shape (P,).
    precisions
        ρ, shape (d,).
    inverse
        (κ²P I + K)⁻¹, float32 (P, P).
    """

    residual: np.ndarray
    precisions: np.ndarray
    inverse: np.ndarray


@dataclass(frozen=True, eq=False)
class Reference:
    """A kernel that is known better than from the particles alone: K ≈ matrix + N c Σ_i (b_i - weights_i) φ_i φ_iᵀ.

    Parameters
    ----------
    matrix
        On the training inputs, (P, P).
    weights
        Weights with which the particles estimate the same kernel, (n,).
    """

    matrix: np.ndarray
    weights: np.ndarray


class ParticleEquations:
    """The equations on one population at given precisions.

    Parameters
    ----------
    problem, population
        Constants and particles.
    precisions
        ρ, shape (d,).
    """

    def __init__(self, problem: DataProblem, population: Population, precisions: np.ndarray):
        self.problem, self.population, self.precisions = problem, population, precisions
        scales = problem.all_precisions(precisions) ** -0.5
        self.neurons = (population.z * scales).astype(np.float32)
        self.hidden = np.asarray(features(problem.network.activation, self.neurons, problem.inputs))
        self._log_ratio = -0.5 * (population.z.astype(float) ** 2).sum(axis=1) - population.log_density
        self.gain = np.ones(len(self.hidden))
        if not problem.adaptive:
            g = np.einsum("np,np->n", self.hidden, self.hidden).astype(float) / problem.noise
            self.gain = 1 / (1 + problem.coupling * g)

    @cached_property
    def prior_weights(self) -> np.ndarray:
        """q, weights of the particles under the prior, (n,)."""
        return _softmax(self._log_ratio)

    @cached_property
    def gaussian(self) -> np.ndarray:
        """Kernel of Gaussian neurons on the training inputs, (P, P)."""
        return self.problem.gaussian_kernel(self.precisions, self.problem.inputs, self.problem.inputs)

    def use(self, field: Field) -> None:
        """Take G = φᵀ Ā⁻¹ φ from `field`; nothing to do for MF, whose G = |φ|²/(κ²P) is that of the neuron alone."""
        if self.problem.adaptive:
            self.gain = self.gain_of(field.inverse)

    def gain_of(self, inverted: np.ndarray) -> np.ndarray:
        """s = 1/(1 + cG) for AK's G = φᵀ Ā⁻¹ φ, (n,)."""
        g = np.asarray(quadratic(self.hidden, inverted.astype(np.float32)), float)
        return 1 / (1 + self.problem.coupling * np.maximum(g, 0.0))

    def energy(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """B and E at every particle."""
        overlap = (self.hidden @ residual.astype(np.float32)).astype(float)
        return overlap, 0.5 * np.log(self.gain) + 0.5 * self.problem.coupling * overlap**2 * self.gain

    def weights(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p_i (sum 1) and B_i."""
        overlap, energy = self.energy(residual)
        return _softmax(self._log_ratio + energy), overlap

    def balance(self, field: Field, share: float, tolerance: float) -> tuple[np.ndarray, float]:
        """v at the present G, and the root mean square of the mismatch; `share` is that of the control variate."""
        reference = Reference(share * self.gaussian, share * self.prior_weights)
        origin = self.weights(field.residual)[0]
        return self._newton(field, reference, tolerance, origin, np.inf)

    def follow(
        self, p: np.ndarray, field: Field, reference: Reference, tolerance: float, drift: float
    ) -> tuple[Field, float]:
        """One update, Ā from `reference`, G from Ā, and v solved for at this G, no further than particles can follow.

        p(w) answers G exponentially: G of an aligned neuron is about 1/c over the number of those that carry the
        signal, so that a full step of Ā⁻¹ would empty the mode and then overfill it. G is linear in Ā⁻¹: its step is
        halved until Σ_i p_i²/p_i(old) is at most half of `drift`; that of v until it is at most `drift`.

        Raises
        ------
        LinAlgError
            Where κ²P I + matrix is not positive definite.
        """
        inverted = inverse(reference.matrix, self.problem.noise).astype(np.float32)
        if self.problem.adaptive:
            self.use(Field(field.residual, self.precisions, inverted))
            after = 1 / self.gain
            self.use(field)
            before, share = 1 / self.gain, 1.0
            for _ in range(_HALVINGS):
                self.gain = 1 / (before + share * (after - before))
                if divergence(self.weights(field.residual)[0], p) <= 0.5 * drift:
                    break
                share *= 0.5
            inverted = field.inverse + np.float32(share) * (inverted - field.inverse)
        field = Field(field.residual, self.precisions, inverted)
        residual, norm = self._newton(field, reference, tolerance, p, drift)
        return Field(residual, self.precisions, inverted), norm

    def second_moment(self, p: np.ndarray) -> np.ndarray:
        """E_p[w_j²] (d,), with the prior's as a control variate."""
        square = self.population.z[:, : self.problem.num_inputs].astype(float) ** 2
        q = self.prior_weights
        share = float(p @ q / (q @ q))
        return np.maximum(share + (p - share * q) @ square, 1e-3) / self.precisions

    def precision_step(self, p: np.ndarray) -> np.ndarray:
        """A change of log ρ: a Newton step, input by input, on log T(E_p[w_j²]) - log ρ_j; zeros where ρ is fixed.

        At a fixed field d log E_p[w_j²]/d log ρ_j = -χ_j with χ_j = ½ Var_p(z_j²)/E_p[z_j²]: 1 for the prior, where
        the plain iteration is slow, and near 0 where the data fix w_j, where it converges at once.
        """
        update = self.problem.rule.update
        if update is None:
            return np.zeros_like(self.precisions)
        moment, h = self.second_moment(p), 1e-4
        square = self.population.z[:, : self.problem.num_inputs].astype(float) ** 2
        mean = p @ square
        response = 0.5 * (p @ square**2 - mean**2) / mean
        elasticity = -np.log(update(moment * (1 + h)) / update(moment * (1 - h))) / (2 * h)
        step = np.log(update(moment) / self.precisions) / (1 - np.clip(elasticity * response, 0.0, 0.95))
        return np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)

    def kernel(self, p: np.ndarray, share: float = 1.0) -> ParticleKernel:
        """The learned kernel at weights p; `share` < 1 reduces its control variate."""
        q, target = self.prior_weights, p if self.problem.adaptive else p * self.gain
        if self.problem.network.activation == "tanh" and self.problem.rule.update is not None:
            share = 0.0  # no closed form: affordable once, for fixed precisions
        t = share * float(target @ q / (q @ q))
        return ParticleKernel(self.problem, self.neurons, self.precisions, t, q, target - t * q)

    def matrix(self, kernel: ParticleKernel) -> np.ndarray:
        """A kernel of these particles on the training inputs, (P, P)."""
        matrix = kernel.learned(self.hidden, self.hidden)
        return matrix + kernel.share * self.gaussian if kernel.share else matrix

    def sum(self, coefficients: np.ndarray) -> np.ndarray:
        """N c Σ_i b_i φ_i φ_iᵀ on the training inputs, (P, P)."""
        return weighted_gram(
            self.hidden, self.hidden, self.problem.width * self.problem.coupling * coefficients
        )

    def invert(self, p: np.ndarray) -> tuple[ParticleKernel, np.ndarray]:
        """The learned kernel at weights p, and (κ²P I + K)⁻¹ in float64."""
        for share in (1.0, 0.5, 0.0):
            kernel = self.kernel(p, share)
            matrix = self.matrix(kernel)
            try:
                return kernel, inverse(matrix, self.problem.noise)
            except LinAlgError:  # the difference of two noisy kernels need not be positive
                continue
        raise ValueError(
            f"kappa is too small for this kernel: with ridge {self.problem.noise:.3g} it cannot be inverted; raise "
            "kappa."
        )

    def _newton(
        self, field: Field, reference: Reference, tolerance: float, origin: np.ndarray, drift: float
    ) -> tuple[np.ndarray, float]:
        """v at fixed G by Newton's method with a line search, and the root mean square of the mismatch.

        `drift` bounds Σ_i p_i²/p_i(origin): particles represent no density that is too far away.
        """
        residual = field.residual
        value, start = self._mismatch(residual, reference), self.weights(residual)[0]
        drift = max(drift, 1.1 * divergence(start, origin))
        for _ in range(_NEWTON_STEPS):
            norm = _rms(value)
            if norm <= tolerance:
                break
            step = self._step(residual, value, reference, field)
            for halving in range(_HALVINGS):
                trial = residual + 0.5**halving * step
                new = self._mismatch(trial, reference)
                falls = _rms(new) < norm * (1 - 0.1 * 0.5**halving)
                if falls and divergence(self.weights(trial)[0], origin) <= drift:
                    break
            else:
                break
            residual, value = trial, new
        return residual, _rms(value)

    def _mismatch(self, residual: np.ndarray, reference: Reference) -> np.ndarray:
        """Left minus right side of the equation for v, in units of the targets' size."""
        p, overlap = self.weights(residual)
        target = p if self.problem.adaptive else p * self.gain
        mean = self._project((target - reference.weights) * overlap) + reference.matrix @ residual
        return (self.problem.noise * residual + mean - self.problem.data.y) / self.problem.size

    def _step(
        self, residual: np.ndarray, value: np.ndarray, reference: Reference, field: Field
    ) -> np.ndarray:
        """-J⁻¹ mismatch by GMRES preconditioned with Ā⁻¹, J through δp_i = p_i (δE_i - E_p[δE]) and δE = c s B δB."""
        problem = self.problem
        p, overlap = self.weights(residual)
        pull = problem.coupling * overlap * self.gain
        target = 1.0 if problem.adaptive else self.gain
        held = p * target - reference.weights

        def apply(direction):
            moved = (self.hidden @ direction.astype(np.float32)).astype(float)
            change = pull * moved
            change = p * (change - p @ change)
            out = problem.noise * direction + self._project(held * moved + target * overlap * change)
            return out + reference.matrix @ direction

        def precondition(vector):
            return (field.inverse @ vector.astype(np.float32)).astype(float)

        shape = (len(residual), len(residual))
        operator, guess = LinearOperator(shape, apply), LinearOperator(shape, precondition)
        return gmres(operator, -problem.size * value, rtol=1e-2, restart=25, maxiter=2, M=guess)[0]

    def _project(self, coefficients: np.ndarray) -> np.ndarray:
        scale = self.problem.width * self.problem.coupling
        return (self.hidden.T @ (scale * coefficients).astype(np.float32)).astype(float)


def divergence(p: np.ndarray, origin: np.ndarray) -> float:
    """Σ_i p_i²/origin_i, 1 where they are equal; its inverse is the share of the particles that still count."""
    return float(np.sum(p**2 / np.maximum(origin, 1e-300)))


def _softmax(log_weights: np.ndarray) -> np.ndarray:
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


def _rms(value: np.ndarray) -> float:
    return float(np.sqrt(np.mean(value**2)))

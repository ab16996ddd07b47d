"""Evidence of N neurons in the modes on S, with all other modes and the data set at their averages.

    G_i = Σ_{i,j≥1} q_ij g_ij + tail g_0,   g = 1/(κ̃ + λ) - ε/(κ̃ + λ)²  (λ = 0 in g_0),   u_i = c/(1 + cG_i)
    A = κ̃ I + Σ_i u_i ψ_iψ_iᵀ,    log evidence = -½ Σ_i log(1 + cG_i) - ½ log det A - ½ e_SᵀA⁻¹e_S - ½ ε tr A⁻¹

κ̃ is the ridge that replaces κ²P on P points, and ε the variance per mode of what a data set of P points adds to the
target: neurons turn towards it, which lowers G. With r_i = (1 - u_i ψ_iᵀA⁻¹ψ_i)/(1 + cG_i) at ε = 0, the posterior
variance of neuron i's readout over its prior's, and â_i = u_i^(1/2) (1 + cG_i)^(-1/2) ψ_iᵀA⁻¹e_S its mean,

    λ_ij = c E[Σ_n q_ij,n r_n]/mult_ij,        dof = tr T(T + κ̃)⁻¹ = Σ_i (1 - r_i) < N,  T the learned kernel

The factor r makes λ the deterministic equivalent for few neurons with random directions (Marchenko-Pastur); at
r = 1, ε = 0 and AK's κ̃ this is the block theory frozen at the adaptive kernel. Beyond the paper (arXiv:2510.15174);
deterministic equivalents: Silverstein and Bai (1995); Canatar, Bordelon and Pehlevan (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve

from inference.fixed_points.block_modes import BlockFeatures, rest_modes, target_position

_SETTLE = 50  # updates of a background from nothing
_FOLLOW = 6  # updates of λ to its own equation at given weights; each gains a factor of about 5


class Background(NamedTuple):
    """What everything outside the block contributes.

    Attributes
    ----------
    eigenvalues
        λ_ij of the resolved modes with j ≥ 1, shape (M,).
    ridge
        κ̃.
    noise
        ε, 0 at P = ∞.
    """

    eigenvalues: jax.Array
    ridge: jax.Array
    noise: jax.Array


class Response(NamedTuple):
    """The block given a background.

    Attributes
    ----------
    log_inflation
        log(1 + cG_i), shape (N,).
    survival
        r_i, shape (N,).
    inverse
        A⁻¹.
    """

    log_inflation: jax.Array
    survival: jax.Array
    inverse: jax.Array


@dataclass(frozen=True)
class BlockProblem:
    """Constants of the evidence; κ and P are not among them, so that compiled programs serve a phase diagram.

    Parameters
    ----------
    input_dim, degree, width
        d, k (even) and N.
    coupling
        c = σ_a²/N^(2γ).
    max_order
        Largest Hermite degree that is resolved.
    """

    input_dim: int
    degree: int
    width: int
    coupling: float
    max_order: int = 4

    @cached_property
    def multiplicities(self) -> np.ndarray:
        """Of the modes with j ≥ 1."""
        return rest_modes(self.degree, self.input_dim, self.max_order)[2]

    @property
    def num_rest(self) -> int:
        """d - k."""
        return self.input_dim - self.degree

    @property
    def target(self) -> int:
        """Position of S among the block's modes."""
        return target_position(self.degree)


def _matrix(problem: BlockProblem, features: BlockFeatures, background: Background):
    """log(1 + cG_i) and A."""
    psi, c, ridge, noise = features.relevant, problem.coupling, background.ridge, background.noise
    gain = 1 / (ridge + background.eigenvalues)
    power = features.powers @ (gain - noise * gain**2) + features.tail * (1 - noise / ridge) / ridge
    log_inflation = jnp.log1p(c * power)
    weighted = psi * (c * jnp.exp(-log_inflation))[:, None]
    return log_inflation, ridge * jnp.eye(psi.shape[1], dtype=psi.dtype) + weighted.T @ psi


def respond(problem: BlockProblem, features: BlockFeatures, background: Background) -> Response:
    """r_i and A⁻¹ of these neurons at a background."""
    log_inflation, matrix = _matrix(problem, features, background)
    psi = features.relevant
    inverse, _ = _inverse_and_log_det(matrix)
    share = jnp.exp(-log_inflation)
    overlap = problem.coupling * share * jnp.sum((psi @ inverse) * psi, axis=1)
    return Response(log_inflation, share * (1 - overlap), inverse)


@partial(jax.jit, static_argnums=0)  # else NumPyro's initialisation compiles every operation by itself
def log_evidence(problem: BlockProblem, features: BlockFeatures, background: Background) -> jax.Array:
    """log evidence at a background, up to a constant."""
    log_inflation, matrix = _matrix(problem, features, background)
    return -0.5 * log_inflation.sum() + _log_gaussian(matrix, background.noise, problem.target)


def _inverse_and_log_det(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    factor = jnp.linalg.cholesky(matrix)
    inverse = cho_solve((factor, True), jnp.eye(len(matrix), dtype=matrix.dtype))
    return inverse, 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _log_gaussian(matrix: jax.Array, noise: jax.Array, target: int) -> jax.Array:
    """-½ (log det A + [A⁻¹]_SS + ε tr A⁻¹)."""
    inverse, log_det = _inverse_and_log_det(matrix)
    return -0.5 * (log_det + inverse[target, target] + noise * jnp.trace(inverse))


@_log_gaussian.defjvp
def _log_gaussian_jvp(target, primals, tangents):
    # Written down: differentiating a Cholesky factor costs more, to compile and to run.
    (matrix, noise), (d_matrix, d_noise) = primals, tangents
    inverse, log_det = _inverse_and_log_det(matrix)
    value = -0.5 * (log_det + inverse[target, target] + noise * jnp.trace(inverse))
    slope = 0.5 * (jnp.outer(inverse[target], inverse[target]) + noise * inverse @ inverse - inverse)
    return value, jnp.sum(slope * d_matrix) - 0.5 * jnp.trace(inverse) * d_noise


def update_eigenvalues(problem: BlockProblem, features: BlockFeatures, weights: jax.Array) -> jax.Array:
    """c Σ_n q_ij,n weight_n/mult_ij; λ_ij for the weights r."""
    return problem.coupling * (weights @ features.powers) / jnp.asarray(problem.multiplicities, weights.dtype)


@partial(jax.jit, static_argnums=0)
def settle(problem: BlockProblem, features: BlockFeatures, noise_variance: float, rate: float) -> Background:
    """λ and κ̃ = κ² + κ̃ dof/P of given neurons that know nothing of the data, in random directions; ε = 0.

    Parameters
    ----------
    problem, features
        Constants, and what the neurons contribute.
    noise_variance, rate
        κ² and 1/P, 0 for the population.
    """
    ridge = jnp.asarray(noise_variance, features.tail.dtype)

    def step(_, background):
        survival = respond(problem, features, background).survival
        new = ridge + rate * background.ridge * jnp.sum(1 - survival)
        return Background(update_eigenvalues(problem, features, survival), new, 0 * ridge)

    guess = Background(ridge * jnp.ones(len(problem.multiplicities), ridge.dtype), ridge, 0 * ridge)
    return jax.lax.fori_loop(0, _SETTLE, step, guess)


class BlockFigures(NamedTuple):
    """Figures of one set of neurons, averaged over readouts and over directions in the rest.

    Attributes
    ----------
    order_parameter
        m = 1 - κ̃ e_SᵀA⁻¹e_S.
    bias
        κ̃² e_Sᵀ(T + κ̃)⁻²e_S, squared error of the mean over readouts, without what the data set adds.
    variance
        κ̃ dof, of f over readouts, averaged over inputs.
    square_trace
        tr T²(T + κ̃)⁻²; ε times that is the power of f that fits the data set.
    learned
        1 - κ̃[A⁻¹]_TT, shape (2^(k-1) + k,).
    eigenvalues
        λ_ij of these neurons, shape (M,).
    response
        c Σ_n q_ij,n (r_n + â_n²)/mult_ij: λ_ij with the turning of the neurons in it, shape (M,).
    """

    order_parameter: jax.Array
    bias: jax.Array
    variance: jax.Array
    square_trace: jax.Array
    learned: jax.Array
    eigenvalues: jax.Array
    response: jax.Array


@partial(jax.jit, static_argnums=0)
def block_figures(problem: BlockProblem, features: BlockFeatures, background: Background) -> BlockFigures:
    """Figures at a background.

    Squares of resolvents are derivatives in κ̃ at fixed weights, with λ following its own equation:
    e_Sᵀ(T + κ̃)⁻²e_S = -d[A⁻¹]_SS/dκ̃ and tr T²(T + κ̃)⁻² = d(κ̃ dof)/dκ̃.
    """
    ridge, target = background.ridge, problem.target

    def at(log_ridge):
        quiet = Background(background.eigenvalues, jnp.exp(log_ridge), 0 * ridge)

        def follow(_, carry):
            survival = respond(problem, features, quiet._replace(eigenvalues=carry[0])).survival
            return update_eigenvalues(problem, features, survival), survival

        start = (quiet.eigenvalues, jnp.ones_like(features.tail))
        value, survival = jax.lax.fori_loop(0, _FOLLOW, follow, start)
        quiet = quiet._replace(eigenvalues=value)
        response = respond(problem, features, quiet._replace(noise=background.noise))
        return (response.inverse[target, target], jnp.sum(1 - survival)), (response, survival)

    values, slopes, (response, survival) = jax.jvp(
        at, (jnp.log(ridge),), (jnp.ones_like(ridge),), has_aux=True
    )
    mean = (
        problem.coupling**0.5
        * jnp.exp(-response.log_inflation)
        * (features.relevant @ response.inverse[:, target])
    )
    return BlockFigures(
        order_parameter=1 - ridge * values[0],
        bias=-ridge * slopes[0],
        variance=ridge * values[1],
        square_trace=values[1] + slopes[1],
        learned=1 - ridge * jnp.diagonal(response.inverse),
        eigenvalues=update_eigenvalues(problem, features, survival),
        response=update_eigenvalues(problem, features, survival + mean**2),
    )

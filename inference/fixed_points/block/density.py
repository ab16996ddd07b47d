"""Evidence of N neurons in the modes on S, with all other modes and the data set at their averages.

    G_i = Σ_{i,j≥1} q_ij g_ij + tail g_0,     g = 1/(κ̃ + λ) - ε/(κ̃ + λ)²  (λ = 0 in g_0)
    A = κ̃ I + Σ_i u_i ψ_iψ_iᵀ,                u_i = c/(1 + cG_i)
    log evidence = -½ Σ_i log(1 + cG_i) - ½ log det A - ½ e_SᵀA⁻¹e_S - ½ ε tr A⁻¹

κ̃ is the ridge that replaces κ²P on P points, and ε the variance per mode of what a data set of P
points adds to the target: neurons turn towards it, which lowers G. At ε = 0 the posterior variance
of neuron i's readout over its prior's is

    r_i = (1 - u_i ψ_iᵀA⁻¹ψ_i)/(1 + cG_i),    λ_ij = c E[Σ_n q_ij,n r_n]/mult_ij

The factor r makes λ the deterministic equivalent for few neurons with random directions
(Marchenko-Pastur), and dof = tr T(T + κ̃)⁻¹ = Σ_i (1 - r_i) < N with T the learned kernel. r = 1,
ε = 0 and the adaptive kernel's κ̃ freeze this theory at the adaptive kernel. Beyond the paper
(arXiv:2510.15174); deterministic equivalents: Silverstein and Bai (1995); Canatar, Bordelon and
Pehlevan (2021).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from inference.fixed_points.block.modes import BlockFeatures, rest_modes, target_position
from inference.fixed_points.populations.problem import PopulationProblem

_SETTLE = 50  # updates of a background from nothing


class Background(NamedTuple):
    """What everything outside the block contributes."""

    eigenvalues: jax.Array  # λ_ij of the resolved modes with j ≥ 1, (M,)
    ridge: jax.Array  # κ̃
    noise: jax.Array  # ε, 0 at P = ∞


def _screened(problem: PopulationProblem, features: BlockFeatures, background: Background):
    """log(1 + cG_i), 1/(1 + cG_i) and A."""
    psi, c, ridge, noise = features.relevant, problem.coupling, background.ridge, background.noise
    gain = 1 / (ridge + background.eigenvalues)
    power = features.powers @ (gain - noise * gain**2) + features.tail * (1 - noise / ridge) / ridge
    log_inflation = jnp.log1p(c * power)
    share = jnp.exp(-log_inflation)
    weighted = psi * (c * share)[:, None]
    return log_inflation, share, ridge * jnp.eye(psi.shape[1], dtype=psi.dtype) + weighted.T @ psi


def respond(problem: PopulationProblem, features: BlockFeatures, background: Background):
    """1/(1 + cG_i) and r_i, shape (N,), and A⁻¹ of these neurons at a background."""
    _, share, matrix = _screened(problem, features, background)
    psi = features.relevant
    inverse, _ = _inverse_and_log_det(matrix)
    overlap = problem.coupling * share * jnp.sum((psi @ inverse) * psi, axis=1)
    return share, share * (1 - overlap), inverse


# Compiled: else NumPyro's initialisation compiles every operation by itself.
@partial(jax.jit, static_argnums=0)
def log_evidence(problem: PopulationProblem, features: BlockFeatures, background: Background) -> jax.Array:
    """log evidence at a background, up to a constant."""
    log_inflation, _, matrix = _screened(problem, features, background)
    target = target_position(len(problem.relevant))
    return -0.5 * log_inflation.sum() + _log_gaussian(matrix, background.noise, target)


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


def mean_powers(problem: PopulationProblem, features: BlockFeatures, weights: jax.Array) -> jax.Array:
    """c Σ_n q_ij,n weight_n/mult_ij; λ_ij for the weights r."""
    _, _, multiplicities = rest_modes(len(problem.relevant), problem.input_dim)
    return problem.coupling * (weights @ features.powers) / jnp.asarray(multiplicities, weights.dtype)


@partial(jax.jit, static_argnums=0)
def settle(
    problem: PopulationProblem, features: BlockFeatures, kappa: float, num_data: int | None
) -> Background:
    """λ and κ̃ = κ² + κ̃ dof/P, at ε = 0, of neurons in random directions without the data."""
    ridge = jnp.asarray(kappa**2, features.tail.dtype)
    rate = 0.0 if num_data is None else 1 / num_data

    def step(_, background):
        _, survival, _ = respond(problem, features, background)
        new = ridge + rate * background.ridge * jnp.sum(1 - survival)
        return Background(mean_powers(problem, features, survival), new, 0 * ridge)

    guess = Background(ridge * jnp.ones(features.powers.shape[1], ridge.dtype), ridge, 0 * ridge)
    return jax.lax.fori_loop(0, _SETTLE, step, guess)

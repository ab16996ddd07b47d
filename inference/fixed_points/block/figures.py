"""Figures of a draw of the reduced network, averaged over readouts and directions in the rest.

r_i, u_i, A and the learned kernel T as in :mod:`inference.fixed_points.block.density`;
â_i = (u_i/(1 + cG_i))^(1/2) ψ_iᵀA⁻¹e_S is the posterior mean of neuron i's readout.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.fixed_points.block.density import Background, mean_powers, respond
from inference.fixed_points.block.model import BlockModel
from inference.fixed_points.block.modes import BlockFeatures, target_position
from inference.fixed_points.populations.problem import PopulationProblem

_FOLLOW = 6  # updates of λ to its own equation at given weights; each gains a factor of about 5
_BATCH = 25  # largest number of draws side by side


class BlockFigures(NamedTuple):
    """Figures of one set of neurons, or of every draw with the draws' dimensions leading."""

    order_parameter: jax.Array  # m = 1 - κ̃ e_SᵀA⁻¹e_S
    # κ̃² e_Sᵀ(T + κ̃)⁻²e_S, squared error of the mean over readouts, without what the
    # data set adds.
    bias: jax.Array
    variance: jax.Array  # κ̃ dof, of f over readouts, averaged over inputs
    square_trace: jax.Array  # tr T²(T + κ̃)⁻²; times ε the power of f that fits the data set
    learned: jax.Array  # 1 - κ̃[A⁻¹]_TT, (2^(k-1) + k,)
    eigenvalues: jax.Array  # λ_ij of these neurons, (M,)
    # c Σ_n q_ij,n (r_n + â_n²)/mult_ij: λ_ij with the turning of the neurons in it, (M,).
    response: jax.Array


@partial(jax.jit, static_argnums=0)
def block_figures(
    problem: PopulationProblem, features: BlockFeatures, background: Background
) -> BlockFigures:
    """Figures at a background.

    Squares of resolvents are derivatives in κ̃ at fixed weights, with λ following its own equation:
    e_Sᵀ(T + κ̃)⁻²e_S = -d[A⁻¹]_SS/dκ̃ and tr T²(T + κ̃)⁻² = d(κ̃ dof)/dκ̃.
    """
    ridge, target = background.ridge, target_position(len(problem.relevant))

    def at(log_ridge):
        quiet = Background(background.eigenvalues, jnp.exp(log_ridge), 0 * ridge)

        def follow(_, carry):
            _, survival, _ = respond(problem, features, quiet._replace(eigenvalues=carry[0]))
            return mean_powers(problem, features, survival), survival

        start = (quiet.eigenvalues, jnp.ones_like(features.tail))
        value, survival = jax.lax.fori_loop(0, _FOLLOW, follow, start)
        noisy = quiet._replace(eigenvalues=value, noise=background.noise)
        share, _, inverse = respond(problem, features, noisy)
        return (inverse[target, target], jnp.sum(1 - survival)), (share, survival, inverse)

    values, slopes, (share, survival, inverse) = jax.jvp(
        at, (jnp.log(ridge),), (jnp.ones_like(ridge),), has_aux=True
    )
    mean = problem.coupling**0.5 * share * (features.relevant @ inverse[:, target])
    return BlockFigures(
        order_parameter=1 - ridge * values[0],
        bias=-ridge * slopes[0],
        variance=ridge * values[1],
        square_trace=values[1] + slopes[1],
        learned=1 - ridge * jnp.diagonal(inverse),
        eigenvalues=mean_powers(problem, features, survival),
        response=mean_powers(problem, features, survival + mean**2),
    )


@partial(jax.jit, static_argnums=0)
def draw_figures(model: BlockModel, sites: dict[str, jax.Array], background: Background) -> BlockFigures:
    """Figures of draws with two leading dimensions."""
    shape = sites["rest_norm"].shape[:2]
    count = shape[0] * shape[1]
    used = {name: sites[name] for name in ("w_relevant", "rest_norm", "rho_rest") if name in sites}
    flat = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), used)
    figures = jax.lax.map(
        lambda params: block_figures(model.problem, model.features(params), background),
        flat,
        batch_size=max(n for n in range(1, _BATCH + 1) if count % n == 0),
    )
    return jax.tree.map(lambda v: v.reshape(*shape, *v.shape[1:]), figures)


def weight_figures(problem: PopulationProblem, sites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of every draw, from the weights alone; see :class:`BlockDraws`."""
    inside, outside = (sites["w_relevant"] ** 2).sum(axis=-1), sites["rest_norm"] ** 2
    degree, num_rest = problem.counts.tolist()
    return {
        "num_specialised": (inside > outside).sum(axis=-1).astype(float),
        "moment_relevant": inside.mean(axis=-1) / degree,
        "moment_rest": outside.mean(axis=-1) / num_rest,
    }

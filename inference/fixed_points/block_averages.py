"""Averages over draws of the reduced network: its background, m and test errors.

    λ_ij = c E[Σ_n q_ij,n r_n]/mult_ij,         m = E[1 - κ̃ e_SᵀA⁻¹e_S]
    MSE of the mean = (1-m)² + ε S',            S' = Σ_T E[1 - κ̃[A⁻¹]_TT]² + Σ_ij mult_ij (λ'_ij/(λ'_ij + κ̃))²
    MSE of a draw   = E[κ̃² e_Sᵀ(T+κ̃)⁻²e_S + κ̃ dof] + ε (E[tr T²(T+κ̃)⁻²] + Σ_ij mult_ij (λ'² - λ² terms of S'))
    κ̃ = κ² + (MSE of a draw - MSE of the mean)/P,      ε = MSE of the mean/P

λ' has r_n + â_n² in place of r_n: the mean network fits a data set with its readouts and by turning its neurons. The
last line is the replica-symmetric one: P points act as noise of variance κ²P + Var f on a target with white noise of
variance ε in every mode, and Var f is the posterior's, weights included. For neurons that know nothing of the
data it reduces to κ̃ = κ² + κ̃ dof/P and MSE = E0 (1-m)² + κ̃ dof of kernel ridge regression. Beyond the paper
(arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.fixed_points.block_density import Background, BlockFigures, BlockProblem, block_figures
from inference.fixed_points.block_model import BlockModel


class DrawFigures(NamedTuple):
    """Figures of every draw; leading dimensions are those of the draws.

    Attributes
    ----------
    block
        See :class:`BlockFigures`.
    num_specialised
        Number of neurons with more than half of |w_i|² on S.
    moment_relevant, moment_rest
        Mean over neurons of w_ij² on S and off S.
    """

    block: BlockFigures
    num_specialised: jax.Array
    moment_relevant: jax.Array
    moment_rest: jax.Array


def draw_figures(model: BlockModel, sites: dict[str, jax.Array], background: Background) -> DrawFigures:
    """Figures of draws with two leading dimensions."""
    names = [name for name in ("w_relevant", "rest_norm", "rho_rest") if name in sites]
    background = jax.tree.map(jnp.asarray, background)

    def one(values):
        params = dict(zip(names, values, strict=True))
        inside, outside = (params["w_relevant"] ** 2).sum(axis=1), params["rest_norm"] ** 2
        return DrawFigures(
            block_figures(model.problem, model.features(params), background),
            jnp.sum(inside > outside).astype(inside.dtype),
            inside.mean() / model.problem.degree,
            outside.mean() / model.problem.num_rest,
        )

    shape = sites["rest_norm"].shape[:2]
    count = shape[0] * shape[1]
    flat = tuple(sites[name].reshape(-1, *sites[name].shape[2:]) for name in names)
    figures = jax.lax.map(one, flat, batch_size=max(n for n in range(1, 26) if count % n == 0))
    return jax.tree.map(lambda v: v.reshape(*shape, *v.shape[1:]), figures)


@dataclass(frozen=True)
class BlockAverages:
    """What a set of draws averages to.

    Attributes
    ----------
    background
        What the draws call for.
    order_parameter, test_mse, test_mse_mean
        m and the test errors.
    draw_mse
        Test error of every draw, averaged over readouts and data sets.
    residual
        Largest change of the background: of κ̃ and ε relative to κ̃, of λ_ij relative to κ̃ + λ_ij. Infinite where
        S' > 0.8 P: so few data that they fit the mean network to noise, which the theory does not cover.
    """

    background: Background
    order_parameter: float
    test_mse: float
    test_mse_mean: float
    draw_mse: np.ndarray
    residual: float

    @classmethod
    def of(
        cls,
        problem: BlockProblem,
        figures: DrawFigures,
        old: Background,
        kappa: float,
        num_data: int | None,
    ) -> BlockAverages:
        """The averages of `figures`, which were taken in the background `old`, at noise κ and P = `num_data`."""
        block = jax.tree.map(np.asarray, figures.block)
        ridge, axes = float(old.ridge), (0, 1)
        m, learned = float(block.order_parameter.mean()), block.learned.mean(axes)
        value, response = block.eigenvalues.mean(axes), block.response.mean(axes)
        plain, turned = ((problem.multiplicities * (v / (v + ridge)) ** 2).sum() for v in (value, response))
        shared = float((learned**2).sum() + turned)
        noise, mse_mean = 0.0, (1 - m) ** 2
        if num_data is not None:
            # Stays finite where the data are too few for the theory; the residual then says so.
            mse_mean = (1 - m) ** 2 / max(1 - shared / num_data, 0.2)
            noise = mse_mean / num_data
        draw = block.bias + block.variance + noise * (block.square_trace + turned - plain)
        mse, new_ridge = float(draw.mean()), kappa**2
        if num_data is not None:
            new_ridge += max(mse - mse_mean, 0.0) / num_data
        changes = [abs(new_ridge / ridge - 1), abs(noise - float(old.noise)) / ridge]
        changes.append(float((np.abs(value - old.eigenvalues) / (ridge + value)).max()))
        if num_data is not None and shared > 0.8 * num_data:
            changes.append(np.inf)
        background = Background(jnp.asarray(value), jnp.asarray(new_ridge), jnp.asarray(noise))
        return cls(background, m, mse, mse_mean, draw, max(changes))

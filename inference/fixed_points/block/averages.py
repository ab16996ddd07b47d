"""Averages over draws of the reduced network: the background they call for, and test errors.

    λ_ij = c E[Σ_n q_ij,n r_n]/mult_ij,    m = E[1 - κ̃ e_SᵀA⁻¹e_S]
    MSE of the mean = (1-m)² + ε (Σ_T E[1 - κ̃[A⁻¹]_TT]² + R(λ'))
    MSE of a draw   = E[κ̃² e_Sᵀ(T+κ̃)⁻²e_S + κ̃ dof] + ε (E[tr T²(T+κ̃)⁻²] + R(λ') - R(λ))
    κ̃ = κ² + (MSE of a draw - MSE of the mean)/P,    ε = MSE of the mean/P

with R(λ) = Σ_ij mult_ij (λ_ij/(λ_ij + κ̃))². λ' has r_n + â_n² in place of r_n: the mean network
fits a data set with its readouts and by turning its neurons. The last line is the replica-symmetric
one: P points act as noise of variance κ²P + Var f on a target with white noise of variance ε in
every mode, and Var f is the posterior's, weights included. For neurons that know nothing of the
data it reduces to κ̃ = κ² + κ̃ dof/P and MSE = E0 (1-m)² + κ̃ dof of kernel ridge regression.
Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.fixed_points.block.density import Background
from inference.fixed_points.block.figures import BlockFigures
from inference.fixed_points.block.modes import rest_modes
from inference.fixed_points.populations.problem import PopulationProblem

_FEW_DATA = 0.8  # share of P from which on the data fit the mean network to noise


class BlockAverages(NamedTuple):
    """What a set of draws averages to.

    The residual is the largest change of the background: of κ̃ and ε relative to κ̃, of λ_ij
    relative to κ̃ + λ_ij. Infinite where the bracket in the MSE of the mean exceeds 0.8 P: so few
    data that they fit the mean network to noise, which the theory does not cover.
    """

    background: Background  # that the draws call for
    test_mse: np.ndarray  # of every draw, averaged over readouts and data sets
    test_mse_mean: float  # of the mean
    residual: float


def block_averages(
    problem: PopulationProblem, figures: BlockFigures, old: Background, kappa: float, num_data: int | None
) -> BlockAverages:
    """Of `figures`, which were taken in the background `old`, at noise κ and P = `num_data`."""
    figures, axes = jax.tree.map(np.asarray, figures), (0, 1)
    _, _, multiplicities = rest_modes(len(problem.relevant), problem.input_dim)
    ridge, learned = float(old.ridge), figures.learned.mean(axes)
    value, response = figures.eigenvalues.mean(axes), figures.response.mean(axes)
    plain, turned = ((multiplicities * (v / (v + ridge)) ** 2).sum() for v in (value, response))
    shared = float((learned**2).sum() + turned)
    size = np.inf if num_data is None else num_data
    # Stays finite where the data are too few for the theory; the residual then says so.
    bias = (1 - float(figures.order_parameter.mean())) ** 2
    mse_mean = bias / max(1 - shared / size, 1 - _FEW_DATA)
    noise = mse_mean / size
    mse = figures.bias + figures.variance + noise * (figures.square_trace + turned - plain)
    new_ridge = kappa**2 + max(float(mse.mean()) - mse_mean, 0.0) / size
    changes = [
        abs(new_ridge / ridge - 1),
        abs(noise - float(old.noise)) / ridge,
        float((np.abs(value - old.eigenvalues) / (ridge + value)).max()),
    ]
    if shared > _FEW_DATA * size:
        changes.append(np.inf)
    background = Background(jnp.asarray(value), jnp.asarray(new_ridge), jnp.asarray(noise))
    return BlockAverages(background, mse, mse_mean, max(changes))

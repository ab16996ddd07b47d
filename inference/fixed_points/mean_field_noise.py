"""MF and MF-ARD over all noises: the polished curve of solutions with its folds.

Beyond the paper (arXiv:2510.15174), which solves at one noise from one start.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from inference.fixed_points.directions import DirectionNodes, default_resolution, direction_nodes
from inference.fixed_points.mean_field_curve import (
    FollowedCurve,
    NoiseEquations,
    coarse_nodes,
    followed_curve,
)
from inference.fixed_points.neuron_density import active_nodes
from inference.fixed_points.noise_curve import NoiseCurve
from inference.fixed_points.polished_curve import Knot, PolishedCurve, polish, refine

_CUTOFF = 1e-8  # share of the density below which a cell is idle
_REPLICATES = 4


def noise_curve(equations: NoiseEquations, kappa: float) -> NoiseCurve:
    """All solutions at every noise from large κ down to `kappa`.

    Parameters
    ----------
    equations
        Whose κ is not used.
    kappa
        Smallest noise of interest.
    """
    polished = _polished(followed_curve(equations, kappa))
    m, noise = polished.y[:, 0], np.exp(2 * polished.y[:, -1])
    return NoiseCurve(
        theory="mean-field" if equations.prior is None else "mean-field-ard",
        num_data=None,
        noise_squared=noise,
        order_parameter=m,
        test_mse=polished.extra[:, 0],
        test_mse_mean=(1 - m) ** 2,
        effective_ridge=noise,
        num_aligned=equations.problem.width * polished.extra[:, 1],
        replicate_noise_squared=np.exp(2 * polished.replicates[:, :, -1]),
        replicate_order_parameter=polished.replicates[:, :, 0],
    )


@lru_cache(maxsize=16)
def _polished(followed: FollowedCurve) -> PolishedCurve:
    equations = followed.equations
    degree, input_dim = equations.problem.degree, equations.problem.input_dim
    coarse = coarse_nodes(equations.problem)
    points = refine(
        followed.curve.points, lambda theta, log_kappa: equations.system(theta, log_kappa, [coarse])
    )
    resolution = replace(default_resolution(degree, coarse=True), num_deviations=16 if degree == 2 else 64)
    sets = [direction_nodes(degree, input_dim, r, resolution) for r in range(_REPLICATES)]

    def evaluate(theta: np.ndarray, log_kappa: float) -> Knot:
        problem, parameters = equations.at(log_kappa), equations.parameters(theta)
        return _knot(equations, theta, log_kappa, active_nodes(problem, parameters, coarse, sets, _CUTOFF))

    return polish(points, evaluate)


def _knot(equations: NoiseEquations, theta: np.ndarray, log_kappa: float, sets: list[DirectionNodes]) -> Knot:
    problem, n = equations.at(log_kappa), equations.problem.width
    average = equations.average(theta, log_kappa, sets)
    _, _, (q, driven) = average.pooled()
    m = float(theta[0])
    # As in solution.describe: squared bias plus the variance of N independent neurons.
    variance = n ** (1 - 2 * problem.gamma) * (q / 4 + 0.5 * problem.drive * (1 - m) ** 2 * driven) - m**2 / n
    aligned = sum(
        weight[nodes.relevant_fraction > 0.5].sum()
        for nodes, weight in zip(sets, average.node_weights, strict=True)
    )
    return Knot(
        *equations.derivatives(theta, log_kappa, average),
        equations.residuals(theta, log_kappa, average.mean),
        np.array([(1 - m) ** 2 + variance, aligned]),
    )

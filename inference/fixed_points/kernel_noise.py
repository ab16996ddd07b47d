"""The adaptive kernel over all noises and data sizes: one polished curve in κ̃, read at any P.

Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from inference.fixed_points.directions import Resolution, default_resolution
from inference.fixed_points.kernel_curve import coarse_nodes, ridge_curve
from inference.fixed_points.kernel_density import active_cells
from inference.fixed_points.kernel_equations import KernelEquations
from inference.fixed_points.kernel_modes import ModeNodes, mode_nodes
from inference.fixed_points.noise_curve import NoiseCurve
from inference.fixed_points.polished_curve import Knot, PolishedCurve, polish, refine

_CUTOFF = 1e-8  # share of the density below which a cell is idle
_REPLICATES = 4


def curve_resolution(degree: int) -> Resolution:
    """Node sets for a whole curve: four of them give m to a few 1e-4 at the onset and better elsewhere."""
    # On the grid of the coarse set, which then tells the idle cells.
    return replace(default_resolution(degree, coarse=True), num_deviations=16 if degree <= 4 else 32)


def noise_curve(equations: KernelEquations, kappa: float, num_data: int | None) -> NoiseCurve:
    """All solutions at P = `num_data` and every noise from large κ down to `kappa`.

    Parameters
    ----------
    equations
        Of any P: the polished curve behind it is made once.
    kappa
        Smallest noise of interest.
    num_data
        P, or None for the population.
    """
    polished = _polished(ridge_curve(equations, kappa))
    theta, own = polished.y[:, :-1], polished.replicates[:, :, :-1]
    figures = _figures(equations, theta, num_data)
    return NoiseCurve(
        theory="adaptive-kernel",
        num_data=num_data,
        noise_squared=equations.noise_squared(theta, num_data),
        num_aligned=equations.problem.width * polished.extra[:, 0],
        replicate_noise_squared=equations.noise_squared(own, num_data),
        replicate_order_parameter=equations.order_parameter(own),
        **figures,
    )


def _figures(equations: KernelEquations, theta: np.ndarray, num_data: int | None) -> dict[str, np.ndarray]:
    """As :meth:`LearningCurve.at_ridge`, for θ (T, n)."""
    count, multiplicities = len(equations.modes), equations.modes.multiplicities
    value, tail, ridge = np.exp(theta[:, :count]), np.exp(theta[:, count]), np.exp(theta[:, count + 1])
    learned = value / (value + ridge[:, None])
    amplification = 1.0
    if num_data is not None:
        # Beyond interpolation, where no noise belongs to the sample, E0 has no meaning.
        amplification = 1 / np.maximum(1 - learned**2 @ multiplicities / num_data, np.finfo(float).tiny)
    m = equations.order_parameter(theta)
    mean = amplification * (1 - m) ** 2
    variance = ridge * (learned @ multiplicities) + tail
    return {
        "order_parameter": m,
        "test_mse": mean + variance,
        "test_mse_mean": mean,
        "effective_ridge": ridge,
    }


@lru_cache(maxsize=16)
def _polished(curve) -> PolishedCurve:
    equations = curve.equations
    nodes = coarse_nodes(equations)
    points = refine(curve.curve.points, lambda theta, log_noise: equations.system(theta, log_noise, nodes))
    degree, input_dim = equations.problem.degree, equations.problem.input_dim
    resolution = curve_resolution(degree)
    sets = [
        mode_nodes(degree, input_dim, r, resolution, equations.modes.max_order) for r in range(_REPLICATES)
    ]

    def evaluate(theta: np.ndarray, log_noise: float) -> Knot:
        return _knot(equations, theta, log_noise, nodes[0], sets)

    return polish(points, evaluate)


def _knot(
    equations: KernelEquations, theta: np.ndarray, log_noise: float, coarse: ModeNodes, sets: list[ModeNodes]
) -> Knot:
    state = equations.state(theta)
    cells = active_cells(equations.coupling, equations.problem.input_dim, state, coarse, _CUTOFF)
    average = equations.average(theta, [nodes.take(cells[nodes.directions.cell]) for nodes in sets])
    mean, response = average.pooled()
    aligned = sum(
        weight[nodes.directions.relevant_fraction[cells[nodes.directions.cell]] > 0.5].sum()
        for nodes, weight in zip(sets, average.node_weights, strict=True)
    )
    return Knot(
        equations.residuals(theta, log_noise, mean),
        equations.jacobian(theta, log_noise, mean, response),
        equations.noise_derivative(theta, log_noise),
        equations.residuals(theta, log_noise, average.mean),
        np.array([aligned]),
    )

"""The one curve that holds every solution of the adaptive-kernel theory, for all κ and P.

Of the self-consistency equations only that of the effective ridge knows κ and P:

    κ² = κ̃ - (1/P) ( Σ_ij mult_ij λ_ij κ̃/(λ_ij + κ̃) + tail )

The others are a family in κ̃ alone. It is followed once, from where the density is the prior; a phase diagram is then
read off it. At finite P the right side may fall below 0 and rise again: branches that no path at fixed P connects
lie on the same curve in κ̃. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from inference.fixed_points.continuation import Curve, CurvePoint, crossings, trace, turns
from inference.fixed_points.directions import default_resolution
from inference.fixed_points.kernel_density import KernelState
from inference.fixed_points.kernel_equations import KernelEquations
from inference.fixed_points.kernel_modes import ModeNodes, mode_nodes
from inference.fixed_points.newton import newton

_REACH = math.log(50.0)  # how far below the smallest noise asked for the curve is followed at most
_LEARNED = 0.9  # the curve is taken to hold no more folds once m is above this
_GRAIN = math.log(2.0)  # smallest noises are rounded down to these steps, so that solutions share a curve


@dataclass(frozen=True, eq=False)
class RidgeCurve:
    """Solutions in order along the curve, from large κ̃ on, on one coarse node set.

    Parameters
    ----------
    equations
        At P = ∞, where κ̃ = κ².
    curve
        In (θ, log √κ̃).
    theta
        Dense samples of the unknowns, shape (T, n).
    """

    equations: KernelEquations
    curve: Curve
    theta: np.ndarray

    def guesses(self, kappa: float, num_data: int | None) -> list[np.ndarray]:
        """θ near every solution at κ and P, in order along the curve; the nearest sample where there is none."""
        noise = self.equations.noise_squared(self.theta, num_data)
        found = [
            self.theta[i] + share * (self.theta[i + 1] - self.theta[i])
            for i, share in crossings(noise, kappa**2)
        ]
        return found or [self.theta[np.abs(noise - kappa**2).argmin()]]

    def folds(self, num_data: int | None) -> list[tuple[float, np.ndarray]]:
        """(log κ, θ) near every fold in κ at this P, in order along the curve."""
        noise = self.equations.noise_squared(self.theta, num_data)
        return [(0.5 * math.log(noise[i]), self.theta[i]) for i in turns(noise) if noise[i] > 0]


def coarse_nodes(equations: KernelEquations) -> list[ModeNodes]:
    """The node set on which the curve is followed."""
    degree, input_dim = equations.problem.degree, equations.problem.input_dim
    return [mode_nodes(degree, input_dim, 0, default_resolution(degree, True), equations.modes.max_order)]


def ridge_curve(equations: KernelEquations, kappa: float) -> RidgeCurve:
    """The curve, down to below κ̃ = `kappa`² at least; followed once and remembered.

    Parameters
    ----------
    equations
        Of any P.
    kappa
        The smallest noise of interest.
    """
    problem = replace(equations.problem, kappa=1.0)  # as the equations do not use it
    lowest = _GRAIN * math.floor(math.log(kappa) / _GRAIN)
    return _followed(problem, equations.modes.max_order, equations.precision, equations.prior, lowest)


@lru_cache(maxsize=16)
def _followed(problem, max_order, precision, prior, lowest: float) -> RidgeCurve:
    equations = KernelEquations.build(problem, max_order, None, precision, prior)
    nodes = coarse_nodes(equations)

    def system(theta, log_noise):
        return equations.system(theta, log_noise, nodes)

    def finished(point: CurvePoint) -> bool:
        learned = float(equations.order_parameter(point.theta)) > _LEARNED
        return point.log_kappa < lowest - (0.05 if learned else _REACH)

    begin, theta = _prior_end(equations, lowest, system)
    curve = trace(system, theta, begin, finished)
    return RidgeCurve(equations, curve, curve.samples()[:, :-1])


def _prior_end(equations: KernelEquations, lowest: float, system) -> tuple[float, np.ndarray]:
    """log κ at which the density is the prior, and the solution there."""
    problem, count = equations.problem, len(equations.modes)
    # There κ² is at the trace of the prior's kernel and ½ c B² below 1.
    power = 0.5 * equations.coupling * problem.input_dim / equations.precision
    begin = max(0.5 * math.log(max(problem.width * power, math.sqrt(power))), lowest + _GRAIN + 0.1)
    state = KernelState(
        problem.width * power / equations.modes.multiplicities / (count + 1),
        problem.width * power / (count + 1),
        math.exp(2 * begin),
        equations.precision,
        equations.precision,
    )
    theta = equations.theta(state)
    for _ in range(20):
        theta = theta + system(theta, begin)[0]
    bounds = np.full(len(theta), np.inf)
    return begin, newton(lambda x: system(x, begin)[:2], theta, -bounds, bounds, 1e-9, 20).x

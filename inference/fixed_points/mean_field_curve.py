"""The curve of MF's and MF-ARD's solutions over the noise, on one coarse node set.

The unknowns are θ = (m, log ρ_S, log ρ_⊥), or m alone with the isotropic prior. Beyond the paper (arXiv:2510.15174),
which solves at one noise from one start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from inference.fixed_points.continuation import Curve, CurvePoint, crossings, polish_fold, trace, turns
from inference.fixed_points.directions import DirectionNodes, default_resolution, direction_nodes
from inference.fixed_points.equations import PrecisionPrior, jacobian, noise_derivative, residuals
from inference.fixed_points.neuron_density import Averages, Parameters, averages
from inference.fixed_points.newton import newton
from inference.fixed_points.parity import ParityProblem

_REACH = math.log(50.0)  # how far below the smallest noise asked for the curve is followed at most
_LEARNED = 0.6  # plain MF rises slowly: beyond this it and MF-ARD hold no more folds
_GRAIN = math.log(2.0)  # smallest noises are rounded down to these steps, so that solutions share a curve
_NEAR_FOLD = 0.05  # in log κ: closer than this the coarse curve may turn before it reaches κ


@dataclass(frozen=True)
class NoiseEquations:
    """The mean-field equations with κ as an argument.

    Parameters
    ----------
    problem
        Constants; its κ is not used.
    prior
        Of the precisions; None keeps both at `precision`.
    precision
        Isotropic precision, or under ARD the scale of the starting point.
    """

    problem: ParityProblem
    prior: PrecisionPrior | None
    precision: float

    def at(self, log_kappa: float) -> ParityProblem:
        """Constants at this κ."""
        return replace(self.problem, kappa=math.exp(log_kappa))

    def parameters(self, theta: np.ndarray) -> Parameters:
        """θ as named quantities."""
        rho = (self.precision, self.precision) if self.prior is None else np.exp(theta[1:])
        return Parameters(float(theta[0]), *map(float, rho))

    def average(self, theta: np.ndarray, log_kappa: float, nodes: list[DirectionNodes]) -> Averages:
        """Averages over the density at θ."""
        return averages(self.at(log_kappa), self.parameters(theta), nodes)

    def residuals(self, theta: np.ndarray, log_kappa: float, mean: np.ndarray) -> np.ndarray:
        """T(θ) - θ, given E[u] (..., 3)."""
        return residuals(self.at(log_kappa), self.prior, self.parameters(theta), mean)

    def derivatives(
        self, theta: np.ndarray, log_kappa: float, average: Averages
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Residuals, Jacobian and derivative in log κ."""
        problem, parameters = self.at(log_kappa), self.parameters(theta)
        mean, covariance, _ = average.pooled()
        return (
            residuals(problem, self.prior, parameters, mean),
            jacobian(problem, self.prior, parameters, mean, covariance),
            noise_derivative(problem, self.prior, parameters, mean, average.noise_response()),
        )

    def system(self, theta: np.ndarray, log_kappa: float, nodes: list[DirectionNodes]):
        """As :meth:`derivatives`, with averages over `nodes`."""
        return self.derivatives(theta, log_kappa, self.average(theta, log_kappa, nodes))


@dataclass(frozen=True, eq=False)
class FollowedCurve:
    """Solutions in order along the curve, from large κ on.

    Parameters
    ----------
    equations
        Whose κ is not used.
    curve
        In (θ, log κ).
    samples
        The same, densely, shape (T, n + 1).
    """

    equations: NoiseEquations
    curve: Curve
    samples: np.ndarray

    def guesses(self, log_kappa: float) -> list[np.ndarray]:
        """θ near every solution at this κ, those on either side of a fold close by included; never empty."""
        noise = self.samples[:, -1]
        found = [
            self.samples[i] + share * (self.samples[i + 1] - self.samples[i])
            for i, share in crossings(noise, log_kappa)
        ]
        found = found or [self.samples[np.abs(noise - log_kappa).argmin()]]
        guesses = [y[:-1] for y in found]
        nodes = [coarse_nodes(self.equations.problem)]
        for turn in turns(noise):
            if abs(noise[turn] - log_kappa) < _NEAR_FOLD:
                theta, log_noise = self.samples[turn, :-1], float(noise[turn])
                fold = polish_fold(lambda x, y: self.equations.system(x, y, nodes), theta, log_noise)
                guesses += [] if fold is None else fold.neighbours(log_kappa)
        return guesses


def coarse_nodes(problem: ParityProblem) -> DirectionNodes:
    """The node set on which the curve is followed; on the grid of the fine ones."""
    degree = problem.degree
    return direction_nodes(degree, problem.input_dim, 0, default_resolution(degree, coarse=True))


def followed_curve(equations: NoiseEquations, kappa: float) -> FollowedCurve:
    """The curve down to `kappa` at least; followed once and remembered."""
    lowest = _GRAIN * math.floor(math.log(kappa) / _GRAIN)
    return _followed(replace(equations, problem=equations.at(0.0)), lowest)


@lru_cache(maxsize=32)
def _followed(equations: NoiseEquations, lowest: float) -> FollowedCurve:
    nodes = [coarse_nodes(equations.problem)]

    def system(theta, log_kappa):
        return equations.system(theta, log_kappa, nodes)

    def finished(point: CurvePoint) -> bool:
        learned = float(point.theta[0]) > _LEARNED
        return point.log_kappa < lowest - (0.05 if learned else _REACH)

    begin, theta = _prior_end(equations, lowest, system)
    curve = trace(system, theta, begin, finished)
    return FollowedCurve(equations, curve, curve.samples())


def _prior_end(equations: NoiseEquations, lowest: float, system) -> tuple[float, np.ndarray]:
    """log κ at which the density is the prior, and the solution there."""
    problem = equations.problem
    power = 0.5 * problem.readout_scale**2 * problem.input_dim / equations.precision
    scale = power * problem.width ** (1 - 2 * problem.gamma)
    begin = max(0.5 * math.log(max(scale, math.sqrt(scale / problem.width))), lowest + _GRAIN + 0.1)
    theta = np.zeros(1)
    if equations.prior is not None:
        theta = np.append(theta, np.full(2, math.log(equations.precision)))
    bounds = np.full(len(theta), np.inf)
    return begin, newton(lambda x: system(x, begin)[:2], theta, -bounds, bounds, 1e-10, 40).x

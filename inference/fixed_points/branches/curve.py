"""The one curve that holds every solution of a theory, for all κ and P, followed once and
remembered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from inference.fixed_points.branches.continuation import (
    crossings,
    densely,
    newton,
    normal_step,
    trace,
    turns,
)
from inference.fixed_points.branches.equations import Equations, System, noise_squared
from inference.fixed_points.neuron.nodes import NodeSet, lattice
from inference.fixed_points.populations.problem import PopulationProblem

# Node sets, and points of each with up to four components and with more.
_COARSE, _FINE = (1, 8, 16), (4, 16, 32)
_MAX_NODES, _MAX_COARSE = 1 << 19, 1 << 17  # of all sets together
_PER_INTERVAL = 24
_GRAIN = math.log(4.0)  # lowest ridges are rounded down to these steps, so that solutions share a curve
# How far below the lowest ridge the curve is followed, by the m it has reached: folds from there
# are not expected to lead back.
_REACHES = ((0.9, 0.1), (0.6, math.log(3.0)), (-math.inf, 2 * math.log(50.0)))
_ARD_HEADROOM = 6.0  # a weak prior of the precisions lets aligned branches reach far above the prior's noise
LOST = "the curve of solutions was lost on the way to kappa={:g} and branches may be missing; raise kappa."
# In log κ²: closer than this the curve of a few nodes may turn before it reaches κ, where that of
# many does not; Newton then starts this far to either side of the fold.
_NEAR_FOLD, _BESIDE_FOLD = 0.1, 0.3


@dataclass(frozen=True, eq=False)
class SolutionCurve:
    """Solutions in order along the curve, from a large effective ridge on.

    Parameters
    ----------
    equations, sets
        Theory, and the independent node sets that the curve is followed on.
    z
        (θ, log κ̃) densely along the curve, shape (T, n + 1).
    means
        Averages, shape (T, 3, K).
    aligned
        Share of neurons with more than half of |w|² on S, shape (T,).
    shifts
        From the curve to that of each single node set, normal to it, shape (sets, T, n + 1).
    evaluations
        Of the averages.
    complete
        Whether it was followed as far as was asked, and not lost before.
    """

    equations: Equations
    sets: list[NodeSet]
    z: np.ndarray
    means: np.ndarray
    aligned: np.ndarray
    shifts: np.ndarray
    evaluations: int
    complete: bool

    def noise_squared(self, num_data: int | None) -> np.ndarray:
        """κ² along the curve, shape (T,)."""
        return noise_squared(self.equations, self.z[:, :-1], self.z[:, -1], num_data)

    def guesses(self, kappa: float, num_data: int | None) -> list[np.ndarray]:
        """z near every solution, those on either side of a fold close by included; never empty."""
        noise = self.noise_squared(num_data)
        found = [self.z[i] + share * (self.z[i + 1] - self.z[i]) for i, share in crossings(noise, kappa**2)]
        for turn in turns(noise):
            if noise[turn] > 0 and abs(math.log(noise[turn] / kappa**2)) < _NEAR_FOLD:
                away = np.abs(self.z - self.z[turn]).max(axis=1) > _BESIDE_FOLD
                before, after = np.flatnonzero(away[:turn]), turn + np.flatnonzero(away[turn:])
                found += [self.z[side] for side in (*before[-1:], *after[:1])]
        return found or [self.z[np.abs(noise - kappa**2).argmin()]]


def coarse_curve(kind: type[Equations], problem: PopulationProblem, kappa: float) -> SolutionCurve:
    """The curve of a theory down to the ridge `kappa`² at least, on one small node set: guesses for
    solutions."""
    return _followed(kind, problem, _GRAIN * math.floor(2 * math.log(kappa) / _GRAIN), *_COARSE)


def fine_curve(kind: type[Equations], problem: PopulationProblem, kappa: float) -> SolutionCurve:
    """The same on independent node sets that tell its error."""
    return _followed(kind, problem, _GRAIN * math.floor(2 * math.log(kappa) / _GRAIN), *_FINE)


@lru_cache(maxsize=12)  # each holds its node sets
def _followed(
    kind: type[Equations], problem: PopulationProblem, lowest: float, num_sets: int, few: int, many: int
) -> SolutionCurve:
    """On `num_sets` sets of `few` points in every cell, `many` above four components; fewer on
    large lattices."""
    nodes = lattice(problem)
    points = few if problem.population.num_components <= 4 else many
    cells = np.arange(nodes.num_cells)
    if num_sets > 1 and num_sets * points * len(cells) > _MAX_NODES:
        # Few points everywhere tell the cells that any solution needs.
        found: set[int] = set()
        rough = 1 << max(int(math.log2(_MAX_NODES / len(cells))), 0)
        _follow(kind(nodes), [nodes.nodes(cells, 0, min(rough, points))], lowest, found)
        cells = np.array(sorted(found))
    while points > 1 and num_sets * points * len(cells) > (_MAX_NODES if num_sets > 1 else _MAX_COARSE):
        points //= 2
    sets = [nodes.nodes(cells, seed, points) for seed in range(num_sets)]
    return _follow(kind(nodes), sets, lowest)


def _follow(
    equations: Equations, sets: list[NodeSet], lowest: float, cells: set[int] | None = None
) -> SolutionCurve:
    """The curve on given node sets; the cells that it needs are added to `cells`."""
    problem = equations.lattice.problem
    system = System(equations, sets)
    begin, theta = _prior_end(system, lowest)
    # Many unknowns move together: lengths along the curve are root mean squares over them.
    n = len(theta)
    scale = np.append(np.full(n, max(math.sqrt(n) / 2, 1.0)), 1.0)
    # Precisions whose prior is weak are nearly neutral: their equations count in units of the
    # restoring force.
    weights = np.ones(n)
    if problem.prior is not None:
        weights[-2:] += problem.width / (2 * problem.prior.shape)
    points, tangents, means, aligned, shifts = [], [], [], [], []

    def scaled(x: np.ndarray, p: float):
        value, jacobian, by_ridge = system(x * scale[:n], p * scale[n])
        return weights * value, weights[:, None] * jacobian * scale[:n], weights * by_ridge * scale[n]

    def visit(y: np.ndarray, tangent: np.ndarray) -> bool:
        z, average = y * scale, system.latest
        points.append(y)
        tangents.append(tangent)
        means.append(average.pooled)
        aligned.append(system.share_aligned())
        own = equations.update(z[:n], z[n], average.means) - z[:n]
        _, jacobian, by_ridge = system.derivatives(z[:n], z[n], average)
        # One Newton step normal to the curve leads to each set's own.
        shifts.append(
            normal_step(jacobian * scale[:n], by_ridge * scale[n], -own.T, tangent) * scale[:, None]
        )
        if cells is not None:
            cells.update(system.active_cells().tolist())
        m = float(equations.figures(z[:n], z[n], average.pooled, None)["order_parameter"])
        return z[n] < lowest - next(reach for least, reach in _REACHES if m >= least)

    complete = trace(scaled, np.append(theta, begin) / scale, visit)
    y, place = densely(np.array(points), np.array(tangents), _PER_INTERVAL)

    def between(values: list) -> np.ndarray:
        return CubicSpline(np.arange(len(points)), np.array(values))(place)

    return SolutionCurve(
        equations, sets, y * scale, between(means), between(aligned), np.moveaxis(between(shifts), -1, 0),
        system.evaluations, complete,
    )  # fmt: skip


def _prior_end(system: System, lowest: float) -> tuple[float, np.ndarray]:
    """log κ̃ at which the density is the prior, and the solution there.

    κ̃ is at the trace of the prior's kernel, and ½ c B² below 1.
    """
    equations = system.equations
    problem = equations.lattice.problem
    means = prior_averages(equations, system.sets).latest.pooled
    unit = problem.coupling * means[0, :-3][: len(equations.lattice.kernel.modes)].sum()
    unit += problem.coupling * means[0, -3]
    begin = math.log(max(problem.width * unit, problem.amplitude * math.sqrt(unit), 1e-12))
    begin = max(begin + _ARD_HEADROOM * (problem.prior is not None), lowest + _GRAIN + 0.2)
    theta = equations.start(means)
    for _ in range(20):
        theta = theta + system(theta, begin)[0]
    return begin, newton(lambda x: system(x, begin)[:2], theta, 1e-9).x


def prior_averages(equations: Equations, sets: list[NodeSet]) -> System:
    """The system with averages under the prior as its latest."""
    naturals = np.zeros((3, equations.lattice.kernel.num_features))
    naturals[2, -2:] = equations.lattice.problem.precision
    system = System(equations, sets)
    system.average_at(naturals)
    return system

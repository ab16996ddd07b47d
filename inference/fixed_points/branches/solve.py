"""Solve a theory at one κ and P: every branch, with errors, stability and folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.branches.continuation import turns
from inference.fixed_points.branches.curve import SolutionCurve, coarse_curve
from inference.fixed_points.branches.equations import Equations, System
from inference.fixed_points.branches.newton import newton
from inference.fixed_points.neuron.density import Averages
from inference.fixed_points.neuron.nodes import NodeSet
from inference.fixed_points.populations.problem import PopulationProblem
from inference.fixed_points.statistics import standard_error

TOLERANCE = 1e-8  # on max |T(θ) - θ|
NUM_SETS = 8
_POINTS = {1: 8, 2: 8, 3: 32, 4: 64}  # of a set, by the number of components; more above
_MAX_NODES = 1 << 18  # of a set
_SAME = 1e-5  # roots closer than this in every unknown are one
_IDLE, _NEEDED = 1e-14, 1e-10  # shares below which a cell is left out, and above which it may not be missing
_SHARED = 1e-7  # relative error of the radial rule, which all sets have in common


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution z = (θ, log κ̃) and what it means.

    Parameters
    ----------
    z
        Unknowns.
    figures
        Of :meth:`Equations.figures`.
    residual
        max |T(θ) - θ|, that of the ridge's equation included.
    error, mse_error
        Standard errors of m and of the MSE of a draw.
    stable
        Whether the damped iteration is attracted.
    rho, second_moments
        Precisions, and E_p[w_j²] for j in S and outside it.
    sets, average
        Node sets, and averages over them.
    """

    z: np.ndarray
    figures: dict[str, float]
    residual: float
    error: float
    mse_error: float
    stable: bool
    rho: np.ndarray
    second_moments: np.ndarray
    sets: list[NodeSet]
    average: Averages

    @property
    def relevance_ratio(self) -> float | None:
        """E[w_j²: j ∈ S]/E[w_j²: j ∉ S]; None where every input is relevant."""
        inside, outside = self.second_moments
        return float(inside / outside) if outside > 0 else None


@dataclass(frozen=True, eq=False)
class Branches:
    """Every solution found.

    Parameters
    ----------
    equations
        Theory.
    solutions
        By increasing order parameter.
    reached
        Position of the solution that each start leads to: the stable one with the smallest m for
        "prior", with the largest for "aligned".
    folds
        κ at which branches merge, in order along the curve.
    evaluations
        Of the averages.
    """

    equations: Equations
    solutions: list[Solution]
    reached: dict[str, int]
    folds: tuple[float, ...]
    evaluations: int


def solve(
    kind: type[Equations],
    problem: PopulationProblem,
    kappa: float,
    num_data: int | None = None,
    refinement: int = 1,
) -> Branches:
    """All solutions on the curve that leaves the prior at a large ridge.

    Parameters
    ----------
    kind, problem
        Theory and population.
    kappa, num_data
        κ, and P or None for the population.
    refinement
        This many times the nodes, of other scrambles; a power of 2.
    """
    curve = coarse_curve(kind, problem, kappa)
    evaluations, found = curve.evaluations, []
    for guess in curve.guesses(kappa, num_data):
        cells = _active_cells(curve, guess)
        root, system, count = _polished(curve.equations, cells, guess, kappa, num_data, refinement)
        if not np.isin(_active_cells(curve, root.x, _NEEDED), cells).all():
            # The cells that were active at the guess need not be those of where it led.
            cells = _active_cells(curve, root.x)
            root, system, again = _polished(curve.equations, cells, root.x, kappa, num_data, refinement)
            count += again
        evaluations += count
        if all(np.abs(other.x - root.x).max() > _SAME for other, _ in found):
            found.append((root, system))
    found = [pair for pair in found if pair[0].converged] or found
    solutions = [describe(system, root.x, kappa, num_data) for root, system in found]
    solutions.sort(key=lambda s: s.figures["order_parameter"])
    # Where none counts as stable, as next to a fold, the starts still end at some root.
    stable = [i for i, s in enumerate(solutions) if s.stable] or list(range(len(solutions)))
    noise = curve.noise_squared(num_data)
    folds = tuple(float(np.sqrt(noise[i])) for i in turns(noise, 2e-4) if noise[i] > 0)
    return Branches(
        curve.equations, solutions, {"prior": stable[0], "aligned": stable[-1]}, folds, evaluations
    )


def fine_sets(equations: Equations, cells: np.ndarray, refinement: int = 1) -> list[NodeSet]:
    """The independent node sets over which solutions are averaged, in the given cells."""
    points = _POINTS.get(equations.lattice.problem.population.num_components, 128)
    while points > 1 and points * len(cells) > _MAX_NODES:
        points //= 2
    seeds = range(NUM_SETS) if refinement == 1 else range(1000, 1000 + NUM_SETS)
    return [equations.lattice.nodes(cells, seed, refinement * points) for seed in seeds]


def _active_cells(curve: SolutionCurve, z: np.ndarray, cutoff: float = _IDLE) -> np.ndarray:
    """The cells that hold at least this share of an average at z, on the curve's own nodes."""
    system = System(curve.equations, curve.sets)
    system.averages(z[:-1], z[-1])
    return system.active_cells(cutoff)


def _polished(equations, cells, guess, kappa, num_data, refinement):
    """Newton on one fine node set, an eighth of the cost, then on all; the root, the system, and
    evaluations."""
    sets, bounds = fine_sets(equations, cells, refinement), np.full(len(guess), np.inf)
    first = System(equations, sets[:1]).at_noise(kappa, num_data)
    near = newton(first, guess, -bounds, bounds, 1e-4, 20, max_step=1.0)
    system, start = System(equations, sets), near.x if near.converged else guess
    root = newton(system.at_noise(kappa, num_data), start, -bounds, bounds, 0.1 * TOLERANCE, 20, max_step=1.0)
    return root, system, near.iterations + root.iterations


def describe(system: System, z: np.ndarray, kappa: float, num_data: int | None) -> Solution:
    """Figures, errors and stability at a solution.

    Each set's own root is one Newton step away, δ_r = -F'⁻¹ F_r(z); the scatter of the figures at
    z + δ_r gives their standard errors. What all sets share, the radial rule and the border of the
    lattice, is a relative error of every average and goes through the same F'⁻¹: next to a fold it
    is amplified.
    """
    equations, average = system.equations, system.averages(z[:-1], z[-1])
    value, slope = system.at_noise(kappa, num_data)(z, average)
    inverse = np.linalg.pinv(slope)
    own = equations.update(z[:-1], z[-1], average.means) - z[:-1]
    shifts = -own @ inverse[:, :-1].T
    shared = (average.edge + _SHARED) * np.linalg.norm(inverse[:, :-1], axis=1)

    def figures(at, means):
        found = equations.figures(at[..., :-1], at[..., -1], means, num_data)
        return np.stack([found["order_parameter"], found["mse_draw"]], axis=-1)

    spread = standard_error(figures(z + shifts, average.means))
    common = np.abs(figures(z + shared, average.pooled) - figures(z, average.pooled))
    error, mse_error = np.hypot(spread, common).tolist()
    problem = equations.lattice.problem
    return Solution(
        z=z,
        figures={k: float(v) for k, v in equations.figures(z[:-1], z[-1], average.pooled, num_data).items()},
        residual=float(np.abs(value).max()),
        error=error,
        mse_error=mse_error,
        stable=bool(np.linalg.eigvals(slope).real.max() < 0),
        rho=equations.precisions(z[:-1]),
        second_moments=average.pooled[0, -2:] / np.maximum(problem.counts, 1),
        sets=system.active_sets,
        average=average,
    )

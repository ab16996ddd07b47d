"""Solve a theory at one κ and P: every branch, with errors, stability and folds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inference.fixed_points.branches.continuation import newton, turns
from inference.fixed_points.branches.curve import LOST, SolutionCurve, coarse_curve
from inference.fixed_points.branches.equations import Equations, System
from inference.fixed_points.networks import PopulationNetworks
from inference.fixed_points.neuron.averages import Averages, standard_error
from inference.fixed_points.neuron.nodes import NodeSet
from inference.fixed_points.point import Branch, PopulationPoint
from inference.fixed_points.populations.problem import PopulationProblem
from inference.fixed_points.precisions import Precisions
from models import TwoLayerNetwork, checks

TOLERANCE = 1e-8  # on max |T(θ) - θ|
_NEAR = 1e-4  # the same, near enough to go on with all nodes
NUM_SETS = 8
_POINTS = {1: 8, 2: 8, 3: 32, 4: 32}  # of a set, by the number of components; more above
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
    precisions
        ρ_S and ρ_⊥.
    relevance_ratio
        E[w_j²: j ∈ S]/E[w_j²: j ∉ S]; None where every input is relevant.
    sets, average
        Node sets, and averages over them.
    """

    z: np.ndarray
    figures: dict[str, float]
    residual: float
    error: float
    mse_error: float
    stable: bool
    precisions: Precisions
    relevance_ratio: float | None
    sets: list[NodeSet]
    average: Averages

    def branch(self, starts: tuple[str, ...]) -> Branch:
        """As the point says it."""
        m, mse = self.figures["order_parameter"], self.figures["mse_draw"]
        return Branch(m, mse, self.precisions, self.stable, starts, self.residual, self.error)


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
    complete
        Whether the curve was followed to its end; otherwise branches may be missing.
    """

    equations: Equations
    solutions: list[Solution]
    reached: dict[str, int]
    folds: tuple[float, ...]
    evaluations: int
    complete: bool


@lru_cache(maxsize=8)  # both starts ask for the same
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
        if not len(cells):
            continue  # the neuron has no density there
        root, system, count = _polished(curve.equations, cells, guess, kappa, num_data, refinement)
        if not np.isin(_active_cells(curve, root.x, _NEEDED), cells).all():
            # The cells that were active at the guess need not be those of where it led.
            cells = _active_cells(curve, root.x)
            root, system, again = _polished(curve.equations, cells, root.x, kappa, num_data, refinement)
            count += again
        evaluations += count
        if all(np.abs(other.x - root.x).max() > _SAME for other, _ in found):
            found.append((root, system))
    found = [(root, system) for root, system in found if _is_density(system, root.x)]
    if not found:
        raise ValueError(
            f"{curve.equations.name} ends above kappa={kappa:g}, where the drive reaches the strength of the prior "
            "and nothing bounds a neuron's length; take a larger kappa, or AdaptiveKernel's self_term='exact'."
        )
    found = [pair for pair in found if pair[0].residual <= TOLERANCE] or found
    solutions = [describe(system, root.x, kappa, num_data) for root, system in found]
    solutions.sort(key=lambda s: s.figures["order_parameter"])
    # Where none counts as stable, as next to a fold, the starts still end at some root.
    stable = [i for i, s in enumerate(solutions) if s.stable] or list(range(len(solutions)))
    noise = curve.noise_squared(num_data)
    folds = tuple(float(np.sqrt(noise[i])) for i in turns(noise, 2e-4) if noise[i] > 0)
    reached = {"prior": stable[0], "aligned": stable[-1]}
    return Branches(curve.equations, solutions, reached, folds, evaluations, curve.complete)


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


def _is_density(system: System, z: np.ndarray) -> bool:
    """Whether the neuron has a density at z: every average is finite."""
    return bool(np.isfinite(system.averages(z[:-1], z[-1]).pooled).all())


def _polished(equations, cells, guess, kappa, num_data, refinement):
    """Newton on one fine node set, an eighth of the cost, then on all; the root, the system, and
    evaluations."""
    sets = fine_sets(equations, cells, refinement)
    first = System(equations, sets[:1]).at_noise(kappa, num_data)
    near = newton(first, guess, _NEAR)
    system, start = System(equations, sets), near.x if near.residual <= _NEAR else guess
    root = newton(system.at_noise(kappa, num_data), start, 0.1 * TOLERANCE)
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
    moments = average.pooled[0, -2:] / np.maximum(equations.lattice.problem.counts, 1)
    return Solution(
        z=z,
        figures={k: float(v) for k, v in equations.figures(z[:-1], z[-1], average.pooled, num_data).items()},
        residual=float(np.abs(value).max()),
        error=error,
        mse_error=mse_error,
        stable=bool(np.linalg.eigvals(slope).real.max() < 0),
        precisions=Precisions(*map(float, equations.precisions(z[:-1]))),
        relevance_ratio=float(moments[0] / moments[1]) if moments[1] > 0 else None,
        sets=system.active_sets,
        average=average,
    )


def population_point(
    kind: type[Equations],
    network: TwoLayerNetwork,
    problem: PopulationProblem,
    num_data: int | None,
    start: str,
) -> PopulationPoint:
    """Every branch, with the one that `start`, "prior" or "aligned", leads to in front."""
    checks.one_of("start", start, ("prior", "aligned"))
    found = solve(kind, problem, float(network.kappa), num_data)
    if not found.complete:
        warnings.warn(f"{found.equations.name}: {LOST.format(network.kappa)}", stacklevel=3)
    chosen, adaptive, eigenvalues = found.solutions[found.reached[start]], kind.screened, {}
    if adaptive:
        # By the modes' degrees, with the harmonic degrees of the blocks where several modes share them.
        modes = found.equations.lattice.kernel.modes
        labels = [m.degrees if m.degrees == m.sector else m.degrees + m.sector[1:] for m in modes]
        eigenvalues = dict(zip(labels, np.exp(chosen.z[: len(modes)]).tolist(), strict=True))
    return PopulationPoint(
        theory=found.equations.name,
        start=start,
        order_parameter=chosen.figures["order_parameter"],
        test_mse=chosen.figures["mse_draw"],
        test_mse_mean=chosen.figures["mse_mean"],
        precisions=chosen.precisions,
        relevance_ratio=chosen.relevance_ratio,
        residual=chosen.residual,
        error=chosen.error,
        effective_sample_size=chosen.average.effective_sample_size,
        iterations=found.evaluations,
        converged=found.complete and chosen.residual <= TOLERANCE,
        branches=tuple(
            solution.branch(tuple(name for name, i in found.reached.items() if i == index))
            for index, solution in enumerate(found.solutions)
        ),
        sampler=PopulationNetworks(
            network, found.equations, chosen.z, chosen.sets, chosen.average, readouts=not adaptive
        ),
        num_data=num_data,
        effective_ridge=float(np.exp(chosen.z[-1])),
        amplification=chosen.figures["amplification"],
        test_mse_error=chosen.mse_error,
        folds=found.folds,
        eigenvalues=eigenvalues,
    )

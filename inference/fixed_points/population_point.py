"""A theory solved on a population, as the point that its public class returns."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from inference.fixed_points.branches.equations import Equations
from inference.fixed_points.branches.solve import TOLERANCE, Branches, Solution, solve
from inference.fixed_points.networks import PopulationNetworks
from inference.fixed_points.point import Branch, PopulationPoint
from inference.fixed_points.populations.problem import PopulationProblem
from inference.fixed_points.precisions import Precisions
from models import TwoLayerNetwork, checks


def population_point(
    kind: type[Equations],
    network: TwoLayerNetwork,
    problem: PopulationProblem,
    num_data: int | None,
    start: str,
) -> PopulationPoint:
    """Every branch, with the one that `start` leads to in front.

    Parameters
    ----------
    kind, network, problem, num_data, start
        Theory and population, P and "prior" or "aligned".
    """
    checks.one_of("start", start, ("prior", "aligned"))
    found = _branches(kind, problem, float(network.kappa), num_data)
    chosen, adaptive = found.solutions[found.reached[start]], kind.screened
    eigenvalues = {}
    if adaptive:
        diagonal = np.exp(chosen.z[: len(found.equations.lattice.kernel.modes)]).tolist()
        eigenvalues = dict(zip(_labels(found.equations), diagonal, strict=True))
    branches = tuple(
        _branch(solution, tuple(name for name, i in found.reached.items() if i == index))
        for index, solution in enumerate(found.solutions)
    )
    return PopulationPoint(
        theory=found.equations.name,
        start=start,
        order_parameter=chosen.figures["order_parameter"],
        test_mse=chosen.figures["mse_draw"],
        test_mse_mean=chosen.figures["mse_mean"],
        precisions=Precisions(*map(float, chosen.rho)),
        relevance_ratio=chosen.relevance_ratio,
        residual=chosen.residual,
        error=chosen.error,
        effective_sample_size=chosen.average.effective_sample_size,
        iterations=found.evaluations,
        converged=chosen.residual <= TOLERANCE,
        branches=branches,
        sampler=PopulationNetworks(network, found.equations, chosen, readouts=not adaptive),
        num_data=num_data,
        effective_ridge=float(np.exp(chosen.z[-1])),
        amplification=chosen.figures["amplification"],
        test_mse_error=chosen.mse_error,
        folds=found.folds,
        eigenvalues=eigenvalues,
    )


@lru_cache(maxsize=8)
def _branches(
    kind: type[Equations], problem: PopulationProblem, kappa: float, num_data: int | None
) -> Branches:
    """All solutions; kept, because both starts ask for them."""
    return solve(kind, problem, kappa, num_data)


def _labels(equations: Equations) -> list[tuple[int, ...]]:
    """Degrees of the modes, with the harmonic degrees of the blocks where several modes share
    them."""
    return [
        mode.degrees if mode.degrees == mode.sector else mode.degrees + mode.sector[1:]
        for mode in equations.lattice.kernel.modes
    ]


def _branch(solution: Solution, starts: tuple[str, ...]) -> Branch:
    return Branch(
        order_parameter=solution.figures["order_parameter"],
        test_mse=solution.figures["mse_draw"],
        precisions=Precisions(*map(float, solution.rho)),
        stable=solution.stable,
        starts=starts,
        residual=solution.residual,
        error=solution.error,
    )

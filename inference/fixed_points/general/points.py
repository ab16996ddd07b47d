"""The general population theories as fixed points, called by the public classes for the problems they cover."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq

from inference.fixed_points.general.draws import NetworkSampler
from inference.fixed_points.general.kernel_theory import KernelState, KernelTheory, Layout, kernel_figures
from inference.fixed_points.general.mean_field_theory import MeanFieldTheory
from inference.fixed_points.general.problem import GeneralProblem, general_problem
from inference.fixed_points.general.solving import (
    Branches,
    Solution,
    prior_weights,
    replicates,
    solve,
)
from inference.fixed_points.point import Branch, FixedPoint, Precisions
from models import ARD, Isotropic, SingleIndex, SparseParity, TwoLayerNetwork, checks

_T_FACTOR = 1.2  # a Student t with 3 degrees of freedom has 68 % of its mass within 1.2
_NNGP_CUTOFF = 1e-12
Teacher = SingleIndex | SparseParity


def mean_field_point(
    network: TwoLayerNetwork,
    teacher: Teacher,
    start: str,
    num_data: int | None,
    tolerance: float,
    prior: type,
) -> FixedPoint:
    """MF or MF-ARD; see :mod:`inference.fixed_points.general.mean_field_theory`.

    Parameters
    ----------
    network, teacher, num_data
        As in :meth:`inference.fixed_points.MeanField.solve`.
    start
        "prior" for the stable solution with the smallest m, "aligned" for that with the largest.
    tolerance
        On max |T(θ) - θ|.
    prior
        :class:`models.Isotropic` or :class:`models.ARD`.
    """
    name = "MeanFieldARD" if prior is ARD else "MeanField"
    if num_data is not None:
        raise ValueError(
            f"num_data must be None for {name}, got {num_data!r}: {name} covers the population (P = ∞) only; NNGP "
            "and AdaptiveKernel take num_data."
        )
    checks.one_of("start", start, ("prior", "aligned"))
    theory, branches = _mean_field(network, teacher, tolerance, name, prior)
    sampler = NetworkSampler(theory, branches.solutions[branches.reached[start]])
    return FixedPoint(
        **_common(theory.name, start, branches, tolerance),
        sampler=sampler,
        branches=_branches(branches, Branch),
    )


def kernel_arguments(
    network: TwoLayerNetwork,
    teacher: Teacher,
    num_data: int | None,
    start: str,
    tolerance: float,
    max_order: int,
    branch: type[Branch],
) -> dict:
    """Arguments of the adaptive kernel's point; see :mod:`inference.fixed_points.general.kernel_theory`.

    Parameters
    ----------
    network, teacher, num_data, start
        As in :meth:`inference.fixed_points.AdaptiveKernel.solve`.
    tolerance
        On max |T(θ) - θ|.
    max_order
        Largest degree outside the relevant direction or inputs that is resolved, at most 2 on a single index.
    branch
        Class of the branches.
    """
    if num_data is not None:
        checks.whole("num_data", num_data, 1)
    checks.one_of("start", start, ("prior", "aligned"))
    theory, branches = _adaptive_kernel(network, teacher, num_data, tolerance, max_order)
    problem = theory.problem
    chosen = branches.solutions[branches.reached[start]]
    kernel = np.diag(theory.state(chosen.theta).kernel)
    modes = [m for m, kept in zip(problem.geometry.modes, problem.quadrature.kept, strict=True) if kept]
    # On parity the label of a sector is that of its only mode.
    labels = [m.degrees if m.degrees == m.sector else m.degrees + m.sector[1:] for m in modes]
    extra = {name: chosen.figures[name] for name in ("effective_ridge", "amplification")}
    return {
        **_common(theory.name, start, branches, tolerance),
        **extra,
        "sampler": NetworkSampler(theory, chosen),
        "branches": _branches(branches, branch),
        "num_data": num_data,
        "test_mse_error": chosen.mse_error,
        "folds": branches.folds,
        "eigenvalues": dict(zip(labels, kernel.tolist(), strict=True)),
    }


@lru_cache(maxsize=8)
def _mean_field(
    network, teacher, tolerance: float, name: str, prior: type
) -> tuple[MeanFieldTheory, Branches]:
    """All solutions; kept, because both starts ask for them."""
    # The prediction alone is resolved, so that it can be resolved further than a whole kernel.
    order = 4 if prior is ARD else 6
    problem = general_problem(
        network, teacher, name, prior, max_order=order, extra_degree=order, target_only=True
    )
    theory = MeanFieldTheory(problem)
    return theory, solve(theory, tolerance)


@lru_cache(maxsize=8)
def _adaptive_kernel(
    network, teacher, num_data: int | None, tolerance: float, max_order: int
) -> tuple[KernelTheory, Branches]:
    """All solutions; kept, because both starts ask for them."""
    order = min(max_order, 2) if isinstance(teacher, SingleIndex) else max_order
    problem = general_problem(network, teacher, "AdaptiveKernel", Isotropic, ARD, max_order=order)
    theory = KernelTheory(problem, num_data)
    return theory, solve(theory, tolerance)


def nngp_point(network: TwoLayerNetwork, teacher: Teacher, num_data: int | None) -> FixedPoint:
    """NNGP on a population: the kernel of the prior, as a block matrix, and its learning curve.

    Parameters
    ----------
    network, teacher, num_data
        As in :meth:`inference.fixed_points.NNGP.solve`.
    """
    if num_data is not None:
        checks.whole("num_data", num_data, 1)
    problem = general_problem(network, teacher, "NNGP", Isotropic, max_order=6, extra_degree=4)
    rules = problem.quadrature.rules(2.0)
    coarse = problem.quadrature.tensor(rules)
    cells = coarse.index[prior_weights(problem, coarse) > _NNGP_CUTOFF]
    nodes = replicates(problem, rules, cells)
    layout = Layout.of(problem)
    weights = [prior_weights(problem, n) for n in nodes]
    entries = np.array([_prior_kernel(problem, layout, n, w) for n, w in zip(nodes, weights, strict=True)])
    each = [_learning_curve(problem, layout, row, num_data)[0] for row in entries]
    figures, residual = _learning_curve(problem, layout, entries.mean(axis=0), num_data)
    m, precision = figures["order_parameter"], problem.precision
    scatter = np.std([f["order_parameter"] for f in each], ddof=1)
    error = float(_T_FACTOR * scatter / np.sqrt(len(each)) + 1e-15)
    precisions = Precisions(precision, precision)
    branch = Branch(m, figures["mse_draw"], precisions, True, ("prior", "aligned"), residual, error)
    return FixedPoint(
        theory="nngp",
        start="prior",
        order_parameter=m,
        test_mse=figures["mse_draw"],
        test_mse_mean=figures["mse_mean"],
        precisions=precisions,
        relevance_ratio=1.0 if problem.counts[1] else None,
        residual=residual,
        error=error,
        effective_sample_size=float(1 / sum(((w / len(nodes)) ** 2).sum() for w in weights)),
        iterations=1,
        converged=True,
        branches=(branch,),
    )


def _prior_kernel(problem: GeneralProblem, layout: Layout, nodes, weights: np.ndarray) -> np.ndarray:
    """Entries of Λ by pairs, and the tail, under the prior."""
    a = nodes.amplitudes
    moments = (a * weights[:, None]).T @ a
    tail = float(weights @ nodes.power) - np.trace(moments)
    unit = problem.network.width * problem.coupling
    return unit * np.append(layout.entries(moments) / layout.dimensions, max(tail, 0.0))


def _learning_curve(problem: GeneralProblem, layout: Layout, entries: np.ndarray, num_data: int | None):
    """Figures at the effective ridge, and the residual of its equation relative to P."""
    kernel, tail, noise = layout.matrix(entries[:-1]), float(entries[-1]), problem.network.kappa**2
    dimensions = layout.dimensions[: layout.size]
    values, vectors = np.linalg.eigh(kernel)
    # Every eigenvector lies in one sector; its copies are the sector's dimension.
    copies = (vectors**2).T @ dimensions
    ridge, residual = noise, 0.0
    if num_data is not None:

        def excess(log_ridge):
            trial = np.exp(log_ridge)
            return float(copies @ (values / (values + trial)) + tail / trial) / num_data + noise / trial - 1

        high = np.log(noise + (float(copies @ values) + tail) / num_data) + 1e-9
        root = brentq(excess, np.log(noise), high, xtol=1e-13, rtol=1e-14)
        ridge, residual = float(np.exp(root)), abs(excess(root))
    state = KernelState(kernel, ridge, np.full(2, problem.precision))
    return kernel_figures(problem, state, dimensions, tail, num_data), residual


def _common(theory: str, start: str, branches: Branches, tolerance: float) -> dict:
    """The fields of every fixed point but its branches and sampler."""
    chosen = branches.solutions[branches.reached[start]]
    return {
        "theory": theory,
        "start": start,
        "order_parameter": chosen.figures["order_parameter"],
        "test_mse": chosen.figures["mse_draw"],
        "test_mse_mean": chosen.figures["mse_mean"],
        "precisions": Precisions(*map(float, chosen.rho)),
        "relevance_ratio": chosen.relevance_ratio,
        "residual": chosen.residual,
        "error": chosen.error,
        "effective_sample_size": chosen.average.effective_sample_size,
        "iterations": branches.evaluations,
        "converged": chosen.residual <= tolerance,
    }


def _branches(branches: Branches, kind: type[Branch]) -> tuple[Branch, ...]:
    return tuple(
        _branch(solution, tuple(name for name, i in branches.reached.items() if i == index), kind)
        for index, solution in enumerate(branches.solutions)
    )


def _branch(solution: Solution, starts: tuple[str, ...], kind: type[Branch]) -> Branch:
    extra = {} if kind is Branch else {k: solution.figures[k] for k in ("effective_ridge", "amplification")}
    return kind(
        order_parameter=solution.figures["order_parameter"],
        test_mse=solution.figures["mse_draw"],
        precisions=Precisions(*map(float, solution.rho)),
        stable=solution.stable,
        starts=starts,
        residual=solution.residual,
        error=solution.error,
        **extra,
    )

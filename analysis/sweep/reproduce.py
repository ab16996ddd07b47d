"""The experiment on feature learning: networks over data sizes and noises, and theories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from analysis.schemes.registry import SAMPLERS
from analysis.sweep.grid import sweep
from analysis.theory.phase_diagram import phase_diagram
from analysis.theory.theories import STARTS, THEORIES, theory
from models import SparseParity, TwoLayerNetwork, WeightPrior, checks

_CURVE_POINTS = 25


def reproduce(
    network: TwoLayerNetwork,
    teacher: SparseParity,
    kappas: Sequence[float],
    num_data: Sequence[int],
    seeds: Sequence[int],
    priors: Sequence[WeightPrior],
    theories: Sequence[str] | None = None,
    *,
    scheme: str = "langevin",
    theory_kappas: Sequence[float] | None = None,
    theory_num_data: Sequence[int] | None = None,
    out: Path | str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **options,
) -> xr.DataTree:
    """Sample the networks of a grid by one scheme, and solve `theories` on it.

    The networks are a sweep, whose `options` (num_test, budget, workers, scheduler, retries) these
    are, and so are the theories that are sampled themselves, on the networks' own grid with the
    first seed: finished cells, kept in the folders ``networks`` and ``theories`` of `out`, never
    run twice. The other theories are solved from both starts at `theory_kappas` and
    `theory_num_data`, by default the networks' noises and 25 sizes over the range of theirs; those
    without a finite-P form at P = ∞. How long a chain runs is fixed by κ and the budget; no test
    target is looked at.

    Returns a tree with the group ``networks``, the sweep's dataset with the scheme as an attribute,
    and the group ``theories``, dimensions theory, prior, start, kappa, num_data (∞ for the
    population), variables order_parameter, test_mse (of a draw), test_mse_mean, error (of m),
    converged and onset (the largest κ at which m ≥ 0.1). ``ValueError`` for a scheme that is not a
    sampler, or a theory that covers none of the priors.
    """
    checks.one_of("scheme", scheme, SAMPLERS)
    named = _covering(theories, priors)
    report = progress or (lambda done, total, text: None)

    def run(schemes, seeds, part):
        options["out"] = None if out is None else Path(out) / part
        options["progress"] = lambda done, total, text: report(done, total, f"{part}: {text}")
        return sweep(network, teacher, kappas, num_data, seeds, priors, schemes, **options)

    networks = run([scheme], seeds, "networks").sel(scheme=scheme, drop=True).assign_attrs(scheme=scheme)
    sampled = [name for name in named if theory(name).sampled]
    parts = [_from_sweep(run(sampled, seeds[:1], "theories"))] if sampled else []
    between = np.geomspace(min(num_data), max(num_data), _CURVE_POINTS)
    sizes = theory_num_data or sorted({*map(int, num_data), *map(round, between)})
    jobs = [(prior, start) for prior in priors for start in STARTS]
    for done, (prior, start) in enumerate(jobs):
        report(done, len(jobs), f"theories: {prior.name}")
        solved = [name for name in named if theory(name).covers(prior) and not theory(name).sampled]
        if solved:
            at = replace(network, prior=prior)
            grid = phase_diagram(at, teacher, theory_kappas or kappas, sizes, solved, start=start)
            grid = grid.drop_dims("fold").expand_dims(prior=[prior.name], start=[start])
            parts.append(grid.assign(converged=grid.order_parameter.notnull().where(grid.error.notnull())))
    report(len(jobs), len(jobs), "theories")
    found = xr.Dataset()
    if parts:
        found = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="drop")
        found = found.sortby(["kappa", "num_data"]).reindex(theory=named)
        found = found.transpose("theory", "prior", "start", "kappa", "num_data", ...)
    return xr.DataTree.from_dict({"/networks": networks, "/theories": found})


def cell_edges(centres: Sequence[float]) -> np.ndarray:
    """Edges of the cells of a map, midway between their centres on a log scale.

    >>> cell_edges([1.0, 4.0]).round(6).tolist()
    [0.5, 2.0, 8.0]
    """
    log = np.log(np.asarray(centres, dtype=float))
    if len(log) == 1:
        return np.exp(log[0] + np.array([-0.35, 0.35]))
    middle = (log[1:] + log[:-1]) / 2
    return np.exp([2 * log[0] - middle[0], *middle, 2 * log[-1] - middle[-1]])


def _covering(theories: Sequence[str] | None, priors: Sequence[WeightPrior]) -> list[str]:
    """The theories named, or all that cover one of the priors, closest to the networks first."""
    for name in theories or ():
        if not any(map(theory(name).covers, priors)):
            covered = " and ".join(prior.__name__ for prior in theory(name).priors)
            given = ", ".join(prior.name for prior in priors)
            raise ValueError(
                f"theories: {name} covers the prior {covered}, not {given}; leave it out, or add that prior."
            )
    known = [name for name in reversed(THEORIES) if THEORIES[name].population]
    every = [name for name in known if any(map(THEORIES[name].covers, priors))]
    return list(dict.fromkeys(theories or every))


def _from_sweep(grid: xr.Dataset) -> xr.Dataset:
    """Theories that ran as cells of a sweep, in the form of those that were solved."""
    names = {"test_mse_draw": "test_mse", "order_parameter_se": "error", "scheme": "theory"}
    found = grid[["order_parameter", "test_mse_draw", "test_mse_mean", "order_parameter_se", "converged"]]
    found = found.isel(seed=0, drop=True).rename(names).expand_dims(start=["prior"])
    return found.assign_coords(num_data=found.num_data.astype(float))

"""The experiment on feature learning: sampled networks over data sizes and noises, with the theories over them."""

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

    The grid of networks is a sweep, and so are the theories that are sampled themselves: finished cells never run
    twice. How long a chain runs is fixed by κ and the budget before it starts; no test target is looked at.

    Parameters
    ----------
    network
        Its κ and prior give way to those of the grid.
    teacher
        The parity.
    kappas, num_data, seeds, priors
        The grid of networks; with another seed, both the data and the chains are others.
    theories
        Names of :data:`analysis.theory.theories.THEORIES`, each for the priors that it covers, by default all that
        cover one. Those without a finite-P form are solved at P = ∞; block-adaptive-kernel, which is sampled, on the
        networks' own grid with the first seed; the others on a finer one.
    scheme
        The sampler of the networks: langevin, sgld or nuts.
    theory_kappas, theory_num_data
        Noises and sizes of the theories that are not sampled; by default the networks' noises, and 25 sizes over the
        range of theirs.
    out
        Folder whose subfolders ``networks`` and ``theories`` keep the cells; nothing is written by default.
    progress
        Called with ``(done, total, text)``, for the networks, then for the sampled theories, then for the others.
    options
        num_test, budget, workers, scheduler and retries, as for :func:`analysis.sweep.grid.sweep`.

    Returns
    -------
    xarray.DataTree
        Group ``networks``, the dataset of :func:`analysis.sweep.grid.sweep` without its dimension scheme (an
        attribute); group ``theories``, dimensions theory, prior, start, kappa, num_data (∞ for the population),
        variables order_parameter, test_mse (of a draw), test_mse_mean, error (of m), converged (1 but for sampled
        theories) and onset (the largest κ at which m ≥ 0.1).

    Raises
    ------
    ValueError
        For arguments out of range, a scheme that is not a sampler, or a theory that covers none of the priors.

    Examples
    --------
    >>> from analysis.schemes.kernels import Budget
    >>> from models import ARD, Isotropic, SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=6, width=8, kappa=0.3), SparseParity(6, 2)
    >>> tree = reproduce(network, teacher, [0.3], [30], [0, 1], [Isotropic()], ["mean-field"], workers=0,
    ...                  budget=Budget(num_warmup=10, num_samples=20, thinning=1))
    >>> dict(tree["networks"].order_parameter.sizes)
    {'prior': 1, 'kappa': 1, 'num_data': 1, 'seed': 2}
    >>> dict(tree["theories"].order_parameter.sizes)  # P = 30, where this theory has no value, and ∞
    {'theory': 1, 'prior': 1, 'start': 2, 'kappa': 1, 'num_data': 2}
    """
    checks.one_of("scheme", scheme, SAMPLERS)
    named = _covering(theories, priors)
    report = progress or (lambda done, total, text: None)

    def run(schemes, seeds, part):
        def told(done, total, text):
            report(done, total, f"{part}: {text}")

        folder = None if out is None else Path(out) / part
        grid = (kappas, num_data, seeds, priors, schemes)
        return sweep(network, teacher, *grid, out=folder, progress=told, **options)

    networks = run([scheme], seeds, "networks").sel(scheme=scheme, drop=True).assign_attrs(scheme=scheme)
    sampled = [name for name in named if theory(name).sampled]
    parts = [_from_sweep(run(sampled, seeds[:1], "theories"))] if sampled else []
    sizes = curve_sizes(num_data) if theory_num_data is None else theory_num_data
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


def curve_sizes(num_data: Sequence[int]) -> list[int]:
    """P of the theories' curves: the networks' own, and others between them.

    Examples
    --------
    >>> sizes = curve_sizes([50, 2000])
    >>> sizes[0], sizes[-1], len(sizes)
    (50, 2000, 25)
    """
    between = np.geomspace(min(num_data), max(num_data), _CURVE_POINTS)
    return sorted({*map(int, num_data), *(round(size) for size in between)})


def cell_edges(centres: Sequence[float]) -> np.ndarray:
    """Edges of the cells of a map, midway between their centres on a log scale.

    Examples
    --------
    >>> cell_edges([1.0, 4.0]).round(6).tolist()
    [0.5, 2.0, 8.0]
    """
    log = np.log(np.asarray(centres, dtype=float))
    if len(log) == 1:
        return np.exp(log[0] + np.array([-0.35, 0.35]))
    middle = (log[1:] + log[:-1]) / 2
    return np.exp([2 * log[0] - middle[0], *middle, 2 * log[-1] - middle[-1]])


def _covering(theories: Sequence[str] | None, priors: Sequence[WeightPrior]) -> list[str]:
    """The theories named, or all that cover one of the priors, the closest to the networks first."""
    if not theories:
        return [name for name in reversed(THEORIES) if any(map(THEORIES[name].covers, priors))]
    for name in theories:
        if not any(map(theory(name).covers, priors)):
            covered = " and ".join(prior.__name__ for prior in theory(name).priors)
            raise ValueError(
                f"theories: {name} covers the prior {covered}, not {', '.join(p.name for p in priors)}; leave it "
                "out, or add that prior."
            )
    return list(dict.fromkeys(theories))


def _from_sweep(grid: xr.Dataset) -> xr.Dataset:
    """Theories that ran as cells of a sweep, in the form of those that were solved."""
    names = {"test_mse_draw": "test_mse", "order_parameter_se": "error", "scheme": "theory"}
    found = grid[["order_parameter", "test_mse_draw", "test_mse_mean", "order_parameter_se", "converged"]]
    found = found.isel(seed=0, drop=True).rename(names).expand_dims(start=["prior"])
    return found.assign_coords(num_data=found.num_data.astype(float))

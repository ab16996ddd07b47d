"""The experiment on feature learning: sampled networks over data sizes and noises, with the theories over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from analysis.schemes.registry import SAMPLERS
from analysis.sweep.cells import Budget
from analysis.sweep.grid import sweep
from analysis.theory.phase_diagram import phase_diagram
from analysis.theory.theories import theory
from models import SparseParity, TwoLayerNetwork, WeightPrior, checks

_CURVE_POINTS = 25
_STARTS = ("prior", "aligned")


def reproduce(
    network: TwoLayerNetwork,
    teacher: SparseParity,
    kappas: Sequence[float],
    num_data: Sequence[int],
    seeds: Sequence[int],
    priors: Sequence[WeightPrior],
    theories: Sequence[str],
    *,
    scheme: str = "langevin",
    theory_kappas: Sequence[float] | None = None,
    theory_num_data: Sequence[int] | None = None,
    num_test: int = 1000,
    budget: Budget | None = None,
    out: Path | str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retries: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
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
        Names among nngp, mean-field, mean-field-ard, adaptive-kernel and block-adaptive-kernel, each for the priors
        that it covers. Those without a finite-P form are solved at P = ∞; block-adaptive-kernel, which is sampled,
        on the networks' own grid with the first seed; the others on a finer one.
    scheme
        The sampler of the networks: langevin, sgld or nuts.
    theory_kappas, theory_num_data
        Noises and sizes of the theories that are not sampled; by default the networks' noises, and 25 sizes over the
        range of theirs.
    num_test, budget, workers, scheduler, retries
        As for :func:`analysis.sweep.grid`.
    out
        Folder whose subfolders ``networks`` and ``theories`` keep the cells; nothing is written by default.
    progress
        Called with ``(done, total, text)``, for the networks, then for the sampled theories, then for the others.

    Returns
    -------
    xarray.DataTree
        Group ``networks``, the dataset of :func:`analysis.sweep.grid` without its dimension scheme (an attribute); group
        ``theories``, dimensions theory, prior, start, kappa, num_data (∞ for the population), variables
        order_parameter, test_mse (of a draw), test_mse_mean, error (of m), converged (1 but for sampled theories) and
        onset (the largest κ at which m ≥ 0.1).

    Raises
    ------
    ValueError
        For arguments out of range, a scheme that is not a sampler, or a theory that covers none of the priors.

    Examples
    --------
    >>> from models import ARD, Isotropic, SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=6, width=8, kappa=0.3), SparseParity(6, 2)
    >>> tree = reproduce(network, teacher, [0.3], [30], [0, 1], [Isotropic()], ["mean-field"], workers=0,
    ...                  budget=Budget(num_warmup=10, num_samples=20, thinning=1))
    >>> dict(tree["networks"].order_parameter.sizes)
    {'prior': 1, 'kappa': 1, 'num_data': 1, 'seed': 2}
    >>> dict(tree["theories"].order_parameter.sizes)  # P = 30, where this theory has no value, and ∞
    {'theory': 1, 'prior': 1, 'start': 1, 'kappa': 1, 'num_data': 2}
    """
    checks.one_of("scheme", scheme, SAMPLERS)
    named = _covered(theories, priors)
    common = {"num_test": num_test, "workers": workers, "scheduler": scheduler, "retries": retries}
    folder = None if out is None else Path(out)

    def run(schemes, seeds, part, text):
        grid = sweep(
            network,
            teacher,
            kappas,
            num_data,
            seeds,
            priors,
            schemes,
            budget=budget,
            out=None if folder is None else folder / part,
            progress=None if progress is None else lambda d, t, words: progress(d, t, f"{text}: {words}"),
            **common,
        )
        return grid

    networks = run([scheme], seeds, "networks", "networks")
    sampled = [name for name in named if theory(name).sampled]
    parts = [_from_sweep(run(sampled, seeds[:1], "theories", "sampled theories"))] if sampled else []
    sizes = curve_sizes(num_data) if theory_num_data is None else theory_num_data
    solved = [name for name in named if not theory(name).sampled]
    if solved:
        at = kappas if theory_kappas is None else theory_kappas
        parts.append(_solved(network, teacher, at, sizes, priors, solved, progress))
    found = _together(parts) if parts else xr.Dataset()
    groups = {
        "networks": networks.sel(scheme=scheme, drop=True).assign_attrs(scheme=scheme),
        "theories": found.reindex(theory=named) if parts else found,
    }
    return xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})


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


def _covered(theories: Sequence[str], priors: Sequence[WeightPrior]) -> list[str]:
    named = list(dict.fromkeys(theories))
    present = [prior.name for prior in priors]
    for name in named:
        if not set(theory(name).priors) & set(present):
            raise ValueError(
                f"theories: {name} covers the prior {' and '.join(theory(name).priors)}, not {', '.join(present)}; "
                "leave it out, or add that prior."
            )
    return named


def _from_sweep(grid: xr.Dataset) -> xr.Dataset:
    """Theories that ran as cells of a sweep, in the form of those that were solved."""
    grid = grid.isel(seed=0, drop=True).rename(scheme="theory")
    picked = {
        "order_parameter": grid.order_parameter,
        "test_mse": grid.test_mse_draw,
        "test_mse_mean": grid.test_mse_mean,
        "error": grid.order_parameter_se,
        "converged": grid.converged,
    }
    found = xr.Dataset(picked).expand_dims(start=["prior"])
    return found.assign_coords(num_data=found.num_data.astype(float))


def _together(parts: list[xr.Dataset]) -> xr.Dataset:
    """Parts of one grid, NaN where it has none."""
    whole = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="drop")
    return whole.sortby(["kappa", "num_data"]).transpose("theory", "prior", "start", "kappa", "num_data", ...)


def _solved(network, teacher, kappas, sizes, priors, theories, progress) -> xr.Dataset:
    """Theories solved for every prior that they cover, from both starts where there may be two solutions."""
    jobs = [
        (prior, start, names)
        for prior in priors
        for start in _STARTS
        if (names := [n for n in theories if prior.name in theory(n).priors and _has(n, start)])
    ]
    parts = []
    for done, (prior, start, names) in enumerate(jobs):
        if progress is not None:
            progress(done, len(jobs), f"theories: {prior.name}")
        grid = phase_diagram(replace(network, prior=prior), teacher, kappas, sizes, names, start=start)
        if math.inf not in grid.num_data:  # one P axis for all
            grid = grid.reindex(num_data=[*grid.num_data.values, math.inf])
        grid = grid.drop_dims("fold").expand_dims(prior=[prior.name], start=[start])
        parts.append(grid.assign(converged=xr.where(grid.order_parameter.notnull(), 1.0, math.nan)))
    if progress is not None:
        progress(len(jobs), len(jobs), "theories")
    return _together(parts)


def _has(name: str, start: str) -> bool:
    return start == "prior" or theory(name).has_starts

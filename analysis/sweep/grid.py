"""Sweeps: schemes over a grid of noises κ, data sizes P, seeds and priors, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import xarray as xr

from analysis.results.files import save_tree
from analysis.schemes.compare import COLUMNS
from analysis.schemes.registry import SCHEMES, check_scheme
from analysis.sweep.cells import MORE_FIGURES, Budget, Cell, Outcome, read_outcome, write_outcome
from analysis.sweep.engines import in_process, on_workers
from inference.runs.datatree import describe
from models import Network, WeightPrior, checks

DIMENSIONS = ("scheme", "prior", "kappa", "num_data", "seed")
FIGURES = (*(name for name in COLUMNS if name not in DIMENSIONS), *MORE_FIGURES)


def sweep(
    network: Network,
    teacher,
    kappas: Sequence[float],
    num_data: Sequence[int] = (300,),
    seeds: Sequence[int] = (0,),
    priors: Sequence[WeightPrior] | None = None,
    schemes: Sequence[str] = ("sgld",),
    *,
    num_test: int = 1000,
    budget: Budget | None = None,
    out: Path | str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retries: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> xr.Dataset:
    """Run `schemes` on every cell of a grid, in parallel, and never a finished cell twice.

    A cell's figures depend on its own coordinates alone: not on the grid it is part of, on the
    order, or on where it runs. With the seed s they are those of ``mfzoo compare --seed s``.

    Parameters
    ----------
    network
        Its κ and prior give way to those of the grid.
    teacher
        Draws the data of every cell from the cell's seed.
    kappas, num_data, seeds
        The grid: noises κ > 0, data sizes P, seeds; each without repetition.
    priors
        Priors over the hidden weights, of different names; the network's own by default.
    schemes
        As in :func:`analysis.compare`, each skipped for the priors that it does not cover.
    budget
        Steps of the samplers; those of a comparison by default.
    out
        Folder that keeps a file per cell as soon as it is finished, and the dataset as ``sweep.nc``
        at the end. A repeated call with the same folder runs what is missing or has failed;
        one that holds files but no sweep is a ``ValueError``.
    workers
        Processes on this machine, one a core by default; 0 for this process. They are spawned, so
        that a script that sweeps needs an ``if __name__ == "__main__":``.
    scheduler
        Address of a Dask scheduler, whose workers then run the cells.
    retries
        How often a cell that fails runs again before it is recorded as failed; the others go on.
    progress
        Called with ``(done, total, text)``.

    Returns
    -------
    xarray.Dataset
        Dimensions scheme, prior, kappa, num_data, seed. Variables: the columns of a comparison's
        table (order_parameter with order_parameter_se, test_mse_draw, test_mse_mean, ..., converged
        as 0 or 1) and train_mse of a draw, test_mse_draw_se, and for chains from both starts
        start_difference, m of those from the aligned state minus m of those from the prior, with
        its standard error start_difference_se; NaN where a figure has no meaning; status (done,
        failed, skipped) and error, a sentence.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1), SparseParity(6, 2)
    >>> grid = sweep(network, teacher, [0.2, 0.4], [30], seeds=[0, 1], schemes=["nngp"], workers=0)
    >>> grid.order_parameter.shape, bool((grid.status == "done").all())
    ((1, 1, 2, 1, 2), True)
    """
    axes = {
        "scheme": list(schemes),
        "prior": [network.prior] if priors is None else list(priors),
        "kappa": [float(kappa) for kappa in kappas],
        "num_data": list(num_data),
        "seed": list(seeds),
    }
    budget = budget or Budget()
    _check(axes, num_test, budget, workers, retries)
    cells = _cells(network, teacher, axes, num_test, budget)
    folder = None if out is None else Path(out)
    found = {} if folder is None else _kept(folder, cells)
    missing = [cell for cell in cells if cell.fingerprint not in found]
    if workers == 0 and scheduler is None:
        outcomes = in_process(missing, retries)
    else:
        outcomes = on_workers(missing, retries, workers, scheduler)
    report, failed = progress or (lambda done, total, text: None), 0
    report(len(found), len(cells), f"{len(found)} cells were there" if found else "starting")
    if missing:
        with closing(outcomes):
            for outcome in outcomes:
                found[outcome.cell.fingerprint] = outcome
                failed += outcome.figures is None
                if folder is not None:
                    write_outcome(folder, outcome)
                report(len(found), len(cells), f"{failed} failed")
    declared = {name: value for name, value in describe(network).items() if name not in ("kappa", "prior")}
    problem = json.dumps({**declared, "teacher": repr(teacher), "num_test": num_test}, default=str)
    grid = _dataset(axes, found).assign_attrs(problem=problem, budget=json.dumps(vars(budget)))
    if folder is not None:
        save_tree(xr.DataTree(grid), folder / "sweep.nc")
    return grid


def _check(axes: dict, num_test: int, budget: Budget, workers: int | None, retries: int) -> None:
    for kappa in axes["kappa"]:
        checks.positive("kappas", kappa)
    for size in axes["num_data"]:
        checks.whole("num_data", size, 1)
    for seed in axes["seed"]:
        checks.whole("seeds", seed, 0)
    for name in axes["scheme"]:
        checks.one_of("schemes", name, SCHEMES)
    for name, values in {**axes, "prior": [prior.name for prior in axes["prior"]]}.items():
        checks.distinct(name if name == "num_data" else f"{name}s", values)
    checks.whole("num_test", num_test, 1)
    budget.check()
    if workers is not None:
        checks.whole("workers", workers, 0)
    checks.whole("retries", retries, 0)


def _cells(network: Network, teacher, axes: dict, num_test: int, budget: Budget) -> list[Cell]:
    """A cell for every point of the grid, but for schemes on priors that they do not cover."""
    cells = []
    for scheme in axes["scheme"]:
        networks = [replace(network, prior=prior) for prior in axes["prior"]]
        covered = [declared for declared in networks if SCHEMES[scheme].covers(declared)]
        if not covered:
            check_scheme(scheme, networks[0])
        cells += [
            Cell(replace(declared, kappa=kappa), teacher, size, num_test, seed, scheme, budget)
            for declared, kappa, size, seed in product(covered, axes["kappa"], axes["num_data"], axes["seed"])
        ]
    return cells


def _kept(folder: Path, cells: list[Cell]) -> dict[str, Outcome]:
    """The finished cells of an earlier call by fingerprint; those that failed run again."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "cells").is_dir():
        raise ValueError(f"out: {str(folder)!r} holds files, but no sweep; name another folder.")
    try:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"out: cannot write {str(folder)!r} ({error.strerror}); name another folder."
        ) from None
    outcomes = (read_outcome(folder, cell) for cell in cells)
    return {o.cell.fingerprint: o for o in outcomes if o is not None and o.figures is not None}


def _dataset(axes: dict, found: dict[str, Outcome]) -> xr.Dataset:
    rows = []
    for outcome in found.values():
        ended = {"status": "failed" if outcome.figures is None else "done", "error": outcome.error or ""}
        rows.append({**(outcome.figures or {}), **outcome.cell.coordinates, **ended})
    table = pd.DataFrame(rows, columns=[*DIMENSIONS, *FIGURES, "status", "error"])
    grid = table.astype(dict.fromkeys(FIGURES, float)).set_index(list(DIMENSIONS)).to_xarray()
    coords = {**axes, "prior": [prior.name for prior in axes["prior"]]}
    return grid.reindex(coords).fillna({"status": "skipped", "error": ""})

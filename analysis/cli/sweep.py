"""``mfzoo sweep``: schemes over a grid of noises, data sizes, seeds and priors."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd
import tyro
import xarray as xr

from analysis.cli.options import DataOptions, Names, Numbers, OutputOptions, Priors, Problem, Seeds
from analysis.cli.output import note, print_json, show_table, write_results
from analysis.plots.sweep import plot_sweep
from analysis.schemes.kernels import Budget
from analysis.sweep.grid import DIMENSIONS, FIGURES, sweep
from inference.runs.progress import progress_callback
from models import Network, WeightPrior, checks


@dataclass(frozen=True)
class Grid:
    """A grid of networks, and where its cells run."""

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    budget: tyro.conf.OmitArgPrefixes[Budget] = field(default_factory=Budget)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    kappas: Numbers = (0.05, 0.1)
    """Noise levels κ."""
    num_data: Numbers = (100.0, 300.0)
    """Numbers of training points P."""
    num_test: int = DataOptions.num_test
    """Number of test points."""
    seeds: Seeds = ()
    """Seeds of the data and of the schemes (the stop of a range is left out); by default the one of
    --seed."""
    priors: Priors = ("isotropic", "ard")
    """Priors over the hidden weights, as in mfzoo compare."""
    workers: int | None = None
    """Processes on this machine, one a core by default; 0 for none but the command's own."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers run the cells, such as tcp://host:8786."""
    retries: int = 1
    """How often a cell that fails runs again before it is recorded as failed."""
    plots: bool = True
    """Draw the figure."""

    command: ClassVar[str]

    def check(self) -> None:
        """``ValueError`` for options that do not go together."""
        if self.workers is not None and self.scheduler is not None:
            raise ValueError("workers are processes of this machine; with scheduler, leave workers out.")
        if self.seeds and self.output.seed:
            raise ValueError("seed does not count beside seeds; leave one of the two out.")

    @property
    def sizes(self) -> list[int]:
        """P as whole numbers."""
        sizes = list(dict.fromkeys(map(round, self.num_data)))
        checks.whole("num_data", min(sizes), 1)
        return sizes

    @property
    def network(self) -> Network:
        """The network at the grid's smallest noise and first prior."""
        return self.problem.network(min(self.kappas), self.priors[0])

    @property
    def declared_priors(self) -> list[WeightPrior]:
        return [self.problem.prior(name) for name in self.priors]

    @contextmanager
    def running(self, folder: Path) -> Iterator[dict]:
        """Options of the sweep, with progress on standard error; says after Ctrl-C how to go on."""
        shared = ("num_test", "budget", "workers", "scheduler", "retries")
        try:
            with progress_callback(True, self.command) as report:
                yield {"out": folder, "progress": report, **{name: getattr(self, name) for name in shared}}
        except KeyboardInterrupt:
            cells = len(list(folder.rglob("cells/*.json")))
            note(f"{cells} cells are kept in {folder}; to continue, repeat the command with --out {folder}")
            raise

    def finish(self, cells: pd.DataFrame, folder: Path) -> None:
        """Say why cells have failed; ``ValueError`` where all have."""
        failed = cells[cells.status == "failed"]
        for reason, count in failed.error.value_counts().items():
            note(f"{count} of {len(cells)} cells failed: {reason}")
        note(f"results in {folder}")
        if len(failed) == len(cells):
            raise ValueError(f"every cell failed, the first with: {failed.error.iloc[0]}")


@dataclass(frozen=True)
class Sweep(Grid):
    """Run schemes on every cell of a grid of (κ, P, seed, prior), in parallel, never a finished
    cell twice.

    Writes a file per cell as soon as it is finished, and at the end sweep.nc (the whole grid),
    table.csv, sweep.png and settings.json to one folder. The same command with the same --out
    continues what was stopped, and tries again what has failed.
    """

    schemes: Names = ("sgld", "adaptive-kernel")
    """Schemes as in mfzoo compare, each skipped for the priors that it does not cover."""

    command: ClassVar[str] = "sweep"

    def run(self) -> None:
        self.check()
        folder, seeds = self.output.folder("sweep"), self.seeds or (self.output.seed,)
        grid = (self.kappas, self.sizes, seeds, self.declared_priors, self.schemes)
        with self.running(folder) as options:
            found = sweep(self.network, self.problem.teacher(), *grid, **options)
        cells = rows(found)
        figures = {"sweep": plot_sweep(found)} if self.plots else {}
        write_results(folder, {"command": "sweep", **asdict(self)}, tables={"table": cells}, figures=figures)
        if self.output.json:
            problem = json.loads(found.attrs["problem"])
            print_json({"problem": problem, "cells": count(cells), "rows": json_rows(cells)})
        else:
            show_table(summary(cells), "Mean over the seeds")
        self.finish(cells, folder)


def rows(grid: xr.Dataset) -> pd.DataFrame:
    """A row per cell that was to run: coordinates, figures, status, error."""
    table = grid.to_dataframe().reset_index()
    return table.loc[table.status != "skipped", [*DIMENSIONS, *FIGURES, "status", "error"]]


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per scheme, prior, κ and P: means and spread over the seeds, worst R-hat and ESS."""
    cells = cells.assign(order_parameter_sd=cells.order_parameter, done=cells.status == "done")
    means = ("order_parameter_se", "test_mse_draw", "test_mse_mean", "train_mse", "wall_time_s")
    how = {"order_parameter": "mean", "order_parameter_sd": "std", **dict.fromkeys(means, "mean")}
    how |= {"r_hat_max": "max", "ess_min": "min", "done": lambda done: f"{done.sum()}/{len(done)}"}
    return cells.groupby([name for name in DIMENSIONS if name != "seed"], sort=False).agg(how).reset_index()


def count(cells: pd.DataFrame) -> dict[str, int]:
    """How many cells ended how."""
    return {status: int((cells.status == status).sum()) for status in ("done", "failed")}


def json_rows(table: pd.DataFrame) -> list[dict]:
    """Rows with whole numbers whole, ``converged`` true or false, and no error None."""
    rows = table.replace("", None).to_dict(orient="records")
    for row in rows:
        kinds = dict.fromkeys(("num_data", "num_seeds", "num_converged", "gradient_evaluations"), int)
        for name, kind in {**kinds, "converged": bool}.items():
            if math.isfinite(row.get(name, math.nan)):
                row[name] = kind(row[name])
    return rows

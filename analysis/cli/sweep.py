"""``mfzoo sweep``: schemes over a grid of noises, data sizes, seeds and priors."""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro
import xarray as xr

from analysis.cli.options import DataOptions, Names, Numbers, OutputOptions, Priors, Problem, check_kappas
from analysis.cli.output import console, show_table, write_figure, write_settings
from analysis.plots.sweep import plot_sweep
from analysis.results.files import write_atomically
from analysis.sweep.cells import Budget
from analysis.sweep.grid import DIMENSIONS, FIGURES, sweep
from inference.runs.progress import progress_callback

_HEADERS = {
    "kappa": "κ",
    "num_data": "P",
    "order_parameter": "m",
    "order_parameter_sd": "sd of m",
    "order_parameter_se": "± se",
    "test_mse_draw": "MSE draw",
    "test_mse_mean": "MSE mean",
    "train_mse": "train MSE",
    "r_hat_max": "R-hat",
    "ess_min": "ESS",
    "wall_time_s": "s",
}


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``a,b,c``, or from ``start:stop``, where stop is left out.

    Examples
    --------
    >>> parse_seeds("0:4")
    (0, 1, 2, 3)
    >>> parse_seeds("7,3")
    (7, 3)
    """
    try:
        if ":" in text:
            seeds = tuple(range(*map(int, text.split(":", 1))))
            if not seeds:
                raise ValueError
            return seeds
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ValueError(f"{text!r} is not a list of seeds such as 0,1,2 or a range such as 0:4") from None


Seeds = Annotated[
    tuple[int, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="A,B,…|START:STOP",
        instance_from_str=lambda args: parse_seeds(args[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value))],
    ),
]


@dataclass(frozen=True)
class Sweep:
    """Run schemes on every cell of a grid of (κ, P, seed, prior), in parallel, never a finished cell twice.

    Writes a file per cell as soon as it is finished, and at the end sweep.nc (the whole grid), table.csv, sweep.png
    and settings.json to one folder. The same command with the same --out continues what was stopped, and tries
    again what has failed.
    """

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
    """Seeds of the data and of the schemes (the stop of a range is left out); by default the one of --seed."""
    priors: Priors = ("isotropic", "ard")
    """Priors over the hidden weights, as in mfzoo compare."""
    schemes: Names = ("sgld", "adaptive-kernel")
    """Schemes as in mfzoo compare, each skipped for the priors that it does not cover."""
    workers: int | None = None
    """Processes on this machine, one a core by default; 0 for none but the command's own."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers run the cells, such as tcp://host:8786."""
    retries: int = 1
    """How often a cell that fails runs again before it is recorded as failed."""
    plots: bool = True
    """Draw the figure."""

    def run(self) -> None:
        """Run what is missing, write the folder, print the summary."""
        notes, folder = console(to_stderr=True), self.output.folder("sweep")
        try:
            grid = self.sweep(folder)
        except KeyboardInterrupt:
            cells = len(list((folder / "cells").glob("*.json")))
            notes.print(
                f"{cells} cells are kept in {folder}; to continue, repeat the command with --out {folder}",
                highlight=False,
                soft_wrap=True,
            )
            raise
        table = rows(grid)
        write_atomically(folder / "table.csv", lambda path: table.to_csv(path, index=False))
        write_settings(folder, {"command": "sweep", **asdict(self)})
        if self.plots:
            write_figure(plot_sweep(grid), folder / "sweep.png")
        failed = table[table.status == "failed"]
        if self.output.json:
            json.dump(as_json(grid), sys.stdout, indent=1, allow_nan=False)
            print()
        else:
            show_table(summary(table), "Mean over the seeds", _HEADERS)
        for reason, count in failed.error.value_counts().items():
            notes.print(f"{count} of {len(table)} cells failed: {reason}", highlight=False, soft_wrap=True)
        notes.print(f"results in {folder}", highlight=False, soft_wrap=True)
        if len(failed) == len(table):
            raise ValueError(f"every cell failed, the first with: {failed.error.iloc[0]}")

    def sweep(self, folder: Path) -> xr.Dataset:
        """The grid, with progress on standard error."""
        check_kappas(self.kappas)
        if self.workers is not None and self.scheduler is not None:
            raise ValueError("workers are processes of this machine; with scheduler, leave workers out.")
        if self.seeds and self.output.seed:
            raise ValueError("seed is for a sweep without seeds; leave one of the two out.")
        with progress_callback(True, "sweep") as report:
            return sweep(
                self.problem.network(min(self.kappas), self.priors[0]),
                self.problem.teacher(),
                self.kappas,
                list(dict.fromkeys(round(size) for size in self.num_data)),
                self.seeds or (self.output.seed,),
                [self.problem.prior(name) for name in self.priors],
                self.schemes,
                num_test=self.num_test,
                budget=self.budget,
                out=folder,
                workers=self.workers,
                scheduler=self.scheduler,
                retries=self.retries,
                progress=report,
            )


def rows(grid: xr.Dataset) -> pd.DataFrame:
    """A row per cell that was to run: coordinates, figures, status, error."""
    table = grid.to_dataframe().reset_index()
    return table.loc[table.status != "skipped", [*DIMENSIONS, *FIGURES, "status", "error"]]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row per scheme, prior, κ and P: means over the seeds, worst R-hat and ESS, spread of m over the seeds."""
    place = [name for name in DIMENSIONS if name != "seed"]
    cells = table.groupby(place, sort=False)
    means = [
        "order_parameter",
        "order_parameter_se",
        "test_mse_draw",
        "test_mse_mean",
        "train_mse",
        "wall_time_s",
    ]
    frame = cells[means].mean()
    frame.insert(1, "order_parameter_sd", cells.order_parameter.std())
    frame["r_hat_max"], frame["ess_min"] = cells.r_hat_max.max(), cells.ess_min.min()
    frame["done"] = cells.status.apply(lambda status: f"{(status == 'done').sum()}/{len(status)}")
    return frame.reset_index()


def as_json(grid: xr.Dataset) -> dict:
    """``{"problem", "cells", "rows"}``: what was declared, how many cells ended how, and a row per cell."""
    table = rows(grid)
    return {
        "problem": json.loads(grid.attrs["problem"]),
        "cells": {status: int((table.status == status).sum()) for status in ("done", "failed")},
        "rows": [
            {name: _plain(name, value) for name, value in row.items()}
            for row in table.to_dict(orient="records")
        ],
    }


def _plain(name: str, value):
    if name == "error":
        return value or None
    if name == "converged":
        return None if math.isnan(value) else bool(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if name == "gradient_evaluations":
        return int(value)
    return value

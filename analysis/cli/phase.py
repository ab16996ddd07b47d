"""``mfzoo phase``: phase diagrams in seconds."""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Literal

import pandas as pd
import tyro
import xarray as xr

from analysis import plots
from analysis.cli.options import (
    Names,
    Numbers,
    OutputOptions,
    PriorName,
    Problem,
    check_kappas,
    parse_numbers,
)
from analysis.cli.output import console, show_table, write_figure, write_settings
from analysis.results.files import save_tree, write_atomically
from analysis.theory.phase_diagram import FIGURES, phase_diagram
from inference.runs.progress import progress_callback


@dataclass(frozen=True)
class Phase:
    """Solve theories over a grid of noises κ and data sizes P on sparse parity, and draw the phase diagram.

    Writes phase.nc (the grid), table.csv, phase_diagram.png and settings.json to one folder.
    """

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    theories: Names = ("adaptive-kernel", "mean-field")
    """Theories among nngp, mean-field, mean-field-ard, adaptive-kernel, block-adaptive-kernel."""
    kappas: Numbers = field(default_factory=partial(parse_numbers, "0.01:0.3:20"))
    """Noise levels κ."""
    num_data: Numbers = field(default_factory=partial(parse_numbers, "50:5000:12"))
    """Numbers of training points P. Theories of infinite data give their one row at P = ∞."""
    prior: PriorName = "isotropic"
    """Prior over the hidden weights, for the theories that cover both."""
    start: Literal["prior", "aligned"] = "prior"
    """Which stable solution, where there are several: prior (smallest m) or aligned (largest)."""
    plots: bool = True
    """Draw the figure."""

    def run(self) -> None:
        """Solve, write the folder, print the onsets."""
        grid = self.solve()
        folder = self.output.folder("phase")
        save_tree(xr.DataTree(grid), folder / "phase.nc")
        table = grid[list(FIGURES)].to_dataframe().dropna(how="all").reset_index()
        write_atomically(folder / "table.csv", lambda path: table.to_csv(path, index=False))
        write_settings(folder, {"command": "phase", **asdict(self)})
        if self.plots:
            write_figure(plots.plot_phase_diagram(grid), folder / "phase_diagram.png")
        if self.output.json:
            json.dump(as_json(grid), sys.stdout, indent=1, allow_nan=False)
            print()
        else:
            show_table(onsets(grid), f"noise at which m reaches {grid.onset_order_parameter:g}, and folds")
        console(to_stderr=True).print(f"results in {folder}", highlight=False, soft_wrap=True)

    def solve(self) -> xr.Dataset:
        """The grid, with progress on standard error."""
        check_kappas(self.kappas)
        network = self.problem.network(min(self.kappas), self.prior)
        sizes = [round(size) for size in self.num_data]
        with progress_callback(True, "phase") as report:
            return phase_diagram(
                network,
                self.problem.teacher(),
                self.kappas,
                list(dict.fromkeys(sizes)),
                self.theories,
                start=self.start,
                progress=report,
            )


def onsets(grid: xr.Dataset) -> pd.DataFrame:
    """A row per theory and P: the onset and the folds."""
    rows = []
    for name in grid.theory.values:
        for size in grid.num_data.values:
            cell = grid.sel(theory=name, num_data=size)
            if not cell.error.isnull().all():
                folds = [float(v) for v in cell.fold_kappa.values if math.isfinite(v)]
                rows.append(
                    {"theory": name, "P": _size(size) or "∞", "onset": _number(cell.onset), "folds": folds}
                )
    return pd.DataFrame(rows, dtype=object)


def as_json(grid: xr.Dataset) -> dict:
    """``{"kappas", "num_data", "results"}``; a theory's tables have a row per entry of its own num_data."""
    results = {}
    for name in grid.theory.values:
        part = grid.sel(theory=name)
        sizes = [size for size in grid.num_data.values if not part.error.sel(num_data=size).isnull().all()]
        results[str(name)] = {"num_data": [_size(size) for size in sizes]} | {
            figure: [[_number(v) for v in part[figure].sel(num_data=size).values] for size in sizes]
            for figure in FIGURES
        }
        results[str(name)]["onset"] = [_number(part.onset.sel(num_data=size)) for size in sizes]
        results[str(name)]["folds"] = [
            [float(v) for v in part.fold_kappa.sel(num_data=size).values if math.isfinite(v)]
            for size in sizes
        ]
    return {
        "kappas": grid.kappa.values.tolist(),
        "num_data": [_size(size) for size in grid.num_data.values if math.isfinite(size)],
        "results": results,
    }


def _number(value) -> float | None:
    return float(value) if math.isfinite(value) else None


def _size(value) -> int | None:
    return int(value) if math.isfinite(value) else None

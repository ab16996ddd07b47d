"""``mfzoo phase``: phase diagrams in seconds."""

import math
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
    parse_numbers,
)
from analysis.cli.output import note, print_json, show_table, write_results
from analysis.theory.phase_diagram import FIGURES, phase_diagram
from inference.runs.progress import progress_callback


@dataclass(frozen=True)
class Phase:
    """Solve theories over a grid of noises κ and data sizes P on sparse parity, and draw the phase
    diagram.

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
        folder = self.output.folder("phase")
        grid = self.solve()
        write_results(
            folder,
            {"command": "phase", **asdict(self)},
            trees={"phase": xr.DataTree(grid)},
            tables={"table": grid[list(FIGURES)].to_dataframe().dropna(how="all").reset_index()},
            figures={"phase_diagram": plots.plot_phase_diagram(grid)} if self.plots else {},
        )
        if self.output.json:
            print_json(as_json(grid))
        else:
            table = pd.DataFrame([row for rows in onsets(grid).values() for row in rows], dtype=object)
            heading = f"noise at which m reaches {grid.onset_order_parameter:g}, and folds"
            show_table(table.fillna({"P": "∞"}), heading)
        note(f"results in {folder}")

    def solve(self) -> xr.Dataset:
        """The grid, with progress on standard error."""
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


def onsets(grid: xr.Dataset) -> dict[str, list[dict]]:
    """By theory a row for each P that it has: the onset and the folds; P is None at P = ∞."""
    rows = {}
    for name in grid.theory.values:
        part = grid.sel(theory=name)
        rows[str(name)] = [
            {
                "theory": str(name),
                "P": int(size) if math.isfinite(size) else None,
                "onset": float(cell.onset) if cell.onset.notnull() else None,
                "folds": cell.fold_kappa.dropna("fold").values.tolist(),
            }
            for size in grid.num_data.values
            if (cell := part.sel(num_data=size)).error.notnull().any()
        ]
    return rows


def as_json(grid: xr.Dataset) -> dict:
    """``{"kappas", "num_data", "results"}``; a theory's tables have a row per own num_data."""
    results = {}
    for name, rows in onsets(grid).items():
        sizes = [math.inf if row["P"] is None else row["P"] for row in rows]
        part = grid.sel(theory=name, num_data=sizes).transpose("num_data", "kappa", ...)
        results[name] = {
            "num_data": [row["P"] for row in rows],
            **{figure: part[figure].values for figure in FIGURES},
            "onset": [row["onset"] for row in rows],
            "folds": [row["folds"] for row in rows],
        }
    sizes = [int(size) for size in grid.num_data.values if math.isfinite(size)]
    return {"kappas": grid.kappa.values, "num_data": sizes, "results": results}

"""``mfzoo phase``: phase diagrams in seconds."""

import math
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import tyro
import xarray as xr

from analysis import plots
from analysis.cli.options import Names, Numbers, OutputOptions, PriorName, Problem, parse_numbers
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
        answer = as_json(grid)
        if self.output.json:
            print_json(answer)
        else:
            table = pd.DataFrame(
                [
                    {"theory": name, "P": size or "∞", "onset": onset, "folds": folds.tolist()}
                    for name, rows in answer["results"].items()
                    for size, onset, folds in zip(rows["num_data"], rows["onset"], rows["folds"], strict=True)
                ],
                dtype=object,
            )
            show_table(table, f"noise at which m reaches {grid.onset_order_parameter:g}, and folds")
        note(f"results in {folder}")

    def solve(self) -> xr.Dataset:
        """The grid, with progress on standard error."""
        network = self.problem.network(min(self.kappas), self.prior)
        grid = (self.kappas, list(dict.fromkeys(map(round, self.num_data))), self.theories)
        with progress_callback(True, "phase") as report:
            return phase_diagram(network, self.problem.teacher(), *grid, start=self.start, progress=report)


def as_json(grid: xr.Dataset) -> dict:
    """``{"kappas", "num_data", "results"}``; a theory's tables have a row per own P, None for ∞."""
    results = {}
    for name in map(str, grid.theory.values):
        part = grid.sel(theory=name).transpose("num_data", "kappa", "fold")
        part = part.sel(num_data=part.error.notnull().any("kappa"))
        results[name] = {
            "num_data": [int(size) if math.isfinite(size) else None for size in part.num_data.values],
            **{figure: part[figure].values for figure in FIGURES},
            "onset": part.onset.values,
            "folds": [row[np.isfinite(row)] for row in part.fold_kappa.values],
        }
    sizes = [int(size) for size in grid.num_data.values if math.isfinite(size)]
    return {"kappas": grid.kappa.values, "num_data": sizes, "results": results}

"""``mfzoo reproduce``: the experiment, as a learning curve or as a phase diagram."""

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
import tyro
import xarray as xr

from analysis.cli.options import Names, Numbers, Problem, Seeds, parse_numbers
from analysis.cli.output import note, print_json, show_table, write_results
from analysis.cli.sweep import Grid, count, json_rows, rows
from analysis.plots.learning_curve import plot_learning_curve
from analysis.plots.reproduced import plot_reproduced_phase_diagram
from analysis.sweep.reproduce import cell_edges, reproduce
from analysis.sweep.reproduction_table import read_reference, summary

# Of the columns of table.csv those that the printed one does without.
_HIDDEN = ["source", "scheme", "start", "test_mse_mean", "gradient_evaluations"]


@dataclass(frozen=True)
class _Experiment(Grid):
    """What both experiments share: they differ in their grid, their theories and their figure."""

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(
        default_factory=partial(Problem, input_dim=20, degree=2, width=256)
    )
    scheme: Literal["langevin", "sgld", "nuts"] = "langevin"
    """Sampler of the networks; langevin starts half of its chains aligned, half from the prior."""
    theories: Names = ()
    """Theories to lay over the networks, each for the priors that it covers; by default all that
    cover one."""

    def figures(self, tree: xr.DataTree, table: pd.DataFrame) -> dict:
        """The experiment's figures by name."""
        raise NotImplementedError

    def run(self) -> None:
        self.check()
        folder, stem = self.output.folder(self.command), self.command.replace("-", "_")
        with self.running(folder) as options:
            grid = (self.kappas, self.sizes, self.seeds, self.declared_priors, self.theories)
            options |= {"scheme": self.scheme, **self.theory_grid()}
            tree = reproduce(self.network, self.problem.teacher(), *grid, **options)
        table = summary(tree)
        cells = rows(tree["networks"].to_dataset().expand_dims(scheme=[self.scheme]))
        sampled = table[table.source == "networks"]
        figures = self.figures(tree, table) if self.plots and len(sampled) else {}
        written = {"trees": {stem: tree}, "tables": {"table": table, "cells": cells}, "figures": figures}
        write_results(folder, {"command": f"reproduce {self.command}", **asdict(self)}, **written)
        loose = int(((cells.status == "done") & (cells.converged == 0)).sum())
        if self.output.json:
            problem = json.loads(tree["networks"].attrs["problem"])
            counts = {**count(cells), "not_converged": loose}
            print_json({"problem": problem, "cells": counts, "rows": json_rows(table)})
        else:
            whole = dict.fromkeys(("num_data", "num_seeds", "num_converged"), int)
            show_table(sampled.drop(columns=_HIDDEN).astype(whole), "Networks, mean over the seeds")
        if loose:
            note(
                f"{loose} of {count(cells)['done']} cells did not converge (hollow marks): their chains need a "
                "larger --effort, or do not meet"
            )
        self.finish(cells, folder)

    def theory_grid(self) -> dict:
        """Where the theories are solved, if not at the networks' own noises and over P."""
        return {}


@dataclass(frozen=True)
class LearningCurve(_Experiment):
    """Sample networks over the data size P at noises on both sides of the transition, and lay the
    theories over them.

    At 20 inputs, degree 2 and width 256 AK has the onset of features (m = 0.1) with the isotropic
    prior at κ = 0.042, 0.058, 0.065 and 0.070 for P = 50, 105, 220 and 2000; with ARD, from the
    prior's side, at 0.100, 0.111, 0.116 and 0.120 (mfzoo phase). So of the default noises 0.03 lies
    below every onset, 0.05 above the isotropic one at P = 50 alone, and 0.11 above the isotropic
    one at every P, while ARD's passes over it as P grows.

    Writes learning_curve.nc (the whole grid and the theories), table.csv (a row per point of the
    figure: means and standard errors over the seeds), cells.csv (a row per seed),
    learning_curve.png and settings.json to one folder. The same command with the same --out
    continues what was stopped. How long chains run depends on κ and --effort alone, never on the
    test error.
    """

    kappas: Numbers = (0.03, 0.05, 0.11)
    """Noise levels κ."""
    num_data: Numbers = field(default_factory=partial(parse_numbers, "50:2000:6"))
    """Numbers of training points P."""
    seeds: Seeds = (0, 1, 2)
    """Seeds of the data and of the chains (the stop of a range is left out)."""
    reference: Path | None = None
    """A .csv file with the published learning curve (docs/data/learning_curve_kappa_5e-3.csv), to
    lay over the figure at its d = 35, k = 4, N = 512, κ = 0.005."""

    command: ClassVar[str] = "learning-curve"

    def check(self) -> None:
        super().check()
        self._published()

    def _published(self) -> pd.DataFrame | None:
        if self.reference is None:
            return None
        return read_reference(self.reference, self.network, self.problem.teacher(), self.kappas)

    def figures(self, tree: xr.DataTree, table: pd.DataFrame) -> dict:
        return {"learning_curve": plot_learning_curve(table, self._published())}


@dataclass(frozen=True)
class PhaseDiagram(_Experiment):
    """Sample networks on a grid of noises κ and data sizes P: m beside AK's, with the theory's
    onset over both.

    The default noises span the onsets of features with both priors, see mfzoo reproduce
    learning-curve --help.

    Writes phase_diagram.nc (the whole grid and the theory), table.csv, cells.csv, phase_diagram.png
    and phase_diagram_mse.png, and settings.json to one folder. The same command with the same --out
    continues what was stopped.
    """

    kappas: Numbers = field(default_factory=partial(parse_numbers, "0.03:0.18:6"))
    """Noise levels κ."""
    num_data: Numbers = field(default_factory=partial(parse_numbers, "50:1000:4"))
    """Numbers of training points P."""
    seeds: Seeds = (0,)
    """Seeds of the data and of the chains (the stop of a range is left out); m is the mean over
    them."""
    theories: Names = ("adaptive-kernel",)
    """Theories to show beside the networks; the onset is that of the first."""

    command: ClassVar[str] = "phase-diagram"

    def theory_grid(self) -> dict:
        """A finer grid than that of the networks, which covers its cells to their edges."""
        kappas, sizes = (cell_edges(sorted(values))[[0, -1]] for values in (self.kappas, self.sizes))
        finer = np.unique(np.geomspace(*sizes, 25).round().astype(int).clip(1))
        return {"theory_kappas": np.geomspace(*kappas, 40).tolist(), "theory_num_data": finer.tolist()}

    def figures(self, tree: xr.DataTree, table: pd.DataFrame) -> dict:
        quantities = {"phase_diagram": "order_parameter", "phase_diagram_mse": "test_mse"}
        return {name: plot_reproduced_phase_diagram(tree, of) for name, of in quantities.items()}


Reproduce = (
    Annotated[LearningCurve, tyro.conf.subcommand("learning-curve", prefix_name=False)]
    | Annotated[PhaseDiagram, tyro.conf.subcommand("phase-diagram", prefix_name=False)]
)
"""Networks that are sampled, not stopped on the test error, and theories over them."""

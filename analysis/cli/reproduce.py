"""``mfzoo reproduce``: the experiment, as a learning curve or as a phase diagram."""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
import tyro
import xarray as xr

from analysis.cli.options import (
    DataOptions,
    Names,
    Numbers,
    OutputOptions,
    Priors,
    Problem,
    check_kappas,
    parse_numbers,
)
from analysis.cli.output import console, show_table, write_figure, write_settings
from analysis.cli.sweep import Seeds, rows
from analysis.plots.learning_curve import plot_learning_curve
from analysis.plots.reproduced import plot_reproduced_phase_diagram
from analysis.results.files import save_tree, write_atomically
from analysis.sweep.cells import Budget
from analysis.sweep.reproduce import cell_edges, reproduce
from analysis.sweep.reproduction_table import read_reference, summary
from analysis.theory.theories import THEORIES
from inference.runs.progress import progress_callback
from models import checks

_HEADERS = {
    "kappa": "κ",
    "num_data": "P",
    "order_parameter": "m",
    "order_parameter_se": "± se",
    "test_mse": "MSE draw",
    "test_mse_se": "± se ",
    "num_seeds": "seeds",
    "num_converged": "converged",
    "r_hat_max": "R-hat",
    "ess_min": "ESS",
    "start_difference": "|Δm| of starts",
}
Sampler = Literal["langevin", "sgld", "nuts"]


@dataclass(frozen=True)
class _Experiment:
    """What both experiments share: they differ in their grid, their theories and their figure."""

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(
        default_factory=partial(Problem, input_dim=20, degree=2, width=256)
    )
    budget: tyro.conf.OmitArgPrefixes[Budget] = field(default_factory=Budget)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    num_test: int = DataOptions.num_test
    """Number of test points."""
    priors: Priors = ("isotropic", "ard")
    """Priors over the hidden weights, as in mfzoo compare."""
    scheme: Sampler = "langevin"
    """Sampler of the networks; langevin starts half of its chains from the prior and half aligned."""
    workers: int | None = None
    """Processes on this machine, one a core by default; 0 for none but the command's own."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers run the cells, such as tcp://host:8786."""
    retries: int = 1
    """How often a cell that fails runs again before it is recorded as failed."""
    plots: bool = True
    """Draw the figure."""

    name: ClassVar[str]

    def run(self) -> None:
        """Run what is missing, write the folder, print the summary."""
        notes, folder = console(to_stderr=True), self.output.folder(self.name)
        self.check()
        try:
            tree = self.reproduce(folder)
        except KeyboardInterrupt:
            cells = len(list(folder.glob("*/cells/*.json")))
            text = f"{cells} cells are kept in {folder}; to continue, repeat the command with --out {folder}"
            notes.print(text, highlight=False, soft_wrap=True)
            raise
        table = summary(tree)
        cells = rows(tree["networks"].to_dataset().expand_dims(scheme=[self.scheme]))
        self.write(folder, tree, table, cells)
        counts = count(cells)
        sampled = table[table.source == "networks"]
        if self.output.json:
            json.dump(as_json(tree, table, counts), sys.stdout, indent=1, allow_nan=False)
            print()
        else:
            columns = ["prior", *(name for name in _HEADERS if name in table)]
            whole = {name: int for name in ("num_data", "num_seeds", "num_converged") if name in columns}
            show_table(sampled[columns].astype(whole), "Networks, mean over the seeds", _HEADERS)
        for reason, number in cells[cells.status == "failed"].error.value_counts().items():
            notes.print(f"{number} of {len(cells)} cells failed: {reason}", highlight=False, soft_wrap=True)
        if counts["not_converged"]:
            text = (
                f"{counts['not_converged']} of {counts['done']} cells did not converge (hollow marks): their"
            )
            notes.print(
                f"{text} chains need a larger --effort, or do not meet", highlight=False, soft_wrap=True
            )
        notes.print(f"results in {folder}", highlight=False, soft_wrap=True)
        if not counts["done"]:
            raise ValueError(f"every cell failed, the first with: {cells.error.iloc[0]}")

    def check(self) -> None:
        """``ValueError`` for options that do not go together."""
        check_kappas(self.kappas)
        if self.output.seed:
            raise ValueError("seed does not count here; name the seeds of the data by --seeds.")
        if self.workers is not None and self.scheduler is not None:
            raise ValueError("workers are processes of this machine; with scheduler, leave workers out.")

    def reproduce(self, folder: Path, **options) -> xr.DataTree:
        """Networks and theories, with progress on standard error."""
        priors = [self.problem.prior(name) for name in self.priors]
        with progress_callback(True, self.name) as report:
            return reproduce(
                self.problem.network(min(self.kappas), self.priors[0]),
                self.problem.teacher(),
                self.kappas,
                self.sizes,
                self.seeds,
                priors,
                self.theories or covering([prior.name for prior in priors]),
                scheme=self.scheme,
                num_test=self.num_test,
                budget=self.budget,
                out=folder,
                workers=self.workers,
                scheduler=self.scheduler,
                retries=self.retries,
                progress=report,
                **options,
            )

    @property
    def sizes(self) -> list[int]:
        """P as whole numbers."""
        for size in self.num_data:
            checks.whole("num_data", round(size), 1)
        return list(dict.fromkeys(round(size) for size in self.num_data))

    def write(self, folder: Path, tree: xr.DataTree, table: pd.DataFrame, cells: pd.DataFrame) -> None:
        """The grid, the two tables, the settings and the figures, each file whole."""
        stem = self.name.replace("-", "_")
        save_tree(tree, folder / f"{stem}.nc")
        write_atomically(folder / "table.csv", lambda path: table.to_csv(path, index=False))
        write_atomically(folder / "cells.csv", lambda path: cells.to_csv(path, index=False))
        write_settings(folder, {"command": f"reproduce {self.name}", **asdict(self)})
        if self.plots and (table.source == "networks").any():
            for suffix, figure in self.figures(tree, table).items():
                write_figure(figure, folder / f"{stem}{suffix}.png")


@dataclass(frozen=True)
class LearningCurve(_Experiment):
    """Sample networks over the data size P at noises on both sides of the transition, and lay the theories over them.

    At 20 inputs, degree 2 and width 256 AK has the onset of features (m = 0.1) with the isotropic prior at κ = 0.042,
    0.058, 0.065 and 0.070 for P = 50, 105, 220 and 2000; with ARD, from the prior's side, at 0.100, 0.111, 0.116 and
    0.120 (mfzoo phase). So of the default noises 0.03 lies below every onset, 0.05 above the isotropic one at P = 50
    alone, and 0.11 above the isotropic one at every P, while ARD's passes over it as P grows.

    Writes learning_curve.nc (the whole grid and the theories), table.csv (a row per point of the figure: means and
    standard errors over the seeds), cells.csv (a row per seed), learning_curve.png and settings.json to one folder.
    The same command with the same --out continues what was stopped. How long chains run depends on κ and --effort
    alone, never on the test error.
    """

    kappas: Numbers = (0.03, 0.05, 0.11)
    """Noise levels κ."""
    num_data: Numbers = field(default_factory=partial(parse_numbers, "50:2000:6"))
    """Numbers of training points P."""
    seeds: Seeds = (0, 1, 2)
    """Seeds of the data and of the chains (the stop of a range is left out)."""
    theories: Names = ()
    """Theories to lay over the networks, each for the priors that it covers; by default all that cover one."""
    reference: Path | None = None
    """A .csv file with the published learning curve (docs/data/learning_curve_kappa_5e-3.csv), to lay over the figure
    at its d = 35, k = 4, N = 512, κ = 0.005."""

    name: ClassVar[str] = "learning-curve"

    def check(self) -> None:
        """``ValueError`` for options that do not go together, or a reference for another problem."""
        super().check()
        self._published()

    def _published(self) -> pd.DataFrame | None:
        if self.reference is None:
            return None
        network = self.problem.network(min(self.kappas), self.priors[0])
        return read_reference(self.reference, network, self.problem.teacher(), self.kappas)

    def figures(self, tree: xr.DataTree, table: pd.DataFrame) -> dict:
        """The figure."""
        return {"": plot_learning_curve(table, self._published())}


@dataclass(frozen=True)
class PhaseDiagram(_Experiment):
    """Sample networks on a grid of noises κ and data sizes P: m beside AK's, with the theory's onset over both.

    The default noises span the onsets of features with both priors, see mfzoo reproduce learning-curve --help.

    Writes phase_diagram.nc (the whole grid and the theory), table.csv, cells.csv, phase_diagram.png and
    phase_diagram_mse.png, and settings.json to one folder. The same command with the same --out continues what was
    stopped.
    """

    kappas: Numbers = field(default_factory=partial(parse_numbers, "0.03:0.18:6"))
    """Noise levels κ."""
    num_data: Numbers = field(default_factory=partial(parse_numbers, "50:1000:4"))
    """Numbers of training points P."""
    seeds: Seeds = (0,)
    """Seeds of the data and of the chains (the stop of a range is left out); m is the mean over them."""
    theories: Names = ("adaptive-kernel",)
    """Theories to show beside the networks; the onset is that of the first."""

    name: ClassVar[str] = "phase-diagram"

    def reproduce(self, folder: Path) -> xr.DataTree:
        """Networks on the grid, the theory on a finer one that covers its cells to their edges."""
        kappas, sizes = (cell_edges(sorted(values))[[0, -1]] for values in (self.kappas, self.sizes))
        at = np.unique(np.geomspace(*sizes, 25).round().astype(int).clip(1))
        finer = np.geomspace(*kappas, 40).tolist()
        return super().reproduce(folder, theory_kappas=finer, theory_num_data=at.tolist())

    def figures(self, tree: xr.DataTree, table: pd.DataFrame) -> dict:
        """The order parameter, and the test MSE of a draw."""
        figures = {"": "order_parameter", "_mse": "test_mse"}
        return {end: plot_reproduced_phase_diagram(tree, quantity) for end, quantity in figures.items()}


@dataclass(frozen=True)
class Reproduce:
    """Reproduce the experiment: networks that are sampled, not stopped on the test error, and theories over them."""

    experiment: tyro.conf.OmitArgPrefixes[
        Annotated[LearningCurve, tyro.conf.subcommand("learning-curve", prefix_name=False)]
        | Annotated[PhaseDiagram, tyro.conf.subcommand("phase-diagram", prefix_name=False)]
    ]
    """Which figure."""

    @property
    def output(self) -> OutputOptions:
        """Where results go."""
        return self.experiment.output

    def run(self) -> None:
        """Run the experiment."""
        self.experiment.run()


def covering(priors: list[str]) -> list[str]:
    """The theories that cover one of the priors, the closest to the networks first."""
    return [name for name in reversed(THEORIES) if set(THEORIES[name].priors) & set(priors)]


def count(cells: pd.DataFrame) -> dict[str, int]:
    """How many cells ended how."""
    done = cells.status == "done"
    return {
        "done": int(done.sum()),
        "failed": int((cells.status == "failed").sum()),
        "not_converged": int((done & (cells.converged == 0)).sum()),
    }


def as_json(tree: xr.DataTree, table: pd.DataFrame, counts: dict[str, int]) -> dict:
    """``{"problem", "cells", "rows"}``: what was declared, how many cells ended how, and the rows of table.csv."""
    return {
        "problem": json.loads(tree["networks"].attrs["problem"]),
        "cells": counts,
        "rows": [
            {name: _plain(name, value) for name, value in row.items()}
            for row in table.to_dict(orient="records")
        ],
    }


def _plain(name: str, value):
    if isinstance(value, float) and not math.isfinite(value):
        return None  # also P = ∞, as in mfzoo phase
    if name in ("num_data", "num_seeds", "num_converged", "gradient_evaluations"):
        return int(value)
    return value

"""``mfzoo solve``: a fixed point in seconds."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from analysis.cli.options import DataOptions, OutputOptions, PriorName, Problem
from analysis.cli.output import note, print_json, show_table, write_settings
from analysis.results.files import write_json
from analysis.theory.theories import THEORIES
from models import Isotropic

TheoryName = Literal[
    "nngp",
    "mean-field",
    "mean-field-ard",
    "adaptive-kernel",
    "block-adaptive-kernel",
    "kernel-renormalisation",
    "deep-linear",
]


@dataclass(frozen=True)
class Solve:
    """Solve a fixed-point theory: order parameter, test MSE and every branch.

    On sparse parity by default, averaged over the inputs (and, with --num-data, over data sets of
    that size); with --data on the training points of a file. Theories of deep networks, which are
    known on data sets alone, are solved on --num-data points that the parity draws by --seed.
    """

    theory: TheoryName
    """nngp: infinite width. mean-field: the plain mean field. mean-field-ard: the mean field with
    the ARD prior. adaptive-kernel: neurons that adapt to the kernel they form together.
    block-adaptive-kernel: the same with the relevant block kept exactly, sampled.
    kernel-renormalisation: the kernel of infinite width times a number a layer. deep-linear: the
    exact posterior with --activation identity."""
    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    kappa: float = 0.05
    """Noise κ."""
    num_data: int | None = None
    """Number of training points P for theories with a finite-P form (nngp, adaptive-kernel,
    block-adaptive-kernel); infinite by default."""
    data: Path | None = None
    """Solve on the data in this .csv, .parquet or .npz (x, y) file instead; input-dim and degree
    then do not count."""
    target: str | None = None
    """Column of the .csv or .parquet file to predict; the last one by default."""
    standardise: bool = False
    """Bring the file's inputs and target to mean 0 and standard deviation 1 on the training rows.
    """
    prior: PriorName | None = None
    """Prior over the hidden weights, for adaptive-kernel and block-adaptive-kernel: isotropic
    (default) or ard."""
    start: Literal["prior", "aligned"] = "prior"
    """Which start's branch to report, where the theory has several."""

    def run(self) -> None:
        folder = None if self.output.out is None else self.output.folder("solve")
        answer = self.solve()
        if folder is not None:
            write_json(folder / "point.json", answer)
            write_settings(folder, {"command": "solve", **asdict(self)})
        if self.output.json:
            print_json(answer)
            return
        branches = pd.json_normalize(answer.pop("branches"))
        figures = pd.json_normalize(answer).T.set_axis(["value"], axis=1).rename_axis("quantity")
        show_table(figures.reset_index(), self.theory)
        if len(branches):
            branches["starts"] = branches["starts"].map(" ".join)
            show_table(branches, "branches")
        if not answer["converged"]:
            note(f"residual {answer['residual']:.2g} is above the tolerance: the figures are not a solution.")

    def solve(self) -> dict:
        """The fixed point as JSON-able values."""
        theory = THEORIES[self.theory]
        prior = self.prior or ("isotropic" if Isotropic in theory.priors else "ard")
        problem, progress = self.problem, None
        options = {"num_data": self.num_data, "start": self.start, "key": self.output.key()}
        if self.data is None and self.target is None:
            target = problem.teacher()
            if theory.deep and (problem.widths or not theory.population):
                if self.num_data is None:
                    raise ValueError(
                        "num_data, the number of training points, is needed here; give --num-data."
                    )
                inputs, options["num_data"] = DataOptions(num_data=self.num_data), None
                target = inputs.load(problem, self.output.seed)
        elif self.num_data is not None:
            raise ValueError("num_data is the number of rows of the file given by --data; leave it out.")
        else:
            file = DataOptions(data=self.data, target=self.target, standardise=self.standardise)
            target = file.load(problem, self.output.seed)
            problem, progress = problem.on(target), True
        network = problem.network(self.kappa, prior)
        return theory.solver().solve(network, target, progress=progress, **options).to_dict()

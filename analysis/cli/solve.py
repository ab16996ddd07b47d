"""``mfzoo solve``: a fixed point in seconds."""

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from analysis.cli.options import OutputOptions, PriorName, Problem, load_file
from analysis.cli.output import console, show_table, write_settings
from analysis.results.files import write_json
from analysis.theory.theories import THEORIES, Theory

TheoryName = Literal["nngp", "mean-field", "mean-field-ard", "adaptive-kernel", "block-adaptive-kernel"]


@dataclass(frozen=True)
class Solve:
    """Solve a fixed-point theory: order parameter, test MSE and every branch.

    On sparse parity by default, averaged over the inputs (and, with --num-data, over data sets of that size); with
    --data on the training points of a file.
    """

    theory: TheoryName
    """nngp: infinite width. mean-field: the plain mean field. mean-field-ard: the mean field with the ARD prior.
    adaptive-kernel: neurons that adapt to the kernel they form together. block-adaptive-kernel: the same with the
    relevant block kept exactly, sampled."""
    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    kappa: float = 0.05
    """Noise κ."""
    num_data: int | None = None
    """Number of training points P for theories with a finite-P form (nngp, adaptive-kernel,
    block-adaptive-kernel); infinite by default."""
    data: Path | None = None
    """Solve on the data in this .csv, .parquet or .npz (x, y) file instead; input-dim and degree then do not
    count."""
    target: str | None = None
    """Column of the .csv or .parquet file to predict; the last one by default."""
    standardise: bool = False
    """Bring the file's inputs and target to mean 0 and standard deviation 1 on the training rows."""
    prior: PriorName | None = None
    """Prior over the hidden weights, for adaptive-kernel and block-adaptive-kernel: isotropic (default) or ard."""
    start: Literal["prior", "aligned"] = "prior"
    """Which start's branch to report, where the theory has several."""

    def run(self) -> None:
        """Solve, write the folder if one is named, print the answer."""
        answer = self.solve()
        if self.output.out is not None:
            write_json(self.output.out / "point.json", answer)
            write_settings(self.output.out, {"command": "solve", **asdict(self)})
        if self.output.json:
            json.dump(answer, sys.stdout, indent=1, allow_nan=False)
            print()
            return
        figures = {k: v for k, v in answer.items() if k not in ("branches", "precisions")}
        figures |= _flat_precisions(answer)
        show_table(
            pd.DataFrame({"quantity": list(figures), "value": list(figures.values())}, dtype=object),
            self.theory,
        )
        branches = pd.DataFrame([{**branch, **_flat_precisions(branch)} for branch in answer["branches"]])
        if len(branches):
            branches["starts"] = branches["starts"].map(" ".join)
            show_table(branches.drop(columns="precisions"), "branches")
        if not answer["converged"]:
            console(to_stderr=True).print(
                f"residual {answer['residual']:.2g} is above the tolerance: the figures are not a solution."
            )

    def solve(self) -> dict:
        """The fixed point as JSON-able values."""
        theory = THEORIES[self.theory]
        prior = self.prior or theory.priors[0]
        if self.problem.prior(prior).name not in theory.priors:
            raise ValueError(f"prior must be {' or '.join(theory.priors)} for {self.theory}, got {prior!r}.")
        if self.data is not None:
            return self._on_data(theory, prior)
        if self.target is not None:
            raise ValueError("target names a column of the file given by --data; give that too.")
        options = {"start": self.start} if theory.has_starts else {}
        if theory.finite_data:
            options["num_data"] = self.num_data
        elif self.num_data is not None:
            raise ValueError(
                f"num_data is for theories with a finite-P form: {self.theory} is one of infinite data; leave it out."
            )
        if theory.sampled:
            options["key"] = self.output.key()
        network = self.problem.network(self.kappa, prior)
        return theory.solver().solve(network, self.problem.teacher(), **options).to_dict()

    def _on_data(self, theory: Theory, prior: str) -> dict:
        if not theory.on_data:
            raise ValueError(
                f"data is not for {self.theory}, a theory of a teacher's population; leave it out."
            )
        if self.num_data is not None:
            raise ValueError("num_data is the number of rows of the file given by --data; leave it out.")
        data = load_file(self.data, self.target, self.output.seed, standardise=self.standardise)
        network = replace(self.problem, input_dim=data.input_dim).network(self.kappa, prior)
        options = (
            {} if self.theory == "nngp" else {"start": self.start, "key": self.output.key(), "progress": True}
        )
        return theory.solver().solve(network, data, **options).to_dict()


def _flat_precisions(answer: dict) -> dict:
    return {f"precisions.{name}": value for name, value in answer["precisions"].items()}

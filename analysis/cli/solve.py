"""``mfzoo solve``: a fixed point in seconds."""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Literal

import pandas as pd
import tyro

from analysis.cli.options import OutputOptions, PriorName, Problem
from analysis.cli.output import console, show_table, write_settings
from analysis.files import write_json
from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD

# Each theory with the priors it covers, its own first.
THEORIES = {
    "nngp": (NNGP, ("isotropic",)),
    "mean-field": (MeanField, ("isotropic",)),
    "mean-field-ard": (MeanFieldARD, ("ard",)),
    "adaptive-kernel": (AdaptiveKernel, ("isotropic", "ard")),
}


@dataclass(frozen=True)
class Solve:
    """Solve a fixed-point theory for sparse parity: order parameter, test MSE and every branch."""

    theory: Literal["nngp", "mean-field", "mean-field-ard", "adaptive-kernel"]
    """nngp: infinite width. mean-field: the plain mean field. mean-field-ard: the mean field with the ARD prior.
    adaptive-kernel: neurons that adapt to the kernel they form together."""
    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    kappa: float = 0.05
    """Noise κ."""
    num_data: int | None = None
    """Number of training points P for theories with a finite-P form (nngp, adaptive-kernel); infinite by default."""
    prior: PriorName | None = None
    """Prior over the hidden weights, for adaptive-kernel: isotropic (default) or ard."""
    start: Literal["prior", "aligned"] = "prior"
    """Which start's branch to report, where the theory has several (mean-field-ard, adaptive-kernel)."""

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
        theory, priors = THEORIES[self.theory]
        prior = self.prior or priors[0]
        if prior not in priors:
            raise ValueError(f"prior must be {' or '.join(priors)} for {self.theory}, got {prior!r}.")
        network, teacher = self.problem.network(self.kappa, prior), self.problem.teacher()
        # NNGP and the plain mean field have one solution: both starts lead there.
        start = {"start": self.start} if theory in (MeanFieldARD, AdaptiveKernel) else {}
        if theory in (NNGP, AdaptiveKernel):
            return theory().solve(network, teacher, num_data=self.num_data, **start).to_dict()
        if self.num_data is not None:
            raise ValueError(
                f"num_data is for nngp and adaptive-kernel: {self.theory} is a theory of infinite data; leave it out."
            )
        return theory().solve(network, teacher, **start).to_dict()


def _flat_precisions(answer: dict) -> dict:
    return {f"precisions.{name}": value for name, value in answer["precisions"].items()}

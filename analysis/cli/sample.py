"""``mfzoo sample``: one posterior by one sampler."""

import json
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Literal

import tyro
from numpyro.infer import NUTS

from analysis.cli.options import DataOptions, OutputOptions, PriorName, Problem
from analysis.cli.output import console, progress_board, show_table, write_figure, write_settings
from analysis.compare import describe_problem, summarise
from analysis.files import save_tree, write_atomically
from analysis.plots import plot_function_traces
from analysis.schemes import default_sgld, sgld_thinning
from inference import SGLD, sample


@dataclass(frozen=True)
class Sample:
    """Sample one posterior and diagnose it; writes run.nc, table.csv, traces.png and settings.json."""

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    inputs: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    scheme: Literal["sgld", "nuts"] = "sgld"
    """The sampler."""
    kappa: float = 0.05
    """Noise κ."""
    prior: PriorName = "isotropic"
    """Prior over the hidden weights."""
    step_size: float | None = None
    """SGLD's step size ε; by default one that suits the default problem at this κ and prior."""
    preconditioner: Literal["none", "prior"] = "none"
    """SGLD's preconditioner, where a step size is given: none, or the prior variance of each site."""
    num_warmup: int | None = None
    """Steps of each chain thrown away; by default 22/κ² for SGLD, 500 for NUTS."""
    num_samples: int | None = None
    """Steps of each chain after the warm-up; by default 350/κ² for SGLD, 600 for NUTS."""
    num_chains: int = 4
    """Number of chains."""
    thinning: int | None = None
    """Steps between kept draws; by default 1.4/κ² for SGLD, 2 for NUTS."""
    subsample_size: int | None = None
    """SGLD's minibatch size; the full batch by default."""
    start: Literal["prior", "aligned"] = "prior"
    """Where the chains start."""

    def run(self) -> None:
        """Sample, write the folder, print the diagnosis."""
        data = self.inputs.load(self.problem, self.output.seed)
        network = self.inputs.fitted(self.problem, data).network(self.kappa, self.prior)
        with progress_board(1) as board:
            tree = sample(
                network,
                data,
                self._kernel(network),
                self.output.key(),
                num_chains=self.num_chains,
                **self._steps(),
                start=self.start,
                subsample_size=self.subsample_size,
                progress=board.callback(f"κ={self.kappa:g} {self.prior} {self.scheme}"),
            )
        result, folder = summarise(network, tree, None), self.output.folder("sample")
        table = result.diagnosis.table.rename_axis("function").reset_index()
        save_tree(tree, folder / "run.nc")
        write_atomically(folder / "table.csv", lambda path: table.to_csv(path, index=False))
        write_settings(folder, {"command": "sample", **asdict(self)})
        write_figure(plot_function_traces(tree, result.label), folder / "traces.png")
        notes = console(to_stderr=True)
        if self.output.json:
            answer = {
                "problem": describe_problem(network, data),
                **result.row,
                "messages": result.diagnosis.messages,
            }
            json.dump(answer, sys.stdout, indent=1, allow_nan=False)
            print()
        else:
            show_table(table, f"Functions under {result.label}")
            for message in result.diagnosis.messages:
                notes.print(message, highlight=False, soft_wrap=True)
        notes.print(f"results in {folder}", highlight=False, soft_wrap=True)

    def _steps(self) -> dict[str, int]:
        nuts = self.scheme == "nuts"
        thinning = self.thinning or (2 if nuts else sgld_thinning(self.kappa))
        default = {
            "num_warmup": 500 if nuts else 16 * thinning,
            "num_samples": 600 if nuts else 250 * thinning,
            "thinning": thinning,
        }
        given = {name: getattr(self, name) for name in default}
        return {name: value if given[name] is None else given[name] for name, value in default.items()}

    def _kernel(self, network):
        if self.scheme == "nuts":
            if self.step_size is not None:
                raise ValueError("step_size is for sgld: NUTS adapts its own; leave it out.")
            return partial(NUTS, max_tree_depth=8)
        if self.step_size is None:
            return default_sgld(network)
        return SGLD(
            step_size=self.step_size, preconditioner=None if self.preconditioner == "none" else "prior"
        )

"""``mfzoo sample``: one posterior by one sampler."""

import json
import shlex
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from analysis.cli.options import DataOptions, OutputOptions, PriorName, Problem, with_stored
from analysis.cli.output import (
    console,
    progress_board,
    read_settings,
    show_table,
    write_figure,
    write_settings,
)
from analysis.plots import plot_function_traces
from analysis.results.files import write_atomically
from analysis.schemes.compare import describe_problem, summarise
from analysis.schemes.kernels import KERNELS, choose_kernel
from inference import sample
from inference.runs.run_folder import holds_run, refuse_existing_run
from models import checks


@dataclass(frozen=True)
class Sample:
    """Sample one posterior and diagnose it; writes run.nc, table.csv, traces.png and settings.json.

    The draws go to the folder as they come. A run that was stopped, by Ctrl-C or a power cut, goes on with
    ``mfzoo sample --out FOLDER --resume`` and ends with the same draws as if it had not been.
    """

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    inputs: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    scheme: Literal["sgld", "psgld", "langevin", "sghmc", "mala", "nuts"] = "sgld"
    """The sampler; langevin is underdamped (BAOAB), and the fastest of them."""
    kappa: float = 0.05
    """Noise κ."""
    prior: PriorName = "isotropic"
    """Prior over the hidden weights."""
    step_size: float | None = None
    """Step size, ε of sgld, psgld and mala, h of langevin and sghmc; by default one that suits this κ and prior."""
    preconditioner: Literal["none", "prior"] | None = None
    """Where a step size is given: none, or the prior variance of each site (sgld, langevin, sghmc, mala)."""
    friction: float | None = None
    """Where a step size is given: γ of langevin and sghmc."""
    num_warmup: int | None = None
    """Steps of each chain thrown away; by default 22/κ² (sgld, psgld, mala), 125/κ (langevin), 500 (nuts)."""
    num_samples: int | None = None
    """Steps of each chain after the warm-up; by default 350/κ², 625/κ, or 600, likewise."""
    num_chains: int = 4
    """Number of chains."""
    thinning: int | None = None
    """Steps between kept draws; by default 250 draws a chain are kept, 300 of nuts."""
    subsample_size: int | None = None
    """SGLD's minibatch size; the full batch by default."""
    start: Literal["prior", "aligned", "both"] = "prior"
    """Where the chains start; both: half of them from each."""

    resume: bool = False
    """Go on with the run in the folder --out; its options are read from there."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""

    def run(self) -> None:
        """Sample, write the folder, print the diagnosis."""
        if not self.resume:
            self._run(self.output.folder("sample"))
        elif self.output.out is None:
            raise ValueError("resume needs the folder of the run to go on with; give --out FOLDER.")
        else:
            stored = read_settings(self.output.out, "sample")
            exempt = {"resume", "checkpoint_every", "out", "json"}
            with_stored(self, stored, exempt)._run(self.output.out)

    def _run(self, folder: Path) -> None:
        data = self.inputs.load(self.problem, self.output.seed)
        network = self.inputs.fitted(self.problem, data).network(self.kappa, self.prior)
        kernel = choose_kernel(self.scheme, network, self.step_size, self.preconditioner, self.friction)
        steps = self._steps(network)
        with self._resumable(folder, describe_problem(network, data)), progress_board(1) as board:
            tree = sample(
                network,
                data,
                kernel,
                self.output.key(),
                num_chains=self.num_chains,
                **steps,
                start=self.start,
                subsample_size=self.subsample_size,
                progress=board.callback(f"κ={self.kappa:g} {self.prior} {self.scheme}"),
                folder=folder,
                resume=self.resume,
                checkpoint_every=self.checkpoint_every,
            )
        with tree:
            self._report(network, data, tree, folder)

    @contextmanager
    def _resumable(self, folder: Path, problem: dict):
        """Settings are on disk while the block runs; a run that stops says how it goes on."""
        checks.positive("checkpoint_every", self.checkpoint_every)
        if not self.resume:
            refuse_existing_run(folder)
            write_settings(folder, {"command": "sample", **asdict(self), "described": problem})
        try:
            yield
        except KeyboardInterrupt as stop:
            note = (
                f"{stop or 'stopped'}\ncontinue with: mfzoo sample --out {shlex.quote(str(folder))} --resume"
            )
            console(to_stderr=True).print(note, highlight=False, soft_wrap=True, markup=False)
            raise
        except ValueError:
            if not self.resume and not holds_run(folder):  # nothing was begun that could go on
                (folder / "settings.json").unlink(missing_ok=True)
                with suppress(OSError):
                    folder.rmdir()
            raise

    def _report(self, network, data, tree, folder: Path) -> None:
        result = summarise(tree, None)
        table = result.diagnosis.table.rename_axis("function").reset_index()
        write_atomically(folder / "table.csv", lambda path: table.to_csv(path, index=False))
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

    def _steps(self, network) -> dict[str, int]:
        steps = KERNELS[self.scheme].steps(network)
        if self.thinning is not None:
            steps = {name: count // steps["thinning"] * self.thinning for name, count in steps.items()}
        given = {name: getattr(self, name) for name in steps}
        return {name: value if given[name] is None else given[name] for name, value in steps.items()}

"""``mfzoo sample``: one posterior by one sampler."""

import shlex
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import jax
import tyro
import xarray as xr

from analysis.cli.diagnose import load_results
from analysis.cli.options import DataOptions, OutputOptions, PriorName, Problem
from analysis.cli.output import (
    note,
    print_json,
    progress_board,
    read_command,
    show_table,
    write_figure,
    write_settings,
)
from analysis.plots import plot_function_traces
from analysis.results.files import write_csv
from analysis.schemes.compare import describe_problem, sentence, summarise
from analysis.schemes.kernels import KERNELS, Budget, choose_kernel
from analysis.schemes.registry import SAMPLERS, SCHEMES, check_scheme
from inference import sample
from inference.runs.progress import ProgressCallback
from inference.runs.run_folder import holds_run, refuse_existing_run
from inference.starts import CHAIN_STARTS
from models import Dataset, TwoLayerNetwork, checks


@dataclass(frozen=True)
class Sample:
    """Sample one posterior and diagnose it; writes run.nc, table.csv, traces.png and settings.json.

    The draws go to the folder as they come. A run that was stopped, by Ctrl-C or a power cut, goes
    on with ``mfzoo sample --out FOLDER --resume`` and ends with the same draws as if it had not
    been.
    """

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    inputs: tyro.conf.OmitArgPrefixes[DataOptions] = field(
        default_factory=partial(DataOptions, standardise=True)
    )
    budget: tyro.conf.OmitArgPrefixes[Budget] = field(default_factory=Budget)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    scheme: Literal["sgld", "psgld", "langevin", "sghmc", "mala", "nuts"] = "sgld"
    """The sampler; langevin is underdamped (BAOAB), and the fastest of them."""
    kappa: float = 0.05
    """Noise κ."""
    prior: PriorName = "isotropic"
    """Prior over the hidden weights."""
    step_size: float | None = None
    """Step size, ε of sgld, psgld and mala, h of langevin and sghmc; by default one that suits this
    κ and prior."""
    preconditioner: Literal["none", "prior"] | None = None
    """Where a step size is given: none, or the prior variance of each site (sgld, langevin, sghmc,
    mala)."""
    friction: float | None = None
    """Where a step size is given: γ of langevin and sghmc."""
    num_chains: int = 4
    """Number of chains."""
    subsample_size: int | None = None
    """SGLD's minibatch size; the full batch by default."""
    start: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.nc")] = "prior"
    """Where the chains start: prior, aligned, or both for half of them from each; at draws of a
    theory or guide, which is solved (with P = num-data, where it knows of P) or fitted first:
    mean-field, mean-field-ard, adaptive-kernel, block-adaptive-kernel, nngp, mf-guide,
    mf-ard-guide or collapsed-guide; at draws of an earlier run, FILE.nc, or FILE.nc:LABEL where it
    holds several results."""

    resume: bool = False
    """Go on with the run in the folder --out; its options are read from there."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""

    def run(self) -> None:
        if not self.resume:
            self._run(self.output.path("sample"))
        elif self.output.out is None:
            raise ValueError("resume needs the folder of the run to go on with; give --out FOLDER.")
        else:
            self._begun()._run(self.output.out)

    def _begun(self) -> Self:
        """The command of the run to resume; ``ValueError`` for an option that differs."""
        begun = tyro.cli(Sample, args=read_command(self.output.out, "sample"))
        output = replace(self.output, seed=begun.output.seed)
        begun = replace(begun, resume=True, checkpoint_every=self.checkpoint_every, output=output)
        usual, stored, given = (_flat(asdict(command)) for command in (Sample(), begun, self))
        for name, value in given.items():
            if value not in (usual[name], stored[name]):
                raise ValueError(
                    f"{name} is {stored[name]} in the run to resume, got {value}; leave it out, or start another run."
                )
        return begun

    def _run(self, folder: Path) -> None:
        self.budget.check()
        data = self.inputs.load(self.problem, self.output.seed)
        network = self.problem.on(data).network(self.kappa, self.prior)
        kernel = choose_kernel(self.scheme, network, self.step_size, self.preconditioner, self.friction)
        problem = describe_problem(network, data)
        made = self.start in SCHEMES
        with self._resumable(folder, problem), progress_board(1 + made) as board:
            start = choose_start(self.start, network, data, self.output.key(), board(f"start {self.start}"))
            shared = ("num_chains", "subsample_size", "resume", "checkpoint_every")
            options = {name: getattr(self, name) for name in shared} | {"start": start}
            options |= self.budget.steps(KERNELS[self.scheme].steps(network))
            told = board(f"κ={self.kappa:g} {self.prior} {self.scheme}")
            key = self.output.key()
            tree = sample(network, data, kernel, key, folder=folder, progress=told, **options)
        with tree:
            self._report(problem, tree, folder)
        note(f"results in {folder}")

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
            command = f"mfzoo sample --out {shlex.quote(str(folder))} --resume"
            note(f"{stop or 'stopped'}\ncontinue with: {command}")
            raise
        except ValueError:
            if not self.resume and not holds_run(folder):  # nothing was begun that could go on
                (folder / "settings.json").unlink(missing_ok=True)
                with suppress(OSError):
                    folder.rmdir()
            raise

    def _report(self, problem: dict, tree, folder: Path) -> None:
        try:
            result = summarise(tree, None)
        except ValueError as error:  # the draws are there all the same
            note(f"the draws are in {folder / 'run.nc'}, but they cannot be judged: {sentence(error)}")
            if self.output.json:
                print_json({"problem": problem, "converged": None, "messages": [sentence(error)]})
            return
        table = result.diagnosis.table.rename_axis("function").reset_index()
        write_csv(table, folder / "table.csv")
        write_figure(plot_function_traces(tree, result.label), folder / "traces.png")
        if self.output.json:
            print_json({"problem": problem, **result.row, "messages": result.diagnosis.messages})
        else:
            show_table(table, f"Functions under {result.label}")
            for message in result.diagnosis.messages:
                note(message)


def choose_start(
    name: str, network: TwoLayerNetwork, data: Dataset, key: jax.Array, progress: ProgressCallback
) -> str | xr.DataTree:
    """The start that `name` stands for: itself, the draws of the scheme, or those in the file."""
    independent = [scheme for scheme in SCHEMES if scheme not in SAMPLERS]
    if name in CHAIN_STARTS:
        return name
    if name in independent:
        check_scheme(name, network)
        key = jax.random.fold_in(key, list(SCHEMES).index(name))
        return SCHEMES[name].run(network, data, key, progress)[0]
    file, cut, label = name.partition(".nc:")
    path = Path(file + cut.rstrip(":"))
    if not path.exists():
        checks.one_of("start", name, [*CHAIN_STARTS, *independent, "the path of a run.nc"])
    results = load_results([path])
    if label not in results and (label or len(results) > 1):
        raise ValueError(
            f"start: {str(path)!r} holds several results; name one as {path}:LABEL with LABEL among "
            f"{', '.join(results)}."
        )
    return results[label or next(iter(results))]


def _flat(options: dict) -> dict:
    """Groups of options taken apart; no two options of a command share a name."""
    return {
        n: v
        for k, part in options.items()
        for n, v in (part if isinstance(part, dict) else {k: part}).items()
    }

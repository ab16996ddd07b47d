"""Options that commands share, each declared once."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import jax
import numpy as np
import tyro
from numpyro.handlers import seed, trace

from analysis.cli.output import note
from models import (
    Dataset,
    DeepNetwork,
    LayerPriors,
    Network,
    SparseParity,
    TwoLayerNetwork,
    WeightPrior,
    checks,
    make_prior,
)


def parse_numbers(text: str) -> tuple[float, ...]:
    """Numbers from ``a,b,c`` or from ``start:stop:count``, spaced evenly on a log scale.

    >>> parse_numbers("0.05,0.1")
    (0.05, 0.1)
    >>> parse_numbers("1:100:3")
    (1.0, 10.0, 100.0)
    """
    try:
        if ":" in text:
            start, stop, count = text.split(":")
            logs = np.linspace(math.log(float(start)), math.log(float(stop)), int(count))
            values = tuple(float(f"{value:.10g}") for value in np.exp(logs))
        else:
            values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(
            f"{text!r} is not a list of numbers such as 0.05,0.1 or a log range such as 0.01:0.1:5"
        )
    return values


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``a,b,c``, or from ``start:stop``, where stop is left out.

    >>> parse_seeds("0:4")
    (0, 1, 2, 3)
    """
    try:
        seeds = tuple(range(*map(int, text.split(":", 1))) if ":" in text else map(int, text.split(",")))
    except ValueError:
        seeds = ()
    if not seeds:
        raise ValueError(f"{text!r} is not a list of seeds such as 0,1,2 or a range such as 0:4")
    return seeds


def parse_widths(text: str) -> tuple[int, ...]:
    """Widths of hidden layers from ``A,B,…``.

    >>> parse_widths("64,32")
    (64, 32)
    """
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ValueError(f"{text!r} is not a list of widths such as 64,64") from None


def parse_priors(text: str, mark: str = ",") -> tuple[str, ...]:
    """Names of priors from ``A,B,…``; commas in brackets belong to a prior's parameters.

    >>> parse_priors("ard,spike-and-slab(inclusion=0.2,ratio=0.05),my_prior.py:MyPrior")
    ('ard', 'spike-and-slab(inclusion=0.2,ratio=0.05)', 'my_prior.py:MyPrior')
    """
    names, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == mark and depth == 0:
            names.append("")
        else:
            names[-1] += character
    return tuple(name.strip() for name in names)


def _listed(metavar: str, parse: Callable[[str], tuple], show: Callable = str, empty: str = ""):
    """How tyro reads and shows a tuple that is one word of the command line."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda args: parse(args[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(show, value)) or empty],
    )


_RANGE = "A,B,…|START:STOP:COUNT"
Numbers = Annotated[tuple[float, ...], _listed(_RANGE, parse_numbers, "{:g}".format)]
Kappas = Annotated[
    tuple[float, ...],
    _listed(f"auto|{_RANGE}", lambda t: () if t == "auto" else parse_numbers(t), "{:g}".format, "auto"),
]
Seeds = Annotated[tuple[int, ...], _listed("A,B,…|START:STOP", parse_seeds)]
Widths = Annotated[tuple[int, ...], _listed("A,B,…", parse_widths)]
Names = Annotated[tuple[str, ...], _listed("A,B,…", lambda text: tuple(text.split(",")))]
Priors = Annotated[tuple[str, ...], _listed("A,B,…", parse_priors), tyro.conf.arg(aliases=["--prior"])]
PriorName = Annotated[str, tyro.conf.arg(metavar="NAME|FILE.py:CLASS")]


@dataclass(frozen=True)
class Problem:
    """The network and its teacher: sparse parity, y = Π_{j∈S} x_j on x uniform on {±1}^d."""

    input_dim: int = 16
    """Number of inputs d."""
    degree: int = 2
    """Degree k of the parity: the first k inputs are the relevant ones."""
    width: int = 64
    """Number of hidden neurons N."""
    widths: Widths = ()
    """Neurons of every hidden layer of a deep network, such as 64,64; width then does not count."""
    activation: Literal["relu", "tanh", "erf", "identity"] = "relu"
    """Activation φ of the hidden layers."""
    gamma: float = 0.5
    """Width-scaling exponent γ of f = N^-γ Σ a φ(w·x)."""
    alpha0: float = 4.0
    """Shape α0 of the Gamma density of ard, neuron-ard and grouped-ard; its rate is α0/d."""
    bias: bool = False
    """Give the hidden neurons biases b ~ Normal(0, 1): f may then have an offset."""

    def network(self, kappa: float, prior: str) -> Network:
        options = {"gamma": self.gamma, "activation": self.activation, "bias": self.bias}
        options["prior"] = self.prior(prior)
        if self.widths:
            network = DeepNetwork(self.input_dim, self.widths, kappa, **options)
        else:
            network = TwoLayerNetwork(self.input_dim, self.width, kappa, **options)
        try_prior(network, prior)
        return network

    def on(self, data: Dataset) -> Self:
        return replace(self, input_dim=data.input_dim)

    def prior(self, name: str) -> WeightPrior:
        """The prior that `name` describes, or the priors of a deep network's layers, ``A+B``; α0 is
        the shape of ARD in its forms."""
        if len(layers := parse_priors(name, "+")) > 1:
            return LayerPriors(tuple(map(self.prior, layers)))
        is_ard = "ard" in name.partition("(")[0].split("-")
        return make_prior(name, **({"shape": self.alpha0} if is_ard else {}))

    def teacher(self) -> SparseParity:
        return SparseParity(self.input_dim, self.degree)


@dataclass(frozen=True)
class DataOptions:
    """Training and test data: drawn from the teacher, or read from a file."""

    num_data: int = 300
    """Number of training points P."""
    num_test: int = 1000
    """Number of test points."""
    data: Path | None = None
    """Read the data from this .csv, .parquet or .npz (x, y) file instead; input-dim, degree,
    num-data and num-test then do not count."""
    target: str | None = None
    """Column of the .csv or .parquet file to predict; the last one by default."""
    test_fraction: float = 0.25
    """Share of the file's rows to hold out, drawn by the seed."""
    standardise: bool = False
    """Bring the file's inputs and target to mean 0 and standard deviation 1 on the training rows:
    every prediction and MSE is then in standard deviations of the target."""
    probes: bool = False
    """Append a shuffled copy of every input, irrelevant by construction, and report how each scheme
    ranks them."""

    def load(self, problem: Problem, seed: int) -> Dataset:
        """The data, the same for a seed; says in which units answers are, if not their own."""
        if self.data is not None:
            options = {"target": self.target, "test_fraction": self.test_fraction, "seed": seed}
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always", UserWarning)
                data = Dataset.from_file(self.data, **options)
            for warning in found:
                note(f"warning: {warning.message}")
            data = data.standardised() if self.standardise else data
            if not problem.bias:
                note(
                    "without hidden biases f is 0 where all inputs are 0 (their mean, in standard units): see --bias"
                )
        elif self.target is not None:
            raise ValueError("target names a column of the file given by --data; give that too.")
        elif self.test_fraction != DataOptions.test_fraction:
            raise ValueError(
                "test_fraction is the share of the rows of the file given by --data; give that too."
            )
        else:
            data = problem.teacher().sample(jax.random.key(seed), self.num_data, self.num_test)
        if (units := data.standardisation) is not None:
            dropped = f"; left out, being constant: {', '.join(units.dropped)}" if units.dropped else ""
            note(
                "predictions and MSE are in standardised units: 1 is a standard deviation of the target, "
                f"{units.target_scale:.4g}{dropped}"
            )
        if not self.probes:
            return data
        from models.probes import add_probes

        return add_probes(data, jax.random.fold_in(jax.random.key(seed), 2))


@dataclass(frozen=True)
class OutputOptions:
    """Where results go."""

    seed: int = 0
    """Seed of everything random; the same seed gives the same result on the same platform."""
    out: Path | None = None
    """Folder for the results; by default runs/COMMAND-DATE-TIME below the current folder."""
    overwrite: bool = False
    """Write to the folder even if it holds the draws of an earlier run."""
    json: bool = False
    """Print one JSON object on standard output, not a table; all else goes to standard error."""

    def check(self) -> None:
        checks.whole("seed", self.seed, 0)

    def key(self) -> jax.Array:
        """The key of the schemes, apart from that of the data."""
        return jax.random.fold_in(jax.random.key(self.seed), 1)

    def path(self, command: str) -> Path:
        """The folder that is named, or one after the command and the time."""
        return self.out or Path("runs") / f"{command}-{datetime.now():%Y%m%d-%H%M%S}"

    def folder(self, command: str) -> Path:
        """The folder to write to; ``ValueError`` where it holds a run that must not be lost."""
        from inference.runs.run_folder import holds_run

        folder = self.path(command)
        if holds_run(folder) and not self.overwrite:
            raise ValueError(
                f"out: {str(folder)!r} holds the draws of an earlier run; name another folder, or give --overwrite."
            )
        return folder


def try_prior(network: Network, name: str) -> None:
    """``ValueError`` where the weights of a user's own prior cannot be drawn or sampled."""
    from inference.tracing import TRACE_LOCK

    def discrete_sites(key):
        sites = trace(seed(network.sample_parameters, key)).get_trace()
        return [n for n, s in sites.items() if s["type"] == "sample" and s["fn"].support.is_discrete]

    found = []
    try:
        hash(network)
        with TRACE_LOCK:
            jax.eval_shape(lambda key: found.extend(discrete_sites(key)), jax.random.key(0))
    except Exception as error:
        if isinstance(error, ValueError) and ".py:" not in name:
            raise  # a sentence of the zoo's own
        reason = " ".join(str(error).split()).rstrip(".")
        hint = "; declare it with @dataclass(frozen=True)" if "unhashable" in reason else ""
        raise ValueError(f"prior {name!r} fails with {type(error).__name__}: {reason}{hint}.") from error
    if found:
        raise ValueError(
            f"prior {name!r} has the discrete site {found[0]!r}, along which no scheme can move; sum over its "
            "values, as SpikeAndSlab does."
        )

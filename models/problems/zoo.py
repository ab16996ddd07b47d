"""The named problems: a table of declarations, and problems from a user's file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax

from models.dataset import Dataset
from models.deep_network import DeepNetwork
from models.network import TwoLayerNetwork
from models.own_files import import_file
from models.priors import ARD, RegularisedHorseshoe, SpikeAndSlab
from models.problems import plain
from models.problems.exact import linear_network_exact, linear_regression_exact
from models.problems.measured import with_probes
from models.problems.problem import REFERENCES, Problem
from models.teachers import SingleIndex, SparseParity, Teacher


@dataclass(frozen=True)
class Declaration:
    """A problem of the zoo before its data are made; the fields are those of :class:`Problem`."""

    network: Callable
    data: Callable[[], Dataset | Mapping]
    description: str
    source: str
    difficulty: str
    exact: Callable | None = None


def _drawn(teacher: Teacher, num_data: int, num_test: int = 1000) -> Callable[[], Dataset]:
    """Data of a teacher from the key 0."""
    return lambda: teacher.sample(jax.random.key(0), num_data, num_test)


_DEFAULT = partial(TwoLayerNetwork, input_dim=16, width=64)
_DEFAULT_DATA = _drawn(SparseParity(16, 2), 300)
_PUBLISHED = TwoLayerNetwork(input_dim=35, width=512, kappa=5e-3)
_PAPER = "arXiv:2510.15174"
_FUNNEL = "weights of irrelevant inputs and their precision form a funnel"
_PROBES = "half of the inputs are shuffled copies of the others, which a selecting prior must find"
_TABLE = "scikit-learn's load_{}; probes after Stoppiglia and others (2003)"


def _parity(what: str, difficulty: str, kappa: float, **options) -> Declaration:
    return Declaration(
        _DEFAULT(kappa=kappa, **options),
        _DEFAULT_DATA,
        f"2-parity of 16 inputs, N = 64, P = 300, κ = {kappa:g}, {what}",
        f"scaled down from {_PAPER}",
        difficulty,
    )


def _measured(name: str, loader: str, sizes: str, difficulty: str, network: TwoLayerNetwork) -> Declaration:
    return Declaration(
        network, partial(with_probes, name), f"{sizes}, {network.prior.name} prior, κ = {network.kappa:g} by the "
        "NNGP's evidence", _TABLE.format(loader), difficulty,
    )  # fmt: skip


ZOO: dict[str, Declaration] = {
    "parity-6-2-isotropic-0.3": Declaration(
        TwoLayerNetwork(input_dim=6, width=16, kappa=0.3),
        _drawn(SparseParity(6, 2), 40, 200),
        "2-parity of 6 inputs, N = 16, P = 40, κ = 0.3, isotropic prior",
        "the zoo's smallest example",
        "not at all: a first test, of seconds",
    ),
    "parity-16-2-isotropic-0.05": _parity(
        "isotropic prior",
        "aligned neurons are few and found late; stiff: the curvature goes as 1/κ²",
        0.05,
    ),
    "parity-16-2-isotropic-0.1": _parity(
        "isotropic prior", "close to the prior: a check of the scales more than of the search", 0.1
    ),
    "parity-16-2-isotropic-0.07": _parity(
        "isotropic prior, at the transition",
        "neurons align and come loose all the time, so that the order parameter moves slowly",
        0.07,
    ),
    "parity-16-2-ard-0.05": _parity("ARD prior", f"{_FUNNEL}; dozens of neurons align together", 0.05, prior=ARD()),
    "parity-16-2-ard-0.1": _parity("ARD prior", _FUNNEL, 0.1, prior=ARD()),
    "parity-16-2-ard-0.13": _parity(
        "ARD prior, at the transition",
        "two phases, one of the prior and one with dozens of aligned neurons, and rare passages between them",
        0.13,
        prior=ARD(),
    ),
    "parity-16-2-horseshoe-0.05": _parity(
        "regularised horseshoe",
        "Cauchy tails of the local and global scales: steps that suit the bulk are too small there",
        0.05,
        prior=RegularisedHorseshoe(),
    ),
    "parity-16-2-spike-and-slab-0.05": _parity(
        "spike and slab", "chains seldom pass between spike and slab", 0.05, prior=SpikeAndSlab()
    ),
    **{
        f"parity-35-4-published-{num_data}": Declaration(
            _PUBLISHED,
            _drawn(SparseParity(35, 4), num_data, 2000),
            f"4-parity of 35 inputs, N = 512, P = {num_data}, κ = 0.005, isotropic prior: the published network",
            _PAPER,
            "18,432 weights at a temperature of 5e-5; chains from the prior take very long to find all eight kinds "
            "of neuron",
        )
        for num_data in (1000, 2133)
    },
    "parity-16-2-three-layers-0.05": Declaration(
        DeepNetwork(input_dim=16, widths=(64, 64), kappa=0.05),
        _DEFAULT_DATA,
        "2-parity of 16 inputs, three layers (64 and 64 hidden neurons), P = 300, κ = 0.05, isotropic prior",
        "the zoo's default problem, one layer deeper",
        "5,184 weights, and two layers that can learn the features between them in many ways",
    ),
    "single-index-18-2-ard-0.1": Declaration(
        TwoLayerNetwork(input_dim=18, width=64, kappa=0.1, prior=ARD(shape=0.1)),
        _drawn(SingleIndex(input_dim=18, num_relevant=2, hermite_degree=4, normalized=True), 300),
        "He₄ of one direction in 18 Gaussian inputs, on 2 of them, N = 64, P = 300, κ = 0.1, ARD with α0 = 0.1",
        _PAPER,
        "targets with heavy tails, and precisions whose prior spreads over many decades",
    ),
    "diabetes-probes-ard": _measured(
        "diabetes", "diabetes", "442 patients: P = 332, 10 inputs and 10 probes, N = 64", f"little signal; {_PROBES}",
        TwoLayerNetwork(input_dim=20, width=64, kappa=0.035, prior=ARD()),
    ),
    "breast-cancer-probes-ard": _measured(
        "breast-cancer", "breast_cancer", "569 tumours, ±1: P = 427, 30 inputs and 30 probes, N = 64",
        f"strongly correlated inputs; {_PROBES}", TwoLayerNetwork(input_dim=60, width=64, kappa=0.019, prior=ARD()),
    ),
    "digits-probes-isotropic": _measured(
        "digits-3-8", "digits", "digits 3 and 8, ±1: P = 268, 54 pixels and 54 probes, N = 64",
        f"targets that are all but interpolated; {_PROBES}", TwoLayerNetwork(input_dim=108, width=64, kappa=0.012),
    ),
    "linear-network-8-0.3": Declaration(
        TwoLayerNetwork(input_dim=8, width=16, kappa=0.3, activation="identity"),
        _drawn(SingleIndex(input_dim=8, num_relevant=2, hermite_degree=1), 40, 200),
        "linear two-layer network on a linear target, d = 8, N = 16, P = 40, κ = 0.3: exact answer",
        "Li and Sompolinsky (2021); Hanin and Zlokapa (2023)",
        "flat directions: rotations of the hidden layer leave the posterior as it is",
        linear_network_exact,
    ),
    "linear-regression-8": Declaration(
        plain.linear_regression,
        partial(plain.regression_data, 40, (1.0, -1.0, 0.5, 0, 0, 0, 0, 0), plain.NOISE, 0),
        "Bayesian linear regression, 8 inputs, 40 points: conjugate, exact answer",
        "any textbook",
        "not at all: Gaussian",
        linear_regression_exact,
    ),
    "ard-regression-12": Declaration(
        plain.ard_regression,
        partial(plain.regression_data, 60, (2.0, -1.0, 0.5, *[0.0] * 9), 0.5, 0),
        "linear regression with a precision a coefficient and unknown noise, 12 inputs, 60 points",
        "MacKay (1994); Tipping (2001)",
        "twelve funnels, and precisions that the data do not bound",
    ),
    "eight-schools": Declaration(
        plain.eight_schools,
        lambda: plain.SCHOOLS,
        "eight schools, non-centred",
        "Rubin (1981); Gelman and others, Bayesian Data Analysis",
        "the funnel of μ, τ and θ where it is not non-centred",
    ),
}  # fmt: skip


def problems() -> list[str]:
    """The names of the zoo's problems.

    Examples
    --------
    >>> len(problems()) >= 14, "parity-16-2-ard-0.05" in problems()
    (True, True)
    """
    return list(ZOO)


def problem(name: str) -> Problem:
    """The problem of that name, its data made; or a user's own, ``FILE.py:NAME``.

    `NAME` is a variable of the file that holds a :class:`Problem`, whose reference is kept beside
    the file. ``ValueError`` for what is not known or cannot be loaded.

    Examples
    --------
    >>> small = problem("parity-6-2-isotropic-0.3")
    >>> small.data.x.shape, small.network.width
    ((40, 6), 16)
    """
    if ".py:" in name:
        file, _, variable = name.rpartition(":")
        found = getattr(import_file(file, "problem"), variable, None)
        if not isinstance(found, Problem):
            raise ValueError(
                f"problem file {file!r} has no models.problems.Problem named {variable!r}; declare one there."
            )
        return replace(found, folder=Path(file).resolve().parent) if found.folder == REFERENCES else found
    if name not in ZOO:
        raise ValueError(f"problem must be one that mfzoo problems lists, or FILE.py:NAME; got {name!r}.")
    declared = ZOO[name]
    return Problem(name, **{**vars(declared), "data": declared.data()})

"""One population problem: the constants of its density, and what the theories cover."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inference.fixed_points.populations.modes import Population
from inference.fixed_points.populations.parity import ParityPopulation
from inference.fixed_points.populations.single_index import SingleIndexPopulation
from inference.fixed_points.precisions import PrecisionPrior
from models import ARD, Dataset, Isotropic, SingleIndex, SparseParity, TwoLayerNetwork, WeightPrior, checks
from models.priors import has_weights_of

_LARGEST_DEGREE = 6


@dataclass(frozen=True)
class PopulationProblem:
    """Constants of the density of one neuron on a population; κ is an argument of the equations.

    Parameters
    ----------
    population
        Modes of the inputs, and which is the target.
    relevant
        Indices S.
    amplitude
        √E[y²]: the target is `amplitude` times its normalised mode.
    width
        N.
    coupling
        c = σ_a²/N^(2γ).
    bias_scale
        σ_b, or None without hidden biases.
    precision
        d/σ_w², or the prior mean α0/β0 under ARD.
    prior
        Of the precisions; None keeps them at `precision`.
    """

    population: Population
    relevant: tuple[int, ...]
    amplitude: float
    width: int
    coupling: float
    bias_scale: float | None
    precision: float
    prior: PrecisionPrior | None

    @property
    def input_dim(self) -> int:
        """d."""
        return self.population.input_dim

    @property
    def counts(self) -> np.ndarray:
        """k and d - k."""
        return np.array([len(self.relevant), self.input_dim - len(self.relevant)])

    @property
    def homogeneous(self) -> bool:
        """Whether φ(R u) = R φ(u), so that the length of (w, b) separates."""
        return self.population.activation in ("relu", "identity")


def population_problem(
    network: TwoLayerNetwork,
    teacher: SingleIndex | SparseParity,
    theory: str,
    *priors: type[WeightPrior],
    max_order: int,
    target_only: bool = False,
) -> PopulationProblem:
    """The constants of `network` on `teacher`, or a ``ValueError`` that says what `theory` covers.

    Parameters
    ----------
    network, teacher
        Any activation, with or without biases; a single index, or a parity of degree up to 6.
    theory
        Its public name, for the messages.
    priors
        The classes of prior that the theory is about.
    max_order
        Largest degree that is resolved in the inputs that the target does not depend on.
    target_only
        Keep only the modes that mix with the target.
    """
    _check(network, teacher, theory, priors)
    d, prior = network.input_dim, None
    if isinstance(network.prior, Isotropic):
        precision = network.prior.precision(d)
    else:
        prior = PrecisionPrior.of(network.prior, d)
        precision = prior.mean
    amplitude = 1.0
    if isinstance(teacher, SingleIndex):
        p, k = teacher.hermite_degree, teacher.num_relevant
        population = SingleIndexPopulation(
            network.activation, p, d, k, prior is not None, max(p + max_order, 4), max_order, target_only
        )
        if not teacher.normalized:
            amplitude = math.sqrt(math.factorial(p))
    else:
        population = ParityPopulation(network.activation, teacher.degree, d, max_order, target_only)
    return PopulationProblem(
        population=population,
        relevant=tuple(teacher.relevant),
        amplitude=amplitude,
        width=network.width,
        coupling=network.readout_scale**2 / network.width ** (2 * network.gamma),
        bias_scale=float(network.bias_scale) if network.bias else None,
        precision=float(precision),
        prior=prior,
    )


def _check(network, teacher, theory: str, priors: tuple[type[WeightPrior], ...]) -> None:
    if isinstance(teacher, Dataset):
        raise ValueError(
            f"teacher must be a models.SparseParity or models.SingleIndex here, got a Dataset: this is {theory} on "
            "the population; pass the Dataset to solve."
        )
    if not isinstance(teacher, SparseParity | SingleIndex):
        raise ValueError(
            f"teacher must be a models.SparseParity, a models.SingleIndex or a models.Dataset for {theory}, got "
            f"{type(teacher).__name__}: only their populations are solved."
        )
    if not isinstance(network, TwoLayerNetwork):
        raise ValueError(f"network must be a models.TwoLayerNetwork, got {type(network).__name__}.")
    if not has_weights_of(network.prior, *priors):
        names = " or ".join(f"models.{prior.__name__}" for prior in priors)
        raise ValueError(f"prior must be {names} for {theory}, got {type(network.prior).__name__}.")
    d = network.input_dim
    if teacher.input_dim != d:
        raise ValueError(f"teacher.input_dim must equal network.input_dim={d}, got {teacher.input_dim}.")
    if isinstance(teacher, SingleIndex):
        if d < 2:
            raise ValueError(f"input_dim must be at least 2 for {theory} on a single index, got {d}.")
        if isinstance(network.prior, ARD) and teacher.num_relevant == d:
            raise ValueError(
                f"num_relevant must be smaller than input_dim={d} for {theory} with models.ARD, got {d}: it needs at "
                "least one irrelevant input."
            )
        return
    checks.whole("degree", teacher.degree, 1)
    if teacher.degree >= d:
        raise ValueError(
            f"degree must be smaller than input_dim={d} for {theory}, got {teacher.degree}: it needs at least one "
            "irrelevant input."
        )
    if teacher.degree > _LARGEST_DEGREE:
        raise ValueError(
            f"degree must be at most {_LARGEST_DEGREE} for {theory} on the population, got {teacher.degree}: the "
            "quadrature over the relevant weights covers no more; solve on a models.Dataset."
        )


def no_finite_data(num_data: int | None, theory: str) -> None:
    """Raise ``ValueError`` unless `num_data` is None."""
    if num_data is not None:
        raise ValueError(
            f"num_data must be None for {theory}, got {num_data!r}: {theory} covers the population (P = ∞) only; "
            "NNGP and AdaptiveKernel take num_data."
        )

"""One population problem: the constants of its density, the kernel between its modes, and what the
theories cover."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inference.fixed_points.populations.modes import Mode, Population
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


@dataclass(frozen=True)
class Kernel:
    """The averaged kernel N c E[a aᵀ] as a block matrix, and a neuron's features.

    The features of a neuron are the products a_a a_b of its components over the pairs of modes that
    share a sector, then Σ - Σ_a a_a², then |w_S|² and |w_rest|²; every density and every equation
    of the theories is linear in them.

    Parameters
    ----------
    modes
        The target's, and those that some neuron has a component in.
    target
        Position of the target's mode.
    """

    modes: tuple[Mode, ...]
    target: int

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """First and second mode of every pair, each (pairs,); the diagonal first."""
        count = range(len(self.modes))
        off = [(a, b) for a in count for b in range(a) if self.modes[a].sector == self.modes[b].sector]
        first, second = np.array([(a, a) for a in count] + off).T
        return first, second

    @cached_property
    def driven(self) -> np.ndarray:
        """Positions of the pairs within the target's sector, which B² is made of."""
        sector = self.modes[self.target].sector
        return np.flatnonzero([self.modes[first].sector == sector for first in self.pairs[0]])

    @property
    def num_pairs(self) -> int:
        """Of modes, the diagonal included."""
        return len(self.pairs[0])

    @property
    def num_features(self) -> int:
        """Products, unresolved power, two second moments."""
        return self.num_pairs + 3

    @cached_property
    def occurrence(self) -> np.ndarray:
        """1 on the diagonal, 2 off it: how often a pair occurs in a trace, shape (pairs,)."""
        first, second = self.pairs
        return np.where(first == second, 1.0, 2.0)

    @cached_property
    def multiplicity(self) -> np.ndarray:
        """Of every mode's sector, shape (modes,)."""
        return np.array([float(mode.multiplicity) for mode in self.modes])

    @cached_property
    def target_vector(self) -> np.ndarray:
        """The normalised target in the modes."""
        return np.eye(len(self.modes))[self.target]

    def features(self, amplitudes: np.ndarray, power: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Features (n, K) of neurons with these components, Σ and second moments."""
        first, second = self.pairs
        out = np.empty((len(power), self.num_features))
        np.multiply(amplitudes[:, first], amplitudes[:, second], out=out[:, :-3])
        out[:, -3] = np.maximum(power - (amplitudes**2).sum(axis=1), 0.0)
        out[:, -2:] = moments
        return out

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """Symmetric (..., M, M) with the given entries (..., pairs), 0 between sectors."""
        first, second = self.pairs
        size = len(self.modes)
        out = np.zeros((*values.shape[:-1], size, size), values.dtype)
        out[..., first, second] = out[..., second, first] = values
        return out

    def entries(self, matrix: np.ndarray) -> np.ndarray:
        """The pairs' entries (..., pairs) of a matrix."""
        first, second = self.pairs
        return matrix[..., first, second]

    def naturals(
        self, cost: np.ndarray, remainder: np.ndarray, drive: np.ndarray, precisions: np.ndarray
    ) -> np.ndarray:
        """η_G, η_B and η_ρ (..., 3, K), of G = aᵀ `cost` a + `remainder` (Σ - |a|²), B = `drive`·a
        and the prior's quadratic form with `precisions` ρ_S and ρ_⊥."""
        first, second = self.pairs
        out = np.zeros((*drive.shape[:-1], 3, self.num_features), np.result_type(cost, drive, precisions))
        out[..., 0, :-3] = self.occurrence * self.entries(cost)
        out[..., 0, -3] = remainder
        out[..., 1, :-3] = self.occurrence * drive[..., first] * drive[..., second]
        out[..., 2, -2:] = precisions
        return out


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

"""What the general population theories cover, and the constants of one such problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.equations import PrecisionPrior
from inference.fixed_points.general.geometry import Geometry, ParityGeometry, SingleIndexGeometry
from inference.fixed_points.general.nodes import Quadrature, quadrature
from inference.fixed_points.general.rules import Rule
from models import ARD, Isotropic, SingleIndex, SparseParity, TwoLayerNetwork, WeightPrior, checks
from models.priors import has_weights_of

_LARGEST_PARITY = 4


@dataclass(frozen=True)
class GeneralProblem:
    """Constants of the single-neuron density, and the quadrature it takes.

    Parameters
    ----------
    quadrature
        Geometry and axes.
    network
        As given.
    relevant
        Indices S.
    amplitude
        √E[y²]: the target is `amplitude` times the normalised target mode.
    precision
        d/σ_w², or the prior mean α0/β0 under ARD.
    prior
        Of the precisions; None keeps both at `precision`.
    """

    quadrature: Quadrature
    network: TwoLayerNetwork
    relevant: tuple[int, ...]
    amplitude: float
    precision: float
    prior: PrecisionPrior | None

    @property
    def geometry(self) -> Geometry:
        """Of the quadrature."""
        return self.quadrature.geometry

    @property
    def coupling(self) -> float:
        """c = σ_a²/N^(2γ)."""
        return self.network.readout_scale**2 / self.network.width ** (2 * self.network.gamma)

    @property
    def counts(self) -> np.ndarray:
        """k and d - k."""
        k = len(self.relevant)
        return np.array([k, self.network.input_dim - k])

    @property
    def target(self) -> int | None:
        """Position of the target among the kept modes; None where no neuron overlaps with it."""
        kept, target = self.quadrature.kept, self.geometry.target
        return int(kept[:target].sum()) if kept[target] else None

    @property
    def target_vector(self) -> np.ndarray:
        """The normalised target in the kept modes; all 0 where no neuron overlaps with it."""
        out = np.zeros(int(self.quadrature.kept.sum()))
        if self.target is not None:
            out[self.target] = 1.0
        return out

    def prior_ratio(self, rules: list[Rule], rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`Quadrature.prior_ratio` and its derivative in log ρ, each (2,); 1 and 0 at fixed precisions."""
        if self.prior is None:
            return np.ones(2), np.zeros(2)
        low, middle, high = (
            self.quadrature.prior_ratio(rules, rho * factor) for factor in (0.999, 1.0, 1.001)
        )
        return middle, (high - low) / np.log(1.001 / 0.999)


def covers(network, teacher) -> bool:
    """Whether the general machinery is the one for this problem; ReLU parity without biases has closed forms.

    Examples
    --------
    >>> plain, with_bias = (TwoLayerNetwork(8, 16, 0.1, bias=bias) for bias in (False, True))
    >>> covers(plain, SparseParity(8, 2)), covers(with_bias, SparseParity(8, 2)), covers(plain, SingleIndex(8, 2, 2))
    (False, True, True)
    """
    if isinstance(teacher, SingleIndex):
        return True
    if not (isinstance(teacher, SparseParity) and isinstance(network, TwoLayerNetwork)):
        return False
    return network.activation != "relu" or network.bias


def general_problem(
    network: TwoLayerNetwork,
    teacher: SingleIndex | SparseParity,
    theory: str,
    *priors: type[WeightPrior],
    max_order: int = 2,
    extra_degree: int = 2,
    target_only: bool = False,
) -> GeneralProblem:
    """The constants of `network` on `teacher`, or a ``ValueError`` that says what `theory` covers.

    Parameters
    ----------
    network, teacher
        Any activation, with or without biases; a single index, or a parity of degree up to 4 and below input_dim.
    theory
        Its public name, for the messages.
    priors
        The classes of prior that the theory is about.
    max_order
        Largest degree in the inputs that the target does not depend on.
    target_only
        Keep only the modes that mix with the target.
    extra_degree
        On a single index, by how much the largest resolved Hermite degree exceeds that of the target.
    """
    _check(network, teacher, theory, priors)
    d, prior = network.input_dim, None
    if isinstance(network.prior, Isotropic):
        precision = network.prior.precision(d)
    else:
        prior = PrecisionPrior.of(network.prior, d)
        precision = prior.shape / prior.rate
    amplitude = 1.0
    if isinstance(teacher, SingleIndex):
        p, k = teacher.hermite_degree, teacher.num_relevant
        largest = max(p + extra_degree, 4)
        geometry = SingleIndexGeometry(
            network.activation, p, d, k, prior is not None, largest, max_order, target_only
        )
        if not teacher.normalized:
            amplitude = float(np.sqrt(np.prod(np.arange(1.0, p + 1))))
    else:
        geometry = ParityGeometry(network.activation, teacher.degree, d, max_order)
    axes = quadrature(
        geometry, precision**-0.5, float(network.bias_scale) if network.bias else None, prior is not None
    )
    return GeneralProblem(axes, network, tuple(teacher.relevant), amplitude, float(precision), prior)


def _check(network, teacher, theory: str, priors: tuple[type[WeightPrior], ...]) -> None:
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
    if teacher.degree > _LARGEST_PARITY:
        raise ValueError(
            f"degree must be at most {_LARGEST_PARITY} for {theory} with activation={network.activation!r} and "
            f"bias={network.bias}, got {teacher.degree}: only ReLU networks without biases have closed forms above."
        )

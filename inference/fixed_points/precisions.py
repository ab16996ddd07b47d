"""Precisions of the hidden weights: what each prior makes of the neurons' second moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from models import ARD, GroupedARD, Isotropic, WeightPrior
from models.priors import has_weights_of


@dataclass(frozen=True)
class Precisions:
    """Precisions of the hidden weights.

    Parameters
    ----------
    relevant, rest
        ρ_S and ρ_⊥, in units of 1/w²; both d/σ_w² under the isotropic prior.
    """

    relevant: float
    rest: float


@dataclass(frozen=True)
class PrecisionPrior:
    """Gamma(α0, β0) prior of every precision.

    Parameters
    ----------
    shape, rate
        α0 and β0.
    """

    shape: float
    rate: float

    @classmethod
    def of(cls, prior: ARD | GroupedARD, input_dim: int) -> PrecisionPrior:
        """That of :class:`models.ARD` or :class:`models.GroupedARD` at d = `input_dim`."""
        return cls(float(prior.shape), float(prior.rate_for(input_dim)))

    @property
    def mean(self) -> float:
        """E[ρ] = α0/β0."""
        return self.shape / self.rate

    def conditional_shape(self, width: int, count: np.ndarray | int = 1) -> np.ndarray | float:
        """α0 + N|g|/2, of ρ_g's Gamma given the weights of N neurons on `count` = |g| inputs."""
        return self.shape + width / 2 * count

    def update(
        self, width: int, second_moment: np.ndarray, count: np.ndarray | int = 1
    ) -> np.ndarray | float:
        """ρ_g = (α0 + N|g|/2)/(β0 + (N/2) Σ_{j∈g} E[w_j²]), the conditional mean; g = {j} for ARD.

        Source: arXiv:2510.15174, for one input.

        Parameters
        ----------
        width
            N.
        second_moment, count
            Σ_{j∈g} E[w_j²] of every precision, and |g|.
        """
        return self.conditional_shape(width, count) / (self.rate + width / 2 * second_moment)


@dataclass(frozen=True)
class PrecisionRule:
    """Conditionally Gaussian weights, w_ij | ρ ~ Normal(0, 1/ρ_j), and what ρ becomes.

    Parameters
    ----------
    initial
        ρ under the prior alone, shape (d,).
    update
        E_p[w_j²] (d,) → ρ (d,); None where ρ is fixed.
    draw
        (rng, ρ (d,), num_draws) → draws of ρ (num_draws, d) at the fixed point; None where ρ is
        fixed.
    """

    initial: np.ndarray
    update: Callable[[np.ndarray], np.ndarray] | None = None
    draw: Callable[[np.random.Generator, np.ndarray, int], np.ndarray] | None = None


@singledispatch
def precision_rule(prior: WeightPrior, width: int, input_dim: int) -> PrecisionRule:
    """The rule of a prior: ρ_j = d/σ_w² if isotropic, :meth:`PrecisionPrior.update` under ARD.

    A prior of one's own whose weights are Gaussian given one precision per input joins with
    ``precision_rule.register(MyPrior)``.

    Parameters
    ----------
    prior
        A :class:`models.WeightPrior`.
    width, input_dim
        N and d.

    Raises
    ------
    ValueError
        For a prior without a rule.

    Examples
    --------
    >>> rule = precision_rule(ARD(shape=4.0), 8, 2)
    >>> rule.initial.tolist(), rule.update(np.array([0.5, 1.5])).tolist()
    ([2.0, 2.0], [2.0, 1.0])
    """
    raise ValueError(
        f"prior {type(prior).__name__} has no precision rule; use models.Isotropic or models.ARD, or "
        "register one with precision_rule.register."
    )


def rule_of(prior: WeightPrior, width: int, input_dim: int) -> PrecisionRule:
    """:func:`precision_rule`, refused to a subclass with other weights than its class."""
    owner = next((each for each in type(prior).__mro__ if each in precision_rule.registry), object)
    known = owner is object or has_weights_of(prior, owner)
    return precision_rule.dispatch(type(prior) if known else object)(prior, width, input_dim)


@precision_rule.register
def _(prior: Isotropic, width: int, input_dim: int) -> PrecisionRule:
    return PrecisionRule(np.full(input_dim, prior.precision(input_dim)))


@precision_rule.register
def _(prior: ARD, width: int, input_dim: int) -> PrecisionRule:
    return _conjugate(prior, width, np.arange(input_dim))


@precision_rule.register
def _(prior: GroupedARD, width: int, input_dim: int) -> PrecisionRule:
    return _conjugate(prior, width, np.array(prior.labels(input_dim)))


def _conjugate(prior: ARD | GroupedARD, width: int, labels: np.ndarray) -> PrecisionRule:
    """Gamma precisions, one for every group of inputs with the same label (d,)."""
    gamma, count = PrecisionPrior.of(prior, len(labels)), np.bincount(labels)
    shape, first = gamma.conditional_shape(width, count), np.unique(labels, return_index=True)[1]

    def update(second_moment):
        return gamma.update(width, np.bincount(labels, second_moment), count)[labels]

    def draw(rng, precisions, num_draws):
        # ρ_g ~ Gamma(α0 + N|g|/2, ·) whose mean is the fixed point's ρ_g.
        return rng.gamma(shape, precisions[first] / shape, (num_draws, len(shape)))[:, labels]

    return PrecisionRule(np.full(len(labels), gamma.mean), update, draw)

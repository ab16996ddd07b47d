"""How a prior of the zoo enters a theory of independent neurons: precisions given second moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from models import ARD, GroupedARD, Isotropic, WeightPrior
from models.priors import has_weights_of


@dataclass(frozen=True)
class PrecisionRule:
    """Conditionally Gaussian weights, w_ij | ρ ~ Normal(0, 1/ρ_j), and what ρ becomes.

    Parameters
    ----------
    initial
        ρ under the prior alone, shape (d,).
    update
        E_p[w_j²] (d,) → ρ (d,), one input at a time; None where ρ is fixed.
    draw
        (rng, ρ (d,), num_draws) → draws of ρ (num_draws, d) at the fixed point; None where ρ is fixed.
    """

    initial: np.ndarray
    update: Callable[[np.ndarray], np.ndarray] | None = None
    draw: Callable[[np.random.Generator, np.ndarray, int], np.ndarray] | None = None


@singledispatch
def precision_rule(prior: WeightPrior, width: int, input_dim: int) -> PrecisionRule:
    """The rule of a prior.

        isotropic: ρ_j = d/σ_w²,          ARD: ρ_j = (α0 + N/2)/(β0 + (N/2) E_p[w_j²])
        grouped ARD: ρ_g = (α0 + N|g|/2)/(β0 + (N/2) Σ_{j∈g} E_p[w_j²])

    A prior of one's own whose weights are Gaussian given one precision per input joins with
    ``precision_rule.register(MyPrior)``. Source of the second: arXiv:2510.15174, from the conjugate Gamma posterior.

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
    raise _no_rule(prior)


def rule_of(prior: WeightPrior, width: int, input_dim: int) -> PrecisionRule:
    """:func:`precision_rule`, refused to a subclass whose weights are not those of the class with the rule."""
    owner = next((each for each in type(prior).__mro__ if each in precision_rule.registry), object)
    if owner is not object and not has_weights_of(prior, owner):
        raise _no_rule(prior)
    return precision_rule(prior, width, input_dim)


def _no_rule(prior: WeightPrior) -> ValueError:
    return ValueError(
        f"prior {type(prior).__name__} has no precision rule; use models.Isotropic or models.ARD, or register one "
        "with precision_rule.register."
    )


@precision_rule.register
def _(prior: Isotropic, width: int, input_dim: int) -> PrecisionRule:
    return PrecisionRule(np.full(input_dim, prior.precision(input_dim)))


@precision_rule.register
def _(prior: GroupedARD, width: int, input_dim: int) -> PrecisionRule:
    labels = np.array(prior.labels(input_dim))
    shape = float(prior.shape) + width / 2 * np.bincount(labels)
    rate = float(prior.rate_for(input_dim))

    def update(second_moment):
        return (shape / (rate + width / 2 * np.bincount(labels, second_moment)))[labels]

    def draw(rng, precisions, num_draws):
        first = np.unique(labels, return_index=True)[1]
        return rng.gamma(shape, precisions[first] / shape, (num_draws, len(shape)))[:, labels]

    return PrecisionRule(np.full(input_dim, float(prior.shape) / rate), update, draw)


@precision_rule.register
def _(prior: ARD, width: int, input_dim: int) -> PrecisionRule:
    shape, rate = float(prior.shape), float(prior.rate_for(input_dim))

    def update(second_moment):
        return (shape + width / 2) / (rate + width / 2 * second_moment)

    def draw(rng, precisions, num_draws):
        # ρ_j ~ Gamma(α0 + N/2, ·) whose mean is the fixed point's ρ_j.
        return rng.gamma(shape + width / 2, precisions / (shape + width / 2), (num_draws, len(precisions)))

    return PrecisionRule(np.full(input_dim, shape / rate), update, draw)

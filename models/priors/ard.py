"""Automatic relevance determination: a precision per input, per group of inputs, or per weight."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from scipy.special import digamma

from models.priors.base import ScaleMixture, input_plate, neuron_plate, record_precision


class _GammaPrecisions(ScaleMixture):
    """What the forms of ARD share."""

    shape: float
    rate: float | None
    scale: float

    def rate_for(self, input_dim: int) -> float:
        """The rate β0: as given, or α0 σ_w²/d."""
        return self.shape * self.scale**2 / input_dim if self.rate is None else self.rate

    def _conditional_mean(self, sum_of_squares: ArrayLike, count: ArrayLike, input_dim: int) -> jax.Array:
        """Mean of the conjugate Gamma of a precision given `count` weights' sum of squares."""
        return (self.shape + count / 2) / (self.rate_for(input_dim) + 0.5 * jnp.asarray(sum_of_squares))


@dataclass(frozen=True)
class ARD(_GammaPrecisions):
    """Automatic relevance determination: one precision per input, shared by all neurons.

        ρ_j ~ Gamma(α0, β0),      w_ij | ρ ~ Normal(0, 1/ρ_j)

    Parameters
    ----------
    shape
        α0 > 0.
    rate
        β0 > 0; None means α0 σ_w²/d, which makes the prior mean of ρ the isotropic precision
        d/σ_w².
    centered
        False (default): site ``w_base`` = w√(ρ + 1/4σ_w²), non-centred for inputs of large ρ and
        centred for those of small ρ, see :class:`models.priors.base.ScaleMixture`. It mixes in
        hundreds of steps where the centred form, site ``w`` itself, needs thousands (look at R-hat
        of log ρ, not of f). True: the centred form, which the conjugate guide needs.
    scale
        σ_w > 0, of the rate where `rate` is None, and of ``w_base``.

    Notes
    -----
    The Gamma prior is conjugate: ρ_j | w ~ Gamma(α0 + N/2, β0 + ½ Σ_i w_ij²).

    Source: MacKay, *Bayesian non-linear modeling for the prediction competition* (1994); Neal,
    *Bayesian Learning for Neural Networks* (1996); with α0 = 4 on parity and 0.1 on single-index in
    arXiv:2510.15174.

    Features: an input that one neuron uses becomes cheap for all, so that dozens of neurons align
    together.

    Examples
    --------
    >>> ARD(shape=4.0).rate_for(16)
    0.25
    """

    shape: float = 4.0
    rate: float | None = None
    centered: bool = False
    scale: float = 1.0

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Site ``rho`` (input); s = 1/√ρ."""
        with input_plate(input_dim):
            return numpyro.sample("rho", dist.Gamma(self.shape, self.rate_for(input_dim))) ** -0.5

    def posterior_precision(self, sum_of_squares: ArrayLike, width: int, input_dim: int) -> jax.Array:
        """Conditional mean (α0 + N/2)/(β0 + ½ Σ_i w_ij²) of ρ_j given Σ_i w_ij²."""
        return self._conditional_mean(sum_of_squares, width, input_dim)

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """ρ at its conditional mean given w."""
        rho = self.posterior_precision((w**2).sum(axis=-2), *w.shape[-2:])
        return {"rho": rho}, rho[..., None, :] ** -0.5


@dataclass(frozen=True)
class NeuronARD(_GammaPrecisions):
    """Automatic relevance determination per neuron and input: a precision for every weight.

        ρ_ij ~ Gamma(α0, β0),      w_ij | ρ ~ Normal(0, 1/ρ_ij)

    Parameters
    ----------
    shape, rate, centered, scale
        As for :class:`ARD`, for every precision.

    Notes
    -----
    With the precisions integrated out, w_ij is Student-t with 2α0 degrees of freedom and scale
    √(β0/α0): with the default rate this is the prior ``StudentT(df=2*shape)``, which has half as
    many sites. This form keeps the precisions.

    Source: Tipping, *Sparse Bayesian learning and the relevance vector machine*, JMLR 1 (2001),
    which has a precision for every weight and derives the Student-t marginal.

    Features: neurons share nothing. Each may drop inputs of its own, but no input is switched off
    for the layer.

    Examples
    --------
    >>> NeuronARD(shape=2.0).rate_for(16)
    0.125
    """

    shape: float = 4.0
    rate: float | None = None
    centered: bool = False
    scale: float = 1.0

    name = "neuron-ard"

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Site ``rho`` (neuron, input); s = 1/√ρ."""
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("rho", dist.Gamma(self.shape, self.rate_for(input_dim))) ** -0.5

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """ρ_ij at its conditional mean given w_ij."""
        rho = self._conditional_mean(w**2, 1, w.shape[-1])
        return {"rho": rho}, rho**-0.5


@dataclass(frozen=True)
class GroupedARD(_GammaPrecisions):
    """Automatic relevance determination per group of inputs, as of a categorical variable.

        ρ_g ~ Gamma(α0, β0),      w_ij | ρ ~ Normal(0, 1/ρ_g(j))

    Parameters
    ----------
    groups
        Disjoint sets of input indices, such as ``((0, 1), (4, 5, 6))``; an input in none of them is
        a group of its own. Without groups this is :class:`ARD`.
    shape, rate, centered, scale
        As for :class:`ARD`, for every precision of this prior.

    Notes
    -----
    Conjugate: ρ_g | w ~ Gamma(α0 + N|g|/2, β0 + ½ Σ_i Σ_{j∈g} w_ij²). The precision of every input
    is recorded as ``rho`` (input), the sampled ones are ``rho_group``.

    Source: Yuan and Lin, *Model selection and estimation in regression with grouped variables*,
    JRSS B 68 (2006), for groups; Neal, *Bayesian Learning for Neural Networks* (1996), for the
    precisions.

    Features: a group is relevant as a whole; with few large groups the evidence for each is
    stronger than an input's.

    Examples
    --------
    >>> GroupedARD(groups=((0, 1), (3, 5))).labels(6)
    (0, 0, 2, 1, 3, 1)
    """

    groups: tuple[tuple[int, ...], ...] = ()
    shape: float = 4.0
    rate: float | None = None
    centered: bool = False
    scale: float = 1.0

    name = "grouped-ard"

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "groups", _checked_groups(self.groups))

    def labels(self, input_dim: int) -> tuple[int, ...]:
        """The group's number of every input: the given groups first, then single inputs."""
        label = {j: g for g, group in enumerate(self.groups) for j in group}
        if label and max(label) >= input_dim:
            raise ValueError(
                f"groups name input {max(label)}, but the inputs are 0 to {input_dim - 1}; leave it out."
            )
        for j in range(input_dim):
            label.setdefault(j, len(set(label.values())))
        return tuple(label[j] for j in range(input_dim))

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Site ``rho_group`` (group), and ``rho`` (input) recorded; s = 1/√ρ."""
        labels = np.array(self.labels(input_dim))
        with numpyro.plate("group", int(labels.max()) + 1, dim=-1):
            by_group = numpyro.sample("rho_group", dist.Gamma(self.shape, self.rate_for(input_dim)))
        rho = by_group[labels]
        record_precision(rho, input_dim)
        return rho**-0.5

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """ρ_g at its conditional mean given w."""
        member = np.eye(max(self.labels(w.shape[-1])) + 1)[list(self.labels(w.shape[-1]))]
        sums = (w**2).sum(axis=-2) @ member
        by_group = self._conditional_mean(sums, w.shape[-2] * member.sum(axis=0), w.shape[-1])
        return {"rho_group": by_group}, (by_group @ member.T)[..., None, :] ** -0.5


def _checked_groups(groups) -> tuple[tuple[int, ...], ...]:
    """The groups as tuples; how many inputs there are is not known yet."""
    try:
        arrays = [np.asarray(group) for group in groups]
    except TypeError:
        arrays = [np.zeros(())]
    if isinstance(groups, str) or any(a.ndim != 1 or a.dtype.kind not in "iu" or not a.size for a in arrays):
        raise ValueError(f"groups must be sets of input indices such as ((0, 1), (4, 5)), got {groups!r}.")
    checked = tuple(tuple(a.tolist()) for a in arrays)
    members = [j for group in checked for j in group]
    if len(set(members)) < len(members) or min(members, default=0) < 0:
        raise ValueError(f"groups must hold every input at most once, counted from 0, got {groups!r}.")
    return checked


def expected_log_precision_gap(shape: float) -> float:
    """log E[ρ] - E[log ρ] = log a - ψ(a) > 0 of a Gamma(a, ·) variable; 1/(2a) for large a."""
    return math.log(shape) - float(digamma(shape))

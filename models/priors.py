"""Priors over the hidden weights: subclass :class:`WeightPrior` to declare a new one."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from scipy.special import digamma

from models import checks


def input_plate(input_dim: int):
    """The plate ``input``: one independent copy per input coordinate (last dimension)."""
    return numpyro.plate("input", input_dim, dim=-1)


def neuron_plate(width: int):
    """The plate ``neuron`` over the rows of the weight matrix (second dimension from the right)."""
    return numpyro.plate("neuron", width, dim=-2)


class WeightPrior:
    """Prior over the hidden weights w ∈ R^(N×d) of a two-layer network.

    The one class to subclass for a new prior. A subclass is a frozen dataclass (its fields are the
    hyperparameters) with one method, :meth:`weights`, that makes ``numpyro.sample`` statements and returns
    the weight matrix. Either one of the sites is called ``w``, or the network records the returned matrix as the
    deterministic site ``w``. Nothing else is needed for SGLD, NUTS and the mean-field guide.

    Examples
    --------
    A heavy-tailed prior in a user's own file:

    >>> from dataclasses import dataclass
    >>> import numpyro, numpyro.distributions as dist
    >>> from models import WeightPrior, input_plate, neuron_plate
    >>> @dataclass(frozen=True)
    ... class StudentT(WeightPrior):
    ...     df: float = 4.0
    ...     def weights(self, width, input_dim):
    ...         with neuron_plate(width), input_plate(input_dim):
    ...             return numpyro.sample("w", dist.StudentT(self.df, 0.0, input_dim**-0.5))
    >>> StudentT().name
    'studentt'
    """

    @property
    def name(self) -> str:
        """Name under which results list this prior: the class name in lower case."""
        return type(self).__name__.lower()

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """Sample sites of the prior; return w of shape (width, input_dim)."""
        raise TypeError(f"{type(self).__name__} must define weights(self, width, input_dim).")

    def sites_from_weights(self, w: ArrayLike) -> dict[str, jax.Array]:
        """Values of this prior's sample sites that reproduce the weights `w` (used by aligned starts).

        The default serves priors whose only site is ``w``; a prior with scales or an auxiliary
        parametrisation overrides it.
        """
        return {"w": jnp.asarray(w)}


@dataclass(frozen=True)
class Isotropic(WeightPrior):
    """Isotropic Gaussian prior, w_ij ~ Normal(0, σ_w²/d).

    Parameters
    ----------
    scale
        σ_w > 0.

    Notes
    -----
    Source: Göring, Mingard, Nam and Louis, *A simple mean field model of feature learning*,
    arXiv:2510.15174. The precision of every weight is d/σ_w², so that w·x is of order 1 for |x|² = d.

    Examples
    --------
    >>> Isotropic(scale=2.0).precision(16)
    4.0
    """

    scale: float = 1.0

    def __post_init__(self):
        checks.positive("scale", self.scale)

    def precision(self, input_dim: int) -> float:
        """Prior precision d/σ_w² of one weight."""
        return input_dim / self.scale**2

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """Site ``w`` ~ Normal(0, σ_w²/d), shape (width, input_dim)."""
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("w", dist.Normal(0.0, self.precision(input_dim) ** -0.5))


@dataclass(frozen=True)
class ARD(WeightPrior):
    """Automatic relevance determination: one precision per input, shared by all neurons.

        ρ_j ~ Gamma(α0, β0),      w_ij | ρ ~ Normal(0, 1/ρ_j)

    Parameters
    ----------
    shape
        α0 > 0.
    rate
        β0 > 0; None means α0 σ_w²/d, which makes the prior mean of ρ the isotropic precision d/σ_w².
    centered
        False (default): w = z/√ρ with z ~ Normal(0, 1), site ``w_base``. It mixes in hundreds of steps where
        the centred form, site ``w`` itself, needs thousands (look at R-hat of log ρ, not of f). True: the
        centred form, which the conjugate guide needs.
    scale
        σ_w > 0, used only where `rate` is None.

    Notes
    -----
    The Gamma prior is conjugate: ρ_j | w ~ Gamma(α0 + N/2, β0 + ½ Σ_i w_ij²).
    Sources: MacKay, *Bayesian non-linear modeling for the prediction competition* (1994); Neal, *Bayesian
    Learning for Neural Networks* (1996); with α0 = 4 on parity and 0.1 on single-index in arXiv:2510.15174.

    Examples
    --------
    >>> ARD(shape=4.0).rate_for(16)
    0.25
    """

    shape: float = 4.0
    rate: float | None = None
    centered: bool = False
    scale: float = 1.0

    def __post_init__(self):
        checks.positive("shape", self.shape)
        checks.positive("scale", self.scale)
        if self.rate is not None:
            checks.positive("rate", self.rate)

    def rate_for(self, input_dim: int) -> float:
        """The rate β0: as given, or α0 σ_w²/d."""
        return self.shape * self.scale**2 / input_dim if self.rate is None else self.rate

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """Sites ``rho`` (input) and ``w`` or ``w_base`` (neuron, input); returns w (width, input_dim)."""
        with input_plate(input_dim):
            rho = numpyro.sample("rho", dist.Gamma(self.shape, self.rate_for(input_dim)))
        with neuron_plate(width), input_plate(input_dim):
            if self.centered:
                return numpyro.sample("w", dist.Normal(0.0, 1.0 / jnp.sqrt(rho)))
            return numpyro.sample("w_base", dist.Normal(0.0, 1.0)) / jnp.sqrt(rho)

    def posterior_precision(self, sum_of_squares: ArrayLike, width: int, input_dim: int) -> jax.Array:
        """Conditional mean (α0 + N/2)/(β0 + ½ Σ_i w_ij²) of ρ_j given the weights' sums of squares."""
        return (self.shape + width / 2) / (self.rate_for(input_dim) + 0.5 * jnp.asarray(sum_of_squares))

    def sites_from_weights(self, w: ArrayLike) -> dict[str, jax.Array]:
        """ρ at its conditional mean given w, and ``w`` or ``w_base`` = w √ρ."""
        w = jnp.asarray(w)
        rho = self.posterior_precision((w**2).sum(axis=-2), *w.shape[-2:])
        return (
            {"rho": rho, "w": w} if self.centered else {"rho": rho, "w_base": w * jnp.sqrt(rho)[..., None, :]}
        )


def expected_log_precision_gap(shape: float) -> float:
    """log E[ρ] - E[log ρ] = log a - ψ(a) of a Gamma(a, ·) variable; positive, and 1/(2a) for large a."""
    return math.log(shape) - float(digamma(shape))

"""Neurons that may not single out inputs: the isotropic prior times a penalty on unequal weights."""

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import random
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, logsumexp

from models import checks
from models.priors.base import WeightPrior


class HomogeneousNormal(dist.Distribution):
    """Law of one neuron's weights v ∈ R^d: p(v) ∝ exp(-½ p |v|² - ½ s Var_j |v_j|).

    Var_j |v_j| = Σ_j v_j²/d - (Σ_j |v_j|/d)². Signs are uniform, and the absolute values would be
    independent but for the square of their sum, which a Gaussian variable g makes linear
    (Hubbard-Stratonovich): with a = p + s/d and b = s/d²

        |v_j| | g ~ Normal(√b g/a, 1/a) on (0, ∞),      p(g) ∝ exp(-½ g² p/a) Φ(g√(b/a))^d

    so that draws and the normalisation are exact up to a one-dimensional rule.

    Parameters
    ----------
    precision
        p > 0.
    strength
        s ≥ 0.
    input_dim
        d.
    """

    support = dist.constraints.real_vector
    pytree_aux_fields = ("precision", "strength", "input_dim")

    def __init__(self, precision: float, strength: float, input_dim: int, *, validate_args=None):
        self.precision, self.strength, self.input_dim = precision, strength, input_dim
        super().__init__((), (input_dim,), validate_args=validate_args)

    def log_prob(self, value):
        """Normalised log density; `value` (..., d)."""
        spread = jnp.var(jnp.abs(value), axis=-1)
        quadratic = self.precision * (value**2).sum(axis=-1) + self.strength * spread
        return -0.5 * quadratic - _latent(self.precision, self.strength, self.input_dim)[0]

    def sample(self, key, sample_shape=()):
        """Exact draws, shape (*sample_shape, d)."""
        _, grid, cumulative = _latent(self.precision, self.strength, self.input_dim)
        key_latent, key_size, key_sign = random.split(key, 3)
        uniform = random.uniform(key_latent, (*sample_shape, 1))
        latent = jnp.interp(uniform, jnp.asarray(cumulative), jnp.asarray(grid))
        a = self.precision + self.strength / self.input_dim
        loc = self.strength**0.5 / self.input_dim * latent / a
        shape = (*sample_shape, self.input_dim)
        size = dist.TruncatedNormal(jnp.broadcast_to(loc, shape), a**-0.5, low=0.0).sample(key_size)
        return size * random.rademacher(key_sign, shape, size.dtype)


@lru_cache(maxsize=32)
def _latent(precision: float, strength: float, input_dim: int) -> tuple[float, np.ndarray, np.ndarray]:
    """log of ∫ exp(-½ p |v|² - ½ s Var_j |v_j|) dv, and g's grid with its cumulative law."""
    a = precision + strength / input_dim
    slope, ratio = math.sqrt(strength / a) / input_dim, precision / a

    def log_density(g):
        return -0.5 * ratio * g**2 + input_dim * log_ndtr(slope * g)

    # Log-concave, and never narrower than exp(-½ g²), which the standard normal g has at s = 0.
    reach = 12 / math.sqrt(ratio)
    mode = minimize_scalar(lambda g: -log_density(g), bounds=(-1, 1 + input_dim * slope / ratio)).x
    grid = np.linspace(mode - reach, mode + reach, 4001)
    logs = log_density(grid)
    weights = np.exp(logs - logs.max())
    steps = np.concatenate([[0.0], 0.5 * (weights[1:] + weights[:-1])]).cumsum()
    log_latent = logsumexp(logs) + math.log(grid[1] - grid[0]) - 0.5 * math.log(2 * math.pi)
    log_size = input_dim * (math.log(2) + 0.5 * math.log(2 * math.pi / a))
    return log_latent + log_size, grid.astype(np.float32), (steps / steps[-1]).astype(np.float32)


@dataclass(frozen=True)
class Homogeneous(WeightPrior):
    """Homogeneity prior: isotropic, but a neuron pays for treating inputs differently.

        w_i ~ p(v) ∝ exp(-½ s Var_j |v_j|) Π_j Normal(v_j; 0, σ_w²/d)

    Parameters
    ----------
    strength
        s ≥ 0. 0 is the isotropic prior; at s → ∞ all weights of a neuron are ± one number. The
        penalty exp(-(λ/2κ²) Σ_i Var_j |w_ij|) of the source is s = λ/κ².
    scale
        σ_w > 0.

    Notes
    -----
    An ablation: it forbids input selection. But it takes more than that. Once s is of order d² only
    a length along a vector of signs is left of a neuron's d dimensions, so that E|w_i|² falls from
    σ_w² to σ_w²/d, and the kernel with it; raise σ_w to hold E|w_i|² fixed before concluding
    (:meth:`mean_square` gives it). Draws are exact (:class:`HomogeneousNormal`).

    Source: Göring, Mingard, Nam and Louis, *A simple mean field model of feature learning*,
    arXiv:2510.15174, whose ablation adds the penalty to the loss.

    Features: no neuron may single out inputs; a large strength leaves a network without input
    selection.

    Examples
    --------
    >>> round(Homogeneous(strength=0.0).mean_square(16), 3), round(Homogeneous(1e7).mean_square(16), 3)
    (1.0, 0.064)
    """

    strength: float = 100.0
    scale: float = 1.0

    def __post_init__(self):
        checks.positive("scale", self.scale)
        checks.finite("strength", self.strength)
        if self.strength < 0:
            raise ValueError(f"strength must not be negative, got {self.strength!r}; 0 is no penalty.")

    def mean_square(self, input_dim: int) -> float:
        """E|w_i|² = -2 ∂ log Z/∂p of one neuron."""
        precision, step = input_dim / self.scale**2, 1e-3 * input_dim / self.scale**2
        up, down = (_latent(precision + h, float(self.strength), input_dim)[0] for h in (step, -step))
        return float((down - up) / step)

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """Site ``w``, shape (width, input_dim), a row a draw of :class:`HomogeneousNormal`."""
        with numpyro.plate("neuron", width, dim=-1):
            law = HomogeneousNormal(input_dim / self.scale**2, float(self.strength), input_dim)
            return numpyro.sample("w", law)

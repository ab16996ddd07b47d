"""Normal laws of a weight matrix whose entries are correlated, as factors of a guide."""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import cho_solve, solve_triangular
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence


class CorrelatedNormal(dist.Distribution):
    """A Normal law of a matrix W ∈ R^(N×d) with correlated entries, laid out as N·d numbers in plates.

    A model's weights stand in plates, one number each; a guide's factor has to have that shape, and so have these
    laws: ``batch_shape`` (N, d), no event. :meth:`log_prob` shares the joint log density out among the entries,

        log q(W) = Σ_e [ -½ δ_e (C⁻¹δ)_e - ½ log 2π - log det C/(2Nd) ],      δ = vec(W - M)

    of which only the sum has a meaning; every bound of NumPyro takes the sum. The divergence from independent
    Normals, in closed form, is registered with NumPyro:

        KL(q ‖ Π_e Normal(μ_e, σ_e²)) = ½ Σ_e [ (C_ee + (M_e - μ_e)²)/σ_e² + log σ_e² - 1 ] - ½ log det C

    Subclasses define :attr:`variance`, :attr:`log_det`, :meth:`sample` and :meth:`_solve`.
    """

    support = constraints.real

    def __init__(self, loc: jax.Array, *, validate_args=None):
        self.loc = loc
        super().__init__(batch_shape=jnp.shape(loc), validate_args=validate_args)

    @property
    def mean(self):
        return self.loc

    @property
    def log_det(self) -> jax.Array:
        """log det C."""
        raise NotImplementedError

    def _solve(self, delta: jax.Array) -> jax.Array:
        """C⁻¹ δ for δ (..., N, d)."""
        raise NotImplementedError

    def log_prob(self, value):
        delta = value - self.loc
        return -0.5 * (delta * self._solve(delta) + jnp.log(2 * jnp.pi) + self.log_det / self.loc.size)


class NeuronNormal(CorrelatedNormal):
    """Independent neurons, each with a full covariance: w_i ~ Normal(M_i, L_i L_iᵀ).

    Parameters
    ----------
    loc
        M, shape (N, d).
    scale_tril
        L, lower triangular with positive diagonal, shape (N, d, d).

    Examples
    --------
    >>> law = NeuronNormal(jnp.zeros((5, 2)), jnp.broadcast_to(jnp.array([[1.0, 0.0], [3.0, 1.0]]), (5, 2, 2)))
    >>> law.variance[0].tolist()
    [1.0, 10.0]
    """

    def __init__(self, loc: jax.Array, scale_tril: jax.Array, *, validate_args=None):
        self.scale_tril = scale_tril
        super().__init__(loc, validate_args=validate_args)

    @property
    def variance(self):
        return (self.scale_tril**2).sum(axis=-1)

    @property
    def log_det(self):
        return 2 * jnp.log(jnp.diagonal(self.scale_tril, axis1=-2, axis2=-1)).sum()

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, (*sample_shape, *self.loc.shape))
        return self.loc + jnp.einsum("nij,...nj->...ni", self.scale_tril, noise)

    def _solve(self, delta):
        tril = jnp.broadcast_to(self.scale_tril, (*delta.shape, delta.shape[-1]))
        half = solve_triangular(tril, delta[..., None], lower=True)
        return solve_triangular(tril, half, lower=True, trans=1)[..., 0]


class LowRankNormal(CorrelatedNormal):
    """All weights correlated by a few common factors: vec W ~ Normal(M, diag(s²) + F Fᵀ).

    Parameters
    ----------
    loc, scale
        M and s, shape (N, d).
    factor
        F, shape (N, d, rank).

    Examples
    --------
    >>> law = LowRankNormal(jnp.zeros((5, 2)), jnp.ones((5, 2)), jnp.full((5, 2, 1), 3.0))
    >>> law.variance[0].tolist()
    [10.0, 10.0]
    """

    def __init__(self, loc: jax.Array, scale: jax.Array, factor: jax.Array, *, validate_args=None):
        self.scale, self.factor = scale, factor
        super().__init__(loc, validate_args=validate_args)

    @property
    def variance(self):
        return self.scale**2 + (self.factor**2).sum(axis=-1)

    @cached_property
    def _capacitance(self):
        """Cholesky factor of I + Fᵀ diag(s⁻²) F."""
        flat = (self.factor / self.scale[..., None]).reshape(-1, self.factor.shape[-1])
        return jnp.linalg.cholesky(flat.T @ flat + jnp.eye(flat.shape[-1], dtype=flat.dtype))

    @property
    def log_det(self):
        return 2 * (jnp.log(self.scale).sum() + jnp.log(jnp.diagonal(self._capacitance)).sum())

    def sample(self, key, sample_shape=()):
        key_own, key_common = jax.random.split(key)
        own = jax.random.normal(key_own, (*sample_shape, *self.loc.shape))
        common = jax.random.normal(key_common, (*sample_shape, self.factor.shape[-1]))
        return self.loc + self.scale * own + jnp.einsum("ndr,...r->...nd", self.factor, common)

    def _solve(self, delta):
        scaled = delta / self.scale**2
        common = jnp.einsum("ndr,...nd->r...", self.factor, scaled)
        shape = common.shape
        common = cho_solve((self._capacitance, True), common.reshape(shape[0], -1)).reshape(shape)
        return scaled - jnp.einsum("ndr,r...->...nd", self.factor, common) / self.scale**2


@kl_divergence.register(CorrelatedNormal, dist.Normal)
def _from_normal(q: CorrelatedNormal, p: dist.Normal) -> jax.Array:
    """The closed form of :class:`CorrelatedNormal`, shared out among the entries."""
    entries = (q.variance + (q.loc - p.loc) ** 2) / p.scale**2 + 2 * jnp.log(p.scale) - 1
    return 0.5 * (entries - q.log_det / q.loc.size)


@kl_divergence.register(CorrelatedNormal, dist.ExpandedDistribution)
def _from_expanded(q: CorrelatedNormal, p: dist.ExpandedDistribution) -> jax.Array:
    if not isinstance(p.base_dist, dist.Normal):
        raise NotImplementedError  # the bound then estimates the divergence by Monte Carlo
    return _from_normal(q, p.base_dist)

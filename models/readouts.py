"""The readouts given the hidden layer: their Gaussian posterior, and the evidence without them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.linalg import cho_solve, solve_triangular
from numpyro.distributions import constraints


def readout_posterior(
    phi: jax.Array, y: jax.Array, readout_variance: float, ridge: float
) -> tuple[jax.Array, jax.Array]:
    """Mean and precision of the readouts given the hidden layer, a | Φ, y ~ Normal(M⁻¹ φ y/τ, M⁻¹).

        y = φᵀa + ε,    a ~ Normal(0, σ_a² I),    ε ~ Normal(0, τ I),       M = I/σ_a² + φφᵀ/τ

    with `phi` φ = N^(-γ) Φ (N, P), the scaled activations, `y` (P,), `readout_variance` σ_a², and
    `ridge` τ = κ²P, the square of the targets' noise. The precision M comes as its lower Cholesky
    factor (N, N); its eigenvalues are at least 1/σ_a², so that no jitter is needed.

    Examples
    --------
    >>> mean, factor = readout_posterior(jnp.eye(2), jnp.array([1.0, -1.0]), 1.0, 1.0)
    >>> [round(float(v), 3) for v in mean]
    [0.5, -0.5]
    """
    precision = phi @ phi.T / ridge + jnp.eye(phi.shape[0], dtype=phi.dtype) / readout_variance
    factor = jnp.linalg.cholesky(precision)
    return cho_solve((factor, True), phi @ y / ridge), factor


def draw_readouts(
    key: jax.Array, phi: jax.Array, y: jax.Array, readout_variance: float, ridge: float
) -> jax.Array:
    """One draw (N,) from :func:`readout_posterior`, a = M⁻¹φy/τ + L⁻ᵀξ with M = LLᵀ."""
    mean, factor = readout_posterior(phi, y, readout_variance, ridge)
    return mean + solve_triangular(
        factor, jax.random.normal(key, mean.shape, mean.dtype), lower=True, trans=1
    )


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def log_evidence(phi: jax.Array, y: jax.Array, readout_variance: float, ridge: float) -> jax.Array:
    """log Normal(y; 0, A), A = τ I + σ_a² φᵀφ: the evidence, readouts integrated out.

        log N(y; 0, A) = -½ [ P log 2πτ + log det(σ_a² M) + |y - φᵀâ|²/τ + |â|²/σ_a² ]

    with â = M⁻¹φy/τ the readouts' posterior mean and M = I/σ_a² + φφᵀ/τ. The determinant is that of
    the matrix determinant lemma. The quadratic form is yᵀA⁻¹y written as the least value of |y -
    φᵀa|²/τ + |a|²/σ_a²: a sum of positive terms, in which an error of â counts only in second
    order, so that float32 suffices where Woodbury's difference |y|²/τ - â·Mâ would lose its digits
    (it is of order κ⁻²). The gradient is

        ∂ log N / ∂φ = (â rᵀ - M⁻¹φ)/τ,      r = y - φᵀâ

    Where P < N the same quantities come from the Cholesky factor of A/τ, by â = σ_a²φA⁻¹y and
    M⁻¹φ/τ = σ_a²φA⁻¹. The arguments are those of :func:`readout_posterior`.

    Examples
    --------
    One neuron and one point, y ~ Normal(0, τ + σ_a²φ²) = Normal(0, 2):

    >>> round(float(log_evidence(jnp.ones((1, 1)), jnp.zeros(1), 1.0, 1.0)), 4)
    -1.2655
    """
    return _value_and_gradients(phi, y, readout_variance, ridge)[0]


@log_evidence.defjvp
def _log_evidence_jvp(readout_variance, ridge, primals, tangents):
    value, slope_phi, slope_y = _value_and_gradients(*primals, readout_variance, ridge)
    return value, jnp.vdot(slope_phi, tangents[0]) + jnp.vdot(slope_y, tangents[1])


def _value_and_gradients(phi, y, readout_variance, ridge):
    """The evidence and its gradients in φ (N, P) and y (P,), by the smaller of the two matrices."""
    (width, num_data), tau = phi.shape, ridge
    if width <= num_data:
        readout, factor = readout_posterior(phi, y, readout_variance, tau)
        solved = cho_solve((factor, True), phi) / tau
        log_det_prior = width * jnp.log(readout_variance)
    else:
        covariance = phi.T @ phi * (readout_variance / tau) + jnp.eye(num_data, dtype=phi.dtype)
        factor = jnp.linalg.cholesky(covariance)
        solved = cho_solve((factor, True), phi.T).T * (readout_variance / tau)
        readout, log_det_prior = solved @ y, 0.0
    residual = y - readout @ phi
    log_det = 2 * jnp.log(jnp.diagonal(factor)).sum() + log_det_prior
    square = residual @ residual / tau + readout @ readout / readout_variance
    value = -0.5 * (num_data * jnp.log(2 * jnp.pi * tau) + log_det + square)
    return value, jnp.outer(readout, residual / tau) - solved, -residual / tau


class CollapsedNormal(dist.Distribution):
    """Normal(0, A), A = τ I + σ_a² φᵀφ: the targets of a network whose readouts are integrated out.

    `features` is φ = N^(-γ) Φ (N, P), `readout_scale` σ_a, `target_noise` √τ = κ√P. The density is
    :func:`log_evidence`: N × N or P × P matrices, whichever are smaller. NumPyro's
    ``LowRankMultivariateNormal`` is the same law; it takes Woodbury's difference, see there.

    Examples
    --------
    >>> law = CollapsedNormal(jnp.ones((1, 1)), 1.0, 1.0)  # Normal(0, 2)
    >>> round(float(law.log_prob(jnp.zeros(1))), 4)
    -1.2655
    """

    support = constraints.real_vector

    def __init__(self, features: jax.Array, readout_scale: float, target_noise: float, *, validate_args=None):
        self.features, self.readout_scale, self.target_noise = features, readout_scale, target_noise
        super().__init__(event_shape=jnp.shape(features)[-1:], validate_args=validate_args)

    def log_prob(self, value):
        return log_evidence(self.features, value, self.readout_scale**2, self.target_noise**2)

    def sample(self, key, sample_shape=()):
        key_readout, key_target = jax.random.split(key)
        width, num_data = self.features.shape
        readout = self.readout_scale * jax.random.normal(key_readout, (*sample_shape, width))
        noise = self.target_noise * jax.random.normal(key_target, (*sample_shape, num_data))
        return readout @ self.features + noise

"""NumPyro models that are no networks, and their data."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

NOISE = 0.5
"""Standard deviation of the targets of :func:`linear_regression`."""


def linear_regression(x, y=None):
    """θ ~ Normal(0, I), y ~ Normal(Xθ, 0.5² I): conjugate."""
    with numpyro.plate("input", x.shape[1]):
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.asarray(x) @ theta, NOISE), obs=y)


def ard_regression(x, y=None):
    """α_j ~ Gamma(1, 1), w_j = z_j/√α_j with z ~ Normal(0, 1), σ ~ HalfNormal(1), y ~ Normal(Xw, σ²)."""
    with numpyro.plate("input", x.shape[1]):
        alpha = numpyro.sample("alpha", dist.Gamma(1.0, 1.0))
        w = numpyro.deterministic("w", numpyro.sample("w_base", dist.Normal(0.0, 1.0)) / jnp.sqrt(alpha))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.asarray(x) @ w, noise), obs=y)


def eight_schools(sigma, y=None):
    """μ ~ Normal(0, 5), τ ~ HalfCauchy(5), θ_j = μ + τ z_j with z ~ Normal(0, 1), y_j ~ Normal(θ_j, σ_j²)."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.deterministic("theta", mu + tau * numpyro.sample("theta_base", dist.Normal(0.0, 1.0)))
        numpyro.sample("y", dist.Normal(theta, jnp.asarray(sigma)), obs=y)


def regression_data(num_data: int, coefficients, noise: float, seed: int) -> dict:
    """x ~ Normal(0, I) and y = x·coefficients + noise, from a key."""
    key_x, key_noise = jax.random.split(jax.random.key(seed))
    x = jax.random.normal(key_x, (num_data, len(coefficients)))
    y = x @ jnp.asarray(coefficients) + noise * jax.random.normal(key_noise, (num_data,))
    return {"x": np.asarray(x), "y": np.asarray(y)}


SCHOOLS = {
    "sigma": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
    "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
}
"""Rubin's estimates and standard errors."""

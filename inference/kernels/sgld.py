"""Stochastic gradient Langevin dynamics as a NumPyro kernel."""

from collections import namedtuple

import jax
import jax.numpy as jnp

from inference.kernels.langevin import (
    DivergenceError,
    LangevinKernel,
    raise_bad_start,
    raise_divergence,
    standard_normal,
)

__all__ = ["SGLD", "DivergenceError", "SGLDState", "raise_bad_start", "raise_divergence"]

SGLDState = namedtuple(
    "SGLDState", ["i", "z", "potential_energy", "z_grad", "step_size", "diverging", "rng_key"]
)
"""
A :func:`~collections.namedtuple` consisting of the following fields:

 - **i** - number of finite steps taken so far, warm-up included; the argument of a step-size schedule.
 - **z** - Python collection of unconstrained values at the latent sites.
 - **potential_energy** - U(z), estimated from the last minibatch where the model subsamples.
 - **z_grad** - gradient of that estimate at ``z``; the next step uses it.
 - **step_size** - ε of the last step.
 - **diverging** - True once a step has left the finite numbers; ``z`` then stays at its last finite value.
 - **rng_key** - random key for the next step.
"""


class SGLD(LangevinKernel):
    """Stochastic gradient Langevin dynamics (unadjusted Langevin, where the gradient is exact).

        z ← z - ε M ∇Û(z) + √(2ε M) ξ,        ξ ~ Normal(0, I)

    U = -log posterior density of the unconstrained values z, Û its unbiased estimate: U itself, or, where the
    model has a ``numpyro.plate`` with a ``subsample_size``, the log likelihood of a fresh minibatch without
    replacement, scaled by N/B. M is a fixed diagonal preconditioner, ε the step size, constant or scheduled.

    A constant ε biases the stationary law: for U = λz²/2 and the exact gradient its variance is
    1/(λ(1 - εMλ/2)), and the iteration diverges for εMλ > 2. Halve ε and compare to see the bias. In terms of
    Langevin training with learning rate η at temperature T = 2κ², ε = Tη.

    **References:**

    1. Welling and Teh, *Bayesian learning via stochastic gradient Langevin dynamics* (2011).
    2. Roberts and Tweedie, *Exponential convergence of Langevin distributions and their discrete
       approximations* (1996).
    3. Vollmer, Zygalakis and Teh, *Exploration of the (non-)asymptotic bias and variance of stochastic gradient
       Langevin dynamics* (2016).

    Parameters
    ----------
    model
        Python callable containing NumPyro primitives. Give `model` or `potential_fn`, not both; with neither,
        :meth:`bind` supplies a model later.
    potential_fn
        Python callable, potential energy of a pytree of parameters; the run then needs ``init_params``.
    step_size
        ε > 0, or a callable t -> ε of the step number t = 0, 1, … (counted from the start of the warm-up).
    preconditioner
        Diagonal M: None for the identity; ``"prior"`` for the prior variance of each site's unconstrained
        value (one number a site; needs a model); or a dict from site names to positive arrays or numbers (1
        for sites left out), for a `potential_fn` a pytree shaped like its argument.
    init_strategy
        Per-site initialisation function of NumPyro.

    Raises
    ------
    ValueError
        For a step size that is not positive, for both of `model` and `potential_fn`.
    DivergenceError
        When a trajectory leaves the finite numbers; no NaN draw is ever returned. Under
        :class:`numpyro.infer.MCMC` the message arrives inside JAX's runtime error.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> from inference import SGLD
    >>> def model(x):
    ...     mean = numpyro.sample("mean", dist.Normal(0, 1))
    ...     with numpyro.plate("data", 100, subsample_size=20) as index:
    ...         numpyro.sample("x", dist.Normal(mean, 1), obs=x[index])
    >>> mcmc = MCMC(SGLD(model, step_size=1e-3), num_warmup=500, num_samples=2000, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), jnp.ones(100))
    >>> bool(jnp.abs(mcmc.get_samples()["mean"].mean() - 100 / 101) < 0.1)
    True
    """

    def _initial_state(self, z, energy, grad, step, diverging, rng_key):
        return SGLDState(jnp.array(0), z, energy, grad, step, diverging, rng_key)

    def _move(self, state, step, key, energy_and_grad):
        def langevin(z, grad, scale, noise):
            return z - step * scale * grad + jnp.sqrt(2 * step * scale) * noise

        z = jax.tree.map(langevin, state.z, state.z_grad, self._scale, standard_normal(key, state.z))
        energy, grad = energy_and_grad(z)
        return {"z": z, "potential_energy": energy, "z_grad": grad}

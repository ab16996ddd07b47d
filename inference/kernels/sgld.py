"""Stochastic gradient Langevin dynamics as a NumPyro kernel."""

from collections import namedtuple
from collections.abc import Callable

import jax

from inference.kernels.langevin import STATE_FIELDS, LangevinKernel, langevin_step
from inference.kernels.step_size import standard_normal

SGLDState = namedtuple("SGLDState", [*STATE_FIELDS, "noise"])
"""
The fields in :data:`inference.kernels.langevin.STATE_FIELDS`, and

 - **noise** - ξ of the last step, a pytree like ``z``, which the next one uses again; None for
   white noise.
"""


class SGLD(LangevinKernel):
    """Stochastic gradient Langevin dynamics (unadjusted Langevin, where the gradient is exact).

        z ← z - ε M ∇Û(z) + √(2ε M) ξ,        ξ ~ Normal(0, I)

    U = -log posterior density of the unconstrained values z, Û its unbiased estimate: U itself, or,
    where the model has a ``numpyro.plate`` with a ``subsample_size``, the log likelihood of a fresh
    minibatch without replacement, scaled by N/B. M is a fixed diagonal preconditioner, ε the step
    size, constant or scheduled.

    A constant ε biases the stationary law: for U = λz²/2 and the exact gradient its variance is
    1/(λ(1 - εMλ/2)), and the iteration diverges for εMλ > 2. Halve ε and compare to see the bias.
    In terms of Langevin training with learning rate η at temperature T = 2κ², ε = Tη.

    With `averaged_noise` the noise of step n is (ξ_n + ξ_{n+1})/2, so that neighbouring steps share
    half of theirs (Leimkuhler and Matthews 2013). At the same cost the bias is O(ε²) with exact
    gradients, and none on a Gaussian: for U = λz²/2 the variance is 1/λ at every stable ε.

    A trajectory outside the finite numbers makes ``sample`` raise :class:`DivergenceError`; under
    :class:`numpyro.infer.MCMC` the chain stays at its last finite value, with the extra field
    ``diverging``, which ``print_summary`` counts, set from then on.

    **References:**

    1. Welling and Teh, *Bayesian learning via stochastic gradient Langevin dynamics* (2011).
    2. Roberts and Tweedie, *Exponential convergence of Langevin distributions and their discrete
       approximations* (1996).
    3. Vollmer, Zygalakis and Teh, *Exploration of the (non-)asymptotic bias and variance of
       stochastic gradient Langevin dynamics* (2016).
    4. Leimkuhler and Matthews, *Rational construction of stochastic numerical methods for molecular
       sampling* (2013).

    Parameters
    ----------
    model
        Python callable containing NumPyro primitives. Give `model` or `potential_fn`, not both;
        with neither, :meth:`bind` supplies a model later.
    potential_fn
        Python callable, potential energy of a pytree of parameters; the run then needs
        ``init_params``.
    step_size
        ``"auto"``: found along the warm-up, see
        :class:`inference.kernels.step_size.SelfTuningKernel`, and frozen with it. For SGLD, whose
        bias grows with ε, it is the one at which the variance of the stiffest direction is 5 % too
        large; with `averaged_noise`, 0.6 of the largest stable one. Or ε > 0, or a schedule: a
        callable t -> ε of the step number t = 0, 1, … (counted from the
        start of the warm-up) that JAX can trace, such as those of optax, e.g.
        ``optax.cosine_decay_schedule(1e-3, 10_000, 0.1)`` or ``lambda t: 0.1 * (100 + t) ** (-1 /
        3)``. It needs to be positive at t = 0, and afterwards.
    preconditioner
        Diagonal M. ``"auto"``: None where a step size is given; else M = √(v/c) with v the prior
        variance of a site's unconstrained value (1 for a `potential_fn`) and c the mean curvature
        of U over the site, averaged over the first half of the warm-up. None for the identity;
        ``"prior"`` for v itself (one number a site; needs a model); or a dict from site names to
        positive arrays or numbers (1 for sites left out), for a `potential_fn` a pytree shaped like
        its argument.
    averaged_noise
        Whether neighbouring steps share half of their noise. The bias of minibatches stays.
    init_strategy
        Per-site initialisation function of NumPyro.

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

    _state_type = SGLDState

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float | str | Callable = "auto",
        preconditioner="auto",
        averaged_noise: bool = False,
        **options,
    ):
        super().__init__(model, potential_fn, step_size, preconditioner, **options)
        self._averaged = bool(averaged_noise)
        self.bias_order = 2 if averaged_noise else 1

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        return super().settings() | ({"averaged_noise": True} if self._averaged else {})

    def _own_fields(self, z, grad, step, rng_key):
        if not self._averaged:
            return {"noise": None}
        rng_key, key_noise = jax.random.split(rng_key)
        return {"noise": standard_normal(key_noise, z), "rng_key": rng_key}

    def _move(self, state, step, key, energy_and_grad):
        scale = self.preconditioner_of(state)
        fresh = noise = standard_normal(key, state.z)
        if self._averaged:
            noise = jax.tree.map(lambda last, fresh: (last + fresh) / 2, state.noise, fresh)
        z = langevin_step(state.z, state.z_grad, scale, step, noise)
        energy, grad = energy_and_grad(z)
        kept = {"noise": fresh} if self._averaged else {}
        return {"z": z, "potential_energy": energy, "z_grad": grad, **kept}

"""Stochastic gradient Langevin dynamics as a NumPyro kernel."""

import copy
import math
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from numbers import Real

import jax
import jax.numpy as jnp
from jax import random
from jax.experimental import io_callback
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.mcmc import MCMCKernel
from numpyro.infer.util import initialize_model, potential_energy
from numpyro.util import identity, is_prng_key, not_jax_tracer

from inference.preconditioning import broadcast_preconditioner, prior_variances

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


class DivergenceError(ValueError):
    """A Langevin trajectory left the finite numbers: its step size is too large."""


class SGLD(MCMCKernel):
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

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float | Callable = 1e-3,
        preconditioner=None,
        init_strategy: Callable = init_to_uniform,
    ):
        if model is not None and potential_fn is not None:
            raise ValueError("Only one of model and potential_fn may be given.")
        if not callable(step_size) and (
            isinstance(step_size, bool)
            or not isinstance(step_size, Real)
            or not math.isfinite(step_size)
            or step_size <= 0
        ):
            raise ValueError(f"step_size must be a positive number or a callable t -> ε, got {step_size!r}.")
        self._by_prior = isinstance(preconditioner, str) and preconditioner == "prior"
        if self._by_prior and potential_fn is not None:
            raise ValueError("preconditioner='prior' needs a model; give the variances of a potential_fn.")
        if isinstance(preconditioner, str) and not self._by_prior:
            raise ValueError(f"preconditioner must be None, 'prior' or a dict, got {preconditioner!r}.")
        self._model = model
        self._potential_fn = potential_fn
        self._step_size = step_size
        self._preconditioner = preconditioner
        self._init_strategy = init_strategy
        self._scale = None  # M, a pytree like z, set by init
        self._plates = {}  # name -> (size, subsample_size) of the plates that subsample
        self._postprocess_fn = None

    @property
    def model(self):
        return self._model

    @property
    def sample_field(self):
        return "z"

    @property
    def default_fields(self):
        return ("z", "diverging")

    def get_diagnostics_str(self, state):
        return f"step size {state.step_size:.2e}, potential energy {state.potential_energy:.4g}"

    def bind(self, model: Callable) -> "SGLD":
        """A copy of this kernel for `model`."""
        kernel = copy.copy(self)
        kernel._model, kernel._potential_fn, kernel._postprocess_fn = model, None, None
        kernel._scale, kernel._plates = None, {}
        return kernel

    def wrap_model(self, wrapper: Callable) -> "SGLD":
        return self if self._model is None else self.bind(wrapper(self._model))

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        step_size = getattr(self._step_size, "__name__", repr(self._step_size))
        return {
            "kernel": "SGLD",
            "step_size": step_size if callable(self._step_size) else float(self._step_size),
            "preconditioner": "prior"
            if self._by_prior
            else None
            if self._preconditioner is None
            else "given",
        }

    def init(self, rng_key, num_warmup, init_params=None, model_args=(), model_kwargs=None):
        """Initial state, or a batch of states for a batch of keys (``chain_method="vectorized"``)."""
        model_kwargs = {} if model_kwargs is None else model_kwargs
        single = is_prng_key(rng_key)
        keys = (
            random.split(rng_key, 3)
            if single
            else jnp.swapaxes(jax.vmap(lambda k: random.split(k, 3))(rng_key), 0, 1)
        )
        rng_key, key_model, key_batch = keys
        if self._model is not None:
            init_params = self._init_model(key_model, init_params, model_args, model_kwargs, single)
        elif self._potential_fn is None:
            raise ValueError("SGLD needs a model or a potential_fn; give one, or call bind(model) first.")
        elif init_params is None:
            raise ValueError("init_params must be given when SGLD samples a potential_fn.")
        self._scale = broadcast_preconditioner(
            self._prior_scale if self._by_prior else self._preconditioner,
            init_params if single else jax.tree.map(lambda v: v[0], init_params),
        )

        def init_one(z, rng_key, key_batch):
            energy, grad = self._energy_and_grad(z, key_batch, model_args, model_kwargs)
            step = jnp.asarray(self._step_size_at(jnp.array(0)), energy.dtype)
            return SGLDState(jnp.array(0), z, energy, grad, step, ~jnp.isfinite(energy), rng_key)

        state = (init_one if single else jax.vmap(init_one))(init_params, rng_key, key_batch)
        _raise_where(jnp.any(state.diverging), raise_bad_start)
        return state

    def sample(self, state, model_args, model_kwargs):
        """One Langevin step of every chain in `state`; a divergence raises."""
        state = self.step(state, model_args, model_kwargs)
        _raise_where(jnp.any(state.diverging), raise_divergence, jnp.max(state.i), jnp.max(state.step_size))
        return state

    def step(self, state, model_args=(), model_kwargs=None):
        """One Langevin step without the raise: a diverging chain stays put, with ``diverging`` set."""
        step = partial(self._step_one, model_args=model_args, model_kwargs=model_kwargs or {})
        return step(state) if is_prng_key(state.rng_key) else jax.vmap(step)(state)

    def refresh(self, state, model_args, model_kwargs):
        """U and ∇U at the current z, for use as a block of :class:`numpyro.infer.Gibbs`."""

        def refresh_one(state):
            rng_key, key_batch = random.split(state.rng_key)
            energy, grad = self._energy_and_grad(state.z, key_batch, model_args, model_kwargs or {})
            return state._replace(potential_energy=energy, z_grad=grad, rng_key=rng_key)

        return refresh_one(state) if is_prng_key(state.rng_key) else jax.vmap(refresh_one)(state)

    def postprocess_fn(self, model_args, model_kwargs):
        if self._postprocess_fn is None:
            return identity
        return self._postprocess_fn(*model_args, **(model_kwargs or {}))

    def __getstate__(self):
        # The postprocessing closure holds the traced model, which does not pickle.
        return {**self.__dict__, "_postprocess_fn": None}

    def _init_model(self, key, init_params, model_args, model_kwargs, single):
        first_key = key if single else key[0]
        sites = trace(seed(self._model, first_key)).get_trace(*model_args, **model_kwargs)
        plates = {name: site["args"] for name, site in sites.items() if site["type"] == "plate"}
        self._plates = {n: (size, sub) for n, (size, sub) in plates.items() if sub not in (None, size)}
        # Initial values and deterministic sites are those of the first B points; only U is subsampled afresh.
        fixed = substitute(self._model, data={n: jnp.arange(sub) for n, (_, sub) in self._plates.items()})
        info = initialize_model(
            key if init_params is None else first_key,
            fixed,
            init_strategy=self._init_strategy,
            dynamic_args=True,
            model_args=model_args,
            model_kwargs=model_kwargs,
        )
        self._postprocess_fn = info.postprocess_fn
        if self._by_prior:
            self._prior_scale = prior_variances(fixed, model_args, model_kwargs)
        return info.param_info.z if init_params is None else init_params

    def _energy_and_grad(self, z, key_batch, model_args, model_kwargs):
        if self._model is None:
            return jax.value_and_grad(self._potential_fn)(z)
        model = self._model
        if self._plates:
            keys = random.split(key_batch, len(self._plates))
            index = {
                name: random.choice(key, size, (sub,), replace=False)
                for key, (name, (size, sub)) in zip(keys, self._plates.items(), strict=True)
            }
            model = substitute(model, data=index)
        return jax.value_and_grad(partial(potential_energy, model, model_args, model_kwargs))(z)

    def _step_size_at(self, i):
        return self._step_size(i) if callable(self._step_size) else self._step_size

    def _step_one(self, state, model_args, model_kwargs):
        rng_key, key_noise, key_batch = random.split(state.rng_key, 3)
        step = jnp.asarray(self._step_size_at(state.i), state.potential_energy.dtype)
        leaves, tree = jax.tree.flatten(state.z)
        keys = jax.tree.unflatten(tree, list(random.split(key_noise, len(leaves))))

        def langevin(z, grad, scale, key):
            noise = random.normal(key, jnp.shape(z), jnp.result_type(z))
            return z - step * scale * grad + jnp.sqrt(2 * step * scale) * noise

        z = jax.tree.map(langevin, state.z, state.z_grad, self._scale, keys)
        energy, grad = self._energy_and_grad(z, key_batch, model_args, model_kwargs)
        finite = jnp.isfinite(energy)
        for leaf in jax.tree.leaves(grad):
            finite &= jnp.isfinite(leaf).all()
        keep = finite & ~state.diverging
        z, energy, grad = jax.tree.map(
            lambda new, old: jnp.where(keep, new, old),
            (z, energy, grad),
            (state.z, state.potential_energy, state.z_grad),
        )
        return SGLDState(state.i + keep, z, energy, grad, step, ~keep, rng_key)


def _raise_where(condition, callback, *args) -> None:
    """Call the raising `callback` where `condition` holds: at once, or from compiled code on the host."""
    if not_jax_tracer(condition):
        if condition:
            callback(*args)
    else:
        jax.lax.cond(condition, lambda *args: io_callback(callback, None, *args), lambda *args: None, *args)


def raise_bad_start() -> None:
    """Raise ``ValueError`` for initial values outside the finite numbers."""
    raise ValueError(
        "init_params (or the initial draw) give SGLD a potential energy that is not finite; check the data, the "
        "prior's scales and init_params."
    )


def raise_divergence(i, step_size) -> None:
    """Raise :class:`DivergenceError` naming the step size and the step number."""
    raise DivergenceError(
        f"SGLD diverged at step {int(i)} with step_size={float(step_size):.3g}; use a smaller step_size "
        "(half of it or less)."
    )

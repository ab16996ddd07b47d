"""What all Langevin kernels share: the model, minibatches, the preconditioner, batches of chains, divergence."""

import copy
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jax.experimental import io_callback
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.mcmc import MCMCKernel
from numpyro.infer.util import initialize_model, potential_energy
from numpyro.util import identity, is_prng_key, not_jax_tracer

from inference.kernels.accumulation import accumulated_energy_and_grad
from inference.kernels.preconditioning import broadcast_preconditioner, check_preconditioner, prior_variances
from inference.kernels.schedules import check_step_size_argument, describe_step_size


class DivergenceError(ValueError):
    """A Langevin trajectory left the finite numbers: its step size is too large."""


class LangevinKernel(MCMCKernel):
    """Base of the kernels that move by ∇Û; a subclass states its update rule in :meth:`_move`.

    Its states are namedtuples with at least the fields of :class:`inference.kernels.sgld.SGLDState`. A subclass with
    more of them fills them in :meth:`_initial_state`. The parameters are those of :class:`inference.SGLD`.

    Attributes
    ----------
    stats_fields
        State fields worth keeping with every draw, by the names that ArviZ gives them.
    subsamples
        Whether minibatches are allowed.
    gradients_per_step
        Evaluations of ∇Û that one step costs.
    bias_order
        p where the step size biases the stationary law by O(εᵖ) with exact gradients; None where it does not.
    """

    stats_fields: ClassVar[dict[str, str]] = {
        "potential_energy": "potential_energy",
        "step_size": "step_size",
    }
    subsamples: ClassVar[bool] = True
    gradients_per_step: ClassVar[int] = 1
    bias_order: ClassVar[int | None] = 1

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
        if model is not None and not callable(model):
            raise ValueError(
                f"model must be a NumPyro model, got {model!r}; name other arguments, step_size=... ."
            )
        check_step_size_argument(step_size)
        self._by_prior = check_preconditioner(preconditioner, potential_fn)
        self._model = model
        self._potential_fn = potential_fn
        self._step_size = step_size
        self._preconditioner = preconditioner
        self._init_strategy = init_strategy
        self._scale = None  # M, a pytree like z, set by init
        self._plates = {}  # name -> (size, subsample_size) of the plates that subsample
        self._accumulates = False  # set by accumulating
        self._num_warmup = 0  # set by init
        self._postprocess_fn = None

    def _initial_state(self, z, energy, grad, step, diverging, rng_key):
        """The state of one chain at its start."""
        raise NotImplementedError

    def _move(self, state, step, key, energy_and_grad) -> dict:
        """The update rule: ``z``, ``potential_energy``, ``z_grad`` and other changed fields after one step.

        `energy_and_grad` maps z to Û(z) and ∇Û(z) on the minibatch of this step. Fields that leave the finite
        numbers are not kept, see :meth:`step`.
        """
        raise NotImplementedError

    @property
    def model(self):
        return self._model

    @property
    def sample_field(self):
        return "z"

    @property
    def default_fields(self):
        return ("z", "diverging")

    @property
    def _name(self):
        return type(self).__name__

    def get_diagnostics_str(self, state):
        return f"step size {state.step_size:.2e}, potential energy {state.potential_energy:.4g}"

    def bind(self, model: Callable):
        """A copy of this kernel for `model`."""
        kernel = copy.copy(self)
        kernel._model, kernel._potential_fn, kernel._postprocess_fn = model, None, None
        kernel._scale, kernel._plates = None, {}
        return kernel

    def wrap_model(self, wrapper: Callable):
        return self if self._model is None else self.bind(wrapper(self._model))

    def accumulating(self):
        """A copy of this kernel with the exact U and ∇U of a model with minibatches, as the mean over all of them.

        One evaluation costs that of the full batch, and has the memory of one minibatch; see
        :func:`inference.kernels.accumulation.accumulated_energy_and_grad`.
        """
        kernel = copy.copy(self)
        kernel._accumulates = True
        return kernel

    def with_step_size(self, step_size: float | Callable):
        """A copy of this kernel with another step size, not checked: it may be a traced number."""
        kernel = copy.copy(self)
        kernel._step_size = step_size
        return kernel

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        given = None if self._preconditioner is None else "given"
        return {
            "kernel": self._name,
            "step_size": describe_step_size(self._step_size),
            "preconditioner": "prior" if self._by_prior else given,
        }

    def init(self, rng_key, num_warmup, init_params=None, model_args=(), model_kwargs=None):
        """Initial state, or a batch of states for a batch of keys (``chain_method="vectorized"``)."""
        model_kwargs = {} if model_kwargs is None else model_kwargs
        self._num_warmup = num_warmup
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
            raise ValueError(
                f"{self._name} needs a model or a potential_fn; give one, or call bind(model) first."
            )
        elif init_params is None:
            raise ValueError(f"init_params must be given when {self._name} samples a potential_fn.")
        self._scale = broadcast_preconditioner(
            self._prior_scale if self._by_prior else self._preconditioner,
            init_params if single else jax.tree.map(lambda v: v[0], init_params),
        )

        def init_all(z, rng_key, key_batch, args, kwargs):
            def init_one(z, rng_key, key_batch):
                energy, grad = self._energy_and_grad(z, key_batch, args, kwargs)
                step = jnp.asarray(self._step_size_at(jnp.array(0)), energy.dtype)
                return self._initial_state(z, energy, grad, step, ~jnp.isfinite(energy), rng_key)

            return (init_one if single else jax.vmap(init_one))(z, rng_key, key_batch)

        state = compiled_once(init_all)(init_params, rng_key, key_batch, model_args, model_kwargs)
        raise_where(jnp.any(state.diverging), partial(raise_bad_start, kernel=self._name))
        return state

    def sample(self, state, model_args, model_kwargs):
        """One step of every chain in `state`; a divergence raises."""
        state = self.step(state, model_args, model_kwargs)
        callback = partial(raise_divergence, kernel=self._name)
        raise_where(jnp.any(state.diverging), callback, jnp.max(state.i), jnp.max(state.step_size))
        return state

    def step(self, state, model_args=(), model_kwargs=None):
        """One step without the raise: a diverging chain stays put, with ``diverging`` set."""
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

    def check_step_size(self, network, data, key, **options):
        """Bias at this step size, by halving it; see :func:`inference.runs.step_halving.check_step_size`."""
        from inference.runs.step_halving import (
            check_step_size,  # it runs chains, whose module imports this one
        )

        return check_step_size(self, network, data, key, **options)

    def stable_step_size(self, curvature):
        """Largest stable step on U = λz²/2 for Mλ = `curvature`: 2/(Mλ) for a Langevin step."""
        return 2 / curvature

    def preconditioner_of(self, state):
        """M as the next step from `state` uses it, a pytree that broadcasts to ``z``."""
        return self._scale

    def __getstate__(self):
        # The postprocessing closure holds the traced model, which does not pickle.
        return {**self.__dict__, "_postprocess_fn": None}

    def _init_model(self, key, init_params, model_args, model_kwargs, single):
        first_key = key if single else key[0]
        kinds, plates = {}, {}

        def declare(key, args, kwargs):
            for name, site in trace(seed(self._model, key)).get_trace(*args, **kwargs).items():
                kinds[name] = site["type"]
                if site["type"] == "plate":
                    plates[name] = site["args"]

        compiled_once(declare, abstract=True)(first_key, model_args, model_kwargs)
        self._plates = {n: (size, sub) for n, (size, sub) in plates.items() if sub not in (None, size)}
        if self._plates and not (self.subsamples or self._accumulates):
            raise ValueError(
                f"{self._name} needs the exact potential energy; drop subsample_size, or use SGLD for minibatches."
            )
        # Initial values and deterministic sites are those of the first B points; only U is subsampled afresh.
        fixed = substitute(self._model, data={n: jnp.arange(sub) for n, (_, sub) in self._plates.items()})

        def initial_values(key, args, kwargs):
            info = initialize_model(
                key,
                fixed,
                init_strategy=self._init_strategy,
                dynamic_args=True,
                model_args=args,
                model_kwargs=kwargs,
            )
            self._postprocess_fn = info.postprocess_fn
            return info.param_info.z

        # Parameters outside the posterior (numpyro.param, modules) live on in postprocess_fn: not as tracers.
        stateless = not {"param", "mutable"} & set(kinds.values())
        if init_params is None:
            run = compiled_once(initial_values) if stateless else initial_values
            init_params = run(key, model_args, model_kwargs)
        elif stateless:
            compiled_once(initial_values, abstract=True)(first_key, model_args, model_kwargs)
        else:
            initial_values(first_key, model_args, model_kwargs)
        if self._by_prior:
            self._prior_scale = prior_variances(fixed, model_args, model_kwargs)
        return init_params

    def _energy_and_grad(self, z, key_batch, model_args, model_kwargs):
        if self._model is None:
            return jax.value_and_grad(self._potential_fn)(z)
        model = self._model
        if self._plates and self._accumulates:
            return accumulated_energy_and_grad(model, self._plates, z, model_args, model_kwargs)
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
        rng_key, key_move, key_batch = random.split(state.rng_key, 3)
        step = jnp.asarray(self._step_size_at(state.i), state.potential_energy.dtype)
        energy_and_grad = partial(
            self._energy_and_grad, key_batch=key_batch, model_args=model_args, model_kwargs=model_kwargs
        )
        new = self._move(state, step, key_move, energy_and_grad)
        finite = jnp.isfinite(new["potential_energy"])
        for leaf in jax.tree.leaves(new["z_grad"]):
            finite &= jnp.isfinite(leaf).all()
        keep = finite & ~state.diverging
        old = {name: getattr(state, name) for name in new}
        new = {"step_size": step} | jax.tree.map(lambda new, old: jnp.where(keep, new, old), new, old)
        return state._replace(**new, i=state.i + keep, diverging=~keep, rng_key=rng_key)


def compiled_once(function: Callable, abstract: bool = False) -> Callable:
    """`function` as one compiled program, where op by op it would compile a program for each operation.

    Arrays among the leaves of its arguments are arguments of the program, anything else is static. With `abstract`
    it is traced only, for its side effects.
    """

    def call(*arguments):
        leaves, tree = jax.tree.flatten(arguments)
        arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, (jax.Array, np.ndarray))}

        def program(arrays):
            return function(*tree.unflatten([arrays.get(i, leaf) for i, leaf in enumerate(leaves)]))

        return (partial(jax.eval_shape, program) if abstract else jax.jit(program))(arrays)

    return call


def standard_normal(key, z):
    """Independent Normal(0, 1) values as a pytree like `z`."""
    leaves, tree = jax.tree.flatten(z)
    keys = jax.tree.unflatten(tree, list(random.split(key, len(leaves))))
    return jax.tree.map(lambda z, key: random.normal(key, jnp.shape(z), jnp.result_type(z)), z, keys)


def raise_where(condition, callback, *args) -> None:
    """Call the raising `callback` where `condition` holds: at once, or from compiled code on the host."""
    if not_jax_tracer(condition):
        if condition:
            callback(*args)
    else:
        jax.lax.cond(condition, lambda *args: io_callback(callback, None, *args), lambda *args: None, *args)


def raise_bad_start(kernel: str = "SGLD") -> None:
    """Raise ``ValueError`` for initial values outside the finite numbers."""
    raise ValueError(
        f"init_params (or the initial draw) give {kernel} a potential energy that is not finite; check the data, "
        "the prior's scales and init_params."
    )


def raise_divergence(i, step_size, kernel: str = "SGLD") -> None:
    """Raise :class:`DivergenceError` naming the step size and the step number."""
    raise DivergenceError(
        f"{kernel} diverged at step {int(i)} with step_size={float(step_size):.3g}; use a smaller step_size "
        "(half of it or less)."
    )

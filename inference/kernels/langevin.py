"""What all Langevin kernels share: step size, preconditioner, minibatches, batches of chains."""

import copy
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import random
from numpyro.infer.initialization import init_to_uniform
from numpyro.util import identity, is_prng_key

from inference.kernels.divergence import all_finite, check_start
from inference.kernels.potential import ModelPotential, compiled_once
from inference.kernels.preconditioning import (
    balanced,
    broadcast_preconditioner,
    check_preconditioner,
    prior_variances,
)
from inference.kernels.step_size import AUTO, SelfTuningKernel, check_step_size

STATE_FIELDS = ("i", "z", "potential_energy", "z_grad", "step_size", "diverging", "tuning", "rng_key")
"""
The fields of the states of all Langevin kernels, to which each adds its own:

 - **i** - number of finite steps taken so far, warm-up included; the argument of a step-size
   schedule.
 - **z** - Python collection of unconstrained values at the latent sites.
 - **potential_energy** - U(z), estimated from the last minibatch where the model subsamples.
 - **z_grad** - gradient of that estimate at ``z``; the next step uses it.
 - **step_size** - ε of the last step.
 - **diverging** - True once a step has left the finite numbers; ``z`` then stays at its last finite
   value.
 - **tuning** - of an automatic step size, see :class:`inference.kernels.step_size.Tuning`; else
   None.
 - **rng_key** - random key for the next step.
"""


class LangevinKernel(SelfTuningKernel):
    """Base of the kernels that move by ∇Û, with the parameters of :class:`inference.SGLD`.

    A subclass states its update rule in :meth:`_move`, the type of its states, with
    :data:`STATE_FIELDS`, in ``_state_type``, and how their own fields begin in :meth:`_own_fields`.
    """

    # State fields worth keeping with every draw, by the names that ArviZ gives them.
    stats_fields: ClassVar[dict[str, str]] = {name: name for name in ("potential_energy", "step_size")}
    subsamples: ClassVar[bool] = True  # whether minibatches are allowed
    # p where the step size biases the stationary law by O(εᵖ) with exact gradients; else None.
    bias_order: ClassVar[int | None] = 1

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float | str | Callable = AUTO,
        preconditioner=AUTO,
        init_strategy: Callable = init_to_uniform,
    ):
        super().__init__(model)
        if model is not None and potential_fn is not None:
            raise ValueError("Only one of model and potential_fn may be given.")
        if model is not None and not callable(model):
            raise ValueError(
                f"model must be a NumPyro model, got {model!r}; name other arguments, step_size=... ."
            )
        check_step_size(step_size)
        check_preconditioner(preconditioner, potential_fn)
        self._potential_fn = potential_fn
        self._step_size = step_size
        self._preconditioner = preconditioner
        self._init_strategy = init_strategy
        self._scale = None  # M, a pytree like z, set by init
        self._potential = None  # of the model, set by init
        self._accumulates = False  # set by accumulating
        self._postprocess_fn = None

    def _own_fields(self, z, grad, step, rng_key) -> dict:
        """A subclass's own fields in the first state; ``rng_key`` too, where they use it."""
        return {}

    def _move(self, state, step, key, energy_and_grad) -> dict:
        """The update rule: ``z``, ``potential_energy``, ``z_grad`` and other fields that change.

        `energy_and_grad` maps z to Û(z) and ∇Û(z) on the minibatch of this step.
        """
        raise NotImplementedError

    def get_diagnostics_str(self, state):
        return f"step size {state.step_size:.2e}, potential energy {state.potential_energy:.4g}"

    def bind(self, model: Callable):
        """A copy of this kernel for `model`."""
        unbound = {"_potential_fn": None, "_postprocess_fn": None, "_scale": None, "_potential": None}
        return self._changed(_model=model, **unbound)

    def wrap_model(self, wrapper: Callable):
        return self if self._model is None else self.bind(wrapper(self._model))

    def accumulating(self):
        """A copy of this kernel with the exact U and ∇U, as the mean over all minibatches.

        See :meth:`inference.kernels.potential.ModelPotential.accumulated`.
        """
        return self._changed(_accumulates=True)

    def with_step_size(self, step_size: float | str | Callable):
        """A copy of this kernel with another step size, not checked: it may be a traced number."""
        return self._changed(_step_size=step_size)

    def _changed(self, **attributes):
        kernel = copy.copy(self)
        vars(kernel).update(attributes)
        return kernel

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        step, given = self._step_size, self._preconditioner
        if callable(step):
            step = getattr(step, "__name__", repr(step))
        if isinstance(given, str) and given == AUTO and not self._automatic:
            given = None
        return {
            "kernel": type(self).__name__,
            "step_size": step if isinstance(step, str) else float(step),
            "preconditioner": given if given is None or isinstance(given, str) else "given",
        }

    def init(self, rng_key, num_warmup, init_params=None, model_args=(), model_kwargs=None):
        """Initial state, or a batch for a batch of keys (``chain_method="vectorized"``)."""
        model_kwargs = {} if model_kwargs is None else model_kwargs
        self._num_warmup = num_warmup
        single = is_prng_key(rng_key)
        split = random.split if single else jax.vmap(random.split, (0, None), 1)
        rng_key, key_model, key_batch = split(rng_key, 3)
        scale = self._preconditioner
        if isinstance(scale, str) and scale == AUTO:
            scale = "prior" if self._automatic and self._model is not None else None
        if self._model is not None:
            first_key = key_model if single else key_model[0]
            self._potential = ModelPotential(self._model, first_key, model_args, model_kwargs)
            if self._potential.plates and not (self.subsamples or self._accumulates):
                raise ValueError(
                    f"{type(self).__name__} needs the exact potential energy; drop subsample_size, or use SGLD for "
                    "minibatches."
                )
            init_params, self._postprocess_fn = self._potential.initial_values(
                key_model, init_params, self._init_strategy, model_args, model_kwargs
            )
            if isinstance(scale, str):
                scale = prior_variances(self._potential.fixed, model_args, model_kwargs)
        elif self._potential_fn is None:
            raise ValueError(
                f"{type(self).__name__} needs a model or a potential_fn; give one, or call bind(model) first."
            )
        elif init_params is None:
            raise ValueError(f"init_params must be given when {type(self).__name__} samples a potential_fn.")
        one_chain = init_params if single else jax.tree.map(lambda v: v[0], init_params)
        self._scale = broadcast_preconditioner(scale, one_chain)

        def init_all(z, rng_key, key_batch, args, kwargs):
            def init_one(z, rng_key, key_batch):
                energy, grad = self._energy_and_grad(z, key_batch, args, kwargs)
                step = 1.0 if self._automatic else self._step_size_at(jnp.array(0))
                step = jnp.asarray(step, energy.dtype)
                common = (jnp.array(0), z, energy, grad, step, ~jnp.isfinite(energy), None, rng_key)
                state = self._state_type(
                    **dict(zip(STATE_FIELDS, common, strict=True)) | self._own_fields(z, grad, step, rng_key)
                )
                return self._first_tuning(state, key_batch, args, kwargs) if self._automatic else state

            return (init_one if single else jax.vmap(init_one))(z, rng_key, key_batch)

        state = compiled_once(init_all)(init_params, rng_key, key_batch, model_args, model_kwargs)
        check_start(self, state)
        return state

    def postprocess_fn(self, model_args, model_kwargs):
        if self._postprocess_fn is None:
            return identity
        return self._postprocess_fn(*model_args, **(model_kwargs or {}))

    def preconditioner_of(self, state):
        """M as the next step from `state` uses it, a pytree that broadcasts to ``z``."""
        if not self._adapts_preconditioner:
            return self._scale
        return jax.tree.map(balanced, self._scale, state.tuning.curvature)

    def __getstate__(self):
        # The postprocessing closure holds the traced model, which does not pickle.
        return {**self.__dict__, "_postprocess_fn": None}

    def _energy_and_grad(self, z, key_batch, model_args, model_kwargs):
        if self._model is None:
            return jax.value_and_grad(self._potential_fn)(z)
        if self._accumulates and self._potential.plates:
            return self._potential.accumulated(z, model_args, model_kwargs)
        return self._potential.minibatch(z, key_batch, model_args, model_kwargs)

    def _step_size_at(self, i):
        return self._step_size(i) if callable(self._step_size) else self._step_size

    def _step_one(self, state, model_args, model_kwargs):
        rng_key, key_move, key_batch = random.split(state.rng_key, 3)
        step = state.step_size if self._automatic else self._step_size_at(state.i)
        step = jnp.asarray(step, state.potential_energy.dtype)
        energy_and_grad = partial(
            self._energy_and_grad, key_batch=key_batch, model_args=model_args, model_kwargs=model_kwargs
        )
        new = self._move(state, step, key_move, energy_and_grad)
        keep = all_finite(new["potential_energy"], new["z_grad"]) & ~state.diverging
        stay = state._replace(step_size=step, diverging=~keep)
        if self._tunes:
            keep, stay = self._or_back(state, new, keep)
        old = {name: getattr(stay, name) for name in new}
        new = jax.tree.map(lambda new, old: jnp.where(keep, new, old), new, old)
        return stay._replace(**new, i=stay.i + keep, rng_key=rng_key)

    def _refresh_one(self, state, model_args, model_kwargs):
        rng_key, key_batch = random.split(state.rng_key)
        energy, grad = self._energy_and_grad(state.z, key_batch, model_args, model_kwargs)
        return state._replace(potential_energy=energy, z_grad=grad, rng_key=rng_key)


def langevin_step(z, grad, scale, step, noise):
    """z - ε M ∇U + √(2ε M) ξ for pytrees z, ∇U, M and ξ."""

    def move(z, grad, scale, noise):
        return z - step * scale * grad + jnp.sqrt(2 * step * scale) * noise

    return jax.tree.map(move, z, grad, scale, noise)

"""Kernels that step one chain, or a batch of chains at once."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

# Gradients that one Hessian-vector product counts for: of a gradient's two matrix products it takes
# the first, and the derivatives of both.
PRODUCT_COST = 2


class ChainKernel(MCMCKernel):
    """Base of the kernels whose states, namedtuples with ``z`` and ``rng_key``, may be batches."""

    sample_field = "z"
    default_fields = ("z", "diverging")
    # Hessian-vector products of a chain where it starts, and each time that it tunes its step size.
    _products: tuple[int, int] = (0, 0)

    def __init__(self, model: Callable | None):
        self._model = model
        self._num_warmup = 0  # set by init

    @property
    def model(self):
        return self._model

    def sample(self, state, model_args, model_kwargs):
        """One step of every chain in `state`, see :meth:`step`."""
        return self.step(state, model_args, model_kwargs)

    def step(self, state, model_args=(), model_kwargs=None):
        """One step of every chain; one that diverges stays put, with ``diverging`` set."""
        if self._products[1]:
            due = (state.i < self._num_warmup) & (state.i % steps_between(self._num_warmup) == 0)
            tune = partial(self._by_chain, self._tune_one, model_args=model_args, model_kwargs=model_kwargs)
            # For all chains at once: under vmap both branches would be taken at every step.
            state = jax.lax.cond(jnp.any(due), tune, lambda state: state, state)
        return self._by_chain(self._step_one, state, model_args, model_kwargs)

    def tuning_cost(self, begin: int, end: int) -> int:
        """Gradient evaluations that a chain spends on its step size from step `begin` to `end`."""
        every, (at_start, each) = steps_between(self._num_warmup), self._products
        first, last = (-(-min(step, self._num_warmup) // every) for step in (begin, end))
        return PRODUCT_COST * (at_start * (begin == 0 < end) + each * (last - first))

    def refresh(self, state, model_args, model_kwargs):
        """U and ∇U at the current z for changed data, as in :class:`numpyro.infer.Gibbs`."""
        return self._by_chain(self._refresh_one, state, model_args, model_kwargs)

    def _by_chain(self, function, state, model_args, model_kwargs):
        one = partial(function, model_args=model_args, model_kwargs=model_kwargs or {})
        return one(state) if is_prng_key(state.rng_key) else jax.vmap(one)(state)


def steps_between(num_warmup: int) -> int:
    """Steps from one tuning of the step size to the next, in a warm-up of `num_warmup` steps."""
    return max(10, num_warmup // 100)

"""Trajectories that left the finite numbers: kernels set ``diverging``, their runner raises."""

import jax
import jax.numpy as jnp
from numpyro.util import not_jax_tracer


class DivergenceError(ValueError):
    """A Langevin trajectory left the finite numbers: its step size is too large."""


def check_finite(kernel, state) -> None:
    """Raise :class:`DivergenceError` where a chain of `state`, a batch of states, has diverged.

    It names the step number and the step size, and the remedy.
    """
    if bool(jnp.any(state.diverging)):
        worst = int(jnp.argmax(state.diverging))
        found = ", or a longer warm-up, which finds it" if getattr(kernel, "_automatic", False) else ""
        raise DivergenceError(
            f"{type(kernel).__name__} diverged at step {int(state.i[worst])} with "
            f"step_size={float(state.step_size[worst]):.3g}; use a smaller step_size (half of it or less){found}."
        )


def check_start(kernel, state) -> None:
    """``ValueError`` for a concrete initial state outside the finite numbers."""
    if not_jax_tracer(state.diverging) and bool(jnp.any(state.diverging)):
        raise ValueError(
            f"init_params (or the initial draw) give {type(kernel).__name__} a potential energy that is not finite; "
            "check the data, the prior's scales and init_params."
        )


def all_finite(*trees) -> jax.Array:
    """Whether every number of `trees` is finite."""
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(trees)]))

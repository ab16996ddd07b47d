"""Trajectories that left the finite numbers: kernels set ``diverging``, their runner raises."""

import jax
import jax.numpy as jnp
from numpyro.util import not_jax_tracer


class DivergenceError(ValueError):
    """A Langevin trajectory left the finite numbers: its step size is too large."""


def raise_divergence(i, step_size, kernel: str = "SGLD") -> None:
    """Raise :class:`DivergenceError` naming the step size and the step number."""
    raise DivergenceError(
        f"{kernel} diverged at step {int(i)} with step_size={float(step_size):.3g}; use a smaller step_size (half of "
        "it or less)."
    )


def check_finite(kernel, state) -> None:
    """Raise :class:`DivergenceError` where a chain of `state`, a batch of states, has diverged."""
    if bool(jnp.any(state.diverging)):
        worst = int(jnp.argmax(state.diverging))
        raise_divergence(state.i[worst], state.step_size[worst], type(kernel).__name__)


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

"""The step size that a kernel finds for itself, from the curvature along its warm-up."""

import math
from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import random

from inference.kernels.chain import ChainKernel
from inference.kernels.divergence import all_finite

AUTO = "auto"

MARGIN = 0.6  # of the largest stable step
BIAS = 0.05  # share by which the step inflates the variance of the stiffest direction

FIRST_PROBES, FIRST_ITERATIONS = 5, 20  # where a chain starts
ITERATIONS = 2  # of it at each tuning; the direction is kept, so that they add up
FORGETTING = 0.1  # share of the newest mean curvature in their average
MOST_HALVINGS = 30  # in a row: with a step 10⁹ times smaller it is not the step that is at fault


class Tuning(NamedTuple):
    """How a chain with an automatic step size stands.

    - **curvature** - mean of ∂²U over the numbers of each leaf, a pytree like ``z``; None where M
      is given.
    - **direction** - estimate of the stiffest direction of M^½ ∇²U M^½, a pytree like ``z``.
    - **good** - ``z`` and what goes with it at the last tuning, to which a divergence leads back.
    - **halvings** - of the step since then; in the second half of the warm-up, all of them.
    """

    curvature: dict | None
    direction: dict
    good: dict
    halvings: jax.Array


class SelfTuningKernel(ChainKernel):
    """Base of the kernels that can find their step size along the warm-up.

    From one tuning to the next, a hundredth of the warm-up, a power iteration follows the stiffest
    direction of M^½ ∇²U M^½, and :meth:`step_size_for` turns its curvature into a step. In the
    first half of the warm-up the step follows the curvature; in the second half it only falls, to
    suit all places seen there; then it is frozen. A trajectory that leaves the finite numbers in
    the warm-up goes back to where it was at the last tuning, with half the step.
    """

    @property
    def _automatic(self) -> bool:
        return isinstance(self._step_size, str)

    @property
    def _tunes(self) -> bool:
        """Whether the step follows the curvature along the warm-up."""
        return self._automatic

    @property
    def _adapts_preconditioner(self) -> bool:
        given = self._preconditioner
        return self._tunes and isinstance(given, str) and given == AUTO

    @property
    def _products(self) -> tuple[int, int]:
        probes = int(self._adapts_preconditioner)
        at_start, each = FIRST_ITERATIONS + FIRST_PROBES * probes, ITERATIONS + probes
        return at_start * self._automatic, each * self._tunes

    def stable_step_size(self, curvature):
        """Largest stable step on U = λz²/2 for Mλ = `curvature`: 2/(Mλ) for a Langevin step."""
        return 2 / curvature

    def step_size_for(self, curvature):
        """The automatic step where the largest Mλ is `curvature`.

        A share of the largest stable step, or, for a kernel whose step size biases even a
        Gaussian, the step that inflates the variance of the stiffest direction to 1/(1 - b).
        """
        if self.bias_order == 1:
            return self.stable_step_size(curvature / BIAS)
        return MARGIN * self.stable_step_size(curvature)

    def _first_tuning(self, state, key_batch, model_args, model_kwargs):
        """`state`, of a chain at its start, with the step for the curvature there."""
        tuning = Tuning(None, standard_normal(key_batch, state.z), {}, jnp.array(0))
        gradient = self._gradient(key_batch, model_args, model_kwargs)
        if self._adapts_preconditioner:
            probes = random.split(random.fold_in(key_batch, 1), FIRST_PROBES)
            found = jax.lax.map(lambda key: mean_curvature(gradient, state.z, key), probes)
            tuning = tuning._replace(curvature=jax.tree.map(lambda v: v.mean(axis=0), found))
        state = state._replace(tuning=tuning)
        direction, limit = self._limit(state, gradient, FIRST_ITERATIONS)
        flat = self.step_size_for(jnp.ones_like(limit))  # for a U without curvature
        step = jnp.where(jnp.isfinite(limit), limit, flat)
        return state._replace(
            step_size=step, tuning=tuning._replace(direction=direction, good=_restored(state))
        )

    def _tune_one(self, state, model_args, model_kwargs):
        """The step for the curvature where the chain is, and this place as one to come back to."""
        key_batch, key_probe = random.split(random.fold_in(state.rng_key, 1))
        gradient = self._gradient(key_batch, model_args, model_kwargs)
        early, tuning = 2 * state.i < self._num_warmup, state.tuning
        if self._adapts_preconditioner:
            found = mean_curvature(gradient, state.z, key_probe)
            use = early & all_finite(found)
            curvature = jax.tree.map(
                lambda old, new: jnp.where(use, old + FORGETTING * (new - old), old), tuning.curvature, found
            )
            state = state._replace(tuning=tuning._replace(curvature=curvature))
        direction, limit = self._limit(state, gradient, ITERATIONS)
        step = jnp.minimum(limit, jnp.where(early, 2, 1) * state.step_size)
        halvings = jnp.where(early, 0, tuning.halvings)
        tuning = state.tuning._replace(direction=direction, good=_restored(state), halvings=halvings)
        return state._replace(step_size=step, tuning=tuning)

    def _gradient(self, key_batch, model_args, model_kwargs) -> Callable:
        return lambda z: self._energy_and_grad(z, key_batch, model_args, model_kwargs)[1]

    def _limit(self, state, gradient, iterations):
        """The stiffest direction at ``z`` and the step for it; ∞ where there is none."""
        metric, old = self.preconditioner_of(state), state.tuning.direction
        direction, curvature = power_iteration(gradient, state.z, metric, old, iterations)
        found = all_finite(direction) & (curvature > 0)
        direction = jax.tree.map(lambda new, old: jnp.where(found, new, old), direction, old)
        limit = self.step_size_for(jnp.where(found, curvature, 1.0)).astype(state.step_size.dtype)
        return direction, jnp.where(found, limit, jnp.inf)

    def _or_back(self, state, new, keep):
        """Whether to keep the `new` fields, and in the warm-up the way back where not.

        Returns `keep`, false too for a trajectory of the warm-up that rises, and the `state` to
        stay at: there that of the last tuning, with half the step.
        """
        tuning, size = state.tuning, sum(v.size for v in jax.tree.leaves(state.z))
        warming = (state.i < self._num_warmup) & ~state.diverging
        keep &= ~(warming & is_rising(new["potential_energy"], tuning.good["potential_energy"], size))
        back = warming & ~keep
        halvings = tuning.halvings + back
        fields = {name: getattr(state, name) for name in tuning.good}
        fields = jax.tree.map(lambda good, old: jnp.where(back, good, old), tuning.good, fields)
        return keep, state._replace(
            **fields,
            i=state.i + back,
            step_size=jnp.where(back, state.step_size / 2, state.step_size),
            diverging=~keep & (~back | (halvings > MOST_HALVINGS)),
            tuning=tuning._replace(halvings=halvings),
        )


def _restored(state) -> dict:
    """The fields of `state` that a divergence in the warm-up sets back."""
    kept = {"i", "step_size", "diverging", "tuning", "rng_key"}
    return {name: value for name, value in state._asdict().items() if name not in kept}


def power_iteration(gradient: Callable, z, metric, direction, iterations: int):
    """The stiffest direction of M^½ ∇²U M^½ at `z`, and its curvature |λ|.

        v ← M^½ ∇²U M^½ v/|v|,      |λ| ≈ |v|

    by Hessian-vector products, the derivatives of `gradient` along M^½ v. |λ| comes from below: it
    is too small until v is the stiffest direction. `metric` is M, a pytree that broadcasts to `z`.

    Examples
    --------
    >>> gradient = jax.grad(lambda z: 2 * z[0] ** 2 + 5 * z[1] ** 2)
    >>> z, metric, start = jnp.zeros(2), jnp.array(0.3), jnp.ones(2)
    >>> _, curvature = power_iteration(gradient, z, metric, start, iterations=20)
    >>> round(float(curvature), 3)
    3.0
    """

    def weighted(tree):
        return jax.tree.map(lambda v, m: jnp.sqrt(m) * v, tree, metric)

    def iterate(_, carry):
        direction, _ = carry
        product = weighted(jax.jvp(gradient, (z,), (weighted(direction),))[1])
        curvature = norm(product)
        # Where U is linear there is no product to go on with.
        return jax.tree.map(
            lambda new, old: jnp.where(curvature > 0, new / curvature, old), product, direction
        ), curvature

    length = norm(direction)
    first = (jax.tree.map(lambda v: v / length, direction), jnp.zeros_like(length))
    return jax.lax.fori_loop(0, iterations, iterate, first)


def mean_curvature(gradient: Callable, z, key):
    """Mean of ∂²U/∂z_i² over the numbers of each leaf of `z`, by one Hessian-vector product.

        (1/n) v·∇²U v,      v ~ Normal(0, I)

    of a leaf's n numbers, an unbiased estimate (Hutchinson 1990).
    """
    probe = standard_normal(key, z)
    product = jax.jvp(gradient, (z,), (probe,))[1]
    return jax.tree.map(lambda v, product: jnp.mean(v * product), probe, product)


def norm(tree) -> jax.Array:
    """√Σ v² over all numbers of `tree`."""
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def is_rising(energy, good_energy, dimension: int) -> jax.Array:
    """Whether U has risen since the last tuning as only a trajectory does that is about to diverge.

    On its way from a minimum into equilibrium U rises by half a number for each coordinate; NUTS
    takes a rise by 1000 for a divergence; and a minibatch's estimate of U may be off by a share.
    """
    return energy - good_energy > 1000 + dimension + jnp.abs(good_energy)


def standard_normal(key, z):
    """Independent Normal(0, 1) values as a pytree like `z`."""
    leaves, tree = jax.tree.flatten(z)
    keys = jax.tree.unflatten(tree, list(random.split(key, len(leaves))))
    return jax.tree.map(lambda z, key: random.normal(key, jnp.shape(z), jnp.result_type(z)), z, keys)


def check_step_size(step_size) -> None:
    """``ValueError`` unless "auto", a positive number, or a traceable callable that begins with one."""
    value = step_size
    if isinstance(step_size, str) and step_size == AUTO:
        return
    if callable(step_size):
        try:
            value = jax.jit(step_size)(0)
            value = float(value)
        except (
            TypeError,
            jax.errors.ConcretizationTypeError,
            jax.errors.TracerArrayConversionError,
        ) as error:
            raise ValueError(
                "step_size must be a callable t -> ε that JAX can trace to one number, without `if` or NumPy "
                f"functions of t ({' '.join(str(error).split())[:80]})."
            ) from None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise ValueError(
            f"step_size must be a positive number, 'auto' or a callable t -> ε > 0, got {step_size!r}"
            + (f", which is {value:.3g} at t = 0." if callable(step_size) else ".")
        )

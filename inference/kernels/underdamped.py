"""Underdamped Langevin dynamics: BAOAB, and stochastic gradient Hamiltonian Monte Carlo."""

import math
from collections import namedtuple
from collections.abc import Callable
from numbers import Real
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import random

from inference.kernels.langevin import STATE_FIELDS, LangevinKernel
from inference.kernels.step_size import standard_normal
from models import checks

UnderdampedState = namedtuple("UnderdampedState", [*STATE_FIELDS, "velocity"])
"""
The fields in :data:`inference.kernels.langevin.STATE_FIELDS`, and

 - **velocity** - v in units of its thermal scale, stationary law Normal(0, 1), a pytree like ``z``.
"""


class _Underdamped(LangevinKernel):
    """What the two discretisations of the same stochastic differential equation share."""

    _state_type = UnderdampedState
    _max_friction_step: ClassVar[float] = math.inf  # γh, from which on no step is stable

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float | str | Callable = "auto",
        friction: float = 1.0,
        preconditioner="auto",
        **options,
    ):
        super().__init__(model, potential_fn, step_size, preconditioner, **options)
        checks.positive("friction", friction)
        if isinstance(step_size, Real) and friction * step_size >= self._max_friction_step:
            raise ValueError(
                f"friction * step_size must be below {self._max_friction_step:g} for {type(self).__name__} to be "
                f"stable, got {friction * step_size:.3g}; reduce either."
            )
        self._friction = friction

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        return super().settings() | {"friction": float(self._friction)}

    def _own_fields(self, z, grad, step, rng_key):
        rng_key, key_velocity = random.split(rng_key)
        return {"velocity": standard_normal(key_velocity, z), "rng_key": rng_key}


class UnderdampedLangevin(_Underdamped):
    """Underdamped Langevin dynamics by the BAOAB splitting.

        dz = √M v dt,      dv = -√M ∇U(z) dt - γ v dt + √(2γ) dW

    with the stationary law exp(-U(z) - |v|²/2), in steps of length h:

        B   v ← v - (h/2) √M ∇Û(z)
        A   z ← z + (h/2) √M v
        O   v ← e^(-γh) v + √(1 - e^(-2γh)) ξ,        ξ ~ Normal(0, I)
        A   z ← z + (h/2) √M v
        B   v ← v - (h/2) √M ∇Û(z)

    One new gradient a step: the last B and the next step's first use the same one. M is the inverse
    mass, a fixed diagonal. For U = λz²/2 and the exact gradient z has the variance 1/λ at every h <
    2/√(Mλ), where the iteration becomes unstable; otherwise the bias is O(h²), where SGLD's is
    O(ε). Minibatches add gradient noise of covariance C, which heats v by O(hC). For γh ≫ 1 it is a
    Langevin step of ε = h²/2. On U = λz²/2 the friction γ = 2√(Mλ) of the softest direction mixes
    fastest.

    **References:**

    1. Leimkuhler and Matthews, *Robust and efficient configurational molecular sampling via
       Langevin dynamics* (2013).
    2. Leimkuhler, Matthews and Stoltz, *The computation of averages from equilibrium and
       nonequilibrium Langevin molecular dynamics* (2016).

    Parameters
    ----------
    model, potential_fn, preconditioner, init_strategy
        As for :class:`inference.SGLD`, like the errors.
    step_size
        ``"auto"``: 0.6 of the largest stable step, as for :class:`inference.SGLD`. Or h > 0, a
        length of time (compare h²/2 with SGLD's ε), or a callable t -> h.
    friction
        γ > 0 in units of 1/time.

    Examples
    --------
    A step at which SGLD's variance would be off by far:

    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from inference import UnderdampedLangevin
    >>> kernel = UnderdampedLangevin(potential_fn=lambda z: jnp.sum(z**2) / 2, step_size=1.5)
    >>> mcmc = MCMC(kernel, num_warmup=100, num_samples=1000, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), init_params=jnp.zeros(100))
    >>> bool(abs(mcmc.get_samples().var() - 1) < 0.03)
    True
    """

    bias_order: ClassVar[int | None] = 2

    def stable_step_size(self, curvature):
        """Largest stable step on U = λz²/2 for Mλ = `curvature`: 2/√(Mλ)."""
        return 2 / jnp.sqrt(curvature)

    def _move(self, state, step, key, energy_and_grad):
        scale = self.preconditioner_of(state)
        decay = jnp.exp(-self._friction * step)
        # expm1, since 1 - e^(-2γh) loses its digits in float32 for small γh.
        spread = jnp.sqrt(-jnp.expm1(-2 * self._friction * step))

        def kick(v, grad, scale):
            return v - step / 2 * jnp.sqrt(scale) * grad

        def drift(z, v, scale):
            return z + step / 2 * jnp.sqrt(scale) * v

        def thermostat(v, noise):
            return decay * v + spread * noise

        velocity = jax.tree.map(kick, state.velocity, state.z_grad, scale)
        z = jax.tree.map(drift, state.z, velocity, scale)
        velocity = jax.tree.map(thermostat, velocity, standard_normal(key, state.z))
        z = jax.tree.map(drift, z, velocity, scale)
        energy, grad = energy_and_grad(z)
        velocity = jax.tree.map(kick, velocity, grad, scale)
        return {"z": z, "potential_energy": energy, "z_grad": grad, "velocity": velocity}


class SGHMC(_Underdamped):
    """Stochastic gradient Hamiltonian Monte Carlo: Euler steps of underdamped Langevin dynamics.

        z ← z + h √M v
        v ← v - h √M ∇Û(z) - hγ v + √(2γh) ξ,        ξ ~ Normal(0, I)

    (the gradient at the new z), M the inverse mass, a fixed diagonal. Chen et al. subtract an
    estimate B̂ of the gradient noise from 2γ; here B̂ = 0, their simplest choice, so that
    minibatches heat v by O(h). For U = λz²/2 and the exact gradient the stationary covariance
    solves a discrete Lyapunov equation; with a = hγ, c = h²Mλ:

        Var z = (1/λ) (1 - a/2)/(1 - a/2 - c/4),    Var v = 1/(1 - a/2 - c/4),    Cov(z, v) = -(h√M/2) Var v

    and the iteration is stable for a/2 + c/4 < 1. :class:`UnderdampedLangevin` has the smaller bias
    at the same cost; this one is there because the literature uses it.

    **References:**

    1. Chen, Fox and Guestrin, *Stochastic gradient Hamiltonian Monte Carlo* (2014), algorithm 2.

    Parameters
    ----------
    model, potential_fn, preconditioner, init_strategy
        As for :class:`inference.SGLD`, like the errors.
    step_size, friction
        As for :class:`UnderdampedLangevin`, but that ``"auto"`` has the bias of SGLD's; γh ≥ 2,
        where no step is stable, is an error.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from inference import SGHMC
    >>> kernel = SGHMC(potential_fn=lambda z: jnp.sum(z**2) / 2, step_size=0.5, friction=1.0)
    >>> mcmc = MCMC(kernel, num_warmup=100, num_samples=1000, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), init_params=jnp.zeros(100))
    >>> bool(abs(mcmc.get_samples().var() - 12 / 11) < 0.05)
    True
    """

    _max_friction_step = 2.0

    def stable_step_size(self, curvature):
        """Largest stable step on U = λz²/2 for Mλ = `curvature`: where γh/2 + h²Mλ/4 = 1."""
        return (jnp.sqrt(self._friction**2 + 4 * curvature) - self._friction) / curvature

    def _move(self, state, step, key, energy_and_grad):
        scale = self.preconditioner_of(state)
        friction = self._friction * step

        def kick(v, grad, scale, noise):
            return v - step * jnp.sqrt(scale) * grad - friction * v + jnp.sqrt(2 * friction) * noise

        z = jax.tree.map(lambda z, v, scale: z + step * jnp.sqrt(scale) * v, state.z, state.velocity, scale)
        energy, grad = energy_and_grad(z)
        noise = standard_normal(key, state.z)
        velocity = jax.tree.map(kick, state.velocity, grad, scale, noise)
        return {"z": z, "potential_energy": energy, "z_grad": grad, "velocity": velocity}

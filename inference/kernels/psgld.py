"""Stochastic gradient Langevin dynamics preconditioned by RMS gradients."""

from collections import namedtuple
from collections.abc import Callable

import jax
import jax.numpy as jnp

from inference.kernels.langevin import STATE_FIELDS, LangevinKernel, langevin_step
from inference.kernels.step_size import standard_normal
from models import checks

PSGLDState = namedtuple("PSGLDState", [*STATE_FIELDS, "mean_square"])
"""
The fields in :data:`inference.kernels.langevin.STATE_FIELDS`, and

 - **mean_square** - V, a pytree like ``z``; constant once it is frozen.
"""


class PSGLD(LangevinKernel):
    """Langevin dynamics with a diagonal preconditioner learnt from the gradients (pSGLD).

        V ← α V + (1 - α) ∇Û(z)²  (elementwise, during the warm-up),      M = 1/(δ + √V)
        z ← z - ε M ∇Û(z) + √(2ε M) ξ,        ξ ~ Normal(0, I)

    M is the preconditioner of RMSprop. One that depends on z needs the drift ε Γ with Γ_i =
    ∂M_i/∂z_i, or the stationary law is another one; here V is frozen after the warm-up, so that M
    is a constant, Γ vanishes, and all that is left is the O(ε) bias of SGLD (per coordinate of a
    Gaussian, the variance 1/(λ(1 - εMλ/2))).

    **References:**

    1. Li, Chen, Carlson and Carin, *Preconditioned stochastic gradient Langevin dynamics for deep
       neural networks* (2016).

    Parameters
    ----------
    model, potential_fn, step_size, init_strategy
        As for :class:`inference.SGLD`, like the errors; ε multiplies M, so that its scale is
        another one.
    decay
        α in (0, 1): V averages about 1/(1 - α) steps. It starts from each site's mean squared
        gradient, which is also what a run without a warm-up keeps.
    floor
        δ > 0, which bounds M where gradients vanish; in units of the gradient.

    Examples
    --------
    Standard deviations 1 and 100:

    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from inference import PSGLD
    >>> kernel = PSGLD(potential_fn=lambda z: jnp.sum((z / jnp.array([1.0, 100.0])) ** 2) / 2, step_size=0.2)
    >>> mcmc = MCMC(kernel, num_warmup=2000, num_samples=100_000, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), init_params=jnp.array([1.0, 100.0]))
    >>> scale = mcmc.get_samples().std(axis=0)
    >>> bool(0.8 < scale[0] < 1.4), bool(70 < scale[1] < 140)
    (True, True)
    """

    _state_type = PSGLDState

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float | str | Callable = "auto",
        decay: float = 0.99,
        floor: float = 1e-5,
        **options,
    ):
        super().__init__(model, potential_fn, step_size, None, **options)
        checks.positive("decay", decay)
        if decay >= 1:
            raise ValueError(f"decay must be below 1, got {decay!r}.")
        checks.positive("floor", floor)
        self._decay, self._floor = decay, floor

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        own = {"preconditioner": "rms", "decay": self._decay, "floor": self._floor}
        return super().settings() | own

    def scale(self, mean_square):
        """The preconditioner M = 1/(δ + √V) for V = `mean_square`, a pytree like it."""
        return jax.tree.map(lambda v: 1 / (self._floor + jnp.sqrt(v)), mean_square)

    def preconditioner_of(self, state):
        """M where V is frozen, a pytree like ``z``."""
        return self.scale(state.mean_square)

    def _own_fields(self, z, grad, step, rng_key):
        # Pooled, since a gradient that happens to vanish at the start would make for an enormous M.
        return {"mean_square": jax.tree.map(lambda g: jnp.full_like(g, jnp.mean(g**2)), grad)}

    def _move(self, state, step, key, energy_and_grad):
        adapting = state.i < self._num_warmup

        def average(v, grad):
            return jnp.where(adapting, self._decay * v + (1 - self._decay) * grad**2, v)

        mean_square = jax.tree.map(average, state.mean_square, state.z_grad)
        noise = standard_normal(key, state.z)
        z = langevin_step(state.z, state.z_grad, self.scale(mean_square), step, noise)
        energy, grad = energy_and_grad(z)
        return {"z": z, "potential_energy": energy, "z_grad": grad, "mean_square": mean_square}

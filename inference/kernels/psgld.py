"""Stochastic gradient Langevin dynamics preconditioned by RMS gradients."""

from collections import namedtuple
from collections.abc import Callable

import jax
import jax.numpy as jnp
from numpyro.infer.initialization import init_to_uniform

from inference.kernels.langevin import LangevinKernel, standard_normal
from models import checks

PSGLDState = namedtuple(
    "PSGLDState",
    ["i", "z", "potential_energy", "z_grad", "mean_square", "step_size", "diverging", "rng_key"],
)
"""
The fields of :class:`inference.kernels.sgld.SGLDState` and

 - **mean_square** - V, running mean of the squared gradient, a pytree like ``z``; constant once it is frozen.
"""


class PSGLD(LangevinKernel):
    """Langevin dynamics with a diagonal preconditioner learnt from the gradients (pSGLD).

        V ← α V + (1 - α) ∇Û(z)²  (elementwise, during the warm-up),      M = (δ + √V)^(-2p)
        z ← z - ε M ∇Û(z) + √(2ε M) ξ,        ξ ~ Normal(0, I)

    With p = 1/2, M is the preconditioner of RMSprop (Li et al. 2016). With p = 1 it is, in the stationary law and
    for exact gradients, the inverse mean curvature of each coordinate, for E[(∂U)²] = E[∂²U] by partial
    integration (Titsias 2023): every direction of an axis-aligned Gaussian then mixes at the same rate, and ε is
    a pure number (stable for ε < 2 on such a Gaussian).

    **What becomes of the correction Γ.** A preconditioner that depends on z needs the drift ε Γ with
    Γ_i = ∂M_i/∂z_i, or the stationary law is another one. By default V is frozen after the warm-up: M is then a
    constant, Γ vanishes, and all that is left is the O(ε) bias of SGLD (per coordinate of a Gaussian, the variance
    1/(λ(1 - εMλ/2))). With ``adapt="always"`` V keeps moving, as Li et al. run it, and no Γ is added: for their
    moving average Γ_i = -2p (1 - α) M_i ∂_iU ∂²_iU / (√V_i (δ + √V_i)), which would take the diagonal of the
    Hessian and is exact only where V is a function of z, so for α = 0. Its omission leaves a bias that vanishes
    with (1 - α) at fixed ε and does not vanish with ε at fixed α: use it to explore, not for final numbers.

    **References:**

    1. Li, Chen, Carlson and Carin, *Preconditioned stochastic gradient Langevin dynamics for deep neural networks*
       (2016).
    2. Titsias, *Optimal preconditioning and Fisher adaptive Langevin sampling* (2023).

    Parameters
    ----------
    model, potential_fn, step_size, init_strategy
        As for :class:`inference.SGLD`; ε multiplies M, so that its scale is another one.
    decay
        α in (0, 1): V averages about 1/(1 - α) steps.
    floor
        δ > 0, which bounds M where gradients vanish; in units of the gradient.
    power
        p, 1/2 or 1.
    pool
        True: one V a site, the mean over its elements. Neurons are exchangeable, so that what one of them learnt
        in the warm-up need not suit it later. False, the default: one V an element.
    adapt
        ``"warmup"`` or ``"always"``. V starts from the site's mean squared gradient at the start, which is also
        what a run without a warm-up keeps.

    Raises
    ------
    ValueError
        For an argument out of range.
    DivergenceError
        When a trajectory leaves the finite numbers.

    Examples
    --------
    Standard deviations 1 and 100, sampled at the rate of a round Gaussian:

    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from inference import PSGLD
    >>> kernel = PSGLD(potential_fn=lambda z: jnp.sum((z / jnp.array([1.0, 100.0])) ** 2) / 2, step_size=0.3, power=1)
    >>> mcmc = MCMC(kernel, num_warmup=2000, num_samples=4000, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), init_params=jnp.array([1.0, 100.0]))
    >>> scale = mcmc.get_samples().std(axis=0)
    >>> bool(0.8 < scale[0] < 1.4), bool(80 < scale[1] < 140)
    (True, True)
    """

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float | Callable = 1e-3,
        decay: float = 0.99,
        floor: float = 1e-5,
        power: float = 0.5,
        pool: bool = False,
        adapt: str = "warmup",
        init_strategy: Callable = init_to_uniform,
    ):
        super().__init__(model, potential_fn, step_size, None, init_strategy)
        checks.positive("decay", decay)
        if decay >= 1:
            raise ValueError(f"decay must be below 1, got {decay!r}.")
        checks.positive("floor", floor)
        checks.one_of("adapt", adapt, ("warmup", "always"))
        if power not in (0.5, 1):
            raise ValueError(f"power must be 0.5 (RMSprop) or 1 (inverse curvature), got {power!r}.")
        self._decay, self._floor, self._power, self._pool, self._adapt = decay, floor, power, pool, adapt

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        own = {"decay": self._decay, "floor": self._floor, "power": self._power}
        return super().settings() | own | {"preconditioner": "rms", "pool": self._pool, "adapt": self._adapt}

    def scale(self, mean_square):
        """The preconditioner M = (δ + √V)^(-2p) for V = `mean_square`, a pytree like it."""
        return jax.tree.map(lambda v: (self._floor + jnp.sqrt(v)) ** (-2 * self._power), mean_square)

    def preconditioner_of(self, state):
        """M as the next step from `state` uses it, where V is frozen; a pytree like ``z``."""
        return self.scale(state.mean_square)

    def _initial_state(self, z, energy, grad, step, diverging, rng_key):
        # Pooled, since a gradient that happens to vanish at the start would make for an enormous M.
        mean_square = jax.tree.map(lambda g: jnp.full_like(g, jnp.mean(g**2)), grad)
        return PSGLDState(jnp.array(0), z, energy, grad, mean_square, step, diverging, rng_key)

    def _move(self, state, step, key, energy_and_grad):
        adapting = (state.i < self._num_warmup) | (self._adapt == "always")

        def average(v, grad):
            square = jnp.full_like(v, jnp.mean(grad**2)) if self._pool else grad**2
            return jnp.where(adapting, self._decay * v + (1 - self._decay) * square, v)

        mean_square = jax.tree.map(average, state.mean_square, state.z_grad)

        def langevin(z, grad, scale, noise):
            return z - step * scale * grad + jnp.sqrt(2 * step * scale) * noise

        noise = standard_normal(key, state.z)
        z = jax.tree.map(langevin, state.z, state.z_grad, self.scale(mean_square), noise)
        energy, grad = energy_and_grad(z)
        return {"z": z, "potential_energy": energy, "z_grad": grad, "mean_square": mean_square}

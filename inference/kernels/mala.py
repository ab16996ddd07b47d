"""The Metropolis-adjusted Langevin algorithm: the unbiased check of the other Langevin kernels."""

from collections import namedtuple
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import random
from numpyro.infer.hmc_util import dual_averaging

from inference.kernels.langevin import STATE_FIELDS, LangevinKernel, langevin_step
from inference.kernels.step_size import standard_normal
from models import checks

MALAState = namedtuple("MALAState", [*STATE_FIELDS, "accept_prob", "adapt_state"])
"""
The fields in :data:`inference.kernels.langevin.STATE_FIELDS`, and

 - **accept_prob** - acceptance probability of the last proposal, accepted or not.
 - **adapt_state** - state of the dual averaging of log ε; ``step_size`` is that of the next step.
"""


class MALA(LangevinKernel):
    """Metropolis-adjusted Langevin algorithm: exact at every step size.

        z' = z - ε M ∇U(z) + √(2ε M) ξ,        ξ ~ Normal(0, I)

    accepted with probability min(1, exp(U(z) - U(z')) q(z | z')/q(z' | z)), where q(z' | z) is the
    density of Normal(z - ε M ∇U(z), 2ε M) at z'. With δ = √(εM/2) (∇U(z) + ∇U(z')), the noise that
    leads back from z' is δ - ξ, and

        log q(z | z') - log q(z' | z) = ½ Σ (ξ² - (δ - ξ)²) = ½ Σ δ (2ξ - δ).

    Its stationary law is the posterior itself. During the warm-up, dual averaging of log ε steers
    the acceptance towards 0.574, the best in high dimension; ε is a constant after it. A proposal
    outside the finite numbers is rejected, so that this kernel does not diverge: a step size far
    too large shows in ``accept_prob`` near 0. In d dimensions ε must fall as d^(-1/3): it costs
    more steps than SGLD, which is the price of the exactness.

    **References:**

    1. Roberts and Tweedie, *Exponential convergence of Langevin distributions and their discrete
       approximations* (1996).
    2. Roberts and Rosenthal, *Optimal scaling of discrete approximations to Langevin diffusions*
       (1998).
    3. Hoffman and Gelman, *The no-U-turn sampler* (2014), section 3.2: dual averaging.

    Parameters
    ----------
    model, potential_fn, preconditioner, init_strategy
        As for :class:`inference.SGLD`, like the errors. Minibatches are refused.
    step_size
        Where the adaptation starts: ``"auto"``, by the curvature at the start of the chain, or ε >
        0; without adaptation, the step size, or (only then) a schedule.
    adapt_step_size
        Whether to adapt ε during the warm-up, each chain on its own.
    target_accept_prob
        In (0, 1).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from numpyro.infer import MCMC
    >>> from inference import MALA
    >>> kernel = MALA(potential_fn=lambda z: jnp.sum(z**2) / 2, step_size=0.01)
    >>> mcmc = MCMC(kernel, num_warmup=500, num_samples=2000, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), init_params=jnp.zeros(20), extra_fields=("accept_prob",))
    >>> bool(abs(mcmc.get_extra_fields()["accept_prob"].mean() - 0.574) < 0.1)
    True
    """

    _state_type = MALAState
    stats_fields: ClassVar[dict[str, str]] = LangevinKernel.stats_fields | {"acceptance_rate": "accept_prob"}
    subsamples: ClassVar[bool] = False
    _tunes = False  # acceptance adapts the step
    bias_order: ClassVar[int | None] = None

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float | str | Callable = "auto",
        preconditioner="auto",
        adapt_step_size: bool = True,
        target_accept_prob: float = 0.574,
        **options,
    ):
        super().__init__(model, potential_fn, step_size, preconditioner, **options)
        if callable(step_size) and adapt_step_size:
            raise ValueError("step_size must be a number where it is adapted; give adapt_step_size=False.")
        if isinstance(step_size, str) and not adapt_step_size:
            raise ValueError("step_size must be a number or a schedule where it is not adapted.")
        checks.positive("target_accept_prob", target_accept_prob)
        if target_accept_prob >= 1:
            raise ValueError(f"target_accept_prob must be below 1, got {target_accept_prob!r}.")
        self._adapts = bool(adapt_step_size)
        self._target = target_accept_prob

    def get_diagnostics_str(self, state):
        return f"{super().get_diagnostics_str(state)}, acceptance {state.accept_prob:.2f}"

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        own = {"adapt_step_size": self._adapts, "target_accept_prob": float(self._target)}
        return super().settings() | own

    def _own_fields(self, z, grad, step, rng_key):
        return {"accept_prob": jnp.zeros_like(step), "adapt_state": dual_averaging()[0](jnp.log(step))}

    def _first_tuning(self, state, key_batch, model_args, model_kwargs):
        state = super()._first_tuning(state, key_batch, model_args, model_kwargs)
        return state._replace(tuning=None, adapt_state=dual_averaging()[0](jnp.log(state.step_size)))

    def _move(self, state, step, key, energy_and_grad):
        scale = self.preconditioner_of(state)
        step = state.step_size if self._adapts else step
        key_noise, key_accept = random.split(key)
        noise = standard_normal(key_noise, state.z)

        z = langevin_step(state.z, state.z_grad, scale, step, noise)
        energy, grad = energy_and_grad(z)

        def log_density_ratio(old_grad, grad, scale, noise):
            delta = jnp.sqrt(step * scale / 2) * (old_grad + grad)
            return jnp.sum(delta * (2 * noise - delta)) / 2

        ratios = jax.tree.map(log_density_ratio, state.z_grad, grad, scale, noise)
        log_accept = state.potential_energy - energy + sum(jax.tree.leaves(ratios))
        # NaN where the proposal's energy or gradient is not finite.
        accept_prob = jnp.where(jnp.isnan(log_accept), 0.0, jnp.exp(jnp.minimum(log_accept, 0.0)))
        accept = random.uniform(key_accept, dtype=accept_prob.dtype) < accept_prob
        z, energy, grad = jax.tree.map(
            lambda new, old: jnp.where(accept, new, old),
            (z, energy, grad),
            (state.z, state.potential_energy, state.z_grad),
        )
        adapted = self._adapt(state, accept_prob) if self._adapts else {}
        return {"z": z, "potential_energy": energy, "z_grad": grad, "accept_prob": accept_prob, **adapted}

    def _adapt(self, state, accept_prob) -> dict:
        """``adapt_state`` and ``step_size`` after a proposal; the averaged ε once warm-up ends."""
        moved = dual_averaging()[1](self._target - accept_prob, state.adapt_state)
        last = state.i + 1 == self._num_warmup
        step = jnp.exp(jnp.where(last, moved[1], moved[0])).astype(state.step_size.dtype)
        adapting = state.i < self._num_warmup
        new, old = (moved, step), (state.adapt_state, state.step_size)
        new = jax.tree.map(
            lambda new, old: jnp.where(adapting, new, old).astype(jnp.result_type(old)), new, old
        )
        return dict(zip(("adapt_state", "step_size"), new, strict=True))

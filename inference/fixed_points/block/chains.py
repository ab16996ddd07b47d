"""Chains of the reduced network whose background follows their own averages in the warm-up.

One compiled program takes the background as an argument, so that rounds of a few steps, each with
the background that the last round's draws call for, cost no compilation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS
from numpyro.infer.util import potential_energy
from numpyro.util import nested_attrgetter

from inference.fixed_points.block.averages import BlockAverages
from inference.fixed_points.block.density import Background
from inference.fixed_points.block.draws import BlockDraws
from inference.fixed_points.block.figures import BlockFigures, draw_figures, weight_figures
from inference.fixed_points.block.model import BlockModel
from inference.kernels.divergence import check_finite
from inference.runs.binding import bind_kernel, stats_fields
from inference.tracing import TRACE_LOCK

_ROUND = 50  # steps between updates of the background
_FULL, _FOLLOWING = 0.4, 0.8  # shares of the warm-up: the background moves by full steps, or at all


class BlockChains:
    """Chains of a reduced network; the compiled programs serve every run, at any κ and P."""

    def __init__(self, model: BlockModel, kernel, num_chains: int, num_warmup: int):
        self.model, self.num_chains, self.num_warmup = model, num_chains, num_warmup
        self.kernel = bind_kernel(kernel or partial(NUTS, max_tree_depth=8), model)
        self._fields = stats_fields(self.kernel)
        self._reusable = kernel is None  # a fresh state of NUTS depends on the start in z alone
        self._fresh, self._program = None, None

    def run(
        self,
        key: jax.Array,
        start: str,
        background: Background,
        average: Callable[[BlockFigures, Background], BlockAverages],
        num_draws: int,
        report: Callable[[int], None],
    ) -> BlockDraws:
        """Warm up, with the background following in the first four fifths, and draw.

        Starts "prior" or "aligned", in `background`; `average` says what the draws call for, and
        `report` is called with the number of steps done after every round.
        """
        state, work, settled = self._state(key, start, background), 0, 0
        for done in range(0, self.num_warmup, _ROUND):
            count = min(_ROUND, self.num_warmup - done)
            state, sites, _, steps = self._round(state, background, count)
            work += steps
            if done < _FOLLOWING * self.num_warmup:
                figures = draw_figures(self.model, sites, background)
                figures = jax.tree.map(lambda v, n=count: v[n // 2 : n], figures)
                # Full steps while the chains travel, then a running mean over their noise.
                settled += done >= _FULL * self.num_warmup
                step, wanted = 1 / max(settled, 1), average(figures, background).background
                background = jax.tree.map(lambda a, b, s=step: a + s * (b - a), background, wanted)
            report(done + count)
        kept = []
        for done in range(0, num_draws, _ROUND):
            count = min(_ROUND, num_draws - done)
            state, sites, stats, steps = self._round(state, background, count)
            work += steps
            piece = sites, stats, draw_figures(self.model, sites, background)
            kept.append(jax.tree.map(lambda v, n=count: np.asarray(v[:n]), piece))
            report(self.num_warmup + done + count)
        sites, stats, figures = jax.tree.map(lambda *v: np.swapaxes(np.concatenate(v), 0, 1), *kept)
        if "potential_energy" in stats:
            stats["lp"] = -stats.pop("potential_energy")
        background = jax.tree.map(np.asarray, background)
        averages = average(figures, background)
        observed = {"order_parameter": figures.order_parameter, "test_mse": averages.test_mse}
        observed |= weight_figures(self.model.problem, sites)
        return BlockDraws(sites, stats, observed, background, averages.test_mse_mean, averages.residual, work)

    def _round(self, state, background: Background, count: int):
        """State, sites and statistics after `count` steps, and the gradients they took."""
        state, sites, stats, steps = self._program(state, background, count)
        # Of our kernels, whose flag stays; that of NUTS concerns one trajectory.
        if hasattr(self.kernel, "step"):
            check_finite(self.kernel, state)
        return state, sites, stats, int(steps)

    def _state(self, key: jax.Array, start: str, background: Background):
        """A fresh state; compiles at the first call."""
        key_start, key_chains = jax.random.split(key)
        params = self.model.start_params(key_start, self.num_chains, start)
        keys = jax.random.split(key_chains, self.num_chains)
        state = self._fresh
        if state is None:
            with TRACE_LOCK:
                state = self.kernel.init(
                    keys, self.num_warmup, params, model_args=(background,), model_kwargs={}
                )
                if self._program is None:
                    self._program = jax.jit(self._advance).lower(state, background, 1).compile()
        if self._reusable:
            self._fresh = state = state._replace(z=params, rng_key=keys)
        return state

    def _advance(self, state, background: Background, num_steps):
        """`num_steps` steps at a background; returns the state, buffers of draws and the work."""
        kernel, arguments = self.kernel, (background,)
        constrain = jax.vmap(kernel.postprocess_fn(arguments, {}))

        def collect(state):
            stats = {name: nested_attrgetter(field)(state) for name, field in self._fields.items()}
            return constrain(getattr(state, kernel.sample_field)), stats

        if hasattr(state, "z_grad"):  # of the background before
            energy = partial(potential_energy, self.model, arguments, {})
            value, slope = jax.vmap(jax.value_and_grad(energy))(state.z)
            state = state._replace(potential_energy=value, z_grad=slope)
        buffer = jax.tree.map(
            lambda v: jnp.zeros((_ROUND, *v.shape), v.dtype), jax.eval_shape(collect, state)
        )

        def one(i, carry):
            state, buffer, work = carry
            state = kernel.sample(state, arguments, {})
            steps = getattr(state, "num_steps", jnp.ones(self.num_chains, jnp.int32))
            work += jnp.sum(steps, dtype=jnp.int32)
            return state, jax.tree.map(lambda b, v: b.at[i].set(v), buffer, collect(state)), work

        state, (sites, stats), work = jax.lax.fori_loop(
            0, num_steps, one, (state, buffer, jnp.array(0, jnp.int32))
        )
        return state, sites, stats, work

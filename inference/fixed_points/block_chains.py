"""Markov chains of the reduced network whose background follows their own averages during the warm-up.

One compiled program takes the background as an argument, so that rounds of a few steps, each with the background
that the last round's draws call for, cost no compilation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import NUTS
from numpyro.infer.util import potential_energy
from numpyro.util import nested_attrgetter

from inference.fixed_points.block_averages import BlockAverages, DrawFigures, draw_figures
from inference.fixed_points.block_density import Background
from inference.fixed_points.block_model import BlockModel
from inference.fixed_points.relu import sign_patterns
from inference.kernels.sgld import raise_divergence
from inference.sampling import bind_kernel
from inference.tracing import TRACE_LOCK
from models import ARD

_FIELDS = {
    "lp": "potential_energy",
    "energy": "energy",
    "n_steps": "num_steps",
    "acceptance_rate": "accept_prob",
    "diverging": "diverging",
    "step_size": "adapt_state.step_size",
}
ROUND = 50  # steps between updates of the background
_NORM = 1.5  # of an aligned neuron at the start, in units of a prior neuron's


@dataclass
class BlockDraws:
    """Draws from one start.

    Attributes
    ----------
    sites, stats
        Site values and state fields, each (chain, draw, ...).
    figures
        Figures of every draw, each (chain, draw, ...).
    background
        In which they were drawn.
    averages
        What they average to.
    gradient_evaluations
        Leapfrog steps or Langevin steps of all chains, warm-up included.
    """

    sites: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    figures: DrawFigures
    background: Background
    averages: BlockAverages
    gradient_evaluations: int


class BlockChains:
    """Chains of a reduced network at any κ and P; the compiled programs serve every run.

    Parameters
    ----------
    model
        The reduced network; its background is not used.
    kernel
        Makes a kernel from a model, or a NumPyro kernel without a model; None for NUTS with trees of depth up to 8.
    num_chains, num_warmup
        Chains side by side, and steps of each before the first draw.
    """

    def __init__(self, model: BlockModel, kernel, num_chains: int, num_warmup: int):
        self.model, self.num_chains, self.num_warmup = model, num_chains, num_warmup
        self.kernel = bind_kernel(kernel or partial(NUTS, max_tree_depth=8), model)
        self._reusable = kernel is None  # a fresh state of NUTS depends on the start in z alone
        self._fresh, self._program = None, None
        self._figures = jax.jit(partial(draw_figures, model))

    def run(
        self,
        key: jax.Array,
        start: str,
        background: Background,
        kappa: float,
        num_data: int | None,
        num_draws: int,
        update: bool = True,
    ) -> BlockDraws:
        """Warm up, with the background following in the first four fifths, and draw.

        Parameters
        ----------
        key
            A ``jax.random.key``.
        start
            prior or aligned, see :func:`start_params`.
        background
            To begin with.
        kappa, num_data
            κ, and P or None.
        num_draws
            Steps of each chain that are kept.
        update
            False keeps the background.
        """
        average = partial(self._average, kappa=kappa, num_data=num_data)
        background = jax.tree.map(jnp.asarray, background)
        state, work, settled = self._state(key, start, background), 0, 0
        for done in range(0, self.num_warmup, ROUND):
            count = min(ROUND, self.num_warmup - done)
            state, (sites, _), evaluations = self._program(state, background, count)
            work += int(evaluations)
            self._check(state)
            if update and done < 0.8 * self.num_warmup:
                figures = self._figures(sites, background)
                figures = jax.tree.map(lambda v, n=count: v[n // 2 : n], figures)
                # Full steps while the chains travel, then a running mean over their noise.
                settled += done >= 0.4 * self.num_warmup
                step, wanted = 1 / max(settled, 1), average(figures, background).background
                background = jax.tree.map(lambda a, b, s=step: a + s * (b - a), background, wanted)
        kept = []
        for done in range(0, num_draws, ROUND):
            count = min(ROUND, num_draws - done)
            state, buffer, evaluations = self._program(state, background, count)
            work += int(evaluations)
            self._check(state)
            piece = (*buffer, self._figures(buffer[0], background))
            kept.append(jax.tree.map(lambda v, n=count: np.asarray(v[:n]), piece))
        sites, stats, figures = jax.tree.map(lambda *v: np.swapaxes(np.concatenate(v), 0, 1), *kept)
        if "lp" in stats:
            stats["lp"] = -stats["lp"]
        averages = average(figures, background)
        return BlockDraws(sites, stats, figures, jax.tree.map(np.asarray, background), averages, work)

    def _average(self, figures, background, kappa, num_data) -> BlockAverages:
        return BlockAverages.of(self.model.problem, figures, background, kappa, num_data)

    def _state(self, key: jax.Array, start: str, background: Background):
        """A fresh state; compiles at the first call."""
        key_start, key_chains = jax.random.split(key)
        params = start_params(self.model, key_start, self.num_chains, start)
        keys = jax.random.split(key_chains, self.num_chains)
        if self._fresh is not None:
            return self._fresh._replace(z=params, rng_key=keys)
        with TRACE_LOCK:
            state = self.kernel.init(keys, self.num_warmup, params, model_args=(background,), model_kwargs={})
            state = state._replace(rng_key=keys) if self._reusable else state
            if self._program is None:
                self._program = jax.jit(self._advance).lower(state, background, 1).compile()
        if self._reusable:
            self._fresh = state
        return state

    def _advance(self, state, background: Background, num_draws):
        """`num_draws` steps at a background; returns the state, a buffer of draws and the work."""
        kernel, arguments = self.kernel, (background,)
        step = getattr(kernel, "step", kernel.sample)
        constrain = jax.vmap(kernel.postprocess_fn(arguments, {}))
        present = {name: field for name, field in _FIELDS.items() if _has(state, field)}

        def collect(state):
            values = {name: nested_attrgetter(field)(state) for name, field in present.items()}
            return constrain(getattr(state, kernel.sample_field)), values

        if _has(state, "z_grad"):  # of the background before
            energy = partial(potential_energy, self.model, arguments, {})
            value, slope = jax.vmap(jax.value_and_grad(energy))(state.z)
            state = state._replace(potential_energy=value, z_grad=slope)
        buffer = jax.tree.map(lambda v: jnp.zeros((ROUND, *v.shape), v.dtype), jax.eval_shape(collect, state))

        def one(i, carry):
            state, buffer, work = carry
            state = step(state, arguments, {})
            work += jnp.sum(
                getattr(state, "num_steps", jnp.ones(self.num_chains, jnp.int32)), dtype=jnp.int32
            )
            return state, jax.tree.map(lambda b, v: b.at[i].set(v), buffer, collect(state)), work

        return jax.lax.fori_loop(0, num_draws, one, (state, buffer, jnp.array(0, jnp.int32)))

    def _check(self, state) -> None:
        if hasattr(self.kernel, "step") and bool(jnp.any(state.diverging)):
            worst = int(jnp.argmax(state.diverging))
            raise_divergence(state.i[worst], state.step_size[worst])


def _has(state, field: str) -> bool:
    try:
        return nested_attrgetter(field)(state) is not None
    except (AttributeError, TypeError, KeyError):
        return False


def start_params(model: BlockModel, key: jax.Array, num_chains: int, start: str) -> dict[str, jax.Array]:
    """Unconstrained initial values, chains leading.

    "prior": a draw of the prior. "aligned": one neuron for each pair ±σ of sign patterns, and with ARD a quarter of
    them all if that is more, points along w_S ∝ σ with 1.5 times the norm of a prior neuron and a tenth of its rest.
    """
    problem, prior = model.problem, model.prior
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    width, degree, num_rest = problem.width, problem.degree, problem.num_rest
    shape = (num_chains, width)
    base = rng.standard_normal((*shape, degree))
    rest = rng.chisquare(num_rest, shape) / num_rest
    params = {"w_base": base, "rest_base": rest}
    precision = np.full((num_chains, degree), problem.input_dim / prior.scale**2)
    if isinstance(prior, ARD):
        rate = prior.rate_for(problem.input_dim)
        params["rho_rest"] = rng.gamma(prior.shape, 1 / rate, (num_chains, num_rest))
        precision = rng.gamma(prior.shape, 1 / rate, (num_chains, degree))
    if start == "aligned":
        patterns = sign_patterns(degree)[: 2 ** (degree - 1)]
        count = min(width, max(len(patterns), width // 4 if isinstance(prior, ARD) else 0))
        w = base / np.sqrt(precision)[:, None]
        norm = _NORM * np.sqrt(problem.input_dim / precision.mean())
        w[:, :count] = norm / np.sqrt(degree) * patterns[np.arange(count) % len(patterns)]
        rest[:, :count] *= 0.01
        if isinstance(prior, ARD):
            precision = prior.posterior_precision((w**2).sum(axis=1), width, problem.input_dim)
            precision = np.asarray(precision)
        params["w_base"] = w * np.sqrt(precision)[:, None]
    if isinstance(prior, ARD):
        params["rho_relevant"] = precision
    # NumPyro's unconstrained form of a positive site is its logarithm.
    return {n: jnp.asarray(v if n == "w_base" else np.log(v)) for n, v in params.items()}

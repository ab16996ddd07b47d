"""All restarts of a guide side by side: their optimisation, bounds and draws."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from numpyro.handlers import seed
from numpyro.infer import SVI
from numpyro.infer.util import log_density

from inference.tracing import TRACE_LOCK
from inference.variational.guides import MeanFieldGuide

_PIECES = 50  # at most, in which the run is reported and its loss recorded
_BATCH = 8  # draws evaluated at once: bounds the memory for hidden activations


def optimise(
    svi: SVI, keys, batch: tuple, num_steps: int, init_params: dict | None, report
) -> tuple[dict, np.ndarray, np.ndarray]:
    """Ascend the bound from every key; `batch` is (x, y, subsample_size).

    Returns the parameters of all restarts (restart leading); steps (step,); and the mean bound
    since the previous one of them (restart, step).
    """
    x, y, subsample_size = batch

    def init(keys, x, y, init_params):
        one = lambda key, given: svi.init(key, x, y, subsample_size, init_params=given)  # noqa: E731
        return jax.vmap(one)(keys, init_params)

    def advance(states, num, x, y):
        def step(_, carry):
            states, total = carry
            states, loss = jax.vmap(lambda state: svi.update(state, x, y, subsample_size))(states)
            return states, total - loss

        states, total = jax.lax.fori_loop(0, num, step, (states, jnp.zeros(len(keys), x.dtype)))
        return states, total / num

    states = compile_program(init, keys, x, y, init_params, once=True)(keys, x, y, init_params)
    program = compile_program(advance, states, jnp.asarray(0), x, y)
    steps = np.unique(np.linspace(0, num_steps, min(_PIECES, num_steps) + 1).round().astype(int))
    history = []
    report(0, num_steps, "")
    for start, stop in pairwise(steps.tolist()):
        states, bound = program(states, jnp.asarray(stop - start), x, y)
        history.append(np.asarray(bound))
        finite = history[-1][np.isfinite(history[-1])]
        report(stop, num_steps, f"best ELBO {finite.max():.1f}" if finite.size else "ELBO not finite")
    return svi.get_params(states), steps[1:], np.stack(history, axis=1)


def final_bounds(guide: MeanFieldGuide, params: dict, keys, x, y) -> tuple[np.ndarray, np.ndarray]:
    """ELBO of every restart on all data and its standard error, by the same random keys for all."""
    elbo = guide.elbo(num_particles=1)

    def bounds(params, keys, x, y):
        def one_draw(key):
            return jax.vmap(lambda p: -elbo.loss(key, p, guide.model, guide, x, y))(params)

        return jax.lax.map(one_draw, keys, batch_size=_BATCH)

    program = compile_program(bounds, params, keys, x, y, once=True)
    values = np.asarray(program(params, keys, x, y), dtype=float)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / len(values) ** 0.5


def draw_mixture(guide: MeanFieldGuide, params: dict, weights: np.ndarray, keys, x, y) -> tuple[dict, dict]:
    """Independent draws from Σ_r w_r q_r, one for each of `keys`, and what is known of each.

    The q_r are `guide` with its `params`, r leading. Known are ``log_p`` (data included), ``log_q``
    = log Σ_r w_r q_r, and ``component``, the r of each draw.
    """
    log_weights = jnp.log(jnp.asarray(weights, x.dtype))

    def draws(params, log_weights, keys, x, y):
        def one(key):
            # ``seed`` splits the key; by JAX's default generator split(key)[i] is fold_in(key, i).
            key_component, key_rest = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)
            component = jax.random.categorical(key_component, log_weights)
            chosen = jax.tree.map(lambda v: v[component], params)
            _, guide_sites = log_density(seed(guide, key), (x, y), {}, chosen)
            latent = {n: s["value"] for n, s in guide_sites.items() if s["type"] == "sample"}
            log_q = jax.vmap(lambda p: log_density(guide, (x, y), {}, {**p, **latent})[0])(params)
            log_p, model_sites = log_density(guide.model, (x, y), {}, latent)
            derived = {n: s["value"] for n, s in model_sites.items() if s["type"] == "deterministic"}
            sites = latent | derived
            stats = {"log_p": log_p, "log_q": logsumexp(log_weights + log_q), "component": component}
            return sites | guide.complete(key_rest, sites, x, y), stats

        return jax.lax.map(one, keys, batch_size=_BATCH)

    program = compile_program(draws, params, log_weights, keys, x, y, once=True)
    return program(params, log_weights, keys, x, y)


def compile_program(function, *args, once: bool = False):
    """The program of `function` for `args`, traced under the lock that NumPyro needs.

    One that runs `once` is compiled in half the time, with fewer optimisations; on the default
    problem it runs as fast.
    """
    with TRACE_LOCK:
        lowered = jax.jit(function).lower(*args)
    return lowered.compile({"xla_backend_optimization_level": 1} if once else None)

"""Fitting guides by stochastic variational inference, with restarts."""

import time
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from numpyro.handlers import seed
from numpyro.infer import SVI
from numpyro.infer.util import log_density

from inference.datatree import build_tree
from inference.guides import MeanFieldGuide
from inference.problem import check_problem
from inference.progress import ProgressCallback, progress_callback
from inference.tracing import TRACE_LOCK
from models import Dataset, TwoLayerNetwork, checks

# Chains that independent draws are laid out in, so that they share the shape of a sampler's.
_CHAINS = 4
# The run is reported, and its loss recorded, in at most so many pieces.
_PIECES = 50
# Draws evaluated at once: bounds the memory for hidden activations.
_BATCH = 8
_BOUND_DRAWS = 1000  # Monte-Carlo draws behind the final bound of each restart


def fit(
    network: TwoLayerNetwork,
    data: Dataset,
    guide: MeanFieldGuide,
    key: jax.Array,
    *,
    num_steps: int = 5000,
    num_restarts: int = 4,
    num_particles: int = 1,
    learning_rate: float = 0.02,
    num_draws: int = 1000,
    subsample_size: int | None = None,
    progress: bool | ProgressCallback | None = None,
) -> xr.DataTree:
    """Fit a guide to a network's posterior and draw independent networks from it.

    Adam with the step size η_t = η cos²(πt/2T) ascends the evidence lower bound

        ELBO(q) = E_q[log p(y, θ) - log q(θ)] = log p(y) - KL(q ‖ p(θ|y)) ≤ log p(y)

    from every restart's own draw of the prior; the restart with the largest final bound is kept. The decaying
    step averages the Monte-Carlo noise of the gradients out, so that the end is the optimum and not a cloud
    around it. The bound is not convex: restarts end in different solutions, and all their bounds are reported.

    Parameters
    ----------
    network, data
        What to approximate.
    guide
        A :class:`inference.MeanFieldGuide` or :class:`inference.MeanFieldARDGuide`; it is bound to `network`.
    key
        A ``jax.random.key``; the same key gives the same result.
    num_steps
        Steps T of each restart.
    num_restarts
        Restarts, advanced side by side.
    num_particles
        Draws from the guide behind each gradient.
    learning_rate
        Initial step size η > 0 of Adam.
    num_draws
        Networks to draw from the guide, a multiple of 4; laid out as 4 chains.
    subsample_size
        Minibatch size behind each gradient; all data by default. The final bound always uses all data.
    progress
        None or False: silent; True: a bar on standard error; or a callable ``(done, total, text)``.

    Returns
    -------
    xarray.DataTree
        The schema of :func:`inference.datatree.build_tree` with, in ``sample_stats``, ``log_p`` = log p(y, θ) and
        ``log_q`` = log q(θ) of each draw, densities of the same variables (importance ratios for PSIS); a group
        ``restarts`` with ``elbo`` and ``elbo_se`` (restart), and the mean bound ``elbo_history`` (restart, step)
        over the steps up to each ``step``; and the attributes ``elbo``, ``elbo_se``, ``best_restart``.

    Raises
    ------
    ValueError
        For arguments out of range; where the bound is not finite in any restart, naming the learning rate.

    Examples
    --------
    >>> import jax
    >>> from models import SparseParity, TwoLayerNetwork
    >>> from inference import MeanFieldGuide, fit
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = fit(network, data, MeanFieldGuide(), jax.random.key(1), num_steps=50)
    >>> tree["posterior/w"].dims
    ('chain', 'draw', 'neuron', 'input')
    """
    _check_arguments(
        network, data, guide, num_steps, num_restarts, num_particles, learning_rate, num_draws, subsample_size
    )
    started = time.perf_counter()
    guide = guide.bind(network)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    key_fit, key_bound, key_draw = jax.random.split(key, 3)

    with progress_callback(progress, guide.scheme) as report:
        optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
        svi = SVI(guide.model, guide, optimiser, guide.elbo(num_particles))
        params, steps, history = _optimise(
            svi, jax.random.split(key_fit, num_restarts), x, y, subsample_size, num_steps, report
        )
    elbo, elbo_se = _final_bounds(guide, params, jax.random.split(key_bound, _BOUND_DRAWS), x, y)
    if not np.isfinite(elbo).any():
        raise ValueError(
            f"the evidence lower bound is not finite in any restart; lower learning_rate={learning_rate!r} "
            "(a tenth of it)."
        )
    best = int(np.argmax(np.where(np.isfinite(elbo), elbo, -np.inf)))
    chosen = {name: value[best] for name, value in params.items()}
    draws, sample_stats = _draw(guide, chosen, jax.random.split(key_draw, num_draws), x, y)

    batch_fraction = (subsample_size or data.num_data) / data.num_data
    tree = build_tree(
        network,
        data,
        draws,
        scheme=guide.scheme,
        settings={
            **guide.settings(),
            "num_steps": num_steps,
            "num_restarts": num_restarts,
            "num_particles": num_particles,
            "learning_rate": learning_rate,
            "subsample_size": subsample_size,
        },
        seed=key,
        wall_time_s=time.perf_counter() - started,
        gradient_evaluations=round(num_steps * num_restarts * num_particles * batch_fraction),
        independent_draws=True,
        sample_stats=sample_stats,
        extra_attributes={"elbo": float(elbo[best]), "elbo_se": float(elbo_se[best]), "best_restart": best},
    )
    tree["restarts"] = xr.Dataset(
        {
            "elbo": ("restart", elbo),
            "elbo_se": ("restart", elbo_se),
            "elbo_history": (("restart", "step"), history),
        },
        coords={"restart": np.arange(num_restarts), "step": steps},
    )
    return tree


def _compile(function, *args):
    """The program of `function` for `args`, traced under the lock that NumPyro's global handler stack needs."""
    with TRACE_LOCK:
        lowered = jax.jit(function).lower(*args)
    return lowered.compile()


def _optimise(svi, keys, x, y, subsample_size, num_steps, report):
    """Parameters of all restarts; steps, and the mean bound since the previous one of them."""

    def init(keys, x, y):
        return jax.vmap(lambda key: svi.init(key, x, y, subsample_size))(keys)

    def advance(states, num, x, y):
        def step(_, carry):
            states, total = carry
            states, loss = jax.vmap(lambda state: svi.update(state, x, y, subsample_size))(states)
            return states, total - loss

        states, total = jax.lax.fori_loop(0, num, step, (states, jnp.zeros(len(keys), x.dtype)))
        return states, total / num

    states = _compile(init, keys, x, y)(keys, x, y)
    program = _compile(advance, states, jnp.asarray(0), x, y)
    steps = np.unique(np.linspace(0, num_steps, min(_PIECES, num_steps) + 1).round().astype(int))
    history = []
    report(0, num_steps, "")
    for start, stop in pairwise(steps.tolist()):
        states, bound = program(states, jnp.asarray(stop - start), x, y)
        history.append(np.asarray(bound))
        finite = history[-1][np.isfinite(history[-1])]
        report(stop, num_steps, f"best ELBO {finite.max():.1f}" if finite.size else "ELBO not finite")
    return svi.get_params(states), steps[1:], np.stack(history, axis=1)


def _final_bounds(guide, params, keys, x, y):
    """ELBO of every restart on all data and its standard error, by the same random keys for all."""
    elbo = guide.elbo(num_particles=1)

    def bounds(params, keys, x, y):
        def one_draw(key):
            return jax.vmap(lambda p: -elbo.loss(key, p, guide.model, guide, x, y))(params)

        return jax.lax.map(one_draw, keys, batch_size=_BATCH)

    values = np.asarray(_compile(bounds, params, keys, x, y)(params, keys, x, y), dtype=float)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / len(values) ** 0.5


def _draw(guide, params, keys, x, y):
    """Sites of independent draws, and their log densities under the model (data included) and the guide."""

    def draws(params, keys, x, y):
        def one(key):
            log_q, guide_sites = log_density(seed(guide, key), (x, y), {}, params)
            latent = {n: s["value"] for n, s in guide_sites.items() if s["type"] == "sample"}
            log_p, model_sites = log_density(guide.model, (x, y), {}, latent)
            derived = {n: s["value"] for n, s in model_sites.items() if s["type"] == "deterministic"}
            return latent | derived, {"log_p": log_p, "log_q": log_q}

        return jax.lax.map(one, keys, batch_size=_BATCH)

    values = _compile(draws, params, keys, x, y)(params, keys, x, y)
    return jax.tree.map(lambda v: np.asarray(v).reshape(_CHAINS, -1, *v.shape[1:]), values)


def _check_arguments(
    network, data, guide, num_steps, num_restarts, num_particles, learning_rate, num_draws, subsample_size
):
    check_problem(network, data)
    if not isinstance(guide, MeanFieldGuide):
        raise ValueError(
            "guide must be an instance such as MeanFieldGuide() or MeanFieldARDGuide(), "
            f"got {guide if isinstance(guide, type) else type(guide).__name__}."
        )
    checks.whole("num_steps", num_steps, 1)
    checks.whole("num_restarts", num_restarts, 1)
    checks.whole("num_particles", num_particles, 1)
    checks.positive("learning_rate", learning_rate)
    checks.whole("num_draws", num_draws, _CHAINS)
    if num_draws % _CHAINS:
        raise ValueError(f"num_draws must be a multiple of {_CHAINS}, got {num_draws}.")
    if subsample_size is not None:
        checks.whole("subsample_size", subsample_size, 1)
        if subsample_size > data.num_data:
            raise ValueError(
                f"subsample_size must not exceed the {data.num_data} training points, got {subsample_size}."
            )

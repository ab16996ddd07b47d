"""Many small data sets from the model, and a scheme's draws for all of them in one program."""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import random
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import SVI

from inference.starts import start_params
from inference.tracing import TRACE_LOCK
from inference.variational.restarts import compile_program
from models import Dataset

_LEARNING_RATE = 0.02


def simulate(network, keys, x) -> tuple[dict, jax.Array]:
    """Parameters from the prior, leading dimension the keys, and targets (simulation, data)."""

    def one(key):
        sites = trace(seed(network, key)).get_trace(x)
        return {n: sites[n]["value"] for n in (*_sites(network), "y") if n in sites}

    values = _at_once(one, keys)
    return values, values.pop("y")


@partial(jax.jit, static_argnums=0)
def quantities(network, params, x, x_new, y) -> dict[str, jax.Array]:
    """Label-free functions (simulation, draw) of networks (simulation, draw, ...) and targets."""
    f_new, f = network.apply(params, x_new), network.apply(params, x)
    out = {f"f[{p}]": f_new[..., p] for p in range(len(x_new))}
    out["second_moment"] = jnp.mean(params["w"] ** 2, axis=(-2, -1))
    out["train_mse"] = jnp.mean((f - y[:, None]) ** 2, axis=-1)
    if "rho" in params and params["rho"].ndim == 3:
        out |= {f"log_rho[{j}]": jnp.log(params["rho"][..., j]) for j in range(min(2, network.input_dim))}
    return out


def sample_all(network, kernel, key, x, y, num_warmup, num_draws, thinning) -> dict[str, jax.Array]:
    """Draws (simulation, draw, ...) of a chain of a bound kernel for each row of `y`."""
    if not hasattr(kernel, "refresh"):
        fault = f"kernel {type(kernel).__name__} cannot go on with other data, since it has no refresh"
        raise ValueError(f"{fault}; use NUTS, HMC or a kernel of this package.")
    kernel = copy.copy(kernel)  # init stores closures over this run's data in the kernel
    key_start, key_chains = random.split(key)
    # This data set gives the shapes: every chain is turned to its own targets below.
    data, first = Dataset(x, y[0], x, jnp.ones(len(x))), (x, y[0])
    init_params = start_params(network, data, key_start, len(y), "prior")
    keys = random.split(key_chains, len(y))
    with TRACE_LOCK:
        states = kernel.init(keys, num_warmup, init_params, model_args=first, model_kwargs={})
        constrain = kernel.postprocess_fn(first, {})
    step = getattr(kernel, "step", _alone(kernel.sample))

    def run(state, y):
        args = (x, y)

        def advance(_, state):
            return step(state, args, {})

        def one_draw(state, _):
            state = jax.lax.fori_loop(0, thinning, advance, state)
            sites = constrain(getattr(state, kernel.sample_field))
            return state, {n: sites[n] for n in _sites(network) if n in sites}

        state = kernel.refresh(state, args, {})
        state = jax.lax.fori_loop(0, num_warmup, advance, state)
        return jax.lax.scan(one_draw, state, length=num_draws)[1]

    return _at_once(run, states, y)


def _alone(sample):
    """A kernel's ``sample`` for one chain, where its ``init`` was given a batch: a batch of one."""

    def step(state, model_args, model_kwargs):
        state = sample(jax.tree.map(lambda v: v[None], state), model_args, model_kwargs)
        return jax.tree.map(lambda v: v[0], state)

    return step


def fit_all(network, guide, key, x, y, num_draws, num_steps) -> dict[str, jax.Array]:
    """Independent draws (simulation, draw, ...) from a guide fitted to each row of `y`."""
    guide, schedule = guide.bind(network), optax.cosine_decay_schedule(_LEARNING_RATE, num_steps)
    svi = SVI(guide.model, guide, optax.adam(schedule), guide.elbo(1))

    def run(key, y):
        key_init, key_draw = random.split(key)
        state = svi.init(key_init, x, y)
        state = jax.lax.fori_loop(0, num_steps, lambda _, state: svi.update(state, x, y)[0], state)
        params = svi.get_params(state)

        def draw(key):
            key_guide, key_model, key_rest = random.split(key, 3)
            traced = trace(seed(substitute(guide, data=params), key_guide)).get_trace(x, y)
            latent = {n: s["value"] for n, s in traced.items() if s["type"] == "sample"}
            model = trace(seed(substitute(guide.model, data=latent), key_model)).get_trace(x, y)
            sites = latent | {n: s["value"] for n, s in model.items() if s["type"] == "deterministic"}
            sites |= guide.complete(key_rest, sites, x, y)
            return {n: sites[n] for n in _sites(network) if n in sites}

        return jax.vmap(draw)(random.split(key_draw, num_draws))

    return _at_once(run, random.split(key, len(y)), y)


def _sites(network) -> tuple[str, ...]:
    return (*network.parameter_names, "rho")


def _at_once(function, *batches):
    """`function` for all data sets in one compiled program."""
    return compile_program(jax.vmap(function), *batches)(*batches)

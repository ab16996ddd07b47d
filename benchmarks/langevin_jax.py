"""The JAX programs of :mod:`langevin_steps`: ours, BlackJAX's, and the two matrix products alone.

    python benchmarks/langevin_jax.py PEER NUM_DATA CHAINS STEPS

Prints one JSON object. Needs blackjax for the peers of that name.
"""

import json
import resource
import sys
import time
from functools import partial
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
from langevin_problem import DEGREE, INPUT_DIM, KAPPA, STEP_SIZE, WIDTH
from numpyro.infer.util import potential_energy

from inference import SGLD
from inference.runs.plan import SamplingPlan
from inference.starts import start_params
from models import Dataset, TwoLayerNetwork

NETWORK = TwoLayerNetwork(INPUT_DIM, WIDTH, KAPPA)


def problem(num_data: int) -> Dataset:
    """Parity on ±1 inputs, the same for every peer."""
    x = np.random.default_rng(0).choice([-1.0, 1.0], (num_data, INPUT_DIM)).astype(np.float32)
    y = x[:, :DEGREE].prod(axis=1)
    return Dataset(x=x, y=y, x_test=x[:8], y_test=y[:8])


def ours(data, chains):
    """Our kernel as ``sample`` runs it: all chains side by side in one compiled loop."""
    plan = SamplingPlan(NETWORK, data, SGLD(step_size=STEP_SIZE), jax.random.key(1), num_chains=chains)
    kernel, keys, args, kwargs = plan.chains
    state = kernel.init(keys, 0, plan.options["init_params"], args, kwargs)
    return state, lambda i, state: kernel.step(state, args, kwargs), lambda state: state.z


def blackjax(data, chains, layout):
    """BlackJAX's sgld; the gradient is autodiff of our potential, or of one laid out (data,
    neuron)."""
    import blackjax

    def textbook(z):
        hidden = jax.nn.relu(jnp.asarray(data.x) @ z["w"].T)
        f = hidden @ z["a"] * WIDTH**-0.5
        prior = 0.5 * INPUT_DIM * jnp.sum(z["w"] ** 2) + 0.5 * jnp.sum(z["a"] ** 2)
        return jnp.sum((f - data.y) ** 2) / (2 * KAPPA**2 * data.num_data) + prior

    energy = textbook if layout == "textbook" else partial(potential_energy, NETWORK, (data.x, data.y), {})
    gradient = jax.grad(lambda z, _: -energy(z))
    kernel = blackjax.sgld(gradient)
    params = start_params(NETWORK, data, jax.random.key(1), chains, "prior")
    keys = jax.random.split(jax.random.key(2), chains)

    def step(i, carry):
        z, keys = carry

        def one(key, z):
            key, key_step = jax.random.split(key)
            return kernel.step(key_step, z, None, STEP_SIZE), key

        return jax.vmap(one)(keys, z)

    return (params, keys), step, lambda carry: carry[0]


def products(data, chains):
    """The two matrix products that a full-batch step cannot do without: W xᵀ, and its
    transpose's."""
    x = jnp.asarray(data.x)
    w = jnp.asarray(np.random.default_rng(1).standard_normal((chains, WIDTH, INPUT_DIM)), jnp.float32)

    def step(i, w):
        hidden = jnp.matmul(w, x.T)
        # The barrier keeps XLA from contracting x xᵀ once instead of doing both products.
        return w + 1e-9 * jnp.matmul(jax.lax.optimization_barrier(hidden), x)  # neither grows nor decays

    return w, step, lambda w: w


PEERS = {
    "ours": ours,
    "blackjax": partial(blackjax, layout="textbook"),
    "blackjax, our layout": partial(blackjax, layout="ours"),
    "two matrix products": products,
}


def main(peer: str, num_data: int, chains: int, steps: int) -> dict:
    """Steps per second of all chains together."""
    began = time.perf_counter()
    state, step, values = PEERS[peer](problem(num_data), chains)
    program = jax.jit(lambda state, count: jax.lax.fori_loop(0, count, step, state)).lower(state, 1).compile()
    state = jax.block_until_ready(program(state, 3))
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    state = jax.block_until_ready(program(state, steps))
    seconds = time.perf_counter() - began
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(values(state))):
        raise ValueError(f"{peer} diverged")
    return {
        "version": f"blackjax {version('blackjax')}"
        if peer.startswith("blackjax")
        else f"jax {jax.__version__}",
        "device": jax.devices()[0].device_kind,
        "rate": steps * chains / seconds,
        "compile_s": compiled,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:5]))))

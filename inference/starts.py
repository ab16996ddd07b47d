"""Where chains start: the prior, or neurons aligned with the relevant inputs.

Near the transition the posterior is metastable, so that an answer depends on its start; runs from
both show it.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.handlers import seed, trace
from numpyro.infer.util import unconstrain_fn

from inference.tracing import TRACE_LOCK
from models import Dataset, Network, checks

STARTS = ("prior", "aligned")
# What chains can be given: one start for all of them, or half of them from each.
CHAIN_STARTS = (*STARTS, "both")
# Far from 0, 1, …, whose fold_in is what split hands out to the sites of the prior draw.
_READOUTS = 2**30


def check_problem(network: Network, data: Dataset, subsample_size: int | None = None) -> None:
    """``ValueError`` unless `data` fits `network`, and `subsample_size` fits `data`."""
    if not isinstance(network, Network):
        raise ValueError(f"network must be a TwoLayerNetwork or a DeepNetwork, got {type(network).__name__}.")
    if not isinstance(data, Dataset):
        raise ValueError(
            f"data must be a Dataset, got {type(data).__name__}; use teacher.sample(...) or Dataset.from_arrays(...)."
        )
    if data.input_dim != network.input_dim:
        raise ValueError(
            f"network.input_dim={network.input_dim} must equal the data's number of inputs, {data.input_dim}."
        )
    if subsample_size is not None:
        checks.whole("subsample_size", subsample_size, 1)
        if subsample_size > data.num_data:
            raise ValueError(
                f"subsample_size must not exceed num_data={data.num_data}, got {subsample_size}."
            )


def start_params(network: Network, data: Dataset, key: jax.Array, num_chains: int, start: str) -> dict:
    """Unconstrained initial values of every latent site, one set a chain (leading).

    `start` ``"prior"``: a prior draw. ``"aligned"``: a prior draw in which a quarter of the neurons
    of the first layer (at least one for each sign pattern, as far as the width allows) are replaced
    by neurons that point along the relevant inputs, one after another through all sign patterns σ:
    w_S ∝ σ/√k at 1.5 times the norm of a prior neuron, the rest of their weights shrunk to a tenth.
    The readouts are then drawn from their exact Gaussian posterior given the hidden weights
    (:mod:`models.readouts`). ``"both"``: the first half of the chains (the larger, where their
    number is odd) as by ``"prior"``, the others as by ``"aligned"``, with the same draws.
    """
    checks.one_of("start", start, CHAIN_STARTS)
    if start != "prior" and data.relevant is None:
        raise ValueError(
            f"start={start!r} needs data.relevant; name the relevant inputs or use start='prior'."
        )
    if start == "both" and num_chains < 2:
        raise ValueError(f"start='both' needs num_chains of at least 2, got {num_chains}; or use one start.")
    from_prior = {"prior": num_chains, "aligned": 0, "both": num_chains - num_chains // 2}[start]

    def one(key, start):
        sites = trace(seed(network, key)).get_trace(data.x)
        latent = {k: s["value"] for k, s in sites.items() if s["type"] == "sample" and k != "y"}
        if start == "aligned":
            params = {name: sites[name]["value"] for name in network.parameter_names if name in sites}
            params["w"] = align(params["w"], data.relevant)
            latent |= network.layers[0].sites_from_weights(params["w"])
            if "a" in latent:  # not where the readouts are integrated out
                own = jax.random.fold_in(key, _READOUTS)
                latent["a"] = network.draw_readouts(own, params, data.x, data.y)
        return unconstrain_fn(network, (data.x, data.y), {}, latent)

    def all_chains(keys):
        halves = {"prior": keys[:from_prior], "aligned": keys[from_prior:]}
        parts = [jax.vmap(partial(one, start=name))(part) for name, part in halves.items() if len(part)]
        return jax.tree.map(lambda *values: jnp.concatenate(values), *parts)

    with TRACE_LOCK:
        return jax.jit(all_chains)(jax.random.split(key, num_chains))


def align(w: jax.Array, relevant: tuple[int, ...]) -> jax.Array:
    """`w` (N, d) with a quarter of the rows pointed along the sign patterns of `relevant`."""
    width, degree = w.shape[0], len(relevant)
    # With many relevant inputs the patterns outnumber the rows to fill.
    patterns = np.array(list(itertools.islice(itertools.product((1.0, -1.0), repeat=degree), width)))
    count = min(width, max(len(patterns), width // 4))
    norm = 1.5 * jnp.sqrt((w**2).sum(axis=1).mean())
    aligned = 0.1 * w[:count]
    sigma = patterns[np.arange(count) % len(patterns)] / np.sqrt(degree)
    return w.at[:count].set(aligned.at[:, np.array(relevant)].set(norm * sigma))

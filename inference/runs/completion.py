"""Readouts for the draws of a collapsed network, from their exact Gaussian posterior."""

import jax
import jax.numpy as jnp
import numpy as np

from models import CollapsedNetwork, Dataset, TwoLayerNetwork

# Draws completed at once: bounds the memory for hidden activations.
_BATCH = 8


def complete_readouts(
    network: TwoLayerNetwork, data: Dataset, sites: dict, key: jax.Array, first: int = 0
) -> dict[str, np.ndarray]:
    """The sites with ``a``, drawn where `network` is collapsed and they lack it; as they are otherwise.

        a | w, y ~ Normal(M⁻¹Φy/(κ²P N^γ), M⁻¹)        (:func:`models.readouts.readout_posterior`)

    Draw t of chain c takes the key of (c, first + t), so that its readouts do not depend on how a run was cut.

    Parameters
    ----------
    network, data
        What was declared, and the data it was conditioned on.
    sites
        Values with leading dimensions (chain, draw).
    key
        A ``jax.random.key`` that the scheme has not used.
    first
        Number of the first of these draws.

    Examples
    --------
    >>> from models import SparseParity
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1).collapsed()
    >>> complete_readouts(network, data, {"w": np.ones((2, 3, 8, 6))}, jax.random.key(1))["a"].shape
    (2, 3, 8)
    """
    if not isinstance(network, CollapsedNetwork) or "a" in sites:
        return sites
    hidden = {name: jnp.asarray(sites[name], jnp.float32) for name in ("w", "b") if name in sites}
    chains, draws = hidden["w"].shape[:2]
    flat = jax.tree.map(lambda v: v.reshape(chains * draws, *v.shape[2:]), hidden)
    chain, draw = jnp.meshgrid(jnp.arange(chains), first + jnp.arange(draws), indexing="ij")
    x, y = jnp.asarray(data.x, jnp.float32), jnp.asarray(data.y, jnp.float32)
    readouts = _complete(network, key, chain.ravel(), draw.ravel(), flat, x, y)
    return {**sites, "a": np.asarray(readouts).reshape(chains, draws, network.width)}


@jax.jit(static_argnums=0)
def _complete(network, key, chain, draw, hidden, x, y):
    def one(values):
        chain, draw, params = values
        own = jax.random.fold_in(jax.random.fold_in(key, chain), draw)
        return network.draw_readouts(own, params, x, y)

    return jax.lax.map(one, (chain, draw, hidden), batch_size=_BATCH)

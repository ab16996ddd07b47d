"""Full-batch gradients accumulated over blocks of the data that stay in the processor's cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from numpyro.handlers import substitute
from numpyro.infer.util import potential_energy

from models import TwoLayerNetwork

# Hidden activations of one block, all chains together. The two matrix products of a step need few operations per
# activation, so that activations which travel to main memory and back take most of its time. Measured at
# N = 512, d = 35, P = 5000 on CPUs with 1 MiB of second-level cache a core: 1.4 to 1.7 times the steps per second.
_BLOCK_BYTES = 2**21
# Blocks smaller than this, or fewer, cost more in calls than they save.
_LEAST_BLOCK = 64
_LEAST_BLOCKS = 4


def data_block(network: TwoLayerNetwork, num_data: int, num_chains: int) -> int | None:
    """Points in a block of the full-batch gradient; None where it is evaluated in one piece.

    The largest divisor of P with which the activations of all chains stay within 2 MiB. In one piece go
    problems of less than 8 MiB, a P without a suitable divisor, and anything on a GPU.

    Examples
    --------
    >>> network = TwoLayerNetwork(input_dim=35, width=512, kappa=5e-3)
    >>> data_block(network, num_data=5000, num_chains=4)
    250
    >>> data_block(network, num_data=500, num_chains=1) is None
    True
    """
    largest = _BLOCK_BYTES // (4 * network.width * num_chains)
    if num_data <= _LEAST_BLOCKS * largest or jax.default_backend() != "cpu":
        return None
    sizes = [size for size in range(_LEAST_BLOCK, largest + 1) if num_data % size == 0]
    return max(sizes, default=None)


def accumulated_energy_and_grad(
    model: Callable, plates: dict[str, tuple[int, int]], z, model_args: tuple, model_kwargs: dict
):
    """U and ∇U of a model with one subsampled plate, exactly, as the mean over all its minibatches.

        U(z) = (1/K) Σ_b Û_b(z),      b = 1, …, K = P/B

    where Û_b has the prior, and the log likelihood of block b of the data scaled by P/B.

    Parameters
    ----------
    model
        Python callable containing NumPyro primitives.
    plates
        ``{name: (P, B)}`` of the plate that subsamples; B divides P.
    z
        Unconstrained values.
    model_args, model_kwargs
        Arguments of the model.

    Raises
    ------
    ValueError
        For several subsampled plates, or a B that does not divide P.
    """
    if len(plates) != 1:
        raise ValueError(
            f"gradients are accumulated over one subsampled plate, and the model has {len(plates)}; draw minibatches."
        )
    [(name, (size, block))] = plates.items()
    if size % block:
        raise ValueError(f"subsample_size must divide num_data={size} for exact gradients, got {block}.")

    def add_block(total, begin):
        fixed = substitute(model, data={name: begin + jnp.arange(block)})
        energy = jax.value_and_grad(lambda z: potential_energy(fixed, model_args, model_kwargs, z))
        return jax.tree.map(jnp.add, total, energy(z)), None

    begins = jnp.arange(0, size, block)
    first, _ = jax.eval_shape(add_block, (0.0, jax.tree.map(jnp.zeros_like, z)), begins[0])
    zero = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), first)
    # Unrolled once, so that the next product begins while the last block is still being added.
    total, _ = jax.lax.scan(add_block, zero, begins, unroll=2 if len(begins) > 1 else 1)
    return jax.tree.map(lambda v: v * (block / size), total)

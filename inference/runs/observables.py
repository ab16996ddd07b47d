"""Functions of a network that ignore its neurons' labels: f, errors, order parameters.

Single weights are exchangeable and flip sign together, so that only such functions can be compared.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from inference.runs.prior_density import log_prior
from models import CollapsedNetwork, Dataset, Network

# Draws evaluated at once: bounds the memory for hidden activations at (batch, N, P).
_BATCH = 8


# Far from the numbers whose fold_in is what split hands out to the schemes.
_PREDICTIVE = 2**30 + 1


def observe(
    network: Network, data: Dataset, params: dict, keys: jax.Array | None = None
) -> dict[str, np.ndarray]:
    """Observables of every draw in `params`: ``w`` (..., N, d), ``a`` and maybe ``b`` (..., N).

    Of a deep network ``w2``, … as well, see :attr:`models.Network.parameter_names`.

    ``f_test`` (..., P_test); ``log_likelihood`` (..., P) of Normal(y; f, κ√P); ``train_mse``,
    ``test_mse`` and ``order_parameter`` m = E_test[f y]/E_test[y²] over ``data.x_test``, each
    (...); ``second_moment`` (..., d), the mean of w_ij² over the neurons of the first layer;
    ``neuron_norm`` (..., N), |a_i||w_i| of the neurons of the last layer in decreasing order; and,
    where ``data.relevant`` is known, ``relevance_ratio`` = E[w_j²: j∈S]/E[w_j²: j∉S] (absent when
    every input is relevant) and ``num_specialised``, the number of neurons of the first layer with
    more than half of |w_i|² on S.

    With `keys`, one a draw (...), also ``y`` (..., P) and ``y_test`` (..., P_test), targets
    f + κ√P ξ of new noise ξ; and ``log_prior``, see
    :func:`inference.runs.prior_density.log_prior`, for which `params` then holds the other sites.
    """
    names = network.parameter_names if keys is None else tuple(params)
    params = {k: jnp.asarray(params[k], jnp.float32) for k in names}
    batch = params["a"].shape[:-1]
    flat = {k: v.reshape((-1, *v.shape[len(batch) :])) for k, v in params.items()}
    keys = None if keys is None else keys.ravel()
    arrays = (jnp.asarray(v, jnp.float32) for v in (data.x, data.y, data.x_test, data.y_test))
    values = _observe(network, data.relevant, flat, keys, *arrays)
    return jax.tree.map(lambda v: np.asarray(v).reshape(batch + v.shape[1:]), values)


def observe_draws(
    network: Network, data: Dataset, sites: dict, key: jax.Array, first: int = 0
) -> dict[str, np.ndarray]:
    """All observables of draws (chain, draw, ...) from number `first` on, for the run's own `key`.

    They are the same bits however a run is cut.
    """
    # In blocks of one shape, in which the place of a draw follows from its number.
    sites = {name: np.swapaxes(value, 0, 1) for name, value in sites.items()}
    count, chains = sites["a"].shape[:2]
    before = first % _BATCH
    padding = (before, -(before + count) % _BATCH)
    padded = {k: np.pad(v, (padding, *[(0, 0)] * (v.ndim - 1)), mode="edge") for k, v in sites.items()}
    numbers = first - before + np.arange(count + sum(padding))
    keys = draw_keys(jax.random.fold_in(key, _PREDICTIVE), chains, numbers).T
    blocks = [
        observe(network, data, {k: v[i : i + _BATCH] for k, v in padded.items()}, keys[i : i + _BATCH])
        for i in range(0, len(numbers), _BATCH)
    ]

    def join(*parts):
        return np.swapaxes(np.concatenate(parts)[before : before + count], 0, 1)

    return jax.tree.map(join, *blocks)


def draw_keys(key: jax.Array, chains: int, draws) -> jax.Array:
    """A key for every chain and number of a draw (chain, draw), so that no cut of a run matters."""
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    return jax.vmap(fold, (0, None))(fold(key, jnp.arange(chains)), jnp.asarray(draws))


@partial(jax.jit, static_argnums=(0, 1))
def _observe(network, relevant, flat, keys, *arrays):
    return jax.lax.map(
        lambda one: _observe_one(network, relevant, *one, *arrays), (flat, keys), batch_size=_BATCH
    )


def _observe_one(network, relevant, params, key, x, y, x_test, y_test):
    f, f_test = network.apply(params, x), network.apply(params, x_test)
    noise = network.kappa * x.shape[0] ** 0.5
    square, last = params["w"] ** 2, params[network.layers[-1].site("w")]
    out = {
        "f_test": f_test,
        "log_likelihood": jax.scipy.stats.norm.logpdf(y, f, noise),
        "train_mse": jnp.mean((f - y) ** 2),
        "test_mse": jnp.mean((f_test - y_test) ** 2),
        "order_parameter": jnp.mean(f_test * y_test) / jnp.mean(y_test**2),
        "second_moment": square.mean(axis=0),
        "neuron_norm": jnp.sort(jnp.abs(params["a"]) * jnp.sqrt((last**2).sum(axis=1)))[::-1],
    }
    if relevant is not None:
        inside = np.isin(np.arange(network.input_dim), relevant)
        share = square[:, inside].sum(axis=1) / square.sum(axis=1)
        out["num_specialised"] = jnp.sum(share > 0.5).astype(jnp.float32)
        if not inside.all():
            out["relevance_ratio"] = square[:, inside].mean() / square[:, ~inside].mean()
    if key is not None:
        own, other = jax.random.split(key)
        out["y"] = f + noise * jax.random.normal(own, f.shape, f.dtype)
        out["y_test"] = f_test + noise * jax.random.normal(other, f_test.shape, f.dtype)
        out["log_prior"] = log_prior(network, params)
    return out


def complete_readouts(
    network: Network, data: Dataset, sites: dict, key: jax.Array, first: int = 0
) -> dict[str, np.ndarray]:
    """The sites with ``a``, drawn where `network` is collapsed and they lack it; else as they are.

        a | w, y ~ Normal(M⁻¹Φy/(κ²P N^γ), M⁻¹)        (:func:`models.readouts.readout_posterior`)

    `sites` lead with (chain, draw), the draws from number `first` on; the scheme has not used
    `key`. Draw t of chain c takes the key of (c, first + t), so that its readouts do not depend on
    how a run was cut.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1).collapsed()
    >>> complete_readouts(network, data, {"w": np.ones((2, 3, 8, 6))}, jax.random.key(1))["a"].shape
    (2, 3, 8)
    """
    if not isinstance(network, CollapsedNetwork) or "a" in sites:
        return sites
    names = [name for name in network.parameter_names if name != "a"]
    hidden = {name: jnp.asarray(sites[name], jnp.float32) for name in names}
    chains, draws = hidden["w"].shape[:2]
    flat = jax.tree.map(lambda v: v.reshape(chains * draws, *v.shape[2:]), hidden)
    keys = draw_keys(key, chains, first + np.arange(draws)).ravel()
    x, y = jnp.asarray(data.x, jnp.float32), jnp.asarray(data.y, jnp.float32)
    readouts = _complete(network, keys, flat, x, y)
    return {**sites, "a": np.asarray(readouts).reshape(chains, draws, network.widths[-1])}


@jax.jit(static_argnums=0)
def _complete(network, keys, hidden, x, y):
    return jax.lax.map(lambda one: network.draw_readouts(*one, x, y), (keys, hidden), batch_size=_BATCH)

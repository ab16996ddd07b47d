"""Where chains start: the prior, neurons aligned with the relevant inputs, draws of any result.

Near the transition the posterior is metastable, so that an answer depends on its start; runs from
several show it.
"""

import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpyro.distributions import constraints
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.util import unconstrain_fn

from inference.tracing import TRACE_LOCK
from models import Dataset, Network, checks
from models.layer import Layer

if TYPE_CHECKING:  # fixed points start their own chains by what is below
    from inference.fixed_points.point import FixedPoint

STARTS = ("prior", "aligned")
# What chains can be given by name: one start for all of them, or half of them from each.
CHAIN_STARTS = (*STARTS, "both")
# Or draws of a guide, a theory or an earlier run, or a solved theory.
type Start = str | xr.DataTree | FixedPoint
# Compiling for speed takes longer than the one run of what draws a start: 0.8 s in place of 3.5 s.
_QUICKLY = {"xla_backend_optimization_level": 0}
# Far from 0, 1, …, whose fold_in is what split hands out to the sites of the prior draw.
_READOUTS = 2**30
# Error of the weights that a start's sites give, in units of their root mean square; float32's is
# 1e-6.
_TOLERANCE = 1e-3


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


def start_name(start: Start) -> str:
    """How results tell of a start: by its name, or the scheme or theory whose result it is."""
    if isinstance(start, str):
        return start
    return start.attrs.get("scheme", "given") if isinstance(start, xr.DataTree) else start.theory


def start_params(network: Network, data: Dataset, key: jax.Array, num_chains: int, start: Start) -> dict:
    """Unconstrained initial values of every latent site, one set a chain (leading).

    A start other than the prior says hidden weights, and the other sites follow. The sites of their
    prior have the values that a result has for them; else those of
    :meth:`models.WeightPrior.sites_from_weights`; else, of a prior that does not define it, those
    of a prior draw, where the one site that moves the weights elementwise (z of w = s z) is solved
    for. The readouts are drawn from their exact Gaussian posterior given the hidden layer
    (:mod:`models.readouts`).

    Parameters
    ----------
    start
        ``"prior"``: a prior draw.

        ``"aligned"``: a prior draw in which a quarter of the neurons of the first layer (at least
        one for each sign pattern, as far as the width allows) are replaced by neurons that point
        along the relevant inputs, one after another through all sign patterns σ: w_S ∝ σ/√k at 1.5
        times the norm of a prior neuron, the rest of their weights shrunk to a tenth.

        ``"both"``: the first half of the chains (the larger, where their number is odd) as by
        ``"prior"``, the others as by ``"aligned"``, with the same draws.

        A DataTree of the zoo: a random draw from each of `num_chains` equal pieces of its chains,
        laid end to end. A solved theory: independent networks from it.

    Raises
    ------
    ValueError
        For a start that does not fit the network: of other shapes, with biases where it has none,
        of fewer draws than chains, with weights for which the prior's sites are not found.
    """
    if isinstance(start, str):
        _check_name(data, num_chains, start)
        given, known = {}, {}
        from_prior = {"prior": num_chains, "aligned": 0, "both": num_chains - num_chains // 2}[start]
    else:
        given, known = _hidden_layers(network, data, jax.random.fold_in(key, _READOUTS), num_chains, start)
        from_prior = 0

    def prior_draw(key):
        return trace(seed(network, key)).get_trace(data.x)

    def from_the_prior(key):
        return unconstrain_fn(network, (data.x, data.y), {}, _latent(prior_draw(key)))

    def from_weights(key, given, known):
        drawn = prior_draw(key)
        given = given or {"w": align(drawn["w"]["value"], data.relevant)}
        values, errors = _latent(drawn), []
        values |= {name: value for name, value in given.items() if name in values}
        for layer in network.layers:
            if (w := given.get(layer.site("w"))) is not None:
                values |= _sites_of_weights(layer, values, known, w)
                errors.append(jnp.abs(_weights(layer, values) - w).max() / jnp.sqrt((w**2).mean()))
        if "a" in values:  # not where the readouts are integrated out
            params = seed(substitute(network.sample_parameters, data=values), 0)()
            own = jax.random.fold_in(key, _READOUTS)
            values["a"] = network.draw_readouts(own, params, data.x, data.y)
        return unconstrain_fn(network, (data.x, data.y), {}, values), jnp.array(errors).max()

    def all_chains(keys, given, known):
        parts, errors = [], jnp.zeros(1)
        if from_prior:
            parts.append(jax.vmap(from_the_prior)(keys[:from_prior]))
        if from_prior < num_chains:
            others, errors = jax.vmap(from_weights)(keys[from_prior:], given, known)
            parts.append(others)
        return jax.tree.map(lambda *values: jnp.concatenate(values), *parts), errors.max()

    options = None if isinstance(key, jax.core.Tracer) else _QUICKLY  # not inside another program
    # Sites of a result may not suit a prior of which it is none.
    for kept in (known, {}) if known else ({},):
        with TRACE_LOCK:
            draw = jax.jit(all_chains, compiler_options=options)
            params, error = draw(jax.random.split(key, num_chains), given, kept)
        if from_prior == num_chains or float(error) <= _TOLERANCE:
            return params
    raise ValueError(
        f"start={start_name(start)!r} needs values of the prior's sites that give the start's weights; define "
        f"sites_from_weights(self, w) of {type(network.prior).__name__} so that weights() then returns w, or use "
        "start='prior'."
    )


def _check_name(data: Dataset, num_chains: int, start: str) -> None:
    checks.one_of("start", start, CHAIN_STARTS)
    if start != "prior" and data.relevant is None:
        raise ValueError(
            f"start={start!r} needs data.relevant; name the relevant inputs or use start='prior'."
        )
    if start == "both" and num_chains < 2:
        raise ValueError(f"start='both' needs num_chains of at least 2, got {num_chains}; or use one start.")


def _hidden_layers(
    network: Network, data: Dataset, key: jax.Array, count: int, start: Start
) -> tuple[dict, dict]:
    """Of `count` networks of a result the hidden weights and biases, count leading, and all other
    sites."""
    if hasattr(start, "sample_networks"):
        # One that was solved on a data set has predictions, and that data set.
        given = () if hasattr(start, "predictions") else (data,)
        sites = start.sample_networks(key, count, *given)
    elif isinstance(start, xr.DataTree) and "w" in getattr(start.children.get("posterior"), "data_vars", ()):
        posterior = start["posterior"].dataset
        chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
        if chains * draws < count:
            raise ValueError(
                f"start holds {chains * draws} draws, too few for num_chains={count}; give one with more."
            )
        # A draw from each piece, so that every chain of a metastable run has its share.
        place = (np.arange(count) + np.asarray(jax.random.uniform(key, (count,)))) / count
        chosen = np.minimum(place * chains * draws, chains * draws - 1).astype(int)
        chain, draw = (xr.DataArray(i, dims="start") for i in np.unravel_index(chosen, (chains, draws)))
        picked = posterior.isel(chain=chain, draw=draw).transpose("start", ...)
        sites = {name: picked[name].values for name in posterior.data_vars}
    else:
        raise ValueError(
            f"start must be {', '.join(map(repr, CHAIN_STARTS))}, a DataTree of the zoo or a solved theory, got "
            f"{type(start).__name__}."
        )
    sites = {name: np.asarray(value, np.float32) for name, value in sites.items() if name != "a"}
    wanted = {layer.site("w"): (layer.width, layer.input_dim) for layer in network.layers}
    wanted |= {layer.site("b"): (layer.width,) for layer in network.layers if network.bias}
    further = ({"b", f"w{len(network.layers) + 1}"} - wanted.keys()) & sites.keys()
    for name, shape in (wanted | dict.fromkeys(further)).items():
        got = sites[name].shape[1:] if name in sites else None
        if got != shape:
            raise ValueError(
                f"start must be a result of such a network: {name} has shape {got} in the start, {shape} in the "
                "network (None: there is none)."
            )
        if not np.isfinite(sites[name]).all():
            raise ValueError(f"start holds NaN or infinite values of {name}; every start must be finite.")
    return {name: sites.pop(name) for name in wanted}, sites


def _latent(sites: dict) -> dict:
    """The values of a trace's latent sites."""
    return {name: s["value"] for name, s in sites.items() if s["type"] == "sample" and name != "y"}


def _sites_of_weights(layer: Layer, values: dict, known: dict, w: jax.Array) -> dict:
    """Values of a layer's sites, of which some are `known`, at which its weights should be `w`.

    What the weights do not say is as in `values`. The caller checks whether the weights are `w`.
    """
    own = trace(seed(layer.sample_weights, 0)).get_trace()
    known = {n: v for n, v in known.items() if n in values and n in own and v.shape == values[n].shape}
    sites = layer.sites_from_weights(w)
    if not known and sites.keys() <= values.keys():
        return {name: jnp.reshape(v, values[name].shape) for name, v in sites.items()}
    sites, real = dict(known), (constraints.real, constraints.real_vector)
    free = [name for name in own if name in values and name not in known and values[name].size == w.size]
    for name in (n for n in free if own[n]["fn"].support in real):
        # w = offset + slope z, elementwise.
        zero = jnp.zeros_like(values[name])
        offset, sum_ = (_weights(layer, values | sites | {name: zero + z}) for z in (0, 1))
        sites[name] = jnp.reshape((w - offset) / (sum_ - offset), zero.shape)
    return sites


def _weights(layer: Layer, values: dict) -> jax.Array:
    """The weights of a layer at `values` of its latent sites."""
    return seed(substitute(layer.sample_weights, data=values), 0)()


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

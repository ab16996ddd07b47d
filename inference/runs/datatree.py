"""The one DataTree schema in which every scheme's draws end, so that all of ArviZ serves it."""

import json
from dataclasses import asdict
from importlib.metadata import version
from itertools import pairwise
from typing import NamedTuple

import arviz_base
import jax
import numpy as np
import xarray as xr
from numpyro.handlers import seed as seeded
from numpyro.handlers import trace

from inference.runs.observables import observe_draws
from inference.tracing import TRACE_LOCK
from models import CollapsedNetwork, Dataset, Network

_PACKAGES = ("mean-field-zoo", "jax", "numpyro", "arviz", "numpy")
# Of the group ``functions``: as many test points and neurons as a table can show.
_TEST_POINTS = 10
_LARGEST_NEURONS = 5


def build_tree(
    network: Network,
    data: Dataset,
    posterior: dict,
    *,
    scheme: str,
    settings: dict,
    seed: jax.Array,
    wall_time_s: float,
    gradient_evaluations: int,
    independent_draws: bool,
    sample_stats: dict | None = None,
    extra_attributes: dict | None = None,
    observed: dict | None = None,
    first_draw: int = 0,
) -> xr.DataTree:
    """Lay draws of a posterior, or of an approximation to it, out in the schema.

    Parameters
    ----------
    posterior
        Site values with leading dimensions (chain, draw): ``w`` (neuron, input), ``a`` (neuron),
        further sites such as ``rho`` (input); of a deep network ``w2`` (neuron2, neuron), ``rho2``
        (neuron), …, and ``a`` by the neurons of its last hidden layer. The standardised weights of
        a non-centred prior are left out, since the others determine them. Independent draws are one
        chain.
    scheme, settings, seed
        Its name, such as sgld, mf-guide or nngp, JSON-able settings, and ``jax.random.key``.
    wall_time_s, gradient_evaluations
        Seconds, compilation included, and full-batch equivalents of ∇U, all chains together.
    independent_draws
        True for i.i.d. draws (guides, fixed points), which have no R-hat.
    sample_stats, extra_attributes
        Per-draw statistics (chain, draw); further attributes of the root, numbers or strings.
    observed
        The :func:`inference.runs.observables.observe_draws` of `posterior`, where known already.
    first_draw
        Number of the first draw, where these are a piece of a longer run.

    Returns
    -------
    xarray.DataTree
        Groups ``posterior``; ``sample_stats``; ``log_likelihood`` (``y``) and ``log_prior`` (a sum
        per site), neither with the attribute ``population`` = 1, of draws that have not seen the
        data; ``posterior_predictive`` (``y`` at the training inputs); ``predictions`` (``f`` and
        ``y`` on the test inputs); ``order_parameters``; ``functions``, what a summary of a network
        can be of: m, errors, f at ten test points, second moments of the weights by input, the
        largest neuron norms, the log density and log ρ; ``observed_data`` (``y``);
        ``constant_data`` (``x``, relevant inputs); ``predictions_constant_data`` (``x_test``,
        ``y_test``). Attributes: scheme, prior, independent_draws, settings, network (JSON), seed,
        versions, wall_time_s, gradient_evaluations, created_at; of standardised data
        standardisation (JSON). The coordinate ``input`` has the names of the inputs.
    """
    sites = {name: np.asarray(value) for name, value in posterior.items()}
    values = dict(observe_draws(network, data, sites, seed, first_draw) if observed is None else observed)
    log_prior = values.pop("log_prior")
    described = _describe_sites(network, data)
    # Where a layer's w is recorded, one other site of its size stands for the standardised weights.
    weights = {layer.site("w") for layer in network.layers}
    kept = weights | {layer.site("rho") for layer in network.layers}
    sizes = {(layer.width, layer.input_dim) for layer in network.layers}
    others = {name for name, value in sites.items() if name not in kept and value.shape[2:] in sizes}
    determined = others if len(others) == len(weights.intersection(described.recorded)) else ()
    posterior = {name: value for name, value in sites.items() if name not in determined}
    stats = jax.tree.map(np.asarray, sample_stats or {})
    groups = {
        "posterior": posterior,
        "sample_stats": stats,
        "functions": _functions(values, posterior, stats),
        "log_likelihood": {"y": values.pop("log_likelihood")},
        "posterior_predictive": {"y": values.pop("y")},
        "predictions": {"f": values.pop("f_test"), "y": values.pop("y_test")},
        "order_parameters": values,
        "observed_data": {"y": data.y},
        "constant_data": {"x": data.x},
        "predictions_constant_data": {"x_test": data.x_test, "y_test": data.y_test},
    }
    if data.relevant is not None:
        groups["constant_data"]["relevant"] = np.asarray(data.relevant)
    if (extra_attributes or {}).get("population"):  # no leave-one-out can rank it
        del groups["log_likelihood"]
        log_prior = {}
    dims = {
        **described.dims,
        "y": ["data"],
        "f": ["test_point"],
        "second_moment": ["input"],
        "log_rho": ["input"],
        "neuron_norm": ["neuron_rank"],
        "x": ["data", "input"],
        "relevant": ["relevant_input"],
    }
    pred_dims = {"f": ["test"], "y": ["test"], "x_test": ["test", "input"], "y_test": ["test"]}
    coords = {"draw": np.arange(first_draw, first_draw + posterior["a"].shape[1])}
    if data.names is not None:
        coords["input"] = list(data.names)
    attributes = {
        "scheme": scheme,
        "prior": network.prior.name,
        "independent_draws": int(independent_draws),
        "settings": json.dumps(settings, default=str),
        "network": json.dumps(describe(network), default=str),
        "seed": json.dumps(np.asarray(jax.random.key_data(seed)).tolist()),
        "versions": json.dumps({name: version(name) for name in _PACKAGES}),
        "wall_time_s": float(wall_time_s),
        "gradient_evaluations": int(gradient_evaluations),
        **(extra_attributes or {}),
    }
    if data.standardisation is not None:
        attributes["standardisation"] = json.dumps(asdict(data.standardisation))
    tree = arviz_base.from_dict(
        {name: values for name, values in groups.items() if values},
        dims=dims,
        coords=coords,
        pred_coords=coords,
        pred_dims=pred_dims,
        check_conventions=False,
        attrs={"/": attributes},
    )
    if log_prior:  # a number per site, not one per element as the sites themselves
        sums = {name: (("chain", "draw"), value) for name, value in log_prior.items()}
        tree["log_prior"] = xr.Dataset(sums, {name: tree["posterior"][name] for name in ("chain", "draw")})
    return tree


def _functions(values: dict, posterior: dict, stats: dict) -> dict[str, np.ndarray]:
    """The few functions of every draw (chain, draw, ...) by which results are summarised."""
    picked = {name: values[name] for name in ("order_parameter", "train_mse", "test_mse")}
    picked["f"] = values["f_test"][..., :_TEST_POINTS]
    picked["second_moment"] = values["second_moment"]
    picked["neuron_norm"] = values["neuron_norm"][..., :_LARGEST_NEURONS]
    # log p(y, θ) up to a constant, where the scheme kept it.
    density = stats.get("lp", stats.get("log_p"))
    if density is not None:
        picked["log_density"] = density
    if "rho" in posterior:
        log_rho = np.log(posterior["rho"])
        # Of a precision for every weight: neurons have no order.
        picked["log_rho"] = log_rho.mean(axis=2) if log_rho.ndim == 4 else log_rho
    for name in posterior:  # of the layers above: of neurons
        if name.removeprefix("rho").isdigit():
            picked[f"log_{name}"] = np.log(posterior[name]).mean(axis=(2, 3)[: posterior[name].ndim - 2])
    return picked


def describe(network: Network) -> dict:
    """The network's settings as JSON-able values; the prior as its repr."""
    plain = {k: getattr(network, k) for k in network.__dataclass_fields__ if k != "prior"}
    collapsed = {"readouts": "integrated out"} if isinstance(network, CollapsedNetwork) else {}
    return {**plain, "prior": repr(network.prior), **collapsed}


class _Sites(NamedTuple):
    """Dimension names of every site, and the sites that are recorded and no random variables."""

    dims: dict[str, list[str]]
    recorded: list[str]


def _describe_sites(network: Network, data: Dataset) -> _Sites:
    """The dimensions of the priors' sites are those of their plates."""
    # ArviZ's own ``infer_dims`` needs a lazy import that fails where ArviZ was imported first.
    dims, recorded, layers = {}, [], network.layers
    # What a layer calls its inputs are the neurons of the layer below.
    inputs = {layer.site("input"): below.site("neuron") for below, layer in pairwise(layers)}

    def record():
        for name, site in trace(seeded(network, jax.random.key(0))).get_trace(data.x).items():
            frames = sorted(site.get("cond_indep_stack", ()), key=lambda frame: frame.dim)
            dims[name] = [inputs.get(frame.name, frame.name) for frame in frames]
            recorded.extend([name] * (site["type"] == "deterministic"))

    with TRACE_LOCK:
        jax.eval_shape(record)  # no array is computed
    for layer in layers:
        neuron, below = layer.site("neuron"), layer.site("input")
        dims |= {layer.site("w"): [neuron, inputs.get(below, below)], layer.site("b"): [neuron]}
    return _Sites(dims | {"a": [layers[-1].site("neuron")]}, recorded)

"""The one DataTree schema in which every scheme's draws end, so that all of ArviZ serves it."""

import json
from importlib.metadata import version
from itertools import pairwise

import arviz_base
import jax
import numpy as np
import xarray as xr
from numpyro.handlers import seed as seeded
from numpyro.handlers import trace

from inference.runs.observables import observe
from inference.tracing import TRACE_LOCK
from models import CollapsedNetwork, Dataset, Network

_PACKAGES = ("mean-field-zoo", "jax", "numpyro", "arviz", "numpy")


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
        (neuron), …, and ``a`` by the neurons of its last hidden layer. Sites of the weights' own
        size beside ``w`` and ``rho`` (the standardised weights of a non-centred prior) are left
        out, since the others determine them.
    scheme, settings, seed
        Its name, such as sgld, mf-guide or nngp, JSON-able settings, and ``jax.random.key``.
    wall_time_s, gradient_evaluations
        Seconds, compilation included, and full-batch equivalents of ∇U, all chains together.
    independent_draws
        True for i.i.d. draws (guides, fixed points), which have no R-hat.
    sample_stats, extra_attributes
        Per-draw statistics (chain, draw); further attributes of the root, numbers or strings.
    observed
        The :func:`inference.runs.observables.observe` of `posterior`, where that is known already.
    first_draw
        Number of the first draw, where these are a piece of a longer run.

    Returns
    -------
    xarray.DataTree
        Groups ``posterior``, ``sample_stats``, ``log_likelihood`` (``y``; none with the attribute
        ``population`` = 1, of draws that have not seen the data), ``predictions`` (``f`` on the
        test inputs), ``order_parameters``, ``observed_data`` (``y``), ``constant_data`` (inputs,
        test data, relevant inputs). Attributes: scheme, prior, independent_draws, settings, network
        (JSON), seed, versions, wall_time_s, gradient_evaluations, created_at.
    """
    kept = {layer.site(name) for layer in network.layers for name in ("w", "rho")}
    sizes = {(layer.width, layer.input_dim) for layer in network.layers}
    posterior = {k: np.asarray(v) for k, v in posterior.items() if k in kept or np.shape(v)[2:] not in sizes}
    values = dict(observe(network, data, posterior) if observed is None else observed)
    groups = {
        "posterior": posterior,
        **({"sample_stats": jax.tree.map(np.asarray, sample_stats)} if sample_stats else {}),
        "log_likelihood": {"y": values.pop("log_likelihood")},
        "predictions": {"f": values.pop("f_test")},
        "order_parameters": values,
        "observed_data": {"y": data.y},
        "constant_data": {"x": data.x, "x_test": data.x_test, "y_test": data.y_test},
    }
    if data.relevant is not None:
        groups["constant_data"]["relevant"] = np.asarray(data.relevant)
    if (extra_attributes or {}).get("population"):  # no leave-one-out can rank it
        del groups["log_likelihood"]
    dims = {
        **_site_dims(network, data),
        "y": ["data"],
        "second_moment": ["input"],
        "neuron_norm": ["neuron_rank"],
        "x": ["data", "input"],
        "x_test": ["test", "input"],
        "y_test": ["test"],
        "relevant": ["relevant_input"],
    }
    draws = {"draw": np.arange(first_draw, first_draw + posterior["a"].shape[1])}
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
    return arviz_base.from_dict(
        groups,
        dims=dims,
        coords=draws,
        pred_coords=draws,
        pred_dims={"f": ["test"]},
        check_conventions=False,
        attrs={"/": attributes},
    )


def describe(network: Network) -> dict:
    """The network's settings as JSON-able values; the prior as its repr."""
    plain = {k: getattr(network, k) for k in network.__dataclass_fields__ if k != "prior"}
    collapsed = {"readouts": "integrated out"} if isinstance(network, CollapsedNetwork) else {}
    return {**plain, "prior": repr(network.prior), **collapsed}


def _site_dims(network: Network, data: Dataset) -> dict[str, list[str]]:
    """Dimension names of every site, those of the priors' sites from their plates."""
    # ArviZ's own ``infer_dims`` needs a lazy import that fails where ArviZ was imported first.
    dims, layers = {}, network.layers
    # What a layer calls its inputs are the neurons of the layer below.
    inputs = {layer.site("input"): below.site("neuron") for below, layer in pairwise(layers)}

    def record():
        for name, site in trace(seeded(network, jax.random.key(0))).get_trace(data.x).items():
            frames = sorted(site.get("cond_indep_stack", ()), key=lambda frame: frame.dim)
            dims[name] = [inputs.get(frame.name, frame.name) for frame in frames]

    with TRACE_LOCK:
        jax.eval_shape(record)  # no array is computed
    for layer in layers:
        neuron, below = layer.site("neuron"), layer.site("input")
        dims |= {layer.site("w"): [neuron, inputs.get(below, below)], layer.site("b"): [neuron]}
    return dims | {"a": [layers[-1].site("neuron")]}

"""The functions of a draw that have reference answers, and draws as they come from anywhere."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from numpyro.handlers import seed, trace
from numpyro.infer import MCMC
from numpyro.infer.util import log_density

from analysis.results.files import load_tree
from inference.runs.datatree import describe
from inference.runs.observables import observe
from inference.tracing import TRACE_LOCK
from models import WeightPrior
from models.deep_network import LayerPriors
from models.problems import Problem

_BATCH = 64


@dataclass(frozen=True)
class Draws:
    """Draws of a posterior from anywhere: `sites` (chain, draw, ...), and what they cost if known."""

    sites: dict[str, np.ndarray]
    scheme: str = "own"
    independent: bool = False
    gradient_evaluations: int | None = None
    wall_time_s: float | None = None


def draws_of(result, problem: Problem) -> Draws:
    """The draws of a tree of ours or ArviZ's, a netCDF file, an ``MCMC`` object or a dict of sites.

    A dict holds arrays (chain, draw, ...). The gradient evaluations of an ``MCMC`` object are those
    of its extra field ``num_steps``, without the warm-up, of which it keeps none. ``ValueError``
    for other things, and for a tree of ours that is of another network or other data than the
    problem's.
    """
    if isinstance(result, Draws):
        return result
    if isinstance(result, str | Path):
        result = load_tree(result)
    if isinstance(result, MCMC):
        sites, extra = result.get_samples(group_by_chain=True), result.get_extra_fields(group_by_chain=True)
        work = extra.get("num_steps")
        return Draws(
            {name: np.asarray(value) for name, value in sites.items()},
            type(result.sampler).__name__.lower(),
            gradient_evaluations=None if work is None else int(np.sum(work)),
        )
    if isinstance(result, xr.DataTree):
        if "posterior" not in result.children:
            raise ValueError(
                "result must have the group 'posterior'; pass a tree of sample(...), or ArviZ's."
            )
        if problem.of_network and "network" in result.attrs:
            _check_same(result, problem)
        posterior = result["posterior"].to_dataset()
        attrs = result.attrs
        return Draws(
            {name: values.transpose("chain", "draw", ...).to_numpy() for name, values in posterior.items()},
            attrs.get("scheme", "own"),
            bool(attrs.get("independent_draws", 0)),
            attrs.get("gradient_evaluations"),
            attrs.get("wall_time_s"),
        )
    if isinstance(result, Mapping):
        return Draws({name: np.asarray(value) for name, value in result.items()})
    raise ValueError(
        "result must be a tree, a netCDF file, a numpyro MCMC object or a dict of sites (chain, draw, ...), "
        f"got {type(result).__name__}."
    )


def functions_of_draws(draws: Draws, problem: Problem) -> xr.Dataset:
    """The functions of every draw, one scalar variable (chain, draw) each.

    Of a network: m, train and test MSE, f at :attr:`models.problems.Problem.test_points`, the
    second moment of :attr:`models.problems.Problem.inputs`, their log ρ where the draws hold it.
    Of another model: every component of every site, the logarithm of a positive one. Of both
    ``log_density``, log p(y, θ) of the sites as declared, of a network with its weights themselves
    (the centred form) as sites, so that it does not depend on how a scheme parametrises them;
    absent where the draws lack a site.
    """
    _check_sites(draws, problem)
    picked = _of_network(draws, problem) if problem.of_network else _of_model(draws, problem)
    if (density := _log_density(draws, problem)) is not None:
        picked["log_density"] = (("chain", "draw"), density)
    functions = xr.Dataset(picked).astype(float)
    bad = [name for name, values in functions.items() if not np.isfinite(values).all()]
    if bad:
        raise ValueError(
            f"result holds NaN or infinite values of {bad[0]}; leave out the draws that diverged."
        )
    return functions


def _of_network(draws: Draws, problem: Problem) -> dict:
    values = observe(problem.network, problem.data, draws.sites)
    picked = {name: values[name] for name in ("order_parameter", "train_mse", "test_mse")}
    picked |= {f"f[{i}]": values["f_test"][..., i] for i in problem.test_points}
    picked |= {f"second_moment[{j}]": values["second_moment"][..., j] for j in problem.inputs}
    if "rho" in draws.sites:
        log_rho = np.log(draws.sites["rho"])
        log_rho = log_rho if log_rho.ndim == 3 else log_rho.mean(axis=2)  # neurons have no order
        picked |= {f"log_rho[{j}]": log_rho[..., j] for j in problem.inputs}
    return {name: (("chain", "draw"), value) for name, value in picked.items()}


def _of_model(draws: Draws, problem: Problem) -> dict:
    picked = {}
    for name, site in _sites(problem.network, problem.model_kwargs).items():
        if name in draws.sites:
            value, label = draws.sites[name], name
            positive = getattr(site.get("fn"), "support", None) is dist.constraints.positive
            if positive:
                value, label = np.log(value), f"log_{name}"
            flat = value.reshape(*value.shape[:2], -1)
            names = [label] if value.ndim == 2 else [f"{label}[{j}]" for j in range(flat.shape[-1])]
            picked |= {each: (("chain", "draw"), flat[..., j]) for j, each in enumerate(names)}
    return picked


def _log_density(draws: Draws, problem: Problem) -> np.ndarray | None:
    model = problem.network
    if problem.of_network:
        model = replace(model, prior=_centred(model.prior))
    kwargs = problem.model_kwargs
    latent = [name for name, site in _sites(model, kwargs).items() if site["type"] == "sample"]
    if not all(name in draws.sites for name in latent):
        return None
    params = {name: jnp.asarray(draws.sites[name], jnp.float32) for name in latent}
    shape = next(iter(params.values())).shape[:2]
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in params.items()}

    with TRACE_LOCK:
        return np.asarray(_densities(problem, model, flat)).reshape(shape)


def _centred(prior: WeightPrior) -> WeightPrior:
    """The prior with its weights themselves as sites, in every layer."""
    if isinstance(prior, LayerPriors):
        return LayerPriors(tuple(map(_centred, prior.layers)))
    return replace(prior, centered=True) if hasattr(prior, "centered") else prior


@partial(jax.jit, static_argnums=(0, 1))
def _densities(problem: Problem, model, flat: dict) -> jax.Array:
    kwargs = problem.model_kwargs
    return jax.lax.map(lambda one: log_density(model, (), kwargs, one)[0], flat, batch_size=_BATCH)


def _sites(model, kwargs: dict) -> dict:
    """The latent and deterministic sites of a model, by name."""
    with TRACE_LOCK:
        sites = trace(seed(model, jax.random.key(0))).get_trace(**kwargs)
    kinds = ("sample", "deterministic")
    return {n: s for n, s in sites.items() if s["type"] in kinds and not s.get("is_observed")}


def _check_sites(draws: Draws, problem: Problem) -> None:
    sites = _sites(problem.network, problem.model_kwargs)
    names = problem.network.parameter_names if problem.of_network else draws.sites.keys() & sites
    needed = {name: np.shape(sites[name]["value"]) for name in names}
    if not needed:
        raise ValueError(
            f"result must hold sites of {problem.name}, {', '.join(sites)}; it holds {', '.join(draws.sites)}."
        )
    lengths = {value.shape[:2] for name, value in draws.sites.items() if name in needed}
    for name, shape in needed.items():
        got = np.shape(draws.sites.get(name))
        if got[2:] != shape or len(got) < 2 or len(lengths) > 1:
            raise ValueError(
                f"result must hold {name!r} of shape (chain, draw{''.join(f', {n}' for n in shape)}) "
                f"for {problem.name}, got {got}."
            )


def _check_same(tree: xr.DataTree, problem: Problem) -> None:
    """``ValueError`` unless a tree of ours is of the problem's network and data."""
    declared = json.loads(json.dumps(describe(problem.network)))
    stored = json.loads(tree.attrs["network"])
    # Whether a scheme integrates the readouts out, or in which form it samples a prior, does not
    # change the posterior.
    for each in (declared, stored):
        each.pop("readouts", None)
        each["prior"] = re.sub(r"centered=\w+", "", each["prior"])
    differs = [name for name, value in declared.items() if stored.get(name) != value]
    if differs:
        name = differs[0]
        raise ValueError(
            f"result is of a network with {name} {stored.get(name)}, but {problem.name} has {declared[name]}; sample "
            "the problem's own network."
        )
    for group, name in (("constant_data", "x"), ("observed_data", "y")):
        if not np.array_equal(tree[f"{group}/{name}"], getattr(problem.data, name)):
            raise ValueError(f"result is not on the data of {problem.name}; sample problem.data.")

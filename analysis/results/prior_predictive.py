"""What a prior says before it has seen data: networks drawn from it."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpyro.handlers import seed, trace

from inference.runs.datatree import build_tree
from inference.runs.observables import observe_draws
from inference.starts import check_problem
from inference.tracing import TRACE_LOCK
from models import Dataset, Isotropic, Network, Teacher, checks

# Draws made at once: bounds the memory.
_BATCH = 64
# Functions kept on the line, and its points: both test points are among them.
_LINES, _POINTS = 12, 301
_NUM_TEST = 500


def prior_predictive(
    network: Network, data: Dataset | Teacher, key: jax.Array, num_draws: int = 1000
) -> xr.DataTree:
    """Draw networks from the prior, and look at their functions where the data are.

    The inputs and targets of `data` are what draws are held against, without conditioning on them;
    from a teacher 500 test points are drawn. κ is the noise of the predicted targets only.
    ``ValueError`` for data that do not fit the network.

    The answer has the schema of :func:`inference.runs.datatree.build_tree`, scheme ``prior``,
    independent draws; so that :func:`analysis.order_parameters` gives the prior's m and relevance
    ratio. A further group ``line`` holds ``f`` (function, position) of 12 draws on the line
    x(t) = (1 - t) x_A + t x_B through two test points, t from -1 to 2 in ``position``.

    References
    ----------
    Gabry, Simpson, Vehtari, Betancourt and Gelman, *Visualization in Bayesian workflow*, JRSS A 182 (2019).

    Examples
    --------
    >>> import jax
    >>> from models import ARD, SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=ARD())
    >>> tree = prior_predictive(network, SparseParity(6, 2), jax.random.key(0), num_draws=40)
    >>> tree.order_parameters.order_parameter.shape, tree.line.f.shape
    ((1, 40), (12, 301))
    """
    key_data, key_draws = jax.random.split(key)
    if isinstance(data, Teacher):
        data = data.sample(key_data, 1, _NUM_TEST)
    check_problem(network, data)
    checks.whole("num_draws", num_draws, 1)
    began = time.perf_counter()
    draws = draw_prior(network, key_draws, num_draws)
    posterior = {name: value[None] for name, value in draws.items()}
    shown = {name: posterior[name] for name in network.parameter_names}
    tree = build_tree(
        network,
        data,
        posterior,
        # The functions do not depend on the prior: one compiled program serves all.
        observed=observe_draws(replace(network, prior=Isotropic()), data, shown, key),
        scheme="prior",
        settings={"num_draws": num_draws},
        seed=key,
        wall_time_s=time.perf_counter() - began,
        gradient_evaluations=0,
        independent_draws=True,
        extra_attributes={"population": 1},  # as theories of the population, it has not seen the data
    )
    position, points = line(data)
    f = np.asarray(network.apply({name: value[0, :_LINES] for name, value in shown.items()}, points))
    tree["line"] = xr.Dataset({"f": (("function", "position"), f)}, coords={"position": position})
    return tree


def draw_prior(network: Network, key: jax.Array, num_draws: int) -> dict[str, np.ndarray]:
    """Independent draws of all sites of the prior, recorded ones included; the draws lead."""

    def one(key):
        sites = trace(seed(network.sample_parameters, key)).get_trace()
        return {n: s["value"] for n, s in sites.items() if s["type"] in ("sample", "deterministic")}

    keys = jax.random.split(key, num_draws)
    with TRACE_LOCK:
        draws = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=_BATCH))(keys)
    return {name: np.asarray(value) for name, value in draws.items()}


def line(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Positions t and points x(t) of the line through the first two test points that differ."""
    differs = np.flatnonzero((data.x_test != data.x_test[0]).any(axis=1))
    start, end = data.x_test[0], data.x_test[differs[0]] if len(differs) else -data.x_test[0]
    position = np.linspace(-1.0, 2.0, _POINTS)
    return position, jnp.asarray(start + position[:, None] * (end - start), jnp.float32)

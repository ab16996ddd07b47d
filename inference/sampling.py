"""``sample``: the posterior by any NumPyro kernel, ending in the DataTree schema."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import xarray as xr
from numpyro.infer import HMC, NUTS
from numpyro.infer.mcmc import MCMCKernel

from inference.chains import run_chains
from inference.datatree import build_tree
from inference.problem import check_problem
from inference.progress import ProgressCallback, progress_callback
from inference.sgld import SGLD
from inference.starts import start_params
from models import Dataset, TwoLayerNetwork, checks

# State fields to collect, by the names that ArviZ gives them in sample_stats.
_LANGEVIN_FIELDS = {"potential_energy": "potential_energy", "step_size": "step_size"}
_HMC_FIELDS = {
    "potential_energy": "potential_energy",
    "energy": "energy",
    "n_steps": "num_steps",
    "acceptance_rate": "accept_prob",
    "diverging": "diverging",
    "step_size": "adapt_state.step_size",
}


def sample(
    network: TwoLayerNetwork,
    data: Dataset,
    kernel: MCMCKernel | Callable,
    key: jax.Array,
    *,
    num_warmup: int = 1000,
    num_samples: int = 1000,
    num_chains: int = 4,
    thinning: int = 1,
    start: str = "prior",
    init_params: dict | None = None,
    subsample_size: int | None = None,
    progress: bool | ProgressCallback | None = False,
) -> xr.DataTree:
    """Draw from the posterior of `network` on `data` by Markov chains.

    Parameters
    ----------
    network, data
        The model and its data.
    kernel
        A kernel without a model, such as ``SGLD(step_size=1e-3)``; one with a model of its own; or a callable
        from a model to a kernel, such as ``NUTS`` or ``lambda model: NUTS(model, max_tree_depth=8)``.
    key
        A ``jax.random.key``; the same key gives the same draws on the same platform.
    num_warmup
        Steps of each chain that are thrown away (and, by NUTS, used to adapt).
    num_samples, thinning
        Steps after the warm-up, of which every `thinning`-th is kept, as in NumPyro.
    num_chains
        Chains, run side by side on one device.
    start
        ``"prior"`` or ``"aligned"``, see :func:`inference.starts.start_params`.
    init_params
        Unconstrained values of every site with the chains leading, instead of `start`.
    subsample_size
        Minibatch size B for SGLD; None for the full batch.
    progress
        True for a bar on standard error, or a callable ``(done, total, text)``.

    Returns
    -------
    xarray.DataTree
        The schema of :func:`inference.datatree.build_tree`; ``sample_stats`` holds the log density ``lp``.

    Raises
    ------
    ValueError
        For arguments out of range, or a kernel that cannot take the model.
    DivergenceError
        When SGLD's step size is too large.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD, sample
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = sample(network, data, SGLD(step_size=1e-3), jax.random.key(1), num_warmup=100, num_samples=200)
    >>> dict(tree.posterior.sizes)
    {'chain': 4, 'draw': 200, 'neuron': 16, 'input': 6}
    """
    checks.whole("num_warmup", num_warmup, 0)
    checks.whole("num_chains", num_chains, 1)
    checks.whole("thinning", thinning, 1)
    checks.whole("num_samples", num_samples, thinning)
    check_problem(network, data)
    kernel = bind_kernel(kernel, network)
    if subsample_size is not None:
        checks.whole("subsample_size", subsample_size, 1)
        if not isinstance(kernel, SGLD):
            raise ValueError("subsample_size is for SGLD; other kernels need the full batch (None).")
        if subsample_size > data.num_data:
            raise ValueError(
                f"subsample_size must not exceed num_data={data.num_data}, got {subsample_size}."
            )
    began = time.perf_counter()
    key_start, key_chains = jax.random.split(key)
    if init_params is None:
        init_params = start_params(network, data, key_start, num_chains, start)
    else:
        check_init_params(init_params, network, data, num_chains, kernel.model is network)
        start = "given"
    stats = _HMC_FIELDS if isinstance(kernel, HMC) else _LANGEVIN_FIELDS if isinstance(kernel, SGLD) else {}
    scheme = "nuts" if isinstance(kernel, NUTS) else type(kernel).__name__.lower()
    with progress_callback(progress, scheme) as report:
        result = run_chains(
            kernel,
            jax.random.split(key_chains, num_chains),
            (data.x, data.y),
            {} if subsample_size is None else {"subsample_size": subsample_size},
            num_warmup=num_warmup,
            num_draws=num_samples // thinning,
            thinning=thinning,
            init_params=init_params,
            fields=tuple(stats.values()),
            progress=report,
        )
    sample_stats = {name: result.fields[field] for name, field in stats.items()}
    if "potential_energy" in sample_stats:
        sample_stats["lp"] = -sample_stats.pop("potential_energy")
    batches = 1.0 if subsample_size is None else subsample_size / data.num_data
    settings = {
        **(kernel.settings() if hasattr(kernel, "settings") else {"kernel": type(kernel).__name__}),
        "num_warmup": num_warmup,
        "num_samples": num_samples,
        "thinning": thinning,
        "start": start,
        "subsample_size": subsample_size,
    }
    return build_tree(
        network,
        data,
        result.sites,
        scheme=scheme,
        settings=settings,
        seed=key,
        wall_time_s=time.perf_counter() - began,
        gradient_evaluations=round(result.gradient_evaluations * batches),
        independent_draws=False,
        sample_stats=sample_stats,
        extra_attributes={"start": start},
    )


def check_init_params(
    init_params: dict, network: TwoLayerNetwork, data: Dataset, num_chains: int, own_model: bool
) -> None:
    """``ValueError`` unless `init_params` are finite values with the chains leading, one for every site.

    Names and shapes are those of the network; with `own_model` False the kernel samples another model, whose
    sites are not known here.
    """
    if not isinstance(init_params, dict):
        raise ValueError(
            f"init_params must be a dict of unconstrained site values, got {type(init_params).__name__}."
        )
    if own_model:
        wanted = jax.eval_shape(
            lambda key: start_params(network, data, key, num_chains, "prior"), jax.random.key(0)
        )
        if set(init_params) != set(wanted):
            raise ValueError(
                f"init_params must hold the sites {', '.join(sorted(wanted))}, "
                f"got {', '.join(map(str, sorted(init_params))) or 'none'}."
            )
        for name, value in wanted.items():
            if jnp.shape(init_params[name]) != value.shape:
                raise ValueError(
                    f"init_params[{name!r}] must have shape {value.shape}, chains leading, "
                    f"got {jnp.shape(init_params[name])}."
                )
    for name, value in init_params.items():
        if not bool(jnp.isfinite(jnp.asarray(value)).all()):
            raise ValueError(
                f"init_params[{name!r}] holds NaN or infinite values; every start must be finite."
            )


def bind_kernel(kernel, network: TwoLayerNetwork) -> MCMCKernel:
    """A kernel for `network`: `kernel` itself, bound to it, or made from it."""
    if not isinstance(kernel, MCMCKernel) and callable(kernel):
        kernel = kernel(network)
    if not isinstance(kernel, MCMCKernel):
        raise ValueError(
            "kernel must be a NumPyro kernel or a callable from a model to one, such as SGLD(step_size=1e-3) "
            f"or NUTS, got {type(kernel).__name__}."
        )
    if getattr(kernel, "model", None) is None:
        if not hasattr(kernel, "bind"):
            raise ValueError(
                f"kernel {type(kernel).__name__} has no model; make it with the network as its model."
            )
        kernel = kernel.bind(network)
    return kernel

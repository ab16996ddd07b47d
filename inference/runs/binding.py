"""A kernel and its starting values, bound to a network."""

from functools import partial

import jax
import jax.numpy as jnp
from numpyro.infer import HMC
from numpyro.infer.mcmc import MCMCKernel

from inference.starts import start_params
from models import Dataset, Network

# State fields to collect, by the names that ArviZ gives them in sample_stats.
_HMC_FIELDS = {
    "potential_energy": "potential_energy",
    "energy": "energy",
    "n_steps": "num_steps",
    "acceptance_rate": "accept_prob",
    "diverging": "diverging",
    "step_size": "adapt_state.step_size",
}


def bind_kernel(kernel, network: Network) -> MCMCKernel:
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


def stats_fields(kernel: MCMCKernel) -> dict[str, str]:
    """The state fields of `kernel` to keep of every draw, by their names in ``sample_stats``."""
    if isinstance(kernel, HMC):
        return _HMC_FIELDS
    flag = {"diverging": "diverging"} if "diverging" in kernel.default_fields else {}
    return getattr(kernel, "stats_fields", {}) | flag


def check_init_params(
    init_params: dict, network: Network, data: Dataset, num_chains: int, own_model: bool
) -> None:
    """``ValueError`` unless `init_params` hold finite values of every site, the chains leading."""
    if not isinstance(init_params, dict):
        raise ValueError(
            f"init_params must be a dict of unconstrained site values, got {type(init_params).__name__}."
        )
    shapes = {name: jnp.shape(value) for name, value in init_params.items()}
    if own_model:  # else the kernel samples another model, whose sites are not known here
        starts = partial(start_params, network, data, num_chains=num_chains, start="prior")
        wanted = {name: v.shape for name, v in jax.eval_shape(starts, jax.random.key(0)).items()}
        if shapes != wanted:
            raise ValueError(
                f"init_params must hold the sites and shapes, chains leading, {wanted}; got {shapes}."
            )
    bad = [name for name, value in init_params.items() if not bool(jnp.isfinite(jnp.asarray(value)).all())]
    if bad:
        raise ValueError(f"init_params[{bad[0]!r}] holds NaN or infinite values; every start must be finite.")

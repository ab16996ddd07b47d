"""The density of the prior at a draw, site by site."""

from dataclasses import replace

import jax
import numpyro.distributions as dist
from numpyro.handlers import seed, substitute, trace

from inference.tracing import TRACE_LOCK
from models import CollapsedNetwork, Network, WeightPrior
from models.deep_network import LayerPriors
from models.priors import ScaleMixture


def log_prior(network: Network, sites: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """log p of every sampled site at the values in `sites`, of one draw, each summed to one number.

    Their sum is log p(θ) of the network with its readouts. Scale mixtures count in their centred
    form, log p(s) + log Normal(w; 0, s²): the density of the weights, whichever parametrisation was
    sampled. Empty where `sites` lack one that the prior samples.

    Examples
    --------
    >>> import numpy as np
    >>> from models import ARD, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=2, width=1, kappa=0.1, prior=ARD())
    >>> terms = log_prior(network, {"w": np.zeros((1, 2)), "a": np.zeros(1), "rho": np.ones(2)})
    >>> {name: round(float(term), 3) for name, term in terms.items()}  # w, a: -½ log 2π each
    {'rho': -2.038, 'w': -1.838, 'a': -0.919}
    """
    network = replace(network, prior=_centred(network.prior))
    model = substitute(seed(network.sample_parameters, jax.random.key(0)), data=sites)
    with TRACE_LOCK:
        traced = trace(model).get_trace()
    sampled = {name: site for name, site in traced.items() if site["type"] == "sample"}
    if not sampled.keys() <= sites.keys():
        return {}
    terms = {name: site["fn"].log_prob(site["value"]).sum() for name, site in sampled.items()}
    if isinstance(network, CollapsedNetwork):  # which samples no readouts
        terms["a"] = dist.Normal(0.0, network.readout_scale).log_prob(sites["a"]).sum()
    return terms


def _centred(prior: WeightPrior) -> WeightPrior:
    if isinstance(prior, LayerPriors):
        return LayerPriors(tuple(map(_centred, prior.layers)))
    if isinstance(prior, ScaleMixture) and "centered" in prior.__dataclass_fields__:
        return replace(prior, centered=True)
    return prior

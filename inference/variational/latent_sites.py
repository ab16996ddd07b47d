"""The latent sites of a NumPyro model: what a guide has to cover, and where it may start."""

from functools import cached_property

import jax.numpy as jnp
import numpyro
from numpyro.distributions.transforms import biject_to
from numpyro.distributions.util import periodic_repeat
from numpyro.handlers import block, seed, substitute, trace


class LatentSites:
    """Latent sites of a model for given arguments, as a guide sees them while it is itself being traced.

    Parameters
    ----------
    model
        Python callable containing NumPyro primitives.
    args, kwargs
        Its arguments.
    names
        The sites to keep; all by default.

    Attributes
    ----------
    sites
        NumPyro's messages by name, in the order of the model. Their values mean nothing.
    plate_sizes
        Full sizes of the model's plates, by name.
    """

    def __init__(self, model, args, kwargs, names=None):
        self._model, self._args, self._kwargs = model, args, kwargs
        # The sites sit at the origin of unconstrained space: only supports and shapes are wanted of them, and
        # sampling would slow every step of the compiled program, and its compilation more.
        traced = self._trace(substitute(model, substitute_fn=_origin), 0)
        # A model may count with NumPy's integers, which `periodic_repeat` refuses.
        self.plate_sizes = {n: int(s["args"][0]) for n, s in traced.items() if s["type"] == "plate"}
        self.sites = {n: s for n, s in traced.items() if _is_latent(s) and (names is None or n in names)}

    def start(self, name: str):
        """Unconstrained value of a site in a draw of the prior, spread over the whole of every plate."""
        site = self.sites[name]
        transform = biject_to(site["fn"].support)
        value = transform.inv(self._prior_draw[name]["value"])
        for frame in site["cond_indep_stack"]:
            dim = frame.dim - transform.domain.event_dim
            value = periodic_repeat(value, self.plate_sizes[frame.name], dim)
        return value

    def subsampled_plates(self, name: str) -> list:
        """Frames of the plates around a site that hold a minibatch of their members."""
        frames = self.sites[name]["cond_indep_stack"]
        return [frame for frame in frames if frame.size != self.plate_sizes[frame.name]]

    @cached_property
    def _prior_draw(self):
        # One draw for all sites, so that a site starts from the same draw as its parents.
        return self._trace(self._model, numpyro.prng_key())

    def _trace(self, model, key):
        with block():  # hidden from the handlers of whoever calls the guide
            return trace(seed(model, key)).get_trace(*self._args, **self._kwargs)


def _is_latent(site) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def _origin(site):
    if site["type"] == "plate":
        size, subsample_size = site["args"]
        return jnp.arange(size if subsample_size is None else subsample_size)
    if not _is_latent(site) or site["fn"].support.is_discrete:
        return None
    transform = biject_to(site["fn"].support)
    return transform(jnp.zeros(transform.inverse_shape(site["fn"].shape())))

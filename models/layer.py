"""One hidden layer of a network: its size, its prior, and the names of its sites."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro
from jax.typing import ArrayLike
from numpyro.handlers import trace
from numpyro.primitives import _PYRO_STACK, Messenger

from models.priors import WeightPrior


class Layer(NamedTuple):
    """Hidden layer number l = 1, 2, …, with weights w (N_l, N_(l-1)) from its prior; N_0 = d."""

    number: int
    width: int
    input_dim: int
    prior: WeightPrior

    def site(self, name: str) -> str:
        """The name of a site or plate in this layer: ``w`` in the first, ``w2`` in the second.

        Examples
        --------
        >>> Layer(1, 8, 4, None).site("rho"), Layer(2, 8, 8, None).site("rho")
        ('rho', 'rho2')
        """
        return name if self.number == 1 else f"{name}{self.number}"

    def sample_weights(self) -> jax.Array:
        """The prior's sites under the names of this layer, and its weights (N_l, N_(l-1)) as ``w``."""
        with trace() as sites, _Renamed(self):
            w = self.prior.weights(self.width, self.input_dim)
        if jnp.shape(w) != (self.width, self.input_dim):
            raise ValueError(
                f"prior.weights must return shape (width, input_dim) = {(self.width, self.input_dim)}, "
                f"got {jnp.shape(w)}."
            )
        name = self.site("w")
        if name in sites:
            if sites[name]["value"] is not w:  # results would hold other weights than the network's
                raise ValueError(
                    f"site 'w' of the prior {self.prior.name!r} must hold the very matrix that weights returns; give "
                    "the site another name, and the network records the weights as 'w'."
                )
            return w
        # ``Predictive`` draws anew what is missing among the draws of a posterior, such as the
        # standardised weights behind w, which no result keeps; it gives no value to deterministic
        # sites. So w as given counts before w as made of sites that are not.
        given, own = _given(name), [name for name, site in sites.items() if site["type"] == "sample"]
        if given is not None and any(_given(name) is None for name in own):
            w = given
        return numpyro.deterministic(name, w)

    def sites_from_weights(self, w: ArrayLike) -> dict[str, jax.Array]:
        """:meth:`models.WeightPrior.sites_from_weights` under the names of this layer."""
        return {self.site(name): value for name, value in self.prior.sites_from_weights(w).items()}


class _Renamed(Messenger):
    """Sites and plates within get the names that they have in a layer; plates, too, since a guide
    wants one size and one dimension of each."""

    def __init__(self, layer: Layer):
        super().__init__()
        self._layer = layer

    def process_message(self, msg):
        if msg.get("name"):
            msg["name"] = self._layer.site(msg["name"])
        frames = msg.get("cond_indep_stack", ())
        msg["cond_indep_stack"] = [frame._replace(name=self._layer.site(frame.name)) for frame in frames]


def _given(name: str) -> jax.Array | None:
    """The value that the handlers around the model would give to a parameter of this name."""
    query = {"type": "param", "name": name, "value": None, "kwargs": {}, "cond_indep_stack": []}
    for handler in reversed(_PYRO_STACK):
        handler.process_message(query)
        if query.get("stop"):
            break
    return query["value"]

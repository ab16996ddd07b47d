"""The network with its readouts integrated out, as a NumPyro model of the hidden weights alone."""

from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from models.network import TwoLayerNetwork
from models.readouts import log_evidence


class CollapsedNormal(dist.Distribution):
    """Normal(0, A), A = τ I + σ_a² φᵀφ: the targets of a network whose readouts are integrated out.

    Parameters
    ----------
    features
        φ = N^(-γ) Φ, shape (N, P).
    readout_scale
        σ_a.
    noise_scale
        √τ = κ√P.

    Notes
    -----
    The density is :func:`models.readouts.log_evidence`: N × N or P × P matrices, whichever are smaller. NumPyro's
    ``LowRankMultivariateNormal`` is the same law; it takes Woodbury's difference, see there.

    Examples
    --------
    >>> law = CollapsedNormal(jnp.ones((1, 1)), 1.0, 1.0)  # Normal(0, 2)
    >>> round(float(law.log_prob(jnp.zeros(1))), 4)
    -1.2655
    """

    support = constraints.real_vector

    def __init__(self, features: jax.Array, readout_scale: float, noise_scale: float, *, validate_args=None):
        self.features, self.readout_scale, self.noise_scale = features, readout_scale, noise_scale
        super().__init__(event_shape=jnp.shape(features)[-1:], validate_args=validate_args)

    def log_prob(self, value):
        return log_evidence(self.features, value, self.readout_scale**2, self.noise_scale**2)

    def sample(self, key, sample_shape=()):
        key_readout, key_noise = jax.random.split(key)
        width, num_data = self.features.shape
        readout = self.readout_scale * jax.random.normal(key_readout, (*sample_shape, width))
        noise = self.noise_scale * jax.random.normal(key_noise, (*sample_shape, num_data))
        return readout @ self.features + noise


@dataclass(frozen=True)
class CollapsedNetwork(TwoLayerNetwork):
    """A two-layer network with the readouts integrated out; calling it is the NumPyro model of its hidden layer.

        w ~ prior,      y ~ Normal(0, A),      A = κ²P I + c ΦᵀΦ,      c = σ_a²/N^(2γ),   Φ_iμ = φ(w_i·x_μ + b_i)

    is the exact marginal of :class:`models.TwoLayerNetwork` over a, and a given w is Gaussian again,

        a | w, y ~ Normal(M⁻¹Φy/(κ²P N^γ), M⁻¹),      M = I/σ_a² + ΦΦᵀ/(κ²P N^(2γ))

    so that a draw of w, completed by :meth:`draw_readouts`, is a draw from the joint posterior, whatever the scheme
    that drew w. ``sample`` and ``fit`` complete their draws. Everything else is that of the joint network, from
    which :meth:`models.TwoLayerNetwork.collapsed` makes this one; the parameters are the same.

    Notes
    -----
    Integrating out what is conjugate never raises the variance of an estimate (Rao–Blackwell; Liu 1994, *The
    collapsed Gibbs sampler*). Here it also takes the stiff directions away: the joint likelihood holds a to 1/κ².
    The evidence does not factorise over the data, so there are no minibatches.

    Raises
    ------
    ValueError
        For a hyperparameter out of range; at a call, for shapes that do not fit, or a minibatch.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> data = SparseParity(input_dim=8, degree=2).sample(jax.random.key(0), num_data=50)
    >>> collapsed = TwoLayerNetwork(input_dim=8, width=32, kappa=0.1).collapsed()
    >>> draw = numpyro.infer.Predictive(collapsed, num_samples=1)(jax.random.key(1), data.x)
    >>> draw["w"].shape, draw["y"].shape, "a" in draw
    ((1, 32, 8), (1, 50), False)
    >>> collapsed.draw_readouts(jax.random.key(2), {"w": draw["w"][0]}, data.x, data.y).shape
    (32,)
    """

    def __call__(self, x: ArrayLike, y: ArrayLike | None = None, subsample_size: int | None = None) -> None:
        """The NumPyro model: the prior's sites (``b`` with biases), and ``y`` observed at `y`, as one vector."""
        num_data = self._check_shapes(x, y)
        if subsample_size is not None:
            raise ValueError(
                "subsample_size must be None for a collapsed network, whose evidence does not factorise over the "
                "data; use the joint network for minibatches."
            )
        features = self.features(self.sample_parameters(), x) * self.width**-self.gamma
        noise = self.kappa * num_data**0.5
        numpyro.sample("y", CollapsedNormal(features, self.readout_scale, noise), obs=y)

    def sample_parameters(self) -> dict[str, jax.Array]:
        """Sample statements of the hidden layer; returns w (N, d) and, with biases, b (N,)."""
        params = {"w": self._sample_weights()}
        if self.bias:
            with numpyro.plate("readout", self.width, dim=-1):
                params["b"] = numpyro.sample("b", dist.Normal(0.0, self.bias_scale))
        return params

    def joint(self) -> TwoLayerNetwork:
        """The network with its readouts."""
        return TwoLayerNetwork(**{field.name: getattr(self, field.name) for field in fields(self)})

    def collapsed(self) -> "CollapsedNetwork":
        """This network."""
        return self

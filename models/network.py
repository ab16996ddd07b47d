"""The two-layer network as a NumPyro model, with readouts or with these integrated out."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.primitives import _PYRO_STACK

from models import checks
from models.priors import Isotropic, WeightPrior
from models.readouts import CollapsedNormal, draw_readouts

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "erf": jax.scipy.special.erf, "identity": lambda u: u}


@dataclass(frozen=True)
class TwoLayerNetwork:
    """Bayesian two-layer network; calling it is the NumPyro model of its posterior.

        f(x) = N^(-γ) Σ_{i=1..N} a_i φ(w_i·x + b_i),    a_i ~ Normal(0, σ_a²),    w ~ prior,
        y_μ ~ Normal(f(x_μ), κ√P)

    so that the posterior is prior · exp(-(1/2κ²) (1/P) Σ_μ (f(x_μ) - y_μ)²), the stationary law of
    Langevin training at temperature 2κ² (arXiv:2510.15174).

    Parameters
    ----------
    input_dim
        d ≥ 1.
    width
        N ≥ 1 hidden neurons.
    kappa
        κ > 0 (units of y): the targets' noise, the likelihood's standard deviation, is κ√P with P
        the number of training points.
    gamma
        Width-scaling exponent γ; 1/2 is the scaling with an NNGP limit, 1 the mean-field scaling.
    prior
        Prior over the hidden weights, see :class:`models.WeightPrior`.
    readout_scale
        σ_a > 0.
    activation
        One of relu, tanh, erf, identity.
    bias
        Hidden biases b_i ~ Normal(0, bias_scale²) when True; none by default.
    bias_scale
        σ_b > 0.

    Examples
    --------
    >>> import jax, numpyro
    >>> from models import TwoLayerNetwork, SparseParity
    >>> network = TwoLayerNetwork(input_dim=8, width=32, kappa=0.1)
    >>> data = SparseParity(input_dim=8, degree=2).sample(jax.random.key(0), num_data=50)
    >>> prior_draw = numpyro.infer.Predictive(network, num_samples=1)(jax.random.key(1), data.x)
    >>> prior_draw["w"].shape, prior_draw["a"].shape, prior_draw["y"].shape
    ((1, 32, 8), (1, 32), (1, 50))
    """

    input_dim: int
    width: int
    kappa: float
    gamma: float = 0.5
    prior: WeightPrior = field(default_factory=Isotropic)
    readout_scale: float = 1.0
    activation: str = "relu"
    bias: bool = False
    bias_scale: float = 1.0

    def __post_init__(self):
        checks.whole("input_dim", self.input_dim, 1)
        checks.whole("width", self.width, 1)
        checks.positive("kappa", self.kappa)
        checks.finite("gamma", self.gamma)
        checks.positive("readout_scale", self.readout_scale)
        checks.positive("bias_scale", self.bias_scale)
        checks.one_of("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.prior, WeightPrior):
            raise ValueError(
                f"prior must be a WeightPrior such as Isotropic() or ARD(), got {type(self.prior).__name__}."
            )

    def __call__(self, x: ArrayLike, y: ArrayLike | None = None, subsample_size: int | None = None) -> None:
        """The NumPyro model: ``w``, ``a`` (``b``), the prior's sites, and ``y`` observed at `y`.

        `x` has shape (P, d), `y` (P,); None makes ``y`` a latent draw (prior or posterior
        predictive). The likelihood of a minibatch of `subsample_size` B is scaled by P/B.
        """
        num_data = self._check_shapes(x, y)
        params = self.sample_parameters()
        with numpyro.plate("data", num_data, subsample_size=subsample_size, dim=-1) as index:
            if subsample_size is not None:
                x, y = jnp.asarray(x)[index], None if y is None else jnp.asarray(y)[index]
            target_noise = self.kappa * num_data**0.5
            numpyro.sample("y", dist.Normal(self.apply(params, x), target_noise), obs=y)

    def sample_parameters(self) -> dict[str, jax.Array]:
        """Sample statements of all parameters; returns w (N, d), a (N,) and maybe b (N,)."""
        params = {"w": self._sample_weights()}
        # Not the weights' plate ``neuron``: autoguides want each plate at one dimension only.
        with numpyro.plate("readout", self.width, dim=-1):
            params["a"] = numpyro.sample("a", dist.Normal(0.0, self.readout_scale))
            if self.bias:
                params["b"] = numpyro.sample("b", dist.Normal(0.0, self.bias_scale))
        return params

    def features(self, params: dict[str, ArrayLike], x: ArrayLike) -> jax.Array:
        """Hidden activations φ(w_i·x_μ + b_i), (..., N, P): this order is faster on CPU."""
        preactivation = jnp.matmul(jnp.asarray(params["w"]), jnp.asarray(x).T)
        if self.bias:
            preactivation = preactivation + jnp.asarray(params["b"])[..., :, None]
        return ACTIVATIONS[self.activation](preactivation)

    def apply(self, params: dict[str, ArrayLike], x: ArrayLike) -> jax.Array:
        """f(x) = N^(-γ) Σ_i a_i φ(w_i·x + b_i), shape (..., P), at `x` of shape (P, d).

        `params` holds ``w`` (..., N, d), ``a`` (..., N) and, with biases, ``b`` (..., N); leading
        dimensions are batches of networks. Other entries are ignored.
        """
        hidden = self.features(params, x)
        return jnp.einsum("...n,...np->...p", jnp.asarray(params["a"]), hidden) * self.width**-self.gamma

    def collapsed(self) -> "CollapsedNetwork":
        """This network with its readouts integrated out."""
        return CollapsedNetwork(**vars(self))

    def draw_readouts(
        self, key: jax.Array, params: dict[str, ArrayLike], x: ArrayLike, y: ArrayLike
    ) -> jax.Array:
        """Readouts (N,) from their exact posterior given the hidden layer and the training data.

        By :func:`models.readouts.readout_posterior`; `params` holds ``w`` (N, d) and maybe ``b``.
        """
        x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
        phi = self.features(params, x) * self.width**-self.gamma
        return draw_readouts(key, phi, y, self.readout_scale**2, self.kappa**2 * x.shape[0])

    def _sample_weights(self) -> jax.Array:
        with numpyro.handlers.trace() as sites:
            w = self.prior.weights(self.width, self.input_dim)
        if jnp.shape(w) != (self.width, self.input_dim):
            raise ValueError(
                f"prior.weights must return shape (width, input_dim) = {(self.width, self.input_dim)}, "
                f"got {jnp.shape(w)}."
            )
        if "w" in sites:
            return w
        # ``Predictive`` draws anew what is missing among the draws of a posterior, such as the
        # standardised weights behind w, which no result keeps; it gives no value to deterministic
        # sites. So w as given counts before w as made of sites that are not.
        given, own = _given("w"), [name for name, site in sites.items() if site["type"] == "sample"]
        if given is not None and any(_given(name) is None for name in own):
            w = given
        return numpyro.deterministic("w", w)

    def _check_shapes(self, x: ArrayLike, y: ArrayLike | None) -> int:
        if jnp.ndim(x) != 2 or jnp.shape(x)[1] != self.input_dim or jnp.shape(x)[0] < 1:
            raise ValueError(
                f"x must have shape (num_data, input_dim) with input_dim={self.input_dim}, got {jnp.shape(x)}."
            )
        if y is not None and jnp.shape(y) != jnp.shape(x)[:1]:
            raise ValueError(f"y must have shape {jnp.shape(x)[:1]} to match x, got {jnp.shape(y)}.")
        return jnp.shape(x)[0]


def _given(name: str) -> jax.Array | None:
    """The value that the handlers around the model would give to a parameter of this name."""
    query = {"type": "param", "name": name, "value": None, "kwargs": {}, "cond_indep_stack": []}
    for handler in reversed(_PYRO_STACK):
        handler.process_message(query)
        if query.get("stop"):
            break
    return query["value"]


@dataclass(frozen=True)
class CollapsedNetwork(TwoLayerNetwork):
    """The network with its readouts integrated out: the NumPyro model of its hidden layer.

        w ~ prior,      y ~ Normal(0, A),      A = κ²P I + c ΦᵀΦ,      c = σ_a²/N^(2γ),
        Φ_iμ = φ(w_i·x_μ + b_i)

    is the exact marginal of :class:`models.TwoLayerNetwork` over a, and a given w is Gaussian
    again,

        a | w, y ~ Normal(M⁻¹Φy/(κ²P N^γ), M⁻¹),      M = I/σ_a² + ΦΦᵀ/(κ²P N^(2γ))

    so that a draw of w, completed by :meth:`draw_readouts`, is a draw from the joint posterior,
    whatever the scheme that drew w. ``sample`` and ``fit`` complete their draws. All else is as in
    the joint network, from which :meth:`models.TwoLayerNetwork.collapsed` makes this one.

    Notes
    -----
    Integrating out what is conjugate never raises the variance of an estimate (Rao–Blackwell; Liu
    1994, *The collapsed Gibbs sampler*). Here it also takes the stiff directions away: the joint
    likelihood holds a to 1/κ². The evidence does not factorise over the data, so there are no
    minibatches.

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
        """The NumPyro model: the prior's sites (``b`` with biases), and ``y`` as one vector."""
        num_data = self._check_shapes(x, y)
        if subsample_size is not None:
            raise ValueError(
                "subsample_size must be None for a collapsed network, whose evidence does not factorise over the "
                "data; use the joint network for minibatches."
            )
        features = self.features(self.sample_parameters(), x) * self.width**-self.gamma
        target_noise = self.kappa * num_data**0.5
        numpyro.sample("y", CollapsedNormal(features, self.readout_scale, target_noise), obs=y)

    def sample_parameters(self) -> dict[str, jax.Array]:
        """Sample statements of the hidden layer; returns w (N, d) and, with biases, b (N,)."""
        params = {"w": self._sample_weights()}
        if self.bias:
            with numpyro.plate("readout", self.width, dim=-1):
                params["b"] = numpyro.sample("b", dist.Normal(0.0, self.bias_scale))
        return params

    def collapsed(self) -> "CollapsedNetwork":
        """This network."""
        return self

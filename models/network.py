"""Networks as NumPyro models, with readouts or with these integrated out."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from models import checks
from models.layer import Layer
from models.priors import Isotropic, WeightPrior
from models.readouts import CollapsedNormal, draw_readouts

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "erf": jax.scipy.special.erf, "identity": lambda u: u}


class Network:
    """What networks of one and of several hidden layers share, :class:`models.TwoLayerNetwork` and
    :class:`models.DeepNetwork`: everything but their declaration.

        h_1 = w_1 x + b_1,    h_l = w_l φ(h_(l-1)) + b_l,    f(x) = N_L^(-γ) Σ_i a_i φ(h_L,i(x))
    """

    input_dim: int
    widths: tuple[int, ...]  # N_1, …, N_L
    kappa: float
    gamma: float
    prior: WeightPrior
    readout_scale: float
    activation: str
    bias: bool
    bias_scale: float

    def __post_init__(self):
        checks.whole("input_dim", self.input_dim, 1)
        checks.positive("kappa", self.kappa)
        checks.finite("gamma", self.gamma)
        checks.positive("readout_scale", self.readout_scale)
        checks.positive("bias_scale", self.bias_scale)
        checks.one_of("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.prior, WeightPrior):
            raise ValueError(
                f"prior must be a WeightPrior such as Isotropic() or ARD(), got {type(self.prior).__name__}."
            )

    @property
    def priors(self) -> tuple[WeightPrior, ...]:
        """The prior of every hidden layer's weights."""
        return (self.prior,) * len(self.widths)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The hidden layers, from the inputs up."""
        fan_in = (self.input_dim, *self.widths[:-1])
        numbers = range(1, len(self.widths) + 1)
        return tuple(map(Layer, numbers, self.widths, fan_in, self.priors))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Sites that determine f: ``w``, ``w2``, …, ``a`` and, with biases, ``b``, ``b2``, …"""
        names = [layer.site("w") for layer in self.layers] + ["a"]
        return (*names, *(layer.site("b") for layer in self.layers if self.bias))

    def __call__(self, x: ArrayLike, y: ArrayLike | None = None, subsample_size: int | None = None) -> None:
        """The NumPyro model: :attr:`parameter_names`, the priors' sites, and ``y`` observed at `y`.

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
        """Sample statements of all parameters; returns those of :attr:`parameter_names`."""
        params = {layer.site("w"): layer.sample_weights() for layer in self.layers} | self._sample_readouts()
        for layer in self.layers if self.bias else ():
            name = layer.site("b")
            with numpyro.plate(layer.site("bias"), layer.width, dim=-1):
                params[name] = numpyro.sample(name, dist.Normal(0.0, self.bias_scale))
        return params

    def features(self, params: dict[str, ArrayLike], x: ArrayLike) -> jax.Array:
        """Activations φ(h_L) of the last hidden layer, (..., N_L, P): this order is faster on CPU."""
        hidden = jnp.asarray(x).T
        for layer in self.layers:
            preactivation = jnp.matmul(jnp.asarray(params[layer.site("w")]), hidden)
            if self.bias:
                preactivation = preactivation + jnp.asarray(params[layer.site("b")])[..., :, None]
            hidden = ACTIVATIONS[self.activation](preactivation)
        return hidden

    def apply(self, params: dict[str, ArrayLike], x: ArrayLike) -> jax.Array:
        """f(x) = N_L^(-γ) Σ_i a_i φ(h_L,i), shape (..., P), at `x` of shape (P, d).

        `params` holds :attr:`parameter_names`: ``w`` (..., N, d), ``a`` (..., N) and, with biases,
        ``b`` (..., N); leading dimensions are batches of networks. Other entries are ignored.
        """
        hidden = self.features(params, x)
        scale = self.widths[-1] ** -self.gamma
        return jnp.einsum("...n,...np->...p", jnp.asarray(params["a"]), hidden) * scale

    def collapsed(self) -> "CollapsedNetwork":
        """This network with its readouts integrated out."""
        raise TypeError(f"{type(self).__name__} must define collapsed(self).")

    def draw_readouts(
        self, key: jax.Array, params: dict[str, ArrayLike], x: ArrayLike, y: ArrayLike
    ) -> jax.Array:
        """Readouts (N_L,) from their exact posterior given the hidden layers and the training data.

        By :func:`models.readouts.readout_posterior`; `params` holds ``w``, ``w2``, … and maybe the
        biases.
        """
        x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
        phi = self.features(params, x) * self.widths[-1] ** -self.gamma
        return draw_readouts(key, phi, y, self.readout_scale**2, self.kappa**2 * x.shape[0])

    def _sample_readouts(self) -> dict[str, jax.Array]:
        # Not the weights' plate ``neuron``: autoguides want each plate at one dimension only.
        with numpyro.plate("readout", self.widths[-1], dim=-1):
            return {"a": numpyro.sample("a", dist.Normal(0.0, self.readout_scale))}

    def _check_shapes(self, x: ArrayLike, y: ArrayLike | None) -> int:
        if jnp.ndim(x) != 2 or jnp.shape(x)[1] != self.input_dim or jnp.shape(x)[0] < 1:
            raise ValueError(
                f"x must have shape (num_data, input_dim) with input_dim={self.input_dim}, got {jnp.shape(x)}."
            )
        if y is not None and jnp.shape(y) != jnp.shape(x)[:1]:
            raise ValueError(f"y must have shape {jnp.shape(x)[:1]} to match x, got {jnp.shape(y)}.")
        return jnp.shape(x)[0]


@dataclass(frozen=True)
class TwoLayerNetwork(Network):
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
        checks.whole("width", self.width, 1)
        super().__post_init__()

    @property
    def widths(self) -> tuple[int]:
        """(N,)."""
        return (self.width,)

    def collapsed(self) -> "CollapsedTwoLayerNetwork":
        """This network with its readouts integrated out."""
        return CollapsedTwoLayerNetwork(**vars(self))


class CollapsedNetwork(Network):
    """A network with its readouts integrated out: the NumPyro model of its hidden layers.

        w ~ prior,      y ~ Normal(0, A),      A = κ²P I + c ΦᵀΦ,      c = σ_a²/N^(2γ),
        Φ_iμ = φ(h_L,i(x_μ)), of one hidden layer φ(w_i·x_μ + b_i)

    is the exact marginal of the network over a, and a given the hidden layers is Gaussian again,

        a | w, y ~ Normal(M⁻¹Φy/(κ²P N^γ), M⁻¹),      M = I/σ_a² + ΦΦᵀ/(κ²P N^(2γ))

    so that a draw of w, completed by :meth:`draw_readouts`, is a draw from the joint posterior,
    whatever the scheme that drew w. ``sample`` and ``fit`` complete their draws. All else is as in
    the joint network, whose :meth:`Network.collapsed` makes this one.

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
        features = self.features(self.sample_parameters(), x) * self.widths[-1] ** -self.gamma
        target_noise = self.kappa * num_data**0.5
        numpyro.sample("y", CollapsedNormal(features, self.readout_scale, target_noise), obs=y)

    def collapsed(self) -> "CollapsedNetwork":
        """This network."""
        return self

    def _sample_readouts(self) -> dict[str, jax.Array]:
        return {}


@dataclass(frozen=True)
class CollapsedTwoLayerNetwork(CollapsedNetwork, TwoLayerNetwork):
    """A two-layer network with its readouts integrated out."""

"""Networks of several hidden layers, with a prior for each."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import jax

from models import checks
from models.network import CollapsedNetwork, Network
from models.priors import Isotropic, WeightPrior


@dataclass(frozen=True)
class LayerPriors(WeightPrior):
    """The priors of the hidden layers of a :class:`DeepNetwork`, from the inputs up, where they differ.

    Examples
    --------
    >>> from models import ARD, Isotropic
    >>> LayerPriors((ARD(), Isotropic())).name
    'ard+isotropic'
    """

    layers: tuple[WeightPrior, ...]

    @property
    def name(self) -> str:
        """Their names with a plus between them."""
        return "+".join(prior.name for prior in self.layers)

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """``ValueError``: these are the priors of several matrices."""
        raise ValueError("prior must be that of one layer; use a DeepNetwork for a prior of each layer.")


@dataclass(frozen=True)
class DeepNetwork(Network):
    """Bayesian network of L hidden layers; calling it is the NumPyro model of its posterior.

        h_1 = w_1 x + b_1,      h_l = w_l φ(h_(l-1)) + b_l,      f(x) = N_L^(-γ) Σ_i a_i φ(h_L,i(x)),
        w_l ~ prior of layer l with N_(l-1) inputs,   a_i ~ Normal(0, σ_a²),   y_μ ~ Normal(f(x_μ), κ√P)

    N_0 = d. A weight of the isotropic prior has the variance σ_w²/N_(l-1), so that the limit of wide
    layers at γ = 1/2 is a Gaussian process (:class:`inference.fixed_points.NNGP`). With one hidden
    layer this is :class:`models.TwoLayerNetwork`, draw for draw.

    The weights of the first layer are the site ``w`` (neuron, input), whose second moments say which
    inputs matter, as they do in a two-layer network. Those of the layers above are ``w2`` (neuron2,
    neuron), ``w3``, …; the sites of their priors have the same numbers (``rho2``: a precision for
    every neuron of the first layer), and so have biases. ``a`` belongs to the last layer.

    Parameters
    ----------
    input_dim
        d ≥ 1.
    widths
        N_1, …, N_L, at least one.
    kappa, gamma, readout_scale, activation, bias, bias_scale
        As for :class:`models.TwoLayerNetwork`; γ scales the readouts, and every layer has the
        activation and the scale of biases.
    prior
        One prior for the weights of all hidden layers, or a sequence of one a layer. Of a prior that
        names inputs (:class:`models.GroupedARD`), the inputs of a layer above the first are neurons.

    Examples
    --------
    >>> import numpyro
    >>> from models import ARD, DeepNetwork, Isotropic, SparseParity
    >>> network = DeepNetwork(input_dim=8, widths=(32, 16), kappa=0.1, prior=(ARD(), Isotropic()))
    >>> data = SparseParity(input_dim=8, degree=2).sample(jax.random.key(0), num_data=50)
    >>> draw = numpyro.infer.Predictive(network, num_samples=1)(jax.random.key(1), data.x)
    >>> {name: draw[name].shape for name in network.parameter_names}
    {'w': (1, 32, 8), 'w2': (1, 16, 32), 'a': (1, 16)}
    """

    input_dim: int
    widths: tuple[int, ...]
    kappa: float
    gamma: float = 0.5
    prior: WeightPrior = field(default_factory=Isotropic)
    readout_scale: float = 1.0
    activation: str = "relu"
    bias: bool = False
    bias_scale: float = 1.0

    def __post_init__(self):
        widths = tuple(self.widths) if isinstance(self.widths, Iterable) else ()
        if not widths:
            raise ValueError(
                f"widths must be the width of every hidden layer, such as (64, 64), got {self.widths!r}."
            )
        for width in widths:
            checks.whole("widths", width, 1)
        object.__setattr__(self, "widths", widths)
        if not isinstance(self.prior, WeightPrior) and isinstance(self.prior, Iterable):
            object.__setattr__(self, "prior", _of_layers(tuple(self.prior), len(widths)))
        super().__post_init__()
        if isinstance(self.prior, LayerPriors) and len(self.prior.layers) != len(widths):
            raise ValueError(
                f"prior must be one prior or one for each of the {len(widths)} hidden layers, "
                f"got {len(self.prior.layers)}."
            )

    @property
    def priors(self) -> tuple[WeightPrior, ...]:
        """The prior of every hidden layer's weights."""
        return self.prior.layers if isinstance(self.prior, LayerPriors) else super().priors

    def collapsed(self) -> "CollapsedDeepNetwork":
        """This network with its readouts integrated out."""
        return CollapsedDeepNetwork(**vars(self))


@dataclass(frozen=True)
class CollapsedDeepNetwork(CollapsedNetwork, DeepNetwork):
    """A deep network with its readouts integrated out."""


def _of_layers(priors: tuple, num_layers: int) -> WeightPrior:
    """One prior where all layers have the same, else :class:`LayerPriors`."""
    wrong = [prior for prior in priors if not isinstance(prior, WeightPrior)]
    if wrong or not priors:
        kind = type(wrong[0]).__name__ if wrong else "none"
        raise ValueError(f"prior must be a WeightPrior such as ARD(), or one for each layer, got {kind}.")
    same = len(priors) == num_layers and all(prior == priors[0] for prior in priors)
    return priors[0] if same else LayerPriors(priors)

"""A guide over the hidden layer alone: the readouts follow their exact Gaussian posterior."""

import jax

from inference.variational.guides import MeanFieldGuide
from models import Network


class CollapsedGuide(MeanFieldGuide):
    """Variational hidden layer with the readouts integrated out exactly.

        q(w, a) = q(w) p(a | w, y),       p(a | w, y) = Normal(M⁻¹Φy/(κ²P N^γ), M⁻¹)

    with w the weights of all hidden layers, so that only q(w) is fitted, to the collapsed posterior
    (:class:`models.CollapsedNetwork`):

        ELBO = E_q(w)[log Normal(y; 0, A(w))] - KL(q(w) ‖ prior),       A = κ²P I + c ΦᵀΦ

    By the chain rule KL(q(w) p(a|w,y) ‖ p(w,a|y)) = KL(q(w) ‖ p(w|y)): nothing is lost in the
    readouts, and for the same q(w) no guide with another law of a has a larger bound. The first
    term is estimated by Monte Carlo with reparametrised gradients, the second is in closed form for
    Normal priors and by Monte Carlo for others.

    The guide takes the prior's own parametrisation, with ARD the non-centred one as a rule: q(z)
    q(ρ) with w = z/√ρ. Most neurons stay near the prior *given* ρ, z ~ Normal(0, 1), whatever ρ is,
    and these factors say just that. Of a :class:`models.Network` with any prior, and of
    nothing else (``ValueError``), :attr:`model` is the collapsed form.

    Notes
    -----
    At the noise at which the guides of the joint posterior collapse to m = 0 this one comes within
    0.01 of NUTS in m and 5 % in the test MSE (``benchmarks/README.md``). What those lack is not
    correlation between weights: factorised q(w) suffices once the readouts are exact. Of the many
    permutations and signs of a mode a restart takes one, which costs the bound but no function of
    the network.

    Examples
    --------
    >>> import jax
    >>> from models import SparseParity, TwoLayerNetwork
    >>> from inference import CollapsedGuide, fit
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = fit(network, data, CollapsedGuide(), jax.random.key(1), num_steps=50)
    >>> tree["posterior/a"].dims
    ('chain', 'draw', 'neuron')
    """

    scheme = "collapsed-guide"

    def complete(self, key: jax.Array, params: dict, x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        """The readouts of one draw of the hidden layer, from their exact posterior."""
        return {"a": self.model.draw_readouts(key, params, x, y)}

    def _bind(self, model):
        if model is not None:
            if not isinstance(model, Network):
                raise ValueError(
                    f"CollapsedGuide covers a TwoLayerNetwork or a DeepNetwork, got {type(model).__name__}; "
                    "use MeanFieldGuide for other models."
                )
            model = model.collapsed()
        super()._bind(model)

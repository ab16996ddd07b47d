"""The evidence lower bound with ARD's Gamma precisions integrated out exactly."""

from numpyro.handlers import substitute
from numpyro.infer import TraceMeanField_ELBO

from models import ARD, Network
from models.layer import Layer
from models.priors import expected_log_precision_gap, has_weights_of


class ConjugateARDELBO(TraceMeanField_ELBO):
    """Evidence lower bound of :class:`inference.MeanFieldARDGuide`, exact in the precisions ρ.

    NumPyro's ``TraceMeanField_ELBO`` draws ρ ~ q(ρ) and so estimates E_q(ρ)[KL(q(w) ‖ p(w|ρ))] by
    Monte Carlo. That expectation has a closed form: with q(ρ_j) = Gamma(a, b_j) and

        log p(w_ij|ρ_j) = ½ log ρ_j - ½ ρ_j w_ij² - ½ log 2π

    the average over ρ_j replaces ρ_j by ρ̄_j = a/b_j in the second term, and log ρ_j by ψ(a) - log
    b_j in the first, which is log ρ̄_j less the gap log a - ψ(a). Hence

        E_q(ρ)[KL(q(w) ‖ p(w|ρ))] = KL(q(w) ‖ p(w|ρ̄)) + (N d/2) (log a - ψ(a)),    a = α0 + N/2,

    where the last term is a constant, because a is. The first term and KL(q(ρ) ‖ p(ρ)) are
    NumPyro's analytic ones, at ρ = ρ̄, so that the likelihood's expectation over w, a (and b) is
    all that is left to Monte Carlo. ``ValueError`` when the loss is evaluated on anything but a
    network with the centred ARD prior. Every layer of a deep network that has that prior gives such
    a term.

    Examples
    --------
    >>> import jax, numpyro
    >>> from numpyro.infer import SVI
    >>> from models import ARD, SparseParity, TwoLayerNetwork
    >>> from inference import MeanFieldARDGuide
    >>> from inference.variational.elbo import ConjugateARDELBO
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> guide = MeanFieldARDGuide(TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=ARD()))
    >>> svi = SVI(guide.model, guide, numpyro.optim.Adam(0.01), ConjugateARDELBO())
    >>> result = svi.run(jax.random.key(1), 10, data.x, data.y, progress_bar=False)
    >>> sorted(result.params)
    ['a_auto_loc', 'a_auto_scale', 'w_auto_loc', 'w_auto_scale']
    """

    def loss_with_mutable_state(self, rng_key, param_map, model, guide, *args, **kwargs):
        """Negative ELBO, as in NumPyro."""
        check_centred(model)
        layers = {layer.site("rho"): layer for layer in ard_layers(model)}

        def mean_precision(site):
            return site["fn"].mean if site["type"] == "sample" and site["name"] in layers else None

        result = super().loss_with_mutable_state(
            rng_key, param_map, model, substitute(guide, substitute_fn=mean_precision), *args, **kwargs
        )
        for layer in layers.values():
            gap = expected_log_precision_gap(layer.prior.shape + layer.width / 2)
            constant = 0.5 * layer.width * layer.input_dim * gap
            if self.sum_sites:
                result["loss"] += constant
            else:
                result["loss"][layer.site("w")] += constant
        return result


def ard_layers(network: Network) -> list[Layer]:
    """The hidden layers whose weights have the ARD prior."""
    return [layer for layer in network.layers if has_weights_of(layer.prior, ARD)]


def check_centred(model) -> None:
    """``ValueError`` unless `model` is a network with the centred ARD prior."""
    if not isinstance(model, Network) or not ard_layers(model):
        raise ValueError(
            "ConjugateARDELBO covers a TwoLayerNetwork with the prior ARD(centered=True), or a DeepNetwork with it "
            "in a layer; use TraceMeanField_ELBO for other models."
        )
    if not all(layer.prior.centered for layer in ard_layers(model)):
        raise ValueError(
            "the network's ARD prior is non-centred; pass the guide's own centred network, "
            "SVI(guide.model, guide, ...)."
        )

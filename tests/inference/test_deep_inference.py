"""Samplers, guides and starts on deep networks: the linear ones against their exact posterior."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import NUTS, SVI, TraceMeanField_ELBO

from analysis.results.order_parameters import mean_and_se
from inference import (
    SGLD,
    CollapsedGuide,
    MeanFieldARDGuide,
    MeanFieldGuide,
    UnderdampedLangevin,
    fit,
    sample,
)
from inference.fixed_points import DeepLinear
from inference.starts import start_params
from inference.variational.elbo import ConjugateARDELBO
from models import ARD, Dataset, DeepNetwork, Isotropic, LearnedScale, SparseParity, TwoLayerNetwork

RNG = np.random.default_rng(0)
X, X_TEST = RNG.normal(size=(10, 3)), RNG.normal(size=(4, 3))
BETA = np.array([1.5, -1.0, 0.0])
DATA = Dataset(X, X @ BETA, X_TEST, X_TEST @ BETA, (0, 1))
LINEAR = DeepNetwork(3, (4, 3), 0.3, activation="identity")
PARITY = SparseParity(4, 2).sample(jax.random.key(0), num_data=20, num_test=10)
ARD_NETWORK = DeepNetwork(4, (6, 5), 0.3, prior=ARD(centered=True))
KEY = jax.random.key(1)


@pytest.mark.parametrize(
    ("network", "kernel", "lengths"),
    [
        (LINEAR, partial(NUTS, max_tree_depth=6), (300, 700, 1)),
        (LINEAR.collapsed(), partial(NUTS, max_tree_depth=6), (300, 700, 1)),
        (LINEAR, UnderdampedLangevin(step_size=0.1, friction=1.0, preconditioner="prior"), (2000, 40000, 40)),
    ],
    ids=["nuts", "nuts-collapsed", "baoab"],
)
def test_samplers_draw_from_the_exact_posterior_of_deep_linear_networks(network, kernel, lengths):
    warmup, samples, thinning = lengths
    tree = sample(network, DATA, kernel, KEY, num_warmup=warmup, num_samples=samples, thinning=thinning)
    assert tree["posterior/w2"].dims == ("chain", "draw", "neuron2", "neuron")
    exact = DeepLinear().solve(LINEAR, DATA)
    f = tree["predictions"].f
    mean, se = mean_and_se(f, False).values
    np.testing.assert_array_less(np.abs(mean - exact.predictions), 4 * se + 0.005)
    square, se = mean_and_se((f - exact.predictions) ** 2, False).values
    np.testing.assert_array_less(np.abs(square - exact.predictive_variance), 4 * se + 0.01 * square)


def test_the_schema_names_the_neurons_of_every_layer():
    network = DeepNetwork(4, (6, 5), 0.3, prior=(ARD(), LearnedScale()), bias=True)
    options = {"num_warmup": 10, "num_samples": 10, "num_chains": 2, "start": "both"}
    tree = sample(network, PARITY, SGLD(step_size=1e-3), KEY, **options)
    assert {name: value.dims[2:] for name, value in tree["posterior"].items()} == {
        "w": ("neuron", "input"),
        "rho": ("input",),
        "w2": ("neuron2", "neuron"),
        "weight_scale2": (),
        "a": ("neuron2",),
        "b": ("neuron",),
        "b2": ("neuron2",),
    }
    assert tree["order_parameters"].second_moment.dims == ("chain", "draw", "input")
    assert tree["order_parameters"].neuron_norm.sizes["neuron_rank"] == 5


def test_aligned_start_turns_the_first_layer_alone_and_draws_readouts_for_it():
    network = DeepNetwork(4, (8, 5), 0.05, prior=(ARD(), Isotropic()))
    prior, aligned = (start_params(network, PARITY, KEY, 3, s) for s in ("prior", "aligned"))
    np.testing.assert_array_equal(prior["w2"], aligned["w2"])
    w = np.asarray(aligned["w_base"] * (0.25 + jnp.exp(aligned["rho"]))[:, None] ** -0.5)
    share = (w[..., :2] ** 2).sum(-1) / (w**2).sum(-1)
    assert np.all(share[:, :4] > 0.9)

    def misfit(params):
        rows = {
            "w": params["w_base"] * (0.25 + jnp.exp(params["rho"]))[:, None] ** -0.5,
            "w2": params["w2"],
            "a": params["a"],
        }
        return np.mean((np.asarray(network.apply(rows, PARITY.x)) - PARITY.y) ** 2)

    assert misfit(aligned) < 0.5 * misfit(prior)


def initial_params(guide, shift=0.0):
    trace_ = trace(seed(guide, 1)).get_trace(PARITY.x, PARITY.y)
    return {n: s["value"] + shift for n, s in trace_.items() if s["type"] == "param"}


def test_every_ard_layer_has_the_conjugate_factor():
    guide = MeanFieldARDGuide(DeepNetwork(4, (6, 5), 0.3, prior=(ARD(shape=3.0), ARD())))
    assert all(prior.centered for prior in guide.model.priors)
    params = initial_params(guide)
    assert not any(name.startswith("rho") for name in params)
    sites = trace(seed(substitute(guide, data=params), 0)).get_trace(PARITY.x, PARITY.y)
    for layer in guide.model.layers:
        name, factor = layer.site("w"), sites[layer.site("rho")]["fn"]
        square = np.asarray(params[f"{name}_auto_loc"]) ** 2 + np.asarray(params[f"{name}_auto_scale"]) ** 2
        prior = layer.prior
        np.testing.assert_allclose(factor.concentration, prior.shape + layer.width / 2)
        rate = prior.shape / layer.input_dim + 0.5 * square.sum(0)
        np.testing.assert_allclose(factor.rate, rate, rtol=1e-5)
    draws = guide.sample_posterior(KEY, params, sample_shape=(2,))
    assert {n: draws[n].shape for n in ("rho", "rho2")} == {"rho": (2, 4), "rho2": (2, 6)}
    assert guide.median(params)["rho2"].shape == (6,)


@pytest.mark.parametrize("prior", [ARD(centered=True), (Isotropic(), ARD(centered=True))])
def test_bound_with_precisions_integrated_out_is_the_average_of_the_plain_one(prior):
    guide = MeanFieldARDGuide(replace(ARD_NETWORK, prior=prior))
    params = initial_params(guide)
    keys = jax.random.split(KEY, 3000)

    def losses(elbo):
        one = jax.jit(lambda key: elbo.loss(key, params, guide.model, guide, PARITY.x, PARITY.y))
        return np.asarray(jax.lax.map(one, keys, batch_size=100), float)

    exact, plain = losses(ConjugateARDELBO()), losses(TraceMeanField_ELBO())
    error = np.hypot(exact.std(), plain.std()) / 3000**0.5
    assert abs(exact.mean() - plain.mean()) < 4 * error
    assert exact.std() < plain.std()


def test_guide_of_one_hidden_layer_is_that_of_the_two_layer_network():
    results = []
    for network in (TwoLayerNetwork(4, 6, 0.3, prior=ARD()), DeepNetwork(4, (6,), 0.3, prior=ARD())):
        guide = MeanFieldARDGuide(network)
        svi = SVI(guide.model, guide, optax.adam(0.01), guide.elbo())
        state = svi.init(KEY, PARITY.x, PARITY.y)
        results.append(float(svi.evaluate(state, PARITY.x, PARITY.y)))
    assert results[0] == results[1]


@pytest.mark.parametrize("guide", [MeanFieldGuide(), MeanFieldARDGuide(), CollapsedGuide()])
def test_guides_fit_deep_networks(guide):
    network = DeepNetwork(4, (6, 5), 0.3, prior=(ARD(), Isotropic()), bias=True)
    options = {"num_steps": 20, "num_restarts": 2, "num_draws": 8}
    tree = fit(network, PARITY, guide, KEY, start="aligned", **options)
    assert tree["posterior/a"].dims == ("chain", "draw", "neuron2")
    assert tree["posterior/w2"].shape == (1, 8, 5, 6)
    assert np.isfinite(tree["order_parameters"].test_mse).all()


def test_collapsed_guide_is_below_the_evidence_and_near_it():
    """log p(y) is exact, and the guide, whose readouts are exact, misses little of it."""
    tree = fit(LINEAR, DATA, CollapsedGuide(), KEY, num_steps=600, num_restarts=2, num_draws=400)
    exact = DeepLinear().solve(LINEAR, DATA).log_evidence
    assert exact - 4 < tree.attrs["elbo"] < exact + 4 * tree.attrs["elbo_se"]


@pytest.mark.parametrize("guide", [MeanFieldARDGuide, CollapsedGuide])
def test_guides_say_what_they_do_not_cover(guide):
    with pytest.raises(ValueError, match=r"covers a TwoLayerNetwork.* or a DeepNetwork"):
        guide(lambda x: None)
    with pytest.raises(
        ValueError, match=r"with the prior ARD\(...\), or a DeepNetwork with it in a layer, got Isotropic"
    ):
        MeanFieldARDGuide(DeepNetwork(4, (6, 5), 0.3))
    with pytest.raises(ValueError, match="network must be a TwoLayerNetwork or a DeepNetwork"):
        fit(lambda x: None, PARITY, MeanFieldGuide(), KEY)

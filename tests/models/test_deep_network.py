"""Deep networks: the case of one hidden layer draw for draw, f against NumPy, the names of sites,
every prior, symmetries, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.handlers import seed, trace
from numpyro.infer.util import log_density

from inference.runs.observables import observe
from models import (
    ARD,
    Dataset,
    DeepNetwork,
    GroupedARD,
    Isotropic,
    LayerPriors,
    NeuronARD,
    SpikeAndSlab,
    TwoLayerNetwork,
    make_prior,
)
from models.priors import PRIORS

RNG = np.random.default_rng(0)
DATA = Dataset(
    RNG.normal(size=(7, 3)), RNG.normal(size=7), RNG.normal(size=(4, 3)), RNG.normal(size=4), (0, 2)
)
WIDTHS = (5, 4, 6)
NETWORK = DeepNetwork(3, WIDTHS, 0.3, bias=True)


def sites_of(network, key=0):
    return trace(seed(network, key)).get_trace(DATA.x)


def parameters(network, seed=1):
    rng = np.random.default_rng(seed)
    shapes = {layer.site("w"): (layer.width, layer.input_dim) for layer in network.layers}
    shapes |= {layer.site("b"): (layer.width,) for layer in network.layers if network.bias}
    shapes["a"] = (network.widths[-1],)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("prior", [Isotropic(), ARD(), SpikeAndSlab(centered=True)], ids=lambda p: p.name)
@pytest.mark.parametrize("bias", [False, True])
def test_one_hidden_layer_is_the_two_layer_network_draw_for_draw(prior, bias):
    options = {"kappa": 0.3, "gamma": 0.8, "prior": prior, "bias": bias, "readout_scale": 1.3}
    two, deep = TwoLayerNetwork(3, 5, **options), DeepNetwork(3, (5,), **options)
    for one, other in ((two, deep), (two.collapsed(), deep.collapsed())):
        first, second = sites_of(one), sites_of(other)
        assert list(first) == list(second)
        for name, site in first.items():
            np.testing.assert_array_equal(site["value"], second[name]["value"], err_msg=name)
        params = {name: site["value"] for name, site in first.items() if site["type"] == "sample"}
        del params["y"]
        densities = [log_density(n, (DATA.x, DATA.y), {}, params)[0] for n in (one, other)]
        assert float(densities[0]) == float(densities[1])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_function_against_numpy(activation):
    network = DeepNetwork(3, WIDTHS, 0.3, gamma=0.7, activation=activation, bias=True)
    params = parameters(network)
    phi = np.tanh if activation == "tanh" else lambda u: np.maximum(u, 0)
    hidden = DATA.x.T
    for number in ("", "2", "3"):
        hidden = phi(params[f"w{number}"].astype(float) @ hidden + params[f"b{number}"][:, None])
    np.testing.assert_allclose(network.apply(params, DATA.x), params["a"] @ hidden / 6**0.7, rtol=1e-4)
    batch = {name: np.stack([value, 0 * value, value]) for name, value in params.items()}
    many = network.apply(batch, DATA.x)
    np.testing.assert_allclose(many[2], network.apply(params, DATA.x), rtol=1e-5)
    assert np.all(np.asarray(many[1]) == 0)


def test_sites_are_named_by_layer():
    assert NETWORK.parameter_names == ("w", "w2", "w3", "a", "b", "b2", "b3")
    sites = sites_of(DeepNetwork(3, (5, 4), 0.3, prior=(ARD(), NeuronARD())))
    shapes = {n: s["value"].shape for n, s in sites.items() if s["type"] in ("sample", "deterministic")}
    assert shapes == {
        "rho": (3,), "w_base": (5, 3), "w": (5, 3), "rho2": (4, 5), "w_base2": (4, 5), "w2": (4, 5),
        "a": (4,), "y": (7,),
    }  # fmt: skip
    np.testing.assert_allclose(
        sites["w2"]["value"], sites["w_base2"]["value"] / (0.25 + sites["rho2"]["value"]) ** 0.5, rtol=1e-5
    )
    plates = {n: s["args"][0] for n, s in sites.items() if s["type"] == "plate"}
    assert plates == {"input": 3, "neuron": 5, "input2": 5, "neuron2": 4, "readout": 4, "data": 7}


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_in_every_layer(name):
    network = DeepNetwork(3, (5, 4), 0.3, prior=make_prior(name))
    sites = sites_of(network)
    latent = {n: s["value"] for n, s in sites.items() if s["type"] == "sample" and n != "y"}
    own = TwoLayerNetwork(3, 5, 0.3, prior=make_prior(name))
    names = {n for n, s in sites_of(own).items() if s["type"] == "sample"} - {"a", "y"}
    assert set(latent) == names | {f"{n}2" for n in names} | {"a"}
    slope = jax.grad(lambda p: log_density(network, (DATA.x, DATA.y), {}, p)[0])(latent)
    assert all(bool(jnp.isfinite(v).all()) for v in slope.values())
    w2 = np.asarray(sites["w2"]["value"])
    again = network.layers[1].sites_from_weights(w2)
    assert set(again) == {f"{n}2" for n in names}
    rebuilt = trace(seed(network_with(network, again), 0)).get_trace(DATA.x)
    np.testing.assert_allclose(rebuilt["w2"]["value"], w2, rtol=2e-4)


def network_with(network, values):
    from numpyro.handlers import substitute

    return substitute(network, data=values)


def test_weights_scale_with_the_layer_below():
    network = DeepNetwork(100, (400, 300), 0.3, prior=(Isotropic(2.0), Isotropic(0.5)))
    values = trace(seed(network.sample_parameters, 0)).get_trace()
    assert float(values["w"]["value"].std()) == pytest.approx(2 / 10, rel=0.02)
    assert float(values["w2"]["value"].std()) == pytest.approx(0.5 / 20, rel=0.02)


def test_functions_and_density_do_not_know_the_order_of_neurons_in_any_layer():
    params = parameters(NETWORK)
    other, below = {"a": params["a"]}, np.arange(3)
    for layer in NETWORK.layers:
        order = np.random.default_rng(layer.number).permutation(layer.width)
        other[layer.site("w")] = params[layer.site("w")][order][:, below]
        other[layer.site("b")] = params[layer.site("b")][order]
        below = order
    other["a"] = params["a"][below]
    assert not np.array_equal(other["w2"], params["w2"])
    first, second = (observe(NETWORK, DATA, p) for p in (params, other))
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=2e-4, atol=1e-4, err_msg=name)
    densities = [float(log_density(NETWORK, (DATA.x, DATA.y), {}, p)[0]) for p in (params, other)]
    assert densities[0] == pytest.approx(densities[1], rel=1e-5)


def test_neurons_of_one_layer_alone_may_not_be_permuted():
    params = parameters(NETWORK)
    wrong = params | {"w": params["w"][[1, 0, 2, 3, 4]]}
    changed = NETWORK.apply(wrong, DATA.x) - NETWORK.apply(params, DATA.x)
    assert np.abs(changed).max() > 0.01


def test_observables_are_of_the_first_and_the_last_layer():
    params = parameters(NETWORK)
    found = observe(NETWORK, DATA, params)
    np.testing.assert_allclose(found["second_moment"], (params["w"] ** 2).mean(axis=0), rtol=1e-5)
    norms = np.abs(params["a"]) * np.linalg.norm(params["w3"], axis=1)
    np.testing.assert_allclose(found["neuron_norm"], np.sort(norms)[::-1], rtol=1e-5)
    share = (params["w"][:, [0, 2]] ** 2).sum(1) / (params["w"] ** 2).sum(1)
    assert found["num_specialised"] == (share > 0.5).sum()


def test_priors_by_layer():
    network = DeepNetwork(3, (5, 4), 0.3, prior=[ARD(), Isotropic()])
    assert network.prior == LayerPriors((ARD(), Isotropic()))
    assert network.prior.name == "ard+isotropic"
    assert network.priors == (ARD(), Isotropic())
    assert DeepNetwork(3, (5, 4), 0.3, prior=(ARD(), ARD())) == DeepNetwork(3, (5, 4), 0.3, prior=ARD())
    assert DeepNetwork(3, [5, 4], 0.3).widths == (5, 4)  # as JSON has them
    assert hash(network) == hash(DeepNetwork(3, (5, 4), 0.3, prior=(ARD(), Isotropic())))
    collapsed = network.collapsed()
    assert collapsed.priors == network.priors
    assert collapsed.collapsed() is collapsed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, "widths must be the width of every hidden layer"),
        ({"widths": 64}, "widths must be the width of every hidden layer"),
        ({"widths": (8, 0)}, "widths must be a whole number of at least 1"),
        ({"widths": (8, 2.5)}, "widths must be a whole number"),
        ({"prior": (ARD(),)}, "one for each of the 2 hidden layers, got 1"),
        ({"prior": (ARD(), ARD(), ARD())}, "one for each of the 2 hidden layers, got 3"),
        ({"prior": ()}, "prior must be a WeightPrior"),
        ({"prior": (ARD(), "ard")}, "prior must be a WeightPrior"),
        ({"prior": "ard"}, "prior must be a WeightPrior"),
        ({"kappa": 0.0}, "kappa must be a finite number greater than 0"),
        ({"activation": "gelu"}, "activation must be one of"),
    ],
)
def test_bad_declarations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeepNetwork(**{"input_dim": 3, "widths": (8, 8), "kappa": 0.1} | options)


def test_layer_priors_are_no_prior_of_one_layer():
    with pytest.raises(ValueError, match="use a DeepNetwork"):
        sites_of(TwoLayerNetwork(3, 5, 0.3, prior=LayerPriors((ARD(), ARD()))))
    with pytest.raises(ValueError, match="leave it out"):
        sites_of(DeepNetwork(3, (5, 2), 0.3, prior=(Isotropic(), GroupedARD(groups=((0, 5),)))))
    with pytest.raises(ValueError, match="x must have shape"):
        trace(seed(NETWORK, 0)).get_trace(np.ones((4, 2)))

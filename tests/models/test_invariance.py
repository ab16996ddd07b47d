"""What must not depend on the labels and signs of neurons, and observables against a second
computation."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from inference.runs.observables import observe
from models import ARD, Dataset, TwoLayerNetwork

WIDTH, INPUT_DIM = 5, 3
PROFILE = settings(max_examples=8, deadline=None, derandomize=True)


def problem(seed, num_data=7, num_test=4, relevant=(0, 2)):
    rng = np.random.default_rng(seed)
    return Dataset(
        rng.normal(size=(num_data, INPUT_DIM)),
        rng.normal(size=num_data),
        rng.normal(size=(num_test, INPUT_DIM)),
        rng.normal(size=num_test),
        relevant,
    )


def parameters(seed, batch=(), bias=False):
    rng = np.random.default_rng(seed)
    shapes = {"w": (WIDTH, INPUT_DIM), "a": (WIDTH,), **({"b": (WIDTH,)} if bias else {})}
    return {k: rng.normal(size=(*batch, *s)).astype(np.float32) for k, s in shapes.items()}


def permuted(params, order):
    """The same network with its neurons in another order; leading dimensions are batches."""
    return {k: v[..., order, :] if k == "w" else v[..., order] for k, v in params.items()}


def flipped(params, signs):
    """(w_i, a_i, b_i) -> (-w_i, -a_i, -b_i) where signs_i = -1."""
    signs = np.asarray(signs, np.float32)
    return {k: v * (signs[:, None] if k == "w" else signs) for k, v in params.items()}


seeds = st.integers(0, 2**31 - 1)
orders = st.permutations(range(WIDTH))
sign_vectors = st.lists(st.sampled_from([-1.0, 1.0]), min_size=WIDTH, max_size=WIDTH)


@pytest.mark.parametrize("activation", ["relu", "tanh", "erf", "identity"])
@pytest.mark.parametrize("bias", [False, True])
@PROFILE
@given(seed=seeds, order=orders)
def test_function_is_invariant_under_permutations(activation, bias, seed, order):
    network = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3, activation=activation, bias=bias)
    params, x = parameters(seed, bias=bias), problem(seed).x
    np.testing.assert_allclose(network.apply(permuted(params, order), x), network.apply(params, x), atol=2e-5)


@pytest.mark.parametrize("activation", ["identity", "tanh", "erf"])
@pytest.mark.parametrize("bias", [False, True])
@PROFILE
@given(seed=seeds, signs=sign_vectors)
def test_function_of_an_odd_activation_is_invariant_under_sign_flips(activation, bias, seed, signs):
    network = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3, activation=activation, bias=bias)
    params, x = parameters(seed, bias=bias), problem(seed).x
    np.testing.assert_allclose(network.apply(flipped(params, signs), x), network.apply(params, x), atol=2e-5)


def test_function_of_relu_is_not_invariant_under_sign_flips():
    network, params, x = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3), parameters(0), problem(0).x
    changed = network.apply(flipped(params, [-1.0] + [1.0] * 4), x) - network.apply(params, x)
    assert np.abs(changed).max() > 0.01


def assert_same_observables(network, data, params, other):
    expected, found = observe(network, data, params), observe(network, data, other)
    assert set(expected) == set(found)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@PROFILE
@given(seed=seeds, order=orders)
def test_observables_are_invariant_under_permutations(activation, seed, order):
    network = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3, activation=activation)
    params = parameters(seed, batch=(2, 3))
    assert_same_observables(network, problem(seed), params, permuted(params, order))


@pytest.mark.parametrize("activation", ["identity", "tanh"])
@PROFILE
@given(seed=seeds, signs=sign_vectors)
def test_observables_are_invariant_under_sign_flips(activation, seed, signs):
    network = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3, activation=activation)
    params = parameters(seed, batch=(2, 3))
    assert_same_observables(network, problem(seed), params, flipped(params, signs))


@PROFILE
@given(seed=seeds, order=orders, signs=sign_vectors)
def test_prior_and_likelihood_are_invariant_under_the_symmetries(seed, order, signs):
    from numpyro.infer.util import log_density

    network = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3, activation="tanh", prior=ARD(centered=True))
    data, params, rho = problem(seed), parameters(seed), {"rho": np.full(INPUT_DIM, 1.3, np.float32)}
    other = flipped(permuted(params, order), signs)
    first, second = (log_density(network, (data.x, data.y), {}, {**p, **rho})[0] for p in (params, other))
    assert float(first) == pytest.approx(float(second), rel=1e-4, abs=1e-3)


# --- observables against NumPy ---


def observables_of_one(network, data, params):
    """The definitions, one draw at a time in float64."""
    w, a = np.asarray(params["w"], float), np.asarray(params["a"], float)
    b = np.asarray(params["b"], float) if network.bias else np.zeros(network.width)

    def f(x):
        return np.maximum(x @ w.T + b, 0) @ a / network.width**network.gamma

    inside = [j in data.relevant for j in range(network.input_dim)]
    outside = [not v for v in inside]
    on_relevant = [(row[inside] ** 2).sum() > 0.5 * (row**2).sum() for row in w]
    return {
        "f_test": f(data.x_test),
        "log_likelihood": stats.norm.logpdf(data.y, f(data.x), network.kappa * np.sqrt(len(data.y))),
        "train_mse": np.mean((f(data.x) - data.y) ** 2),
        "test_mse": np.mean((f(data.x_test) - data.y_test) ** 2),
        "order_parameter": np.sum(f(data.x_test) * data.y_test) / np.sum(data.y_test**2),
        "second_moment": (w**2).mean(axis=0),
        "neuron_norm": np.sort(np.abs(a) * np.linalg.norm(w, axis=1))[::-1],
        "relevance_ratio": (w[:, inside] ** 2).mean() / (w[:, outside] ** 2).mean(),
        "num_specialised": sum(on_relevant),
    }


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [(), (4,), (2, 9), (2, 1, 3)])
def test_observables_against_numpy(batch, bias):
    network = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3, gamma=0.8, bias=bias)
    data, params = problem(3), parameters(8, batch, bias)
    found = observe(network, data, params)
    for index in np.ndindex(batch):
        expected = observables_of_one(network, data, {k: v[index] for k, v in params.items()})
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][index], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_observables_that_need_relevant_inputs():
    network, params = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3), parameters(0)
    assert not {"relevance_ratio", "num_specialised"} & set(
        observe(network, problem(0, relevant=None), params)
    )
    everything = observe(network, problem(0, relevant=(0, 1, 2)), params)
    assert "relevance_ratio" not in everything
    assert everything["num_specialised"] == WIDTH


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.int8])
def test_observables_take_any_real_dtype_and_other_sites(dtype):
    network, data = TwoLayerNetwork(INPUT_DIM, WIDTH, 0.3), problem(0)
    params = {k: np.rint(v * 3).astype(dtype) for k, v in parameters(0, (2, 3)).items()}
    expected = observe(network, data, {k: v.astype(np.float32) for k, v in params.items()})
    found = observe(network, data, {**params, "rho": np.ones((2, 3, INPUT_DIM))})
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == np.float32
    for dtype_x in (np.float32, np.int32):
        x = np.rint(data.x * 3)
        np.testing.assert_array_equal(
            network.apply(params, x.astype(dtype_x)), network.apply(jax.tree.map(np.float32, params), x)
        )

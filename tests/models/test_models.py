"""Networks, priors, teachers and data sets against the formulas that define them."""

import dataclasses
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.polynomial import hermite_e
from numpyro.handlers import substitute
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.inspect import get_model_relations
from numpyro.infer.util import log_density
from scipy import special, stats

from models import (
    ARD,
    Dataset,
    Isotropic,
    ParitySum,
    SingleIndex,
    SparseParity,
    TwoLayerNetwork,
    WeightPrior,
)
from models.teachers import hermite

NUMPY_ACTIVATIONS = {
    "relu": lambda u: np.maximum(u, 0.0),
    "tanh": np.tanh,
    "erf": special.erf,
    "identity": lambda u: u,
}


def parameters(network, seed=0, batch=()):
    """Random parameters in float32 NumPy, of the network's shapes."""
    rng = np.random.default_rng(seed)
    shapes = {"w": (network.width, network.input_dim), "a": (network.width,)}
    if network.bias:
        shapes["b"] = (network.width,)
    return {k: rng.normal(size=batch + s).astype(np.float32) for k, s in shapes.items()}


def function(network, params, x):
    """f(x) = N^(-γ) Σ_i a_i φ(w_i·x + b_i), one neuron and one input after the other."""
    activation = NUMPY_ACTIVATIONS[network.activation]
    f = np.zeros(len(x))
    for mu, point in enumerate(np.asarray(x, float)):
        for i in range(network.width):
            preactivation = sum(float(u) * float(v) for u, v in zip(params["w"][i], point, strict=True))
            preactivation += float(params["b"][i]) if network.bias else 0.0
            f[mu] += float(params["a"][i]) * activation(preactivation)
    return f / network.width**network.gamma


def z_scores(draws, expected):
    """(mean - expected) / standard error of independent draws along the first axis."""
    draws = np.asarray(draws, float)
    return (draws.mean(0) - expected) / (draws.std(0, ddof=1) / math.sqrt(len(draws)))


# --- the density ---


@pytest.mark.parametrize("activation", list(NUMPY_ACTIVATIONS))
@pytest.mark.parametrize("bias", [False, True])
def test_log_density_is_prior_plus_likelihood_with_noise_kappa_root_p(activation, bias):
    network = TwoLayerNetwork(
        input_dim=4,
        width=3,
        kappa=0.2,
        gamma=0.7,
        prior=Isotropic(1.5),
        readout_scale=0.8,
        activation=activation,
        bias=bias,
        bias_scale=0.6,
    )
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 4)), rng.normal(size=7)
    params = parameters(network)
    expected = (
        stats.norm.logpdf(params["w"], 0, 1.5 / math.sqrt(4)).sum()
        + stats.norm.logpdf(params["a"], 0, 0.8).sum()
        + stats.norm.logpdf(y, function(network, params, x), 0.2 * math.sqrt(7)).sum()
    )
    if bias:
        expected += stats.norm.logpdf(params["b"], 0, 0.6).sum()
    value, _ = log_density(network, (x, y), {}, params)
    assert float(value) == pytest.approx(expected, rel=2e-5)


def test_log_likelihood_is_minus_the_training_error_over_two_kappa_squared():
    network = TwoLayerNetwork(input_dim=4, width=3, kappa=0.3)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=50)

    def log_likelihood_and_mse(seed):
        params = parameters(network, seed)
        _, sites = log_density(network, (x, y), {}, params)
        log_likelihood = float(sites["y"]["fn"].log_prob(y).sum())
        return log_likelihood, np.mean((function(network, params, x) - y) ** 2)

    (first, mse_first), (second, mse_second) = map(log_likelihood_and_mse, (0, 1))
    assert first - second == pytest.approx(-(mse_first - mse_second) / (2 * 0.3**2), rel=1e-4)


@pytest.mark.parametrize("centered", [False, True])
def test_ard_log_density(centered):
    network = TwoLayerNetwork(input_dim=4, width=3, kappa=0.2, prior=ARD(2.0, 0.3, centered=centered))
    rng = np.random.default_rng(1)
    x, y, rho = rng.normal(size=(7, 4)), rng.normal(size=7), rng.gamma(2.0, size=4)
    params = parameters(network)
    sites = {"a": params["a"], "rho": rho}
    expected = stats.gamma.logpdf(rho, 2.0, scale=1 / 0.3).sum() + stats.norm.logpdf(params["a"]).sum()
    if centered:
        sites["w"] = params["w"]
        expected += stats.norm.logpdf(params["w"], 0, rho**-0.5).sum()
    else:
        sites["w_base"] = params["w"] * np.sqrt(0.25 + rho)
        expected += stats.norm.logpdf(sites["w_base"], 0, np.sqrt(1 + 0.25 / rho)).sum()
    expected += stats.norm.logpdf(y, function(network, params, x), 0.2 * math.sqrt(7)).sum()
    value, _ = log_density(network, (x, y), {}, sites)
    assert float(value) == pytest.approx(expected, rel=2e-5)


def test_minibatch_likelihood_is_scaled_by_the_number_of_points_over_the_batch_size():
    network = TwoLayerNetwork(input_dim=4, width=3, kappa=0.2)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 4)), rng.normal(size=12)
    params, index = parameters(network), jnp.array([1, 5, 8])
    prior = stats.norm.logpdf(params["w"], 0, 0.5).sum() + stats.norm.logpdf(params["a"]).sum()
    f = function(network, params, x)
    likelihood = stats.norm.logpdf(y[index], f[index], 0.2 * math.sqrt(12)).sum()
    fixed = substitute(network, data={"data": index})
    value, _ = log_density(fixed, (x, y), {"subsample_size": 3}, params)
    assert float(value) == pytest.approx(prior + 12 / 3 * likelihood, rel=2e-5)


# --- the function ---


@pytest.mark.parametrize("activation", list(NUMPY_ACTIVATIONS))
@pytest.mark.parametrize("bias", [False, True])
def test_apply_on_a_batch_of_networks_equals_loops(activation, bias):
    network = TwoLayerNetwork(4, 3, 0.2, gamma=0.6, activation=activation, bias=bias)
    x = np.random.default_rng(1).normal(size=(6, 4))
    params = parameters(network, batch=(2, 5))
    f = network.apply(params, x)
    assert f.shape == (2, 5, 6)
    for i in range(2):
        for j in range(5):
            one = {k: v[i, j] for k, v in params.items()}
            np.testing.assert_allclose(f[i, j], function(network, one, x), atol=2e-5)
            np.testing.assert_allclose(network.apply(one, x), f[i, j], atol=2e-6)


def test_biases_enter_before_the_activation():
    network = TwoLayerNetwork(2, 1, 0.2, bias=True)
    params = {"w": jnp.array([[1.0, 0.0]]), "a": jnp.array([2.0]), "b": jnp.array([-1.0])}
    np.testing.assert_allclose(network.apply(params, np.array([[3.0, 7.0], [0.5, 7.0]])), [4.0, 0.0])


def test_network_is_frozen_and_hashable():
    network = TwoLayerNetwork(4, 3, 0.2, prior=ARD())
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.kappa = 0.1
    same = TwoLayerNetwork(4, 3, 0.2, prior=ARD())
    assert network == same
    assert hash(network) == hash(same)
    assert network != dataclasses.replace(network, kappa=0.1)
    assert jax.jit(lambda net, x: net.apply(parameters(net), x), static_argnums=0)(
        network, jnp.ones((2, 4))
    ).shape == (2,)


# --- NumPyro's tools take the network as it is ---


def test_predictive_draws_the_prior_and_the_posterior_predictive(small_network, small_data):
    prior = Predictive(small_network, num_samples=2000)(jax.random.key(0), small_data.x)
    assert prior["w"].shape == (2000, 8, 5)
    assert prior["a"].shape == (2000, 8)
    assert prior["y"].shape == (2000, 30)
    # E_prior[f²] = E[φ²] = E[relu(u)²] = 1/2 for u ~ Normal(0, |x|²/d = 1), and Var y = E[f²] +
    # κ²P.
    assert abs(z_scores(prior["y"][:, 0] ** 2, 0.5 + 0.3**2 * 30)) < 4
    posterior = {"w": prior["w"][:3], "a": prior["a"][:3]}
    predicted = Predictive(small_network, posterior)(jax.random.key(1), small_data.x)
    noise = (predicted["y"] - small_network.apply(posterior, small_data.x)) / (0.3 * math.sqrt(30))
    assert abs(z_scores(noise.reshape(-1) ** 2, 1.0)) < 4


@pytest.mark.parametrize("prior", [Isotropic(), ARD()])
def test_nuts_svi_and_inspection_take_the_network(prior, small_data):
    network = TwoLayerNetwork(5, 4, 0.3, prior=prior)
    mcmc = MCMC(NUTS(network, max_tree_depth=4), num_warmup=20, num_samples=20, progress_bar=False)
    mcmc.run(jax.random.key(0), small_data.x, small_data.y)
    assert mcmc.get_samples()["w"].shape == (20, 4, 5)
    svi = SVI(network, AutoNormal(network), numpyro.optim.Adam(0.01), Trace_ELBO())
    losses = svi.run(jax.random.key(0), 300, small_data.x, small_data.y, progress_bar=False).losses
    assert losses[-50:].mean() < losses[:50].mean()
    relations = get_model_relations(network, (small_data.x, small_data.y))
    assert set(relations["sample_sample"]["y"]) >= {"a"}
    assert set(relations["plate_sample"]) == {"data", "neuron", "input", "readout"}
    assert relations["observed"] == ["y"]


def test_svi_takes_minibatches(small_network, small_data):
    svi = SVI(small_network, AutoNormal(small_network), numpyro.optim.Adam(0.01), Trace_ELBO())
    result = svi.run(jax.random.key(0), 50, small_data.x, small_data.y, subsample_size=10, progress_bar=False)
    assert np.isfinite(result.losses).all()


def test_render_model_draws_the_network(small_network, small_data):
    pytest.importorskip("graphviz")
    assert numpyro.render_model(small_network, (small_data.x, small_data.y)) is not None


# --- priors ---


def prior_weights(prior, num, width=1, input_dim=4, seed=0):
    """Draws of w under `prior`, shape (num, width, input_dim)."""
    network = TwoLayerNetwork(input_dim, width, 1.0, prior=prior)
    return np.asarray(
        Predictive(network, num_samples=num)(jax.random.key(seed), np.ones((1, input_dim)))["w"], float
    )


def test_isotropic_prior_variance():
    w = prior_weights(Isotropic(1.5), 5000)[:, 0]
    assert np.abs(z_scores(w**2, 1.5**2 / 4)).max() < 4
    assert Isotropic(1.5).precision(4) == pytest.approx(4 / 1.5**2)


@pytest.mark.parametrize("centered", [False, True])
def test_both_forms_of_ard_have_the_student_marginal_of_w(centered):
    # w = Normal/√ρ with ρ ~ Gamma(α0, β0) is Student t with 2 α0 degrees of freedom and scale
    # √(β0/α0).
    w = prior_weights(ARD(3.0, 0.5, centered=centered), 8000)[:, 0]
    marginal = stats.t(6.0, scale=math.sqrt(0.5 / 3.0))
    moment = marginal.expect(np.abs)
    assert np.abs(z_scores(np.abs(w), moment)).max() < 4
    for quantile in (0.6, 0.9, 0.99):
        assert np.abs(z_scores(w < marginal.ppf(quantile), quantile)).max() < 4


@pytest.mark.parametrize("centered", [False, True])
def test_ard_precisions_are_shared_by_neurons_and_not_by_inputs(centered):
    w = prior_weights(ARD(3.0, 0.5, centered=centered), 8000, width=2)

    # Cov(|w_i|, |w_j|) = Var(E[|w| | ρ]) = (2/π) Var(ρ^-1/2) for one input, 0 across inputs.
    def product(u, v):
        return (np.abs(u) - np.abs(u).mean()) * (np.abs(v) - np.abs(v).mean())

    root = stats.gamma(3.0, scale=1 / 0.5)
    variance = root.expect(lambda r: 1 / r) - root.expect(lambda r: r**-0.5) ** 2
    assert abs(z_scores(product(w[:, 0, 0], w[:, 1, 0]), 2 / math.pi * variance)) < 4
    assert abs(z_scores(product(w[:, 0, 0], w[:, 0, 1]), 0.0)) < 4


def test_ard_conditional_of_the_precision_is_the_conjugate_gamma():
    prior = ARD(3.0, 0.5, centered=True)
    network = TwoLayerNetwork(2, 6, 1.0, prior=prior)
    params = parameters(network)
    sums = (params["w"] ** 2).sum(axis=0)
    conditional = stats.gamma(3.0 + 6 / 2, scale=1 / (0.5 + 0.5 * sums))
    grid = np.linspace(0.2, 3.0, 9)
    gaps = [
        float(log_density(network, (np.ones((1, 2)), np.ones(1)), {}, {**params, "rho": np.full(2, r)})[0])
        - conditional.logpdf(r).sum()
        for r in grid
    ]
    np.testing.assert_allclose(gaps, gaps[0], atol=2e-4)
    np.testing.assert_allclose(prior.posterior_precision(sums, 6, 2), conditional.mean(), rtol=1e-5)


def test_ard_rate_defaults_to_the_isotropic_prior_mean():
    assert ARD(4.0, scale=1.5).rate_for(10) == pytest.approx(4.0 * 1.5**2 / 10)
    assert 4.0 / ARD(4.0, scale=1.5).rate_for(10) == pytest.approx(Isotropic(1.5).precision(10))
    assert ARD(4.0, 0.7).rate_for(10) == 0.7


@pytest.mark.parametrize("centered", [False, True])
def test_ard_sites_reproduce_given_weights(centered):
    prior = ARD(centered=centered)
    network = TwoLayerNetwork(4, 3, 1.0, prior=prior)
    params = parameters(network)
    sites = {**prior.sites_from_weights(params["w"]), "a": params["a"]}
    _, traced = log_density(network, (np.ones((1, 4)), np.ones(1)), {}, sites)
    np.testing.assert_allclose(traced["w"]["value"], params["w"], rtol=1e-5)


def test_a_prior_may_return_weights_that_are_not_a_site():
    @dataclass(frozen=True)
    class Halved(WeightPrior):
        def weights(self, width, input_dim):
            base = numpyro.sample("base", dist.Normal(jnp.zeros((width, input_dim)), 1.0).to_event(2))
            return base / 2

    network = TwoLayerNetwork(4, 3, 1.0, prior=Halved())
    draws = Predictive(network, num_samples=5)(jax.random.key(0), np.ones((1, 4)))
    np.testing.assert_allclose(draws["w"], draws["base"] / 2)
    assert network.prior.name == "halved"


# --- teachers ---


def test_sparse_parity_is_the_product_of_its_relevant_inputs():
    teacher = SparseParity(6, 3, relevant=(5, 0, 2))
    x = teacher.inputs(jax.random.key(0), 200)
    assert set(np.unique(x)) == {-1.0, 1.0}
    expected = [math.prod(float(row[j]) for j in (5, 0, 2)) for row in np.asarray(x)]
    np.testing.assert_array_equal(teacher(x), expected)
    np.testing.assert_array_equal(np.asarray(teacher(x)) ** 2, 1.0)
    assert SparseParity(6, 3).relevant == (0, 1, 2)


def test_inputs_of_parities_are_unbiased_and_distinct_parities_are_orthogonal():
    x = np.asarray(SparseParity(6, 2).inputs(jax.random.key(0), 20_000), float)
    assert np.abs(z_scores(x, 0.0)).max() < 4.5
    subsets = [(0,), (0, 1), (1, 2), (0, 1, 2), (3, 4, 5), (0, 1, 2, 3, 4, 5)]
    parities = np.stack([SparseParity(6, len(s), s)(x) for s in subsets]).astype(float)
    gram = parities @ parities.T / x.shape[0]
    np.testing.assert_array_equal(np.diag(gram), 1.0)
    off = gram[~np.eye(len(subsets), dtype=bool)]
    assert np.abs(off).max() < 4.5 / math.sqrt(x.shape[0])
    assert np.abs(off).max() > 0


def test_parity_sum_is_the_weighted_sum_with_second_moment_sum_of_squares():
    teacher = ParitySum(6, ((0,), (0, 1), (4, 1)), coefficients=(0.5, -2.0, 1.0))
    x = np.asarray(teacher.inputs(jax.random.key(0), 20_000), float)
    expected = 0.5 * x[:, 0] - 2 * x[:, 0] * x[:, 1] + x[:, 4] * x[:, 1]
    np.testing.assert_allclose(teacher(x), expected, rtol=1e-6)
    assert abs(z_scores(np.asarray(teacher(x), float) ** 2, 0.25 + 4 + 1)) < 4
    assert teacher.relevant == (0, 1, 4)
    np.testing.assert_allclose(ParitySum(6, ((0,), (0, 1))).coefficients, [2**-0.5] * 2)


@pytest.mark.parametrize("order", range(7))
def test_hermite_recursion_against_numpy(order):
    u = np.linspace(-3, 3, 41)
    expected = hermite_e.hermeval(u, [0] * order + [1])
    np.testing.assert_allclose(hermite(order, jnp.asarray(u)), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("degree", "normalized"), [(1, False), (2, False), (3, False), (3, True)])
def test_single_index_variance_is_p_factorial_unless_normalised(degree, normalized):
    teacher = SingleIndex(7, 2, degree, normalized=normalized, relevant=(6, 3))
    x = np.asarray(teacher.inputs(jax.random.key(1), 40_000), float)
    expected = hermite_e.hermeval((x[:, 6] + x[:, 3]) / math.sqrt(2), [0] * degree + [1])
    variance = 1.0 if normalized else math.factorial(degree)
    y = np.asarray(teacher(x), float)
    scale = math.sqrt(math.factorial(degree)) if normalized else 1.0
    np.testing.assert_allclose(y, expected / scale, rtol=1e-3, atol=1e-3)
    assert abs(z_scores(y**2, variance)) < 4
    assert abs(z_scores(y, 0.0)) < 4
    assert teacher.relevant == (6, 3)
    assert np.abs(z_scores(x**2, 1.0)).max() < 4


def test_teacher_samples_independent_training_and_test_data():
    teacher = SparseParity(10, 2)
    data = teacher.sample(jax.random.key(0), 50, 60)
    again = teacher.sample(jax.random.key(0), 50, 60)
    assert (data.x.shape, data.y.shape) == ((50, 10), (50,))
    assert (data.x_test.shape, data.y_test.shape) == ((60, 10), (60,))
    assert (data.relevant, data.teacher, data.num_data, data.input_dim) == ((0, 1), teacher, 50, 10)
    np.testing.assert_array_equal(data.x, again.x)
    np.testing.assert_array_equal(data.y_test, teacher(data.x_test))
    assert not np.array_equal(data.x, data.x_test[:50])
    assert not np.array_equal(data.x, teacher.sample(jax.random.key(1), 50, 60).x)


# --- data sets ---


def arrays(rows=20, columns=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)), rng.normal(size=rows)


def test_held_out_rows_follow_the_seed_and_partition_the_data():
    x, y = arrays()
    first, same = Dataset.from_arrays(x, y, seed=1), Dataset.from_arrays(x, y, seed=1)
    other = Dataset.from_arrays(x, y, seed=2)
    assert (len(first.x), len(first.x_test)) == (15, 5)
    np.testing.assert_array_equal(first.x_test, same.x_test)
    assert not np.array_equal(first.x_test, other.x_test)
    rows = np.concatenate([np.c_[first.x, first.y], np.c_[first.x_test, first.y_test]])
    np.testing.assert_array_equal(np.sort(rows[:, 0]), np.sort(x[:, 0]))
    for row in rows:
        assert y[np.flatnonzero(x[:, 0] == row[0])[0]] == row[-1]


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, 10), (0.01, 1), (0.999, 19)])
def test_test_fraction_leaves_at_least_one_row_on_each_side(fraction, expected):
    assert len(Dataset.from_arrays(*arrays(), test_fraction=fraction).x_test) == expected


def test_given_test_arrays_are_kept():
    (x, y), (x_test, y_test) = arrays(), arrays(6, seed=1)
    data = Dataset.from_arrays(x.tolist(), y.tolist(), x_test, y_test, relevant=[2])
    np.testing.assert_array_equal(data.x, x)
    np.testing.assert_array_equal(data.y_test, y_test)
    assert data.relevant == (2,)
    assert data.teacher is None


def test_npz_round_trip(tmp_path):
    (x, y), (x_test, y_test) = arrays(), arrays(6, seed=1)
    np.savez(tmp_path / "full.npz", x=x, y=y, x_test=x_test, y_test=y_test, relevant=[0, 2])
    data = Dataset.from_file(tmp_path / "full.npz")
    np.testing.assert_array_equal(data.x, x)
    np.testing.assert_array_equal(data.y_test, y_test)
    assert data.relevant == (0, 2)
    np.savez(tmp_path / "plain.npz", x=x, y=y)
    held_out = Dataset.from_file(str(tmp_path / "plain.npz"), test_fraction=0.5, seed=3)
    np.testing.assert_array_equal(
        held_out.x_test, Dataset.from_arrays(x, y, test_fraction=0.5, seed=3).x_test
    )


def test_csv_target_is_the_last_column_or_the_named_one(tmp_path):
    (tmp_path / "t.csv").write_text(
        "u,v,target\n" + "".join(f"{i * 2},{i * 20},{i * 200}\n" for i in range(8))
    )
    last = Dataset.from_file(tmp_path / "t.csv")
    np.testing.assert_array_equal(last.x * [100, 10], np.c_[last.y, last.y])
    named = Dataset.from_file(tmp_path / "t.csv", target="u")
    np.testing.assert_array_equal(named.x, np.c_[named.y * 10, named.y * 100])

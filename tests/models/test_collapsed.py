"""The collapsed network: its evidence against float64 and Monte Carlo, its readouts, its draws by
samplers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import NUTS
from numpyro.infer.util import log_density
from scipy import stats

from analysis import order_parameters
from inference import SGLD, annealed_start, sample
from inference.runs.datatree import describe
from inference.starts import start_params
from models import ARD, CollapsedNetwork, SparseParity, TwoLayerNetwork
from models.readouts import CollapsedNormal, draw_readouts, log_evidence, readout_posterior

DATA = SparseParity(input_dim=3, degree=2).sample(jax.random.key(0), num_data=8, num_test=40)
NETWORK = TwoLayerNetwork(input_dim=3, width=4, kappa=0.4, gamma=0.7, readout_scale=1.5)


def problem(width, num_data, kappa, seed=0):
    """Features of neurons from the prior on ±1 inputs, targets, and τ; float64."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 1.0], size=(num_data, 16))
    phi = np.maximum(rng.normal(size=(width, 16)) / 4 @ x.T, 0) / width**0.5
    return phi, x[:, 0] * x[:, 1], kappa**2 * num_data


def exact_evidence(phi, y, readout_variance, tau):
    covariance = tau * np.eye(len(y)) + readout_variance * phi.T @ phi
    return stats.multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)


@pytest.mark.parametrize(("width", "num_data"), [(64, 300), (300, 64), (40, 40)])
@pytest.mark.parametrize("kappa", [0.1, 5e-3])
def test_evidence_in_float32_keeps_the_digits_of_float64(width, num_data, kappa):
    phi, y, tau = problem(width, num_data, kappa)
    arguments = (jnp.asarray(phi, jnp.float32), jnp.asarray(y, jnp.float32))
    value, slopes = jax.value_and_grad(log_evidence, (0, 1))(*arguments, 1.7, tau)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, exact_evidence(phi, y, 1.7, tau), rtol=3e-6)
    solved = np.linalg.solve(
        tau * np.eye(num_data) + 1.7 * phi.T @ phi, np.column_stack([y, np.eye(num_data)])
    )
    slope = 1.7 * phi @ (np.outer(solved[:, 0], solved[:, 0]) - solved[:, 1:])
    np.testing.assert_allclose(slopes[0], slope, atol=5e-4 * np.abs(slope).max())
    np.testing.assert_allclose(slopes[1], -solved[:, 0], atol=5e-4 * np.abs(solved[:, 0]).max())


@pytest.mark.parametrize(("width", "num_data"), [(3, 5), (5, 3)])
def test_second_derivatives_of_the_evidence(width, num_data):
    phi, y, tau = problem(width, num_data, 0.5)
    with jax.enable_x64(True):
        slope = jax.grad(lambda phi: log_evidence(phi, jnp.asarray(y), 1.7, tau))
        direction = np.random.default_rng(1).normal(size=phi.shape)
        curvature = jax.jvp(slope, (jnp.asarray(phi),), (jnp.asarray(direction),))[1]
        step = 1e-5
        numeric = (slope(phi + step * direction) - slope(phi - step * direction)) / (2 * step)
    np.testing.assert_allclose(curvature, numeric, rtol=1e-6, atol=1e-8)


def test_evidence_is_the_likelihood_averaged_over_readouts():
    """Monte Carlo over a ~ prior, with its standard error."""
    phi, y, tau = problem(3, 5, 0.6)
    readouts = 1.3 * np.random.default_rng(1).normal(size=(400_000, 3))
    likelihood = stats.norm.pdf(y, readouts @ phi, tau**0.5).prod(axis=1)
    exact = np.exp(log_evidence(jnp.asarray(phi), jnp.asarray(y), 1.3**2, tau))
    error = likelihood.std() / len(likelihood) ** 0.5
    assert error < 0.01 * exact
    assert abs(likelihood.mean() - exact) < 4 * error


@pytest.mark.parametrize("bias", [False, True])
def test_density_is_the_joint_one_over_that_of_the_readouts(bias):
    """log p(w, y) = log p(w, a, y) - log p(a | w, y) whatever a."""
    network = TwoLayerNetwork(input_dim=3, width=4, kappa=0.4, gamma=0.7, readout_scale=1.5, bias=bias)
    rng = np.random.default_rng(2)
    hidden = {"w": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}
    if bias:
        hidden["b"] = jnp.asarray(rng.normal(size=4), jnp.float32)
    args = (DATA.x, DATA.y)
    collapsed = float(log_density(network.collapsed(), args, {}, hidden)[0])
    phi = network.features(hidden, DATA.x) * 4**-0.7
    mean, factor = readout_posterior(phi, jnp.asarray(DATA.y), 1.5**2, 0.4**2 * 8)
    law = stats.multivariate_normal(mean, np.linalg.inv(factor @ factor.T))
    for a in rng.normal(size=(3, 4)):
        joint = float(log_density(network, args, {}, hidden | {"a": jnp.asarray(a, jnp.float32)})[0])
        assert joint - law.logpdf(a) == pytest.approx(collapsed, rel=1e-4)


@pytest.mark.parametrize(("width", "num_data"), [(4, 10), (10, 4)])
def test_readouts_have_the_exact_mean_and_covariance(width, num_data):
    phi, y, tau = problem(width, num_data, 0.3)
    keys = jax.random.split(jax.random.key(0), 40_000)
    arrays = jnp.asarray(phi, jnp.float32), jnp.asarray(y, jnp.float32)
    draws = np.asarray(jax.vmap(lambda key: draw_readouts(key, *arrays, 2.0, tau))(keys), float)
    # Conditioning the joint Normal of (a, y), which inverts A and not M.
    gain = 2.0 * phi @ np.linalg.inv(tau * np.eye(num_data) + 2.0 * phi.T @ phi)
    covariance = 2.0 * np.eye(width) - 2.0 * gain @ phi.T
    white = np.linalg.solve(np.linalg.cholesky(covariance), (draws - gain @ y).T)
    # 14 and 65 numbers: 4.5 standard errors.
    assert np.all(np.abs(white.mean(axis=1)) < 4.5 / len(keys) ** 0.5)
    second = white @ white.T / len(keys) - np.eye(width)
    error = np.where(np.eye(width, dtype=bool), 2**0.5, 1.0) / len(keys) ** 0.5
    assert np.all(np.abs(second) < 4.5 * error)


def test_targets_are_drawn_from_their_law():
    law = CollapsedNormal(jnp.asarray([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]), 1.5, 0.5)
    draws = np.asarray(law.sample(jax.random.key(0), (40_000,)), float)
    covariance = 0.25 * np.eye(3) + 2.25 * np.asarray(law.features).T @ np.asarray(law.features)
    white = np.linalg.solve(np.linalg.cholesky(covariance), draws.T)
    error = np.where(np.eye(3, dtype=bool), 2**0.5, 1.0) / 200
    assert np.all(np.abs(white @ white.T / 40_000 - np.eye(3)) < 4.5 * error)


def test_a_collapsed_network_keeps_its_declaration():
    collapsed = NETWORK.collapsed()
    assert isinstance(collapsed, CollapsedNetwork)
    assert vars(collapsed) == vars(NETWORK)
    assert collapsed != NETWORK
    assert collapsed.collapsed() is collapsed
    # Runs of the two in one folder are different runs.
    assert describe(collapsed) != describe(NETWORK)


@pytest.fixture(scope="module")
def sgld_tree():
    return sample_collapsed()


def sample_collapsed(**options):
    kernel = SGLD(step_size=0.02)
    given = {"num_warmup": 20, "num_samples": 40, "num_chains": 2, **options}
    return sample(NETWORK.collapsed(), DATA, kernel, jax.random.key(3), **given)


def test_draws_get_their_readouts_back_in_the_schema(sgld_tree):
    assert sgld_tree.attrs["scheme"] == "sgld-collapsed"
    assert set(sgld_tree["posterior"].data_vars) == {"w", "a"}
    assert sgld_tree["posterior/a"].dims == ("chain", "draw", "neuron")
    assert sgld_tree["log_likelihood/y"].shape == (2, 40, 8)
    w, a = sgld_tree["posterior/w"].values, sgld_tree["posterior/a"].values
    assert len(np.unique(a[..., 0])) == 80
    whitened = []
    for w_t, a_t in zip(w.reshape(-1, 4, 3), a.reshape(-1, 4), strict=True):
        phi = NETWORK.features({"w": w_t}, DATA.x) * 4**-0.7
        mean, factor = readout_posterior(phi, jnp.asarray(DATA.y), 1.5**2, 0.4**2 * 8)
        whitened.append(np.asarray(factor).T @ (a_t - mean))
    # Independent Normal(0, 1) numbers, whatever chain the weights belong to.
    assert stats.kstest(np.ravel(whitened), "norm").pvalue > 1e-3


def test_streamed_draws_have_the_same_readouts(sgld_tree, tmp_path):
    streamed = sample_collapsed(folder=tmp_path / "run", progress=lambda *report: None)
    for entry in ("posterior/w", "posterior/a", "order_parameters/test_mse"):
        np.testing.assert_array_equal(streamed[entry], sgld_tree[entry])


@pytest.mark.parametrize("prior", [None, ARD()])
def test_starts_of_a_collapsed_network(prior, small_data):
    given = {} if prior is None else {"prior": prior}
    network = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3, **given).collapsed()
    for start in ("prior", "aligned"):
        values = start_params(network, small_data, jax.random.key(0), 3, start)
        assert "a" not in values
        assert all(v.shape[0] == 3 for v in values.values())


def test_annealing_takes_a_collapsed_network():
    start = annealed_start(
        NETWORK.collapsed(),
        DATA,
        SGLD(step_size=0.02),
        jax.random.key(0),
        kappa_start=4.0,
        num_levels=3,
        steps_per_level=5,
    )
    assert set(start) == {"w"}


def test_a_step_size_can_be_checked():
    check = SGLD(step_size=0.02).check_step_size(
        NETWORK.collapsed(), DATA, jax.random.key(0), num_warmup=5, num_samples=10
    )
    assert 0 < check.recommended < check.largest_stable


def test_minibatches_are_refused():
    with pytest.raises(ValueError, match="subsample_size must be None for a collapsed network"):
        sample_collapsed(subsample_size=4)


@pytest.mark.slow
@pytest.mark.parametrize("prior", [None, ARD()])
def test_nuts_on_the_collapsed_network_agrees_with_nuts_on_the_joint(prior):
    given = {} if prior is None else {"prior": prior}
    network = TwoLayerNetwork(input_dim=3, width=4, kappa=0.2, **given)
    options = {"num_warmup": 1000, "num_samples": 4000, "num_chains": 4}
    joint, collapsed = (
        order_parameters(sample(model, DATA, NUTS, jax.random.key(i), **options))
        for i, model in enumerate((network, network.collapsed()))
    )
    for name in ("order_parameter", "test_mse_draw", "train_mse", "second_moment", "neuron_norm"):
        difference = joint[name].sel(estimate="mean") - collapsed[name].sel(estimate="mean")
        error = np.hypot(joint[name].sel(estimate="se"), collapsed[name].sel(estimate="se"))
        assert np.all(np.abs(difference) < 4 * error), name
        # The comparison resolves a twentieth of what it compares.
        assert np.all(error < 0.05 * np.abs(joint[name].sel(estimate="mean")) + 0.01), name

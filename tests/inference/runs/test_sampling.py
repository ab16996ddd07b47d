"""``sample``: the schema it returns, where chains start, what it counts, and SGLD against NUTS."""

import json
import re
from dataclasses import dataclass, replace

import arviz
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer import HMC, HMCECS, NUTS, SA, BarkerMH
from numpyro.infer.util import log_density
from scipy import stats

from inference import SGLD, sample
from inference.starts import align, start_params
from models import ARD, Dataset, SparseParity, TwoLayerNetwork, WeightPrior, input_plate, neuron_plate


@pytest.fixture(scope="module")
def sgld_tree(small_data):
    """Draws under the ARD prior with biases: every site that the schema knows."""
    network = TwoLayerNetwork(5, 8, 0.3, prior=ARD(), bias=True)
    tree = sample(
        network,
        small_data,
        SGLD(step_size=1e-3),
        jax.random.key(4),
        num_warmup=10,
        num_samples=60,
        num_chains=3,
        thinning=4,
        start="aligned",
    )
    return network, tree


# --- the schema ---


def test_groups_dimensions_and_sizes(sgld_tree):
    _, tree = sgld_tree
    draws = ("chain", "draw")
    expected = {
        "posterior": {
            "w": (*draws, "neuron", "input"),
            "a": (*draws, "neuron"),
            "b": (*draws, "neuron"),
            "rho": (*draws, "input"),
        },
        "sample_stats": {"lp": draws, "step_size": draws, "diverging": draws},
        "functions": {
            "order_parameter": draws,
            "train_mse": draws,
            "test_mse": draws,
            "f": (*draws, "test_point"),
            "second_moment": (*draws, "input"),
            "neuron_norm": (*draws, "neuron_rank"),
            "log_density": draws,
            "log_rho": (*draws, "input"),
        },
        "log_likelihood": {"y": (*draws, "data")},
        "log_prior": {"w": draws, "a": draws, "b": draws, "rho": draws},
        "posterior_predictive": {"y": (*draws, "data")},
        "predictions": {"f": (*draws, "test"), "y": (*draws, "test")},
        "order_parameters": {
            "train_mse": draws,
            "test_mse": draws,
            "order_parameter": draws,
            "second_moment": (*draws, "input"),
            "neuron_norm": (*draws, "neuron_rank"),
            "num_specialised": draws,
            "relevance_ratio": draws,
        },
        "observed_data": {"y": ("data",)},
        "constant_data": {"x": ("data", "input"), "relevant": ("relevant_input",)},
        "predictions_constant_data": {"x_test": ("test", "input"), "y_test": ("test",)},
    }
    found = {name: {k: v.dims for k, v in group.data_vars.items()} for name, group in tree.children.items()}
    assert found == expected
    assert dict(tree.posterior.sizes) == {"chain": 3, "draw": 15, "neuron": 8, "input": 5}
    assert (tree.predictions.sizes["test"], tree.log_likelihood.sizes["data"]) == (20, 30)


def test_attributes(sgld_tree):
    network, tree = sgld_tree
    attributes = tree.attrs
    assert (attributes["scheme"], attributes["prior"], attributes["start"]) == ("sgld", "ard", "aligned")
    assert json.loads(attributes["settings"]) == {
        "kernel": "SGLD",
        "step_size": 1e-3,
        "preconditioner": None,
        "num_warmup": 10,
        "num_samples": 60,
        "thinning": 4,
        "start": "aligned",
        "subsample_size": None,
    }
    assert json.loads(attributes["network"])["kappa"] == network.kappa
    assert "ARD(shape=4.0" in json.loads(attributes["network"])["prior"]
    assert json.loads(attributes["seed"]) == jax.random.key_data(jax.random.key(4)).tolist()
    assert {"jax", "numpyro", "mean-field-zoo"} <= set(json.loads(attributes["versions"]))
    assert attributes["wall_time_s"] > 0
    assert attributes["independent_draws"] == 0


def test_contents_agree_with_the_draws(sgld_tree, small_data):
    network, tree = sgld_tree
    draws = {name: tree.posterior[name].values for name in ("w", "a", "b")}
    np.testing.assert_allclose(tree.predictions["f"], network.apply(draws, small_data.x_test), atol=1e-4)
    np.testing.assert_array_equal(tree.constant_data["relevant"], small_data.relevant)
    np.testing.assert_array_equal(tree.observed_data["y"], small_data.y)
    # The log density of the unconstrained values: log ρ has the Jacobian ρ, and w = w_base/√(ρ + 1/4).
    rho = tree.posterior["rho"].values[1, 7]
    params = {name: value[1, 7] for name, value in draws.items()}
    params |= {"rho": rho, "w_base": params["w"] * np.sqrt(0.25 + rho)}
    density, _ = log_density(network, (small_data.x, small_data.y), {}, params)
    assert float(tree.sample_stats["lp"][1, 7]) == pytest.approx(
        float(density) + np.log(rho).sum(), rel=1e-4, abs=1e-3
    )
    # The prior's terms are of w itself, whose density has the Jacobian Π_j (ρ_j + 1/4)^(N/2).
    terms = sum(float(term[1, 7]) for term in tree.log_prior.data_vars.values())
    prior = float(density) - float(tree.log_likelihood["y"][1, 7].sum())
    assert terms == pytest.approx(prior + network.width / 2 * np.log(0.25 + rho).sum(), rel=1e-4, abs=1e-3)
    density = tree.sample_stats["lp"].to_numpy()
    np.testing.assert_array_equal(tree.functions["log_density"], density)
    np.testing.assert_array_equal(tree.functions["f"], tree.predictions["f"][..., :10])


def test_predicted_targets_have_the_noise_of_the_model(sgld_tree, small_data):
    network, tree = sgld_tree
    draws = {name: tree.posterior[name].values for name in ("w", "a", "b")}
    noise = network.kappa * small_data.num_data**0.5
    for group, inputs in (("posterior_predictive", small_data.x), ("predictions", small_data.x_test)):
        white = (tree[group]["y"] - network.apply(draws, inputs)).to_numpy() / noise
        assert stats.kstest(white.ravel(), "norm").pvalue > 1e-3
        # A noise of its own for every chain, draw and point.
        correlation = np.corrcoef(white.reshape(-1, white.shape[-1]))
        assert np.abs(correlation - np.eye(len(correlation))).max() < 0.9
        assert len(np.unique(white)) == white.size


def test_netcdf_round_trip(sgld_tree, tmp_path):
    _, tree = sgld_tree
    tree.to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "run.nc", engine="h5netcdf") as stored:
        xr.testing.assert_identical(stored.load(), tree)


def test_unknown_relevant_inputs_leave_their_observables_out(small_network):
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(rng.normal(size=(40, 5)), rng.normal(size=40))
    tree = sample(
        small_network,
        data,
        SGLD(step_size=1e-3),
        jax.random.key(0),
        num_warmup=0,
        num_samples=5,
        num_chains=1,
    )
    assert "relevance_ratio" not in tree.order_parameters
    assert "relevant" not in tree.constant_data


def test_arviz_takes_the_tree(sgld_tree):
    _, tree = sgld_tree
    assert set(arviz.ess(tree.order_parameters.dataset[["train_mse"]]).data_vars) == {"train_mse"}
    assert arviz.summary(tree, var_names=["rho"]).shape[0] == 5


def test_same_key_same_draws(small_network, small_data):
    def draws(seed):
        options = {"num_warmup": 3, "num_samples": 10, "num_chains": 2}
        tree = sample(small_network, small_data, SGLD(step_size=1e-3), jax.random.key(seed), **options)
        return tree.posterior["w"].values

    np.testing.assert_array_equal(draws(0), draws(0))
    assert np.abs(draws(0) - draws(1)).max() > 0.1
    assert np.abs(draws(0)[0] - draws(0)[1]).max() > 0.1


# --- what is counted ---


@pytest.mark.parametrize(
    ("subsample_size", "expected"), [(None, 2 * (7 + 24)), (10, round(2 * (7 + 24) / 3))]
)
def test_gradient_evaluations_of_sgld_are_full_batch_equivalents(
    small_network, small_data, subsample_size, expected
):
    tree = sample(
        small_network,
        small_data,
        SGLD(step_size=1e-3),
        jax.random.key(0),
        num_warmup=7,
        num_samples=24,
        num_chains=2,
        thinning=3,
        subsample_size=subsample_size,
    )
    assert tree.attrs["gradient_evaluations"] == expected
    assert tree.posterior.sizes["draw"] == 8


def test_a_method_of_a_users_kernel_is_not_taken_for_ours(small_network, small_data):
    class Stepping(HMC):
        def step(self):
            raise AssertionError("nobody calls this")

    def kernel(model):
        return Stepping(model, num_steps=2, adapt_step_size=False, adapt_mass_matrix=False, step_size=0.01)

    tree = sample(
        small_network, small_data, kernel, jax.random.key(0), num_warmup=2, num_samples=10, num_chains=2
    )
    assert tree.posterior.sizes["draw"] == 10


def test_gradient_evaluations_of_nuts_are_leapfrog_steps(small_network, small_data):
    options = {"num_samples": 30, "num_chains": 2}
    tree = sample(
        small_network,
        small_data,
        lambda model: HMC(model, num_steps=5, adapt_step_size=False, adapt_mass_matrix=False, step_size=0.01),
        jax.random.key(0),
        num_warmup=10,
        **options,
    )
    assert tree.attrs["gradient_evaluations"] == 5 * 2 * 40
    tree = sample(small_network, small_data, NUTS, jax.random.key(0), num_warmup=0, **options)
    assert tree.attrs["scheme"] == "nuts"
    assert tree.attrs["gradient_evaluations"] == int(tree.sample_stats["n_steps"].sum())
    assert {"energy", "acceptance_rate", "diverging", "step_size", "lp"} <= set(tree.sample_stats.data_vars)


@pytest.mark.parametrize(
    "kernel",
    [BarkerMH, SA, lambda model: HMCECS(NUTS(model), num_blocks=2)],
    ids=["BarkerMH", "SA", "HMCECS"],
)
def test_kernels_of_a_single_chain_are_refused(kernel, small_network, small_data):
    with pytest.raises(ValueError, match=r"must take a batch of chains.* chain_method='sequential'"):
        sample(small_network, small_data, kernel, jax.random.key(0), num_warmup=2, num_samples=2)


def test_progress_is_reported_to_the_caller(small_network, small_data):
    reports = []
    sample(
        small_network,
        small_data,
        SGLD(step_size=1e-3),
        jax.random.key(0),
        num_warmup=100,
        num_samples=200,
        num_chains=1,
        thinning=2,
        progress=lambda done, total, text: reports.append((done, total, text)),
    )
    done = [d for d, _, _ in reports]
    assert len(done) > 3
    assert done == sorted(done)
    assert reports[-1][:2] == (300, 300)
    assert re.fullmatch(r"\d+ steps/s train MSE \S+ m -?\d\.\d{3}", reports[-1][2])


# --- starts ---


def test_prior_start_is_the_prior(small_data):
    network = TwoLayerNetwork(5, 8, 0.3, prior=ARD(2.0, 0.3))
    start = start_params(network, small_data, jax.random.key(0), 4000, "prior")
    assert {k: v.shape[1:] for k, v in start.items()} == {"rho": (5,), "w_base": (8, 5), "a": (8,)}
    for value, expected in (
        (start["w_base"] ** 2 / (1 + 0.25 * np.exp(-start["rho"][:, None])), 1.0),
        (start["a"] ** 2, 1.0),
        (np.exp(start["rho"]), 2 / 0.3),
    ):
        value = np.asarray(value, float).reshape(4000, -1)
        error = value.std(axis=0, ddof=1) / 4000**0.5
        assert (np.abs(value.mean(axis=0) - expected) < 4.5 * error).all()


def test_aligned_rows_follow_the_sign_patterns():
    w = np.asarray(jax.random.normal(jax.random.key(0), (40, 6)))
    relevant = (1, 4)
    result = np.asarray(align(jnp.asarray(w), relevant))
    np.testing.assert_array_equal(result[10:], w[10:])  # a quarter of the 40 neurons
    signs = {tuple(row) for row in np.sign(result[:10][:, relevant])}
    assert signs == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    norm = 1.5 * np.sqrt((w**2).sum(axis=1).mean())
    np.testing.assert_allclose(np.linalg.norm(result[:10][:, relevant], axis=1), norm, rtol=1e-5)
    rest = [0, 2, 3, 5]
    np.testing.assert_allclose(result[:10][:, rest], 0.1 * w[:10][:, rest], rtol=1e-5)


def test_aligned_start_fits_where_the_prior_start_does_not(default_data, isotropic_network):
    mse = {}
    for start in ("prior", "aligned"):
        params = start_params(isotropic_network, default_data, jax.random.key(0), 3, start)
        f = isotropic_network.apply(params, default_data.x)
        mse[start] = float(jnp.mean((f - default_data.y) ** 2))
    assert mse["aligned"] < 0.5 < mse["prior"]


@pytest.mark.parametrize("bias", [False, True])
def test_readouts_come_from_their_exact_gaussian(small_data, bias):
    network = TwoLayerNetwork(5, 6, 0.3, gamma=0.7, readout_scale=1.4, bias=bias)
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(6, 5)), "b": rng.normal(size=6)}
    draws = np.asarray(
        jax.vmap(lambda key: network.draw_readouts(key, params, small_data.x, small_data.y))(
            jax.random.split(jax.random.key(1), 20_000)
        ),
        float,
    )
    hidden = np.maximum(small_data.x @ params["w"].T + bias * params["b"], 0) / 6**0.7
    noise = 0.3**2 * 30
    covariance = np.linalg.inv(hidden.T @ hidden / noise + np.eye(6) / 1.4**2)
    mean = covariance @ hidden.T @ small_data.y / noise
    error = np.sqrt(np.diag(covariance) / 20_000)
    assert (np.abs(draws.mean(axis=0) - mean) < 4.5 * error).all()
    spread = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / 20_000)
    assert (np.abs(np.cov(draws.T) - covariance) < 4.5 * spread).all()


def test_both_starts_halve_the_chains(small_network, small_data):
    one, other, both = (
        start_params(small_network, small_data, jax.random.key(4), 5, start)
        for start in ("prior", "aligned", "both")
    )
    for site, values in both.items():
        np.testing.assert_allclose(values[:3], one[site][:3], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(values[3:], other[site][3:], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="start='both' needs num_chains of at least 2"):
        start_params(small_network, small_data, jax.random.key(4), 1, "both")
    with pytest.raises(ValueError, match=r"start='both' needs data\.relevant"):
        start_params(small_network, replace(small_data, relevant=None), jax.random.key(4), 2, "both")


def test_given_initial_values_are_used(small_network, small_data):
    start = start_params(small_network, small_data, jax.random.key(9), 2, "aligned")
    tree = sample(
        small_network,
        small_data,
        SGLD(step_size=1e-12),
        jax.random.key(0),
        num_warmup=0,
        num_samples=1,
        num_chains=2,
        init_params=start,
    )
    np.testing.assert_allclose(tree.posterior["w"][:, 0], start["w"], atol=1e-4)
    assert tree.attrs["start"] == "given"


# --- a prior that is not in the zoo ---


@dataclass(frozen=True)
class StudentT(WeightPrior):
    """Heavy tails, with the scale itself unknown: a prior declared outside the package."""

    df: float = 3.0

    def weights(self, width, input_dim):
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.3))
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("w", dist.StudentT(self.df, 0.0, scale * input_dim**-0.5))

    def sites_from_weights(self, w):
        return {"w": w, "scale": jnp.array(1.0)}


def test_a_prior_of_the_users_own_goes_through_both_samplers(small_data):
    network = TwoLayerNetwork(5, 8, 0.3, prior=StudentT())
    kernels = {"sgld": SGLD(step_size=2e-3), "nuts": lambda model: NUTS(model, max_tree_depth=5)}
    steps = {"sgld": (500, 4000, 10), "nuts": (200, 400, 1)}
    starts = {"sgld": "prior", "nuts": "aligned"}
    found = {}
    for name, kernel in kernels.items():
        warmup, samples, thinning = steps[name]
        tree = sample(
            network,
            small_data,
            kernel,
            jax.random.key(2),
            num_warmup=warmup,
            num_samples=samples,
            thinning=thinning,
            start=starts[name],
        )
        assert tree.attrs["prior"] == "studentt"
        assert tree.posterior["scale"].dims == ("chain", "draw")
        observable = tree.order_parameters.dataset[["train_mse"]]
        found[name] = (float(observable["train_mse"].mean()), float(arviz.mcse(observable)["train_mse"]))
    (first, first_error), (second, second_error) = found.values()
    assert abs(first - second) < 4 * np.hypot(first_error, second_error) + 0.01 * second


# --- the physics: SGLD agrees with NUTS on the default problem ---


def estimates(tree):
    """Means and Monte-Carlo standard errors of m, the test error of a draw and the second
    moments."""
    values = tree.order_parameters.dataset[["order_parameter", "test_mse", "second_moment"]]
    errors = arviz.mcse(values)
    means = values.mean(("chain", "draw"))
    return {k: (np.atleast_1d(means[k].values), np.atleast_1d(errors[k].values)) for k in values.data_vars}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prior", "kernel", "m", "mse"),
    [
        ("isotropic", {"step_size": 0.01, "preconditioner": "prior"}, 0.66, 0.24),
        ("ard", {"step_size": 0.0015}, 0.95, 0.095),
    ],
)
def test_sgld_agrees_with_nuts_on_the_default_problem(
    prior, kernel, m, mse, default_data, isotropic_network, ard_network
):
    network = {"isotropic": isotropic_network, "ard": ard_network}[prior]
    # Under ARD the second moments of the relevant inputs move with their slow precisions: four
    # times as long.
    factor = 4 if prior == "ard" else 1
    lengths = {"num_warmup": 4000, "num_samples": 8000 * factor, "thinning": 16 * factor}
    halved = {**kernel, "step_size": kernel["step_size"] / 2}
    coarse = estimates(sample(network, default_data, SGLD(**kernel), jax.random.key(1), **lengths))
    fine = estimates(sample(network, default_data, SGLD(**halved), jax.random.key(2), **lengths))
    nuts = estimates(
        sample(
            network,
            default_data,
            lambda model: NUTS(model, max_tree_depth=8),
            jax.random.key(3),
            num_warmup=500,
            num_samples=500,
        )
    )
    for name, (value, error) in fine.items():
        # The bias is linear in ε, so that of the fine run is what halving ε took away from the
        # coarse one.
        bias = np.abs(coarse[name][0] - value)
        reference, reference_error = nuts[name]
        combined = np.hypot(error, reference_error)
        assert (np.abs(value - reference) < 3 * combined + bias).all(), name
        # The allowance is small against what it tests: the prior's m is 0, its second moments are
        # all 1/16.
        limit = 0.35 if name == "second_moment" else 0.2
        assert (3 * combined + bias < limit * np.maximum(np.abs(reference), 0.1)).all(), name
    # Other data sets of the same law gave these values, with a spread of about 0.03 between data
    # sets.
    assert nuts["order_parameter"][0][0] == pytest.approx(m, abs=0.06)
    assert nuts["test_mse"][0][0] == pytest.approx(mse, abs=0.06)


def test_kernel_regime_at_large_noise_has_no_order():
    # At large κ the posterior is the prior: m = 0, the test error 1 + the prior's variance of f,
    # 1/2 for ReLU.
    data = SparseParity(16, 2).sample(jax.random.key(0), 50)
    network = TwoLayerNetwork(16, 64, 10.0)
    kernel = SGLD(step_size=0.1, preconditioner="prior")
    tree = sample(network, data, kernel, jax.random.key(0), num_warmup=500, num_samples=4000, thinning=8)
    values = estimates(tree)
    for name, expected in (("order_parameter", 0.0), ("test_mse", 1.5), ("second_moment", 1 / 16)):
        value, error = values[name]
        # The coarse step widens every Gaussian by 1/(1 - ε/2) where the data do not matter: 5 %, f²
        # by 10 %.
        assert (np.abs(value - expected) < 4.5 * error + 0.11 * expected).all(), name

"""The guides and their bound against closed forms; every Monte-Carlo comparison is in standard
errors."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from scipy.special import digamma

from inference.variational.elbo import ConjugateARDELBO
from inference.variational.guides import MeanFieldARDGuide, MeanFieldGuide
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork, WeightPrior, input_plate, neuron_plate
from models.priors import PRIORS

DATA = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
NETWORK = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
ARD_NETWORK = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=ARD())


@dataclass(frozen=True)
class GroupedScale(WeightPrior):
    """A prior that is not in the zoo: its own site names, one positive, one in an interval."""

    def weights(self, width, input_dim):
        tau = numpyro.sample("tau", dist.HalfNormal(1.0))
        with input_plate(input_dim):
            share = numpyro.sample("share", dist.Uniform(0.5, 1.5))
        with neuron_plate(width), input_plate(input_dim):
            direction = numpyro.sample("direction", dist.Normal(0.0, 1.0))
        return tau * jnp.sqrt(share) * direction


def optimise(svi, num_steps, *args, key=0, **kwargs):
    def run(key):
        state = svi.init(key, *args, **kwargs)
        return jax.lax.fori_loop(0, num_steps, lambda _, s: svi.update(s, *args, **kwargs)[0], state)

    return svi.get_params(jax.jit(run)(jax.random.key(key)))


def decaying_adam(num_steps, learning_rate=0.05):
    return optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))


def initial_params(guide, model, key=0):
    svi = SVI(model, guide, numpyro.optim.Adam(0.01), TraceMeanField_ELBO())
    return svi.get_params(svi.init(jax.random.key(key), DATA.x, DATA.y))


def bounds(elbo, params, model, guide, num, **kwargs):
    """Values of the bound under `num` random keys."""
    x, y = jnp.asarray(DATA.x), jnp.asarray(DATA.y)
    losses = jax.jit(jax.vmap(lambda key: elbo.loss(key, params, model, guide, x, y, **kwargs)))
    return jax.tree.map(lambda v: -np.asarray(v, float), losses(jax.random.split(jax.random.key(7), num)))


def standard_error(values):
    return values.std(ddof=1) / len(values) ** 0.5


# A linear model: posterior Normal(mean, Λ⁻¹) with Λ = I + XᵀX/σ², so that everything is known.
SIGMA = 0.7
DESIGN = np.random.default_rng(0).normal(size=(12, 3)) @ np.array([[1, 0.6, 0], [0, 1, 0.6], [0, 0, 1]])
TARGET = np.random.default_rng(1).normal(size=12)
PRECISION = np.eye(3) + DESIGN.T @ DESIGN / SIGMA**2
MEAN = np.linalg.solve(PRECISION, DESIGN.T @ TARGET) / SIGMA**2
COVARIANCE_OF_TARGET = SIGMA**2 * np.eye(12) + DESIGN @ DESIGN.T
LOG_EVIDENCE = -0.5 * (
    12 * np.log(2 * np.pi)
    + np.linalg.slogdet(COVARIANCE_OF_TARGET)[1]
    + TARGET @ np.linalg.solve(COVARIANCE_OF_TARGET, TARGET)
)


def linear_model(y):
    with numpyro.plate("coefficient", 3):
        beta = numpyro.sample("beta", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(jnp.asarray(DESIGN) @ beta, SIGMA).to_event(1), obs=y)


@pytest.mark.parametrize("elbo", [TraceMeanField_ELBO, pytest.param(Trace_ELBO, marks=pytest.mark.slow)])
def test_guide_reaches_the_exact_mean_field_optimum_of_a_gaussian(elbo):
    """KL(q ‖ Normal(mean, Λ⁻¹)) over factorised q is least at loc = mean, scale² = 1/Λ_ii."""
    guide = MeanFieldGuide(linear_model)
    svi = SVI(linear_model, guide, decaying_adam(3000), elbo(num_particles=20))
    params = optimise(svi, 3000, jnp.asarray(TARGET))
    sd = np.diag(PRECISION) ** -0.5
    # The gradients' noise leaves errors up to 3 % of sd over ten keys.
    np.testing.assert_array_less(np.abs(params["beta_auto_loc"] - MEAN) / sd, 0.06)
    np.testing.assert_allclose(params["beta_auto_scale"], sd, rtol=0.06)
    # The alternative, marginal standard deviations, is well outside.
    assert np.all(np.diag(np.linalg.inv(PRECISION)) ** 0.5 / sd > 1.1)


def test_bound_is_log_evidence_less_the_divergence():
    """At the optimum ELBO = log p(y) - ½(Σ log Λ_ii - log det Λ)."""
    guide = MeanFieldGuide(linear_model)
    params = {"beta_auto_loc": jnp.asarray(MEAN), "beta_auto_scale": jnp.asarray(np.diag(PRECISION) ** -0.5)}
    keys = jax.random.split(jax.random.key(0), 20_000)
    y = jnp.asarray(TARGET)
    loss = jax.vmap(lambda k: TraceMeanField_ELBO().loss(k, params, linear_model, guide, y))
    values = -np.asarray(loss(keys), float)
    gap = 0.5 * (np.log(np.diag(PRECISION)).sum() - np.linalg.slogdet(PRECISION)[1])
    assert gap > 0.2
    assert abs(values.mean() - (LOG_EVIDENCE - gap)) < 4 * standard_error(values)
    assert values.mean() + 4 * standard_error(values) < LOG_EVIDENCE


def test_kl_of_normal_sites_is_analytic():
    guide = MeanFieldGuide(NETWORK)
    params = initial_params(guide, NETWORK)
    terms = bounds(TraceMeanField_ELBO(sum_sites=False), params, NETWORK, guide, 5)
    for name, prior_sd in (("w", 6**-0.5), ("a", 1.0)):
        loc, scale = (np.asarray(params[f"{name}_auto_{p}"], float) for p in ("loc", "scale"))
        kl = np.log(prior_sd / scale) + (scale**2 + loc**2) / (2 * prior_sd**2) - 0.5
        np.testing.assert_allclose(terms[name], -kl.sum(), rtol=1e-5)


def test_sampled_and_analytic_bounds_agree_and_the_analytic_one_varies_less():
    guide = MeanFieldGuide(NETWORK)
    params = initial_params(guide, NETWORK)
    sampled = bounds(Trace_ELBO(), params, NETWORK, guide, 4000)
    analytic = bounds(TraceMeanField_ELBO(), params, NETWORK, guide, 4000)
    assert abs(sampled.mean() - analytic.mean()) < 4 * np.hypot(
        standard_error(sampled), standard_error(analytic)
    )
    likelihood = bounds(TraceMeanField_ELBO(sum_sites=False), params, NETWORK, guide, 4000)["y"]
    np.testing.assert_allclose(analytic.var(), likelihood.var(), rtol=1e-2)


def test_minibatch_bound_is_unbiased():
    guide = MeanFieldGuide(NETWORK)
    params = initial_params(guide, NETWORK)
    full = bounds(TraceMeanField_ELBO(), params, NETWORK, guide, 4000)
    batch = bounds(TraceMeanField_ELBO(), params, NETWORK, guide, 4000, subsample_size=10)
    assert batch.var() > full.var()
    assert abs(full.mean() - batch.mean()) < 4 * np.hypot(standard_error(full), standard_error(batch))


def test_locations_start_from_prior_draws_that_differ_by_key():
    network = TwoLayerNetwork(input_dim=6, width=200, kappa=0.1, prior=Isotropic(scale=3.0))
    first, second = (initial_params(MeanFieldGuide(network, 0.05), network, key) for key in (0, 1))
    assert not np.allclose(first["w_auto_loc"], second["w_auto_loc"])
    loc = np.asarray(first["w_auto_loc"])
    # The relative error of a variance from n Normal draws is √(2/n).
    assert abs(loc.var() / (9 / 6) - 1) < 4 * (2 / loc.size) ** 0.5
    np.testing.assert_allclose(first["w_auto_scale"], 0.05, rtol=1e-5)
    assert first["w_auto_loc"].shape == (200, 6)
    assert first["a_auto_scale"].shape == (200,)


def test_guide_takes_a_prior_of_the_user():
    network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=GroupedScale(), bias=True)
    guide = MeanFieldGuide(network)
    svi = SVI(network, guide, numpyro.optim.Adam(0.01), TraceMeanField_ELBO(num_particles=2))
    params = optimise(svi, 50, DATA.x, DATA.y, subsample_size=20)
    sites = ("tau", "share", "direction", "a", "b")
    assert set(params) == {f"{site}_auto_{p}" for site in sites for p in ("loc", "scale")}
    draws = guide.sample_posterior(jax.random.key(0), params, sample_shape=(32,))
    assert set(draws) == {*sites, "w"}
    assert np.all(draws["tau"] > 0)
    assert np.all((draws["share"] > 0.5) & (draws["share"] < 1.5))
    weights = draws["tau"][:, None, None] * jnp.sqrt(draws["share"])[:, None] * draws["direction"]
    np.testing.assert_allclose(draws["w"], weights, rtol=1e-5)


@pytest.mark.parametrize("name", PRIORS)
def test_guide_draws_every_prior_of_the_zoo(name):
    network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=PRIORS[name]())
    drawn = trace(seed(MeanFieldGuide(network), 0)).get_trace(DATA.x, DATA.y)
    model = trace(substitute(seed(network, 0), data={n: s["value"] for n, s in drawn.items()}))
    for site, values in model.get_trace(DATA.x, DATA.y).items():
        if values["type"] == "sample" and not values["is_observed"]:
            assert drawn[site]["value"].shape == values["value"].shape
            assert np.isfinite(values["fn"].log_prob(values["value"])).all()


@pytest.mark.parametrize("integer", [int, np.int64])
def test_plates_may_be_counted_by_any_integer(integer):
    def model():
        with numpyro.plate("group", integer(3)):
            numpyro.sample("z", dist.Normal(0.0, 1.0))

    assert trace(seed(MeanFieldGuide(model), 0)).get_trace()["z"]["value"].shape == (3,)


def test_guide_covers_a_simplex():
    def model():
        numpyro.sample("share", dist.Dirichlet(jnp.ones((2, 3))).to_event(1))

    sites = trace(seed(MeanFieldGuide(model), 0)).get_trace()
    assert sites["share_auto_loc"]["value"].shape == (2, 2)
    assert sites["share"]["fn"].event_dim == 2
    np.testing.assert_allclose(sites["share"]["value"].sum(-1), 1, rtol=1e-5)


def test_posterior_draws_have_the_fitted_moments():
    guide = MeanFieldGuide(ARD_NETWORK)
    params = initial_params(guide, ARD_NETWORK)
    draws = guide.sample_posterior(jax.random.key(0), params, sample_shape=(4000,))
    z = (np.log(draws["rho"]) - params["rho_auto_loc"]) / params["rho_auto_scale"]
    assert abs(z.mean()) < 4 / z.size**0.5
    assert abs(z.var() - 1) < 4 * (2 / z.size) ** 0.5
    np.testing.assert_allclose(draws["w"], draws["w_base"] / np.sqrt(0.25 + draws["rho"])[:, None], rtol=1e-5)


@pytest.mark.parametrize("jitted", [False, True])
def test_quantiles_and_median_are_those_of_the_draws(jitted):
    """Also after a first call under jit, whose data are gone."""
    guide = MeanFieldARDGuide(ARD_NETWORK) if jitted else MeanFieldGuide(ARD_NETWORK)
    svi = SVI(guide.model, guide, numpyro.optim.Adam(0.01), TraceMeanField_ELBO())
    init = jax.jit(svi.init) if jitted else svi.init
    params = svi.get_params(init(jax.random.key(0), DATA.x, DATA.y))
    draws = guide.sample_posterior(jax.random.key(1), params, sample_shape=(2, 2000))
    quantiles, median = guide.quantiles(params, [0.2, 0.5]), guide.median(params)
    sampled = {"a", "rho"} | ({"w"} if jitted else {"w_base"})
    assert set(draws) == set(quantiles) == set(median) == sampled | {"w"}
    for site in sampled:
        np.testing.assert_allclose(quantiles[site][1], median[site], rtol=1e-4, atol=1e-6)
        below = (draws[site] < quantiles[site][0]).mean((0, 1))
        assert np.all(np.abs(below - 0.2) < 4.5 * (0.16 / 4000) ** 0.5)


def test_fitted_guide_predicts_without_observations():
    guide = MeanFieldGuide(NETWORK)
    params = initial_params(guide, NETWORK)
    predictive = Predictive(NETWORK, guide=guide, params=params, num_samples=7)
    assert predictive(jax.random.key(0), DATA.x_test[:11])["y"].shape == (7, 11)


def test_local_latent_sites_in_a_minibatch():
    """z_n ~ Normal(0, 1), x_n ~ Normal(z_n, 1): the posterior Normal(x_n/2, 1/2) factorises."""
    x = jnp.linspace(-2, 2, 10)

    def model(x):
        with numpyro.plate("data", 10, subsample_size=4) as index:
            z = numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("x", dist.Normal(z, 1), obs=x[index])

    svi = SVI(model, MeanFieldGuide(model), decaying_adam(4000), TraceMeanField_ELBO(num_particles=10))
    params = optimise(svi, 4000, x)
    # Errors up to 0.03 and 3.5 % over ten keys; a likelihood without its
    # scale 10/4 would move them by up to 0.4 and by 20 %.
    np.testing.assert_allclose(params["z_auto_loc"], x / 2, atol=0.07)
    np.testing.assert_allclose(params["z_auto_scale"], 0.5**0.5, rtol=0.07)


class LearnedRate(MeanFieldARDGuide):
    """The rate of the Gamma factor is a parameter of its own, which is the conjugate value at
    first."""

    def precision_factor(self, weights, layer):
        factor = super().precision_factor(weights, layer)
        rate = numpyro.param("rho_rate", factor.rate, constraint=dist.constraints.positive)
        return dist.Gamma(factor.concentration, rate)


@pytest.mark.parametrize("kind", [MeanFieldARDGuide, LearnedRate])
def test_precision_factor_is_the_conjugate_one(kind):
    guide = kind(ARD_NETWORK)
    params = initial_params(guide, guide.model)
    sites = trace(seed(substitute(guide, data=params), 0)).get_trace(DATA.x, DATA.y)
    factor = sites["rho"]["fn"]
    assert isinstance(factor, dist.Gamma)
    np.testing.assert_allclose(factor.concentration, 4 + 8 / 2)
    second_moment = np.asarray(params["w_auto_loc"]) ** 2 + np.asarray(params["w_auto_scale"]) ** 2
    np.testing.assert_allclose(factor.rate, 4 / 6 + 0.5 * second_moment.sum(0), rtol=1e-5)


def precision_bound(params, guide):
    """The terms of the bound that depend on q(ρ); they hold no Monte-Carlo noise."""
    terms = ConjugateARDELBO(sum_sites=False).loss(
        jax.random.key(0), params, guide.model, guide, DATA.x, DATA.y
    )
    return -(terms["w"] + terms["rho"])


def test_bound_is_stationary_in_the_rate_at_the_conjugate_value():
    guide = LearnedRate(ARD_NETWORK)
    params = initial_params(guide, guide.model)
    slope = jax.jit(jax.grad(partial(precision_bound, guide=guide)))
    rate = params["rho_rate"]
    # d bound / d log b_j = a (1 - b*/b): 8 (1 - 1/1.01) ≈ 0.08 one per cent away from b*.
    np.testing.assert_allclose(slope(params)["rho_rate"] * rate, 0, atol=1e-4)
    away = slope({**params, "rho_rate": 1.01 * rate})["rho_rate"] * 1.01 * rate
    np.testing.assert_allclose(away, -8 * (1 - 1 / 1.01), rtol=1e-2)


@pytest.mark.parametrize("kind", [MeanFieldARDGuide, LearnedRate])
def test_conjugate_bound_equals_the_sampled_one_in_expectation(kind):
    """Off the optimum too, where the rate is a free parameter; term by term, and less noisy."""
    guide = kind(ARD_NETWORK)
    params = initial_params(guide, guide.model)
    if kind is LearnedRate:
        params["rho_rate"] = params["rho_rate"] * jnp.linspace(0.5, 2.0, 6)
    exact = bounds(ConjugateARDELBO(sum_sites=False), params, guide.model, guide, 2)
    sampled = bounds(TraceMeanField_ELBO(sum_sites=False), params, guide.model, guide, 20_000)
    assert np.ptp(exact["w"]) == 0
    assert sampled["w"].std() > 1
    assert abs(sampled["w"].mean() - exact["w"][0]) < 4 * standard_error(sampled["w"])
    np.testing.assert_allclose(sampled["rho"], exact["rho"][0], rtol=1e-5)
    # The constant (N d/2)(log a - ψ(a)), a = 8, is far outside the error bars.
    assert 24 * (np.log(8) - digamma(8)) > 20 * standard_error(sampled["w"])
    total = bounds(ConjugateARDELBO(), params, guide.model, guide, 2)
    np.testing.assert_allclose(total, sum(exact.values()), rtol=1e-5)


@pytest.mark.slow
def test_learned_rate_converges_to_the_closed_form():
    optima = {}
    for kind in (LearnedRate, MeanFieldARDGuide):
        guide = kind(ARD_NETWORK)
        svi = SVI(guide.model, guide, decaying_adam(4000, 0.02), guide.elbo(num_particles=4))
        optima[kind] = optimise(svi, 4000, jnp.asarray(DATA.x), jnp.asarray(DATA.y))
    learned = optima[LearnedRate]
    conjugate = 4 / 6 + 0.5 * (learned["w_auto_loc"] ** 2 + learned["w_auto_scale"] ** 2).sum(0)
    # At most 2e-4 over six keys.
    np.testing.assert_allclose(learned["rho_rate"], conjugate, rtol=1e-3)
    closed = optima[MeanFieldARDGuide]
    closed_rate = 4 / 6 + 0.5 * (closed["w_auto_loc"] ** 2 + closed["w_auto_scale"] ** 2).sum(0)
    np.testing.assert_allclose(learned["rho_rate"], closed_rate, rtol=1e-3)


def test_bind_returns_a_copy():
    guide = MeanFieldGuide(init_scale=0.2)
    bound = guide.bind(NETWORK)
    assert guide.model is None
    assert bound.model is NETWORK
    assert bound.init_scale == 0.2
    ard = MeanFieldARDGuide(ARD_NETWORK)
    assert ard.model.prior.centered
    assert not ARD_NETWORK.prior.centered
    assert ard.settings() == {"guide": "MeanFieldARDGuide", "init_scale": 0.1}


def discrete_model():
    numpyro.sample("coin", dist.Bernoulli(0.5))


def against_the_non_centred_network():
    guide = MeanFieldARDGuide(ARD_NETWORK)
    svi = SVI(ARD_NETWORK, guide, numpyro.optim.Adam(0.1), guide.elbo())
    svi.update(svi.init(jax.random.key(0), DATA.x, DATA.y), DATA.x, DATA.y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MeanFieldGuide(init_scale=0), "init_scale must be"),
        (lambda: MeanFieldGuide("network"), "model must be a NumPyro model"),
        (lambda: seed(MeanFieldGuide(), 0)(DATA.x), r"has no model; .* guide\.bind"),
        (lambda: seed(MeanFieldGuide(discrete_model), 0)(), "'coin' is discrete"),
        (lambda: MeanFieldARDGuide(NETWORK), r"covers a TwoLayerNetwork with the prior ARD\(...\)"),
        (lambda: MeanFieldARDGuide(linear_model), "use MeanFieldGuide for other models"),
        (against_the_non_centred_network, r"SVI\(guide.model, guide"),
        (
            lambda: ConjugateARDELBO().loss(jax.random.key(0), {}, linear_model, MeanFieldGuide(), TARGET),
            "use TraceMeanField_ELBO",
        ),
    ],
)
def test_errors_name_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()

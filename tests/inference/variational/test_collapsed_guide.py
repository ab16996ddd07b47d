"""The collapsed guide against closed forms and quadrature, and mixtures over restarts."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.special import logsumexp

from inference import CollapsedGuide, MeanFieldGuide, fit
from models import ARD, Dataset, SparseParity, TwoLayerNetwork, WeightPrior

DATA = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40, num_test=50)
NETWORK = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
KEY = jax.random.key(5)


@dataclass(frozen=True)
class FixedWeights(WeightPrior):
    """Known hidden weights beside a variable that nothing depends on."""

    def weights(self, width, input_dim):
        numpyro.sample("unused", dist.Normal(0.0, 1.0))
        return jnp.sin(jnp.arange(1.0, width * input_dim + 1)).reshape(width, input_dim)


def test_with_known_hidden_weights_the_bound_is_the_evidence():
    network = replace(NETWORK, prior=FixedWeights())
    guide = CollapsedGuide(network)
    params = {"unused_auto_loc": jnp.zeros(()), "unused_auto_scale": jnp.ones(())}
    bound = -guide.elbo().loss(KEY, params, guide.model, guide, DATA.x, DATA.y)
    phi = np.maximum(np.sin(np.arange(1.0, 49)).reshape(8, 6) @ DATA.x.T, 0) / 8**0.5
    exact = stats.multivariate_normal(np.zeros(40), 0.1**2 * 40 * np.eye(40) + phi.T @ phi).logpdf(DATA.y)
    assert float(bound) == pytest.approx(exact, rel=1e-5)
    # A guide of the joint network cannot reach it: its readouts are independent.
    joint = fit(network, DATA, MeanFieldGuide(), KEY, num_steps=500, num_restarts=1, num_draws=4)
    assert joint.attrs["elbo"] + 5 < exact


# One tanh neuron on one input: the evidence and the bound are integrals over one weight.
X = np.linspace(-2, 2, 12)[:, None]
Y = np.tanh(1.5 * X[:, 0]) + 0.1 * np.cos(7 * X[:, 0])
ONE = TwoLayerNetwork(input_dim=1, width=1, kappa=0.1, activation="tanh")


def log_evidence_of(w):
    """log N(y; 0, τI + φφᵀ) of one neuron with weights w (any shape), by Sherman and Morrison;
    float64."""
    phi, tau = np.tanh(w[..., None] * X[:, 0]), 0.1**2 * 12
    square = (phi**2).sum(-1)
    quadratic = (Y @ Y - (phi @ Y) ** 2 / (tau + square)) / tau
    return -0.5 * (12 * np.log(2 * np.pi * tau) + np.log1p(square / tau) + quadratic)


def exact_bound(loc, scale):
    node, weight = np.polynomial.hermite_e.hermegauss(80)  # to 1e-8 for the values used here
    mean = (weight * log_evidence_of(loc + scale * node)).sum() / weight.sum()
    return mean - (0.5 * (scale**2 + loc**2 - 1) - np.log(scale))


def test_bound_and_its_gradient_are_unbiased():
    guide = CollapsedGuide(ONE)
    loc, scale = 1.2, 0.2
    params = {"w_auto_loc": jnp.full((1, 1), loc), "w_auto_scale": jnp.full((1, 1), scale)}

    def bound(params, key):
        return -guide.elbo().loss(key, params, guide.model, guide, jnp.asarray(X), jnp.asarray(Y))

    keys = jax.random.split(KEY, 20_000)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(bound), (None, 0)))(params, keys)
    step = 1e-4
    exact = {
        "value": exact_bound(loc, scale),
        "w_auto_loc": (exact_bound(loc + step, scale) - exact_bound(loc - step, scale)) / (2 * step),
        "w_auto_scale": (exact_bound(loc, scale + step) - exact_bound(loc, scale - step)) / (2 * step),
    }
    for name, draws in ({"value": values} | slopes).items():
        draws = np.asarray(draws, float).ravel()
        error = draws.std() / len(draws) ** 0.5
        assert abs(draws.mean() - exact[name]) < 4 * error, name
        assert error < 0.02 * abs(exact[name]), name


@pytest.fixture(scope="module")
def one_neuron_trees():
    data = Dataset(X, Y, X, Y)
    given = {"num_steps": 600, "num_restarts": 6, "num_draws": 2000}
    return {
        combine: fit(ONE, data, CollapsedGuide(), KEY, combine=combine, **given)
        for combine in ("best", "mixture")
    }


def test_bound_of_a_mixture_lies_between_the_best_and_the_evidence(one_neuron_trees):
    grid = np.linspace(-8, 8, 4001)
    log_evidence = logsumexp(log_evidence_of(grid) + stats.norm.logpdf(grid)) + np.log(grid[1] - grid[0])
    best, mixture = one_neuron_trees["best"], one_neuron_trees["mixture"]
    # w and -w, with a and -a, are two modes: one of them costs log 2.
    gap = log_evidence - best.attrs["elbo"]
    assert np.log(2) - 4 * best.attrs["elbo_se"] < gap < np.log(2) + 0.5
    loc = np.sign(mixture["posterior/w"].values.ravel())
    assert 0.05 < (loc > 0).mean() < 0.95  # the restarts found both
    assert mixture.attrs["elbo"] > best.attrs["elbo"] + 0.1
    assert mixture.attrs["elbo"] < log_evidence + 4 * mixture.attrs["elbo_se"]


def test_mixture_has_the_weights_and_density_that_it_claims(one_neuron_trees):
    tree = one_neuron_trees["mixture"]
    elbo, weight = tree["restarts/elbo"].values, tree["restarts/weight"].values
    np.testing.assert_allclose(weight, np.exp(elbo - logsumexp(elbo)), rtol=1e-6)
    counts = np.bincount(tree["sample_stats/component"].values.ravel(), minlength=6)
    assert stats.chisquare(counts, 2000 * weight).pvalue > 1e-3
    # log p is the collapsed density of w; both densities integrate the readouts out.
    w = tree["posterior/w"].values.ravel().astype(float)
    log_p = log_evidence_of(w) + stats.norm.logpdf(w)
    np.testing.assert_allclose(tree["sample_stats/log_p"].values.ravel(), log_p, rtol=1e-4, atol=1e-3)
    # E_q[p/q] = p(y) for an exact log q, if q covers p.
    ratio = (
        tree["sample_stats/log_p"].values.ravel().astype(float) - tree["sample_stats/log_q"].values.ravel()
    )
    grid = np.linspace(-8, 8, 4001)
    log_evidence = logsumexp(log_evidence_of(grid) + stats.norm.logpdf(grid)) + np.log(grid[1] - grid[0])
    importance = np.exp(ratio - log_evidence)
    assert abs(importance.mean() - 1) < 4 * importance.std() / 2000**0.5 + 0.02


@pytest.mark.parametrize("prior", [None, pytest.param(ARD(), marks=pytest.mark.slow)])
def test_bound_is_that_of_its_draws(prior):
    """E_q[log p - log q] over the draws is the bound with analytic divergences, by other keys."""
    network = NETWORK if prior is None else replace(NETWORK, prior=prior)
    tree = fit(network, DATA, CollapsedGuide(), KEY, num_steps=60, num_restarts=1, num_draws=400)
    ratio = (tree["sample_stats/log_p"] - tree["sample_stats/log_q"]).values.ravel().astype(float)
    error = np.hypot(ratio.std(ddof=1) / ratio.size**0.5, tree.attrs["elbo_se"])
    assert abs(ratio.mean() - tree.attrs["elbo"]) < 4 * error
    assert tree["posterior/a"].shape == (1, 400, 8)
    assert ("rho" in tree["posterior"]) == (prior is not None)


def test_readouts_of_the_draws_are_exact(one_neuron_trees):
    posterior = one_neuron_trees["best"]["posterior"]
    w, a = (posterior[name].values.ravel().astype(float) for name in ("w", "a"))
    phi, tau = np.tanh(w[:, None] * X[:, 0]), 0.1**2 * 12
    precision = 1 + (phi**2).sum(1) / tau
    white = (a - phi @ Y / tau / precision) * precision**0.5
    assert stats.kstest(white, "norm").pvalue > 1e-3


@pytest.mark.slow
def test_guides_take_every_prior_and_biases():
    @dataclass(frozen=True)
    class HeavyTails(WeightPrior):
        def weights(self, width, input_dim):
            tau = numpyro.sample("tau", dist.HalfNormal(1.0))
            return tau * numpyro.sample("t", dist.StudentT(4.0).expand((width, input_dim)).to_event(2))

    network = replace(NETWORK, prior=HeavyTails(), bias=True)
    tree = fit(network, DATA, CollapsedGuide(), KEY, num_steps=5, num_restarts=1, num_draws=8)
    assert set(tree["posterior"].data_vars) == {"w", "a", "b", "tau"}
    assert np.all(tree["posterior/tau"] > 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CollapsedGuide(lambda x: None), "CollapsedGuide covers a TwoLayerNetwork"),
        (
            lambda: fit(NETWORK, DATA, CollapsedGuide(), KEY, combine="all"),
            "combine must be one of best, mixture",
        ),
        (
            lambda: fit(NETWORK, DATA, CollapsedGuide(), KEY, start="both"),
            "start must be one of prior, aligned",
        ),
        (
            lambda: fit(
                NETWORK, Dataset(X.repeat(6, 1), Y, X.repeat(6, 1), Y), CollapsedGuide(), KEY, start="aligned"
            ),
            r"start='aligned' needs data\.relevant",
        ),
        (
            lambda: fit(NETWORK, DATA, CollapsedGuide(), KEY, subsample_size=5),
            "subsample_size must be None for a collapsed network",
        ),
    ],
)
def test_errors_name_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_aligned_start():
    options = {"num_steps": 4, "num_restarts": 2, "num_draws": 4, "start": "aligned"}
    tree = fit(NETWORK, DATA, CollapsedGuide(), KEY, **options)
    for text in ('"start": "aligned"', '"combine": "best"'):
        assert text in tree.attrs["settings"]
    # Four steps leave the locations where they began: rows along the relevant inputs.
    assert tree["order_parameters/num_specialised"].mean() >= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kappa", "prior", "order_parameter", "test_mse"),
    # NUTS, benchmarks/data/nuts_reference.csv, seed 0.
    [
        (0.1, None, 0.056, 1.091),
        (0.05, None, 0.647, 0.258),
        (0.1, ARD(), 0.789, 0.273),
        (0.05, ARD(), 0.950, 0.0975),
    ],
)
def test_collapsed_guide_agrees_with_nuts_on_the_default_problem(
    kappa, prior, order_parameter, test_mse, default_data
):
    """With less than a hundredth of NUTS's gradient evaluations; the guides of the joint posterior
    miss m = 0.79."""
    given = {} if prior is None else {"prior": prior}
    network = TwoLayerNetwork(input_dim=16, width=64, kappa=kappa, **given)
    tree = fit(network, default_data, CollapsedGuide(), KEY, num_steps=1200, num_restarts=1)
    values = tree["order_parameters"]
    assert abs(float(values["order_parameter"].mean()) - order_parameter) < 0.05
    assert abs(float(values["test_mse"].mean()) / test_mse - 1) < 0.15

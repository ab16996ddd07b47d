"""Every prior against scipy's densities and against networks drawn without the project's code."""

import inspect
import math
import re
from dataclasses import fields, replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.handlers import seed, substitute, trace
from numpyro.infer import Predictive
from numpyro.infer.util import log_density, potential_energy
from scipy import integrate, stats

from analysis.cli.prior_list import zoo_priors
from analysis.results.prior_predictive import draw_prior
from inference.fixed_points import NNGP, AdaptiveKernel, BlockAdaptiveKernel, MeanField, MeanFieldARD
from models import (
    ARD,
    DirichletScaleMixture,
    GroupedARD,
    Homogeneous,
    Isotropic,
    LearnedScale,
    NeuronARD,
    RegularisedHorseshoe,
    SparseParity,
    SpikeAndSlab,
    StudentT,
    TwoLayerNetwork,
    make_prior,
)
from models.priors import PRIORS, ScaleMixture
from models.priors.homogeneous import HomogeneousNormal

N, D = 3, 4
GROUPS = ((0, 2), (1,))
# One of each, with parameters off their defaults.
SAMPLES = {
    "isotropic": Isotropic(1.3),
    "ard": ARD(3.0, scale=1.3),
    "neuron-ard": NeuronARD(3.0, scale=1.3),
    "grouped-ard": GroupedARD(GROUPS, shape=3.0, scale=1.3),
    "student-t": StudentT(5.0, scale=1.3),
    "regularised-horseshoe": RegularisedHorseshoe(1.5, slab_df=5.0, scale=1.3),
    "spike-and-slab": SpikeAndSlab(0.3, 0.2, shape=3.0, scale=1.3),
    "dirichlet-scale-mixture": DirichletScaleMixture(0.7, scale=1.3),
    "learned-scale": LearnedScale(1.3),
    "homogeneous": Homogeneous(60.0, scale=1.3),
}
FORMS = [(name, False) for name in SAMPLES] + [
    (name, True) for name, prior in SAMPLES.items() if "centered" in {f.name for f in fields(prior)}
]
forms = pytest.mark.parametrize(("name", "centered"), FORMS)
names = pytest.mark.parametrize("name", SAMPLES)
# Draws take seconds to compile: by default those of the priors with a density of their own.
QUICK = ("homogeneous", "regularised-horseshoe", "spike-and-slab", "dirichlet-scale-mixture", "learned-scale")
drawn_names = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SAMPLES]
)


def declared(name, centered=False):
    return replace(SAMPLES[name], centered=True) if centered else SAMPLES[name]


def prior_sites(prior, width=N, key=0):
    """Values of the sample sites, positive but for those of the weights."""

    def sampled(key):
        sites = trace(seed(lambda: prior.weights(width, D), key)).get_trace()
        return {k: s["value"] for k, s in sites.items() if s["type"] == "sample"}

    rng = np.random.default_rng(key)
    shapes = {k: v.shape for k, v in jax.eval_shape(sampled, jax.random.key(0)).items()}
    draws = {k: rng.normal(size=shape) for k, shape in sorted(shapes.items())}
    return {k: v if k in ("w", "w_base") else np.exp(0.5 * v) for k, v in draws.items()}


def prior_log_density(prior, sites):
    return float(log_density(lambda: prior.weights(N, D), (), {}, sites)[0])


def weights_of(prior, sites):
    return np.asarray(substitute(seed(lambda: prior.weights(N, D), jax.random.key(0)), data=sites)())


# --- every density written out once more, with scipy and numpy alone ---


def horseshoe_scales(sites):
    tau, local, c2 = sites["global_scale"], sites["local_scale"], sites["slab_variance"]
    return np.sqrt(1 / (1 / (tau * local) ** 2 + 1 / c2))


def mixture_logpdf(rho):
    slab = 3.0 * 1.3**2 / D / (0.3 + 0.7 * 0.2**2)
    return np.logaddexp(
        math.log(0.3) + stats.gamma.logpdf(rho, 3.0, scale=1 / slab),
        math.log(0.7) + stats.gamma.logpdf(rho, 3.0, scale=1 / (0.2**2 * slab)),
    )


GAMMA = stats.gamma(3.0, scale=D / (3.0 * 1.3**2))
LABELS = [0, 1, 0, 2]
SCALES = {
    "isotropic": lambda s: 1.3 / math.sqrt(D),
    "ard": lambda s: s["rho"] ** -0.5,
    "neuron-ard": lambda s: s["rho"] ** -0.5,
    "grouped-ard": lambda s: s["rho_group"][LABELS] ** -0.5,
    "student-t": lambda s: 1.3 / math.sqrt(D),
    "regularised-horseshoe": horseshoe_scales,
    "spike-and-slab": lambda s: s["rho"] ** -0.5,
    "dirichlet-scale-mixture": lambda s: 1.3 * np.sqrt(s["share_base"] / s["share_base"].sum()),
    "learned-scale": lambda s: s["weight_scale"] / math.sqrt(D),
    "homogeneous": lambda s: 1.3 / math.sqrt(D),
}


def homogeneity_penalty(sites):
    """-½ s Σ_i Var_j |w_ij|, less N log E[exp(-½ s Var_j |w_j|)], by Gauss-Legendre, d = 4."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    nodes, weights = 4 * (1 + nodes), 4 * weights * 2 * stats.norm.pdf(4 * (1 + nodes))
    grid = np.stack(np.meshgrid(*[nodes] * D, indexing="ij")) * 1.3 / math.sqrt(D)
    mass = np.multiply.reduce(np.meshgrid(*[weights] * D, indexing="ij"))
    normaliser = (mass * np.exp(-30.0 * grid.var(axis=0))).sum()
    return -30.0 * np.abs(sites["w"]).var(axis=1).sum() - N * math.log(normaliser)


HYPER_LOGPDF = {
    "isotropic": lambda s: 0.0,
    "ard": lambda s: GAMMA.logpdf(s["rho"]).sum(),
    "neuron-ard": lambda s: GAMMA.logpdf(s["rho"]).sum(),
    "grouped-ard": lambda s: GAMMA.logpdf(s["rho_group"]).sum(),
    "student-t": lambda s: 0.0,
    "regularised-horseshoe": lambda s: (
        stats.halfcauchy.logpdf(s["global_scale"], scale=1.5 / 2.5 * 1.3 / math.sqrt(D))
        + stats.halfcauchy.logpdf(s["local_scale"]).sum()
        + stats.invgamma.logpdf(s["slab_variance"], 2.5, scale=2.5 * 1.3**2 / 1.5)
    ),
    "spike-and-slab": lambda s: mixture_logpdf(s["rho"]).sum(),
    "dirichlet-scale-mixture": lambda s: stats.gamma.logpdf(s["share_base"], 0.7).sum(),
    "learned-scale": lambda s: stats.halfnorm.logpdf(s["weight_scale"], scale=1.3),
    "homogeneous": homogeneity_penalty,
}


@forms
def test_log_density_against_scipy(name, centered):
    prior = declared(name, centered)
    sites = prior_sites(prior)
    scale, expected = SCALES[name](sites), HYPER_LOGPDF[name](sites)
    base = stats.t(5.0) if name == "student-t" else stats.norm()
    # w = w_base s/r, with r = √(1 + s²/4σ_w²) the standard deviation of w_base in a scale mixture.
    spread = 1.0 if name == "student-t" else np.sqrt(1 + (scale / 2.6) ** 2)
    if "w" in sites:
        expected += (
            (base.logpdf(sites["w"] / scale) - np.log(scale)).sum()
            if np.ndim(scale)
            else (base.logpdf(sites["w"] / scale) - math.log(scale)).sum()
        )
    else:
        expected += (base.logpdf(sites["w_base"] / spread) - np.log(spread)).sum()
    assert prior_log_density(prior, sites) == pytest.approx(expected, rel=2e-4, abs=2e-4)
    w = sites["w"] if "w" in sites else sites["w_base"] * scale / spread
    np.testing.assert_allclose(weights_of(prior, sites), w, rtol=2e-4)


@names
def test_neurons_and_inputs_are_exchangeable(name):
    prior = SAMPLES[name]
    sites = prior_sites(prior)
    value = prior_log_density(prior, sites)

    def permuted(rows, columns):
        out = {}
        for site, array in sites.items():
            if array.shape == (N, D):
                array = array[rows][:, columns]
            elif array.shape == (D,):
                array = array[columns]
            out[site] = array
        return out

    assert prior_log_density(prior, permuted([2, 0, 1], [0, 1, 2, 3])) == pytest.approx(value, abs=1e-4)
    # Grouped inputs may change places within their group only; the precisions of the groups stay
    # where they are.
    columns = [2, 1, 0, 3] if name == "grouped-ard" else [3, 0, 2, 1]
    assert prior_log_density(prior, permuted([0, 1, 2], columns)) == pytest.approx(value, abs=1e-4)


# --- draws against networks drawn with numpy alone ---


def numpy_weights(name, rng, count, width):
    """Independent draws of w (count, width, D), from the textbook definition of each prior."""
    z = rng.normal(size=(count, width, D))

    def gamma(*shape):
        return rng.gamma(3.0, D / (3.0 * 1.3**2), size=(count, *shape))

    if name == "isotropic":
        return 1.3 / math.sqrt(D) * z
    if name == "ard":
        return z / np.sqrt(gamma(1, D))
    if name == "neuron-ard":
        return z / np.sqrt(gamma(width, D))
    if name == "grouped-ard":
        return z / np.sqrt(gamma(1, 3)[..., LABELS])
    if name == "student-t":
        return 1.3 / math.sqrt(D) * rng.standard_t(5.0, size=z.shape)
    if name == "regularised-horseshoe":
        tau = np.abs(rng.standard_cauchy((count, 1, 1))) * 1.5 / 2.5 * 1.3 / math.sqrt(D)
        local = np.abs(rng.standard_cauchy((count, 1, D)))
        c2 = 1 / rng.gamma(2.5, 1 / (2.5 * 1.3**2 / 1.5), size=(count, 1, 1))
        return z * tau * np.sqrt(c2 * local**2 / (c2 + tau**2 * local**2))
    if name == "spike-and-slab":
        included = rng.random((count, 1, D)) < 0.3
        typical = 1.3**2 / D / (0.3 + 0.7 * 0.2**2)
        variance = typical * np.where(included, 1.0, 0.2**2)
        return z / np.sqrt(rng.gamma(3.0, 1 / (3.0 * variance)))
    if name == "dirichlet-scale-mixture":
        return 1.3 * z * np.sqrt(rng.dirichlet([0.7] * D, size=count))[:, None]
    if name == "homogeneous":  # by rejection
        proposals = rng.normal(size=(40 * count * width, D)) * 1.3 / math.sqrt(D)
        kept = rng.random(len(proposals)) < np.exp(-30.0 * np.abs(proposals).var(axis=1))
        return proposals[kept][: count * width].reshape(count, width, D)
    return z * np.abs(rng.normal(size=(count, 1, 1))) * 1.3 / math.sqrt(D)


DRAWS = 3000


@pytest.fixture(scope="module")
def drawn():
    """Prior draws by name, made when they are first asked for."""
    made = {}

    def get(name):
        if name not in made:
            network = TwoLayerNetwork(D, N, 1.0, prior=SAMPLES[name])
            made[name] = network, draw_prior(network, jax.random.key(1), DRAWS)
        return made[name]

    return get


@drawn_names
def test_prior_predictive_against_numpy(name, drawn):
    network, draws = drawn(name)
    rng = np.random.default_rng(7)
    w = numpy_weights(name, rng, DRAWS, N)
    a = rng.normal(size=(DRAWS, N))
    x = np.array([1.0, -1.0, 0.5, 2.0])
    f = (a * np.maximum(w @ x, 0)).sum(axis=1) / math.sqrt(N)
    ours = np.asarray(network.apply({"w": draws["w"], "a": draws["a"]}, x[None]))[:, 0]
    # Functions at a point; weights; what two neurons share of one input; what one neuron's inputs
    # share.
    statistics = {
        "f": (ours, f),
        "weight": (draws["w"][:, 0, 1], w[:, 0, 1]),
        "input shared by neurons": (draws["w"][:, 0, 1] * draws["w"][:, 1, 1], w[:, 0, 1] * w[:, 1, 1]),
        "group": (np.abs(draws["w"][:, 0, 0] * draws["w"][:, 1, 2]), np.abs(w[:, 0, 0] * w[:, 1, 2])),
        "inputs": (np.abs(draws["w"][:, 0, 0] * draws["w"][:, 1, 1]), np.abs(w[:, 0, 0] * w[:, 1, 1])),
        "relevance": ((draws["w"][..., :2] ** 2).mean((1, 2)), (w[..., :2] ** 2).mean((1, 2))),
    }
    for label, (first, second) in statistics.items():
        assert stats.ks_2samp(first, second).pvalue > 1e-4, label


# E[w²] over σ_w²/d: α/(α - 1) where a precision is Gamma(α, ·), ν/(ν - 2) for Student-t. The
# horseshoe's and the homogeneity prior's have no simple form.
FACTORS = {name: 3 / 2 for name in SAMPLES} | {
    "isotropic": 1.0,
    "student-t": 5 / 3,
    "dirichlet-scale-mixture": 1.0,
    "learned-scale": 1.0,
}


def horseshoe_variance():
    """E[w²] = E[1/(1/(τλ)² + 1/c²)] by quadrature on quantiles of the three scales."""
    p = (np.arange(200) + 0.5) / 200
    tau = stats.halfcauchy.ppf(p, scale=1.5 / 2.5 * 1.3 / math.sqrt(D))[:, None, None]
    local = stats.halfcauchy.ppf(p)[:, None]
    c2 = stats.invgamma.ppf(p, 2.5, scale=2.5 * 1.3**2 / 1.5)
    return np.mean(1 / (1 / (tau * local) ** 2 + 1 / c2))


def homogeneous_variance():
    """E[w²] by importance sampling from the isotropic prior."""
    w = np.random.default_rng(3).normal(size=(10**6, D)) * 1.3 / math.sqrt(D)
    return np.average((w**2).mean(axis=1), weights=np.exp(-30.0 * np.abs(w).var(axis=1)))


@drawn_names
def test_weights_have_the_isotropic_variance_times_a_known_factor(name, drawn):
    mean = (drawn(name)[1]["w"].astype(float) ** 2).mean(axis=(1, 2))
    known = {"regularised-horseshoe": horseshoe_variance, "homogeneous": homogeneous_variance}
    expected = known[name]() if name in known else FACTORS[name] * 1.3**2 / D
    z = (mean.mean() - expected) / (mean.std(ddof=1) / math.sqrt(DRAWS))
    assert abs(z) < 4


@drawn_names
def test_functions_are_exchangeable_over_inputs_in_distribution(name, drawn):
    _, draws = drawn(name)
    first, last = (draws["w"][:, :, j] ** 2 for j in (0, 3))
    assert stats.ks_2samp(first.mean(axis=1), last.mean(axis=1)).pvalue > 1e-4


# --- identities between priors ---


def test_neuron_ard_is_student_t_with_its_precisions_integrated_out():
    ard, student = NeuronARD(2.5, scale=1.3), StudentT(5.0, scale=1.3)
    scale = 1.3 / math.sqrt(D)
    for w in (0.0, 0.4, 2.0):
        value, _ = integrate.quad(
            lambda r, w=w: stats.norm.pdf(w, 0, r**-0.5) * stats.gamma.pdf(r, 2.5, scale=1 / ard.rate_for(D)),
            0,
            np.inf,
        )
        assert stats.t.pdf(w, student.df, scale=scale) == pytest.approx(value, rel=1e-6)


def test_grouped_ard_without_groups_is_ard():
    sites = prior_sites(ARD(3.0))
    grouped = {"rho_group": sites["rho"], "w_base": sites["w_base"]}
    value = prior_log_density(GroupedARD(shape=3.0), grouped)
    assert value == pytest.approx(prior_log_density(ARD(3.0), sites), rel=1e-6)


def test_the_horseshoe_has_its_limits():
    prior = RegularisedHorseshoe(1.0)
    sites = {"global_scale": 0.1, "slab_variance": 0.5, "local_scale": np.array([1e-6, 1.0, 1e3, 1e12])}
    _, traced = log_density(lambda: prior.weights(N, D), (), {}, {**sites, "w_base": np.ones((N, D))})
    scales = np.asarray(traced["rho"]["value"], float) ** -0.5
    np.testing.assert_allclose(scales[0], 1e-7, rtol=1e-3)  # far below the slab: the horseshoe τλ
    np.testing.assert_allclose(scales[2:], math.sqrt(0.5), rtol=1e-4)  # far above: the slab


# --- inclusion probabilities ---


def test_inclusion_probability_is_bayes_rule_and_averages_to_the_prior_one(drawn):
    prior = SAMPLES["spike-and-slab"]
    spike, slab = prior.rates(D)
    rho = np.array([0.5, 3.0, 20.0, 100.0])
    parts = np.stack([stats.gamma.pdf(rho, 3.0, scale=1 / slab), stats.gamma.pdf(rho, 3.0, scale=1 / spike)])
    expected = 0.3 * parts[0] / (0.3 * parts[0] + 0.7 * parts[1])
    np.testing.assert_allclose(prior.inclusion_probability(rho, D), expected, rtol=1e-3, atol=1e-9)
    values = drawn("spike-and-slab")[1]["inclusion"].astype(float).mean(axis=1)
    assert abs(values.mean() - 0.3) < 4 * values.std() / math.sqrt(len(values))


def test_mean_inclusion_given_weights_is_the_probability_with_the_indicator_kept():
    prior = SAMPLES["spike-and-slab"]
    spike, slab = prior.rates(D)
    w = np.array([0.3, -0.2, 0.4])  # one column

    def likelihood(rho):
        return np.prod(stats.norm.pdf(w, 0, rho**-0.5))

    def integral(g):
        return integrate.quad(lambda u: g(math.exp(u)) * math.exp(u), -12, 12, limit=400)[0]

    def joint(rate):
        return integral(lambda r: likelihood(r) * stats.gamma.pdf(r, 3.0, scale=1 / rate))

    expected = 0.3 * joint(slab) / (0.3 * joint(slab) + 0.7 * joint(spike))
    posterior = integral(lambda r: likelihood(r) * math.exp(mixture_logpdf(r)))
    mean = integral(
        lambda r: float(prior.inclusion_probability(r, D)) * likelihood(r) * math.exp(mixture_logpdf(r))
    )
    assert 0.02 < expected < 0.98
    assert mean / posterior == pytest.approx(expected, rel=1e-4)


# --- what the rest of the project asks of a prior ---


@forms
def test_sites_reproduce_given_weights(name, centered):
    prior = declared(name, centered)
    w = np.random.default_rng(0).normal(size=(2, N, D)).astype(np.float32)
    sites = prior.sites_from_weights(w)
    for i in range(2):
        one = {site: value[i] for site, value in sites.items()}
        network = TwoLayerNetwork(D, N, 1.0, prior=prior)
        value, traced = log_density(network, (np.ones((1, D)), np.ones(1)), {}, {**one, "a": np.ones(N)})
        assert math.isfinite(value)
        np.testing.assert_allclose(traced["w"]["value"], w[i], rtol=2e-4)


@names
def test_gradients_are_finite_and_reach_every_site(name, small_data):
    network = TwoLayerNetwork(5, 4, 0.3, prior=PRIORS[name]())
    x, y = jnp.asarray(small_data.x), jnp.asarray(small_data.y)

    def sampled(key):
        sites = trace(seed(network, key)).get_trace(x, y)
        return {k: s["value"] for k, s in sites.items() if s["type"] == "sample" and k != "y"}

    rng = np.random.default_rng(0)
    # Every support is the line or the half-line, so that unconstrained values have the sites'
    # shapes.
    shapes = jax.eval_shape(sampled, jax.random.key(0))
    z = {k: jnp.asarray(rng.normal(size=v.shape), jnp.float32) for k, v in shapes.items()}
    gradient = jax.jit(jax.grad(lambda z: potential_energy(network, (x, y), {}, z)))(z)
    assert all(bool(jnp.isfinite(g).all()) for g in gradient.values())
    assert all(float(jnp.abs(g).min()) > 0 for g in gradient.values())


@pytest.mark.parametrize("name", [name for name in PRIORS if name not in ("isotropic", "ard")])
def test_theories_refuse_priors_that_they_do_not_cover(name):
    network = TwoLayerNetwork(6, 8, 0.3, prior=PRIORS[name]())
    for theory in (NNGP, MeanField, MeanFieldARD, AdaptiveKernel, BlockAdaptiveKernel):
        options = {"key": jax.random.key(0)} if theory is BlockAdaptiveKernel else {}
        with pytest.raises(ValueError, match=rf"prior must be .*, got {PRIORS[name].__name__}"):
            theory().solve(network, SparseParity(6, 2), **options)


# --- names, descriptions and parameters ---


@pytest.mark.parametrize("name", PRIORS)
def test_the_list_describes_every_prior(name):
    assert PRIORS[name]().name == name
    described = zoo_priors()[name]
    assert all(described[word] for word in ("summary", "density", "source", "features", "parameters"))
    assert described["parameters"] == vars(PRIORS[name]())
    assert "~" in described["density"]
    for parameter in described["parameters"]:
        assert re.search(rf"\n(\w+, )*{parameter}(, \w+)*\n    ", inspect.getdoc(PRIORS[name]))
    assert make_prior(name) == PRIORS[name]()


POSITIVE = [
    (prior, f.name)
    for prior in PRIORS.values()
    for f in fields(prior)
    if f.name in ("scale", "shape", "rate", "df", "num_relevant", "slab_df", "concentration")
]


@settings(max_examples=40, deadline=None)
@given(
    case=st.sampled_from(POSITIVE),
    value=st.floats(max_value=0.0) | st.sampled_from([math.nan, math.inf, "1", True]),
)
def test_parameters_out_of_range_are_named(case, value):
    prior, parameter = case
    with pytest.raises(ValueError, match=rf"^{parameter} must be a finite number greater than 0"):
        prior(**{parameter: value})


@settings(max_examples=40, deadline=None)
@given(case=st.sampled_from(POSITIVE), value=st.floats(0.2, 50.0))
def test_parameters_in_range_are_taken_from_text_as_from_python(case, value):
    prior, parameter = case
    name = next(name for name, known in PRIORS.items() if known is prior)
    assert make_prior(f"{name}({parameter}={value!r})") == prior(**{parameter: value})


@settings(max_examples=30, deadline=None)
@given(value=st.floats() | st.sampled_from([0.0, 1.0, None, "a"]))
def test_probabilities_lie_strictly_between_0_and_1(value):
    for parameter in ("inclusion", "ratio"):
        if isinstance(value, float) and 0 < value < 1:
            assert getattr(SpikeAndSlab(**{parameter: value}), parameter) == value
        else:
            with pytest.raises(ValueError, match=parameter):
                SpikeAndSlab(**{parameter: value})


@pytest.mark.parametrize(
    ("name", "centered"), [("ard", True), *((name, False) for name in ("ard", "student-t", *QUICK))]
)
def test_predictive_takes_the_weights_of_the_draws(name, centered):
    """Also without the standardised weights behind them, which no result keeps."""
    prior = replace(SAMPLES[name], centered=True) if centered else SAMPLES[name]
    network, x = TwoLayerNetwork(D, N, 1e-6, prior=prior), np.random.default_rng(0).normal(size=(5, D))
    draws = Predictive(network, num_samples=3)(jax.random.key(0), x)
    kept = {site: value for site, value in draws.items() if site not in ("w_base", "y")}
    again = Predictive(network, kept)(jax.random.key(1), x)["y"]
    np.testing.assert_allclose(again, network.apply(kept, x), atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(7)), cuts=st.sets(st.integers(1, 5)), named=st.integers(0, 7))
def test_groups_are_a_partition_of_the_inputs(order, cuts, named):
    named = order[:named]
    edges = [0, *sorted(c for c in cuts if c < len(named)), len(named)]
    groups = tuple(tuple(named[i:j]) for i, j in pairwise(edges) if i < j)
    labels = GroupedARD(groups).labels(7)
    assert set(labels) == set(range(len(groups) + 7 - len(named)))
    for group in groups:
        assert len({labels[j] for j in group}) == 1
        assert labels.count(labels[group[0]]) == len(group)


@pytest.mark.parametrize("groups", ["01", 3, ((0, 1), (1, 2)), ((0, 0),), ((),), ((0.5,),), ((-1,),), (0, 1)])
def test_groups_that_will_not_do(groups):
    with pytest.raises(ValueError, match=r"^groups must .*\.$"):
        GroupedARD(groups)


def test_groups_beyond_the_inputs_are_refused():
    with pytest.raises(ValueError, match="groups name input 9, but the inputs are 0 to 3"):
        prior_sites(GroupedARD(((0, 9),)))


def test_a_concentration_that_underflows_and_a_flag_that_is_none_are_refused():
    with pytest.raises(ValueError, match=r"concentration must be at least 0\.2"):
        DirichletScaleMixture(0.1)
    with pytest.raises(ValueError, match="centered must be True or False"):
        LearnedScale(centered="yes")


def test_an_unfinished_scale_mixture_says_what_is_missing():
    with pytest.raises(TypeError, match=r"must define scales\(self, width, input_dim\)"):
        ScaleMixture().weights(2, 2)
    with pytest.raises(TypeError, match=r"must define scale_sites\(self, w\)"):
        ScaleMixture().sites_from_weights(np.ones((2, 2)))


# --- the homogeneity prior ---


@pytest.mark.parametrize(
    ("precision", "strength", "dim"), [(2.0, 30.0, 2), (16.0, 400.0, 16), (784.0, 1e5, 784)]
)
def test_homogeneous_draws_have_the_moments_of_their_density(precision, strength, dim):
    law = HomogeneousNormal(precision, strength, dim)
    draws = np.asarray(law.sample(jax.random.key(3), (20_000 if dim < 100 else 2_000,)), float)
    # ∂ log Z/∂p = -½ E|v|² and ∂ log Z/∂s = -½ E[Var_j |v_j|], by differences of log Z.
    log_z = {
        step: -float(HomogeneousNormal(precision + step[0], strength + step[1], dim).log_prob(jnp.zeros(dim)))
        for step in [(h * precision * 1e-2, 0.0) for h in (1, -1)]
        + [(0.0, h * strength * 1e-2) for h in (1, -1)]
    }
    by_precision, by_strength = ([log_z[k] for k in log_z if k[i]] for i in (0, 1))
    expected = {
        "length": -(by_precision[0] - by_precision[1]) / (precision * 1e-2),
        "spread": -(by_strength[0] - by_strength[1]) / (strength * 1e-2),
    }
    values = {"length": (draws**2).sum(axis=1), "spread": np.abs(draws).var(axis=1)}
    for name, drawn in values.items():
        error = drawn.std() / math.sqrt(len(drawn))
        assert abs(drawn.mean() - expected[name]) < 4 * error + 1e-3 * expected[name], name
    assert abs((draws > 0).mean() - 0.5) < 0.01


def test_homogeneous_limits():
    sites = prior_sites(Isotropic(1.3))
    free = prior_log_density(Homogeneous(0.0, scale=1.3), sites)
    assert free == pytest.approx(prior_log_density(Isotropic(1.3), sites), rel=1e-5)
    # At s → ∞ only a length along a vector of signs is left: |w| is half-normal, of variance σ_w²/d.
    draws = np.asarray(HomogeneousNormal(16.0, 1e7, 16).sample(jax.random.key(0), (20_000,)), float)
    assert (draws**2).sum(axis=1).mean() == pytest.approx(1 / 16, rel=0.06)
    assert np.abs(draws).var(axis=1).max() < 1e-4
    with pytest.raises(ValueError, match="strength must not be negative"):
        Homogeneous(-1.0)

"""BlockAdaptiveKernel: density and figures against brute force, limits, samplers, known values."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import log_density
from scipy.stats import multivariate_normal

from inference import SGLD
from inference.fixed_points import NNGP, AdaptiveKernel, BlockAdaptiveKernel
from inference.fixed_points.block.density import Background, log_evidence, settle
from inference.fixed_points.block.figures import block_figures, draw_figures
from inference.fixed_points.block.model import BlockModel
from inference.fixed_points.block.modes import block_features, rest_modes, target_position
from inference.fixed_points.populations.hermite import hermite_coefficients
from inference.fixed_points.populations.parity import ParityPopulation, sign_patterns
from inference.fixed_points.populations.problem import population_problem
from inference.runs.datatree import build_tree
from models import ARD, Dataset, Isotropic, SingleIndex, SparseParity, TwoLayerNetwork


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def neurons(seed, width, input_dim, degree, aligned=0):
    """Prior weights (N, d), of which the first `aligned` point along sign patterns."""
    w = np.random.default_rng(seed).standard_normal((width, input_dim)) / math.sqrt(input_dim)
    w[:aligned] *= 0.2
    w[:aligned, :degree] = 0.9 * sign_patterns(degree)[np.arange(aligned) % 2**degree]
    return w


def features_of(w, degree, freedom=None):
    rest = np.linalg.norm(w[:, degree:], axis=1)
    return block_features(jnp.asarray(w[:, :degree]), jnp.asarray(rest), w.shape[1], freedom)


def problem_of(input_dim, degree, width, coupling, prior=None):
    network = TwoLayerNetwork(
        input_dim=input_dim,
        width=width,
        kappa=0.1,
        readout_scale=math.sqrt(coupling * width),
        prior=prior or Isotropic(),
    )
    teacher = SparseParity(input_dim, degree)
    return population_problem(network, teacher, "the test", Isotropic, ARD, max_order=4)


def background_of(degree, input_dim, rng, noise=1e-4):
    count = len(rest_modes(degree, input_dim)[0])
    return Background(jnp.asarray(0.02 * rng.random(count)), jnp.asarray(0.01), jnp.asarray(noise))


@pytest.mark.parametrize(("degree", "input_dim"), [(2, 16), (4, 20), (6, 9)])
def test_features_against_the_full_transform(degree, input_dim):
    w = neurons(0, 7, input_dim, degree, aligned=3)
    rest, features = np.linalg.norm(w[:, degree:], axis=1), features_of(w, degree)
    population = ParityPopulation("relu", degree, input_dim, 4)
    amplitudes, power = population.amplitudes(w[:, :degree], rest[:, None], np.zeros(7))
    q = {mode.degrees: column**2 for mode, column in zip(population.modes, amplitudes.T, strict=True)}
    degrees, orders, multiplicities = rest_modes(degree, input_dim)
    expected = [q[pair] for pair in zip(degrees.tolist(), orders.tolist(), strict=True)]
    assert np.allclose(features.powers.T, expected, atol=1e-14)
    assert all(np.abs(q[i, j]).max() < 1e-14 for i, j in q if (i + j) % 2 and i + j > 1)
    copies = {mode.degrees: mode.multiplicity for mode in population.modes}
    assert multiplicities.tolist() == [copies[i, j] for i, j in zip(degrees, orders, strict=True)]
    inside = sum(q[i, 0] for i in range(degree + 1))
    assert np.allclose((features.relevant**2).sum(axis=1), inside)
    target = amplitudes[:, population.target]
    assert np.allclose(features.relevant[:, target_position(degree)], target, atol=1e-14)
    assert np.allclose(features.tail, power - (amplitudes**2).sum(axis=1), atol=1e-14)


def test_overlap_on_binary_inputs():
    # Averaged over directions of the rest, as the correction is; the Gaussian one is off by 7 %.
    w, rng, exact = neurons(1, 1, 16, 2), np.random.default_rng(1), []
    rest, patterns = np.linalg.norm(w[0, 2:]), sign_patterns(2)
    inputs = sign_patterns(14).astype(float)
    for _ in range(200):
        g = rng.standard_normal(14)
        sums = inputs @ (rest * g / np.linalg.norm(g))
        hidden = np.maximum(patterns @ w[0, :2] + sums[:, None], 0).mean(axis=0)
        exact.append((hidden * patterns.prod(axis=1)).mean())
    error = np.std(exact) / math.sqrt(len(exact))
    corrected = float(features_of(w, 2, freedom=14.0).relevant[0, 1])
    gaussian = float(features_of(w, 2).relevant[0, 1])
    assert abs(corrected - np.mean(exact)) < 4 * error + 0.01 * abs(gaussian)
    assert abs(gaussian - np.mean(exact)) > 3 * abs(corrected - np.mean(exact))


def direct_log_evidence(w, degree, coupling, background):
    """The density as written, subset by subset and neuron by neuron, and m."""
    k, d = degree, w.shape[1]
    value, ridge, noise = (np.asarray(v) for v in background)
    degrees, orders, _ = rest_modes(k, d)
    patterns = sign_patterns(k)
    subsets = patterns == -1
    out, matrix = 0.0, ridge * np.eye(2**k)
    for row in w:
        s, total = np.linalg.norm(row[k:]), 0.5 * (row**2).sum()
        coefficients = np.zeros((2**k, 5))
        for j, mu in enumerate(hermite_coefficients("relu", 4, patterns @ row[:k], s)):
            for t, subset in enumerate(subsets):
                coefficients[t, j] = np.mean(mu * patterns[:, subset].prod(axis=1))
        power, resolved = 0.0, (coefficients[:, 0] ** 2).sum()
        for lam, i, j in zip(value, degrees, orders, strict=True):
            q = (coefficients[subsets.sum(axis=1) == i, j] ** 2).sum()
            power += q * (1 / (ridge + lam) - noise / (ridge + lam) ** 2)
            resolved += q
        power += (total - resolved) * (1 / ridge - noise / ridge**2)
        out -= 0.5 * math.log1p(coupling * power)
        psi = coefficients[:, 0]
        matrix = matrix + coupling * np.outer(psi, psi) / (1 + coupling * power)
    inverse, target = np.linalg.inv(matrix), int(np.flatnonzero(subsets.all(axis=1))[0])
    # Odd subsets of three and more vanish for every neuron, and A is κ̃ there.
    idle = 2**k - 2 ** (k - 1) - k
    constant = 0.5 * idle * (math.log(ridge) + noise / ridge)
    out -= 0.5 * (np.linalg.slogdet(matrix)[1] + inverse[target, target] + noise * np.trace(inverse))
    return out + constant, 1 - ridge * inverse[target, target]


@pytest.mark.parametrize(("degree", "input_dim"), [(2, 8), (4, 10)])
def test_density_against_direct_evaluation(degree, input_dim):
    rng = np.random.default_rng(2)
    w, background = neurons(2, 6, input_dim, degree, aligned=3), background_of(degree, input_dim, rng)
    problem = problem_of(input_dim, degree, 6, 0.4)
    expected, _ = direct_log_evidence(w, degree, 0.4, background)
    assert float(log_evidence(problem, features_of(w, degree), background)) == pytest.approx(expected)
    # The figures let λ follow the neurons' own equation, at whose solution both agree.
    own = settle(problem, features_of(w, degree), 0.1, None)
    _, m = direct_log_evidence(w, degree, 0.4, own)
    figures = block_figures(problem, features_of(w, degree), own)
    assert float(figures.order_parameter) == pytest.approx(m, rel=1e-6)


def test_gradient_is_the_derivative():
    rng = np.random.default_rng(3)
    w, background = neurons(3, 6, 10, 4, aligned=3), background_of(4, 10, rng)
    problem, step = problem_of(10, 4, 6, 0.4), 1e-5

    def value(relevant, rest, noise):
        features = block_features(relevant, rest, 10)
        return log_evidence(problem, features, background._replace(noise=noise))

    point = (jnp.asarray(w[:, :4]), jnp.linalg.norm(jnp.asarray(w[:, 4:]), axis=1), jnp.asarray(1e-4))
    direction = tuple(
        jnp.asarray(rng.standard_normal(v.shape)) * s for v, s in zip(point, (1, 1, 1e-3), strict=True)
    )
    slopes = jax.grad(value, argnums=(0, 1, 2))(*point)
    analytic = sum(float(jnp.sum(a * b)) for a, b in zip(slopes, direction, strict=True))
    ahead, behind = (
        value(*(p + s * q for p, q in zip(point, direction, strict=True))) for s in (step, -step)
    )
    assert float(ahead - behind) / (2 * step) == pytest.approx(analytic, rel=1e-5)


def test_one_neuron_has_the_exact_conditional():
    # The evidence of y = e_S under one neuron and a Gaussian background, all modes coordinates.
    rng = np.random.default_rng(4)
    background, coupling = background_of(2, 12, rng, noise=0.0), 0.5
    problem, brute, block = problem_of(12, 2, 1, coupling), [], []
    for w in 2 * neurons(5, 6, 12, 2):
        features = features_of(w[None], 2)
        phi = np.concatenate([features.relevant[0], np.sqrt(features.powers[0]), np.sqrt(features.tail)])
        spectrum = np.concatenate([np.zeros(4), background.eigenvalues, [0.0]]) + float(background.ridge)
        y = np.eye(len(phi))[target_position(2)]
        covariance = np.diag(spectrum) + coupling * np.outer(phi, phi)
        brute.append(multivariate_normal(np.zeros(len(phi)), covariance).logpdf(y))
        block.append(float(log_evidence(problem, features, background)))
    assert np.allclose(np.diff(brute), np.diff(block), rtol=1e-9)


@pytest.mark.parametrize("aligned", [0, 4])
def test_figures_against_readouts_on_data(aligned):
    # Given weights in random directions: κ̃, m, bias, E0 and variance against exact regression.
    input_dim, degree, width, num_data, kappa = 14, 2, 40, 250, 0.07
    w, rng = neurons(6, width, input_dim, degree, aligned), np.random.default_rng(6)
    problem = problem_of(input_dim, degree, width, 1 / width)
    features = features_of(w, degree)
    background = settle(problem, features, kappa, num_data)
    figures = block_figures(problem, features, background)
    amplification = 1 / (1 - figures.square_trace / num_data)
    rest, found = np.linalg.norm(w[:, degree:], axis=1, keepdims=True), []
    for _ in range(60):
        g = rng.standard_normal((width, input_dim - degree))
        w[:, degree:] = rest * g / np.linalg.norm(g, axis=1, keepdims=True)
        x = rng.standard_normal((num_data + 2000, input_dim))
        x[:, :degree] = rng.choice([-1.0, 1.0], (len(x), degree))
        y, phi = x[:, :degree].prod(axis=1), np.maximum(x @ w.T, 0) / math.sqrt(width)
        train, test = phi[:num_data], phi[num_data:]
        covariance = np.linalg.inv(np.eye(width) + train.T @ train / (kappa**2 * num_data))
        f = test @ covariance @ train.T @ y[:num_data] / (kappa**2 * num_data)
        bias, variance = (
            ((f - y[num_data:]) ** 2).mean(),
            np.einsum("pi,ij,pj->p", test, covariance, test).mean(),
        )
        found.append(((f * y[num_data:]).mean(), bias, variance))
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    expected = (figures.order_parameter, amplification * figures.bias, figures.variance)
    # The equivalents are exact as d, N and P grow; here they are good to a percent or so.
    assert np.all(np.abs(np.mean(found, axis=0) - expected) < 4 * error + 0.015 * np.abs(expected))


def test_many_prior_neurons_are_the_nngp():
    w, network = neurons(7, 6000, 16, 2), TwoLayerNetwork(input_dim=16, width=6000, kappa=0.05)
    problem, features = problem_of(16, 2, 6000, 1 / 6000), features_of(w, 2)
    background = settle(problem, features, 0.05, 300)
    figures = block_figures(problem, features, background)
    amplification = 1 / (1 - float(figures.square_trace) / 300)
    expected = NNGP().solve(network, SparseParity(16, 2), num_data=300)
    # One set of 6000 neurons: λ_S is known to 5 %, m likewise.
    assert float(figures.order_parameter) == pytest.approx(expected.order_parameter, rel=0.15)
    mse = amplification * float(figures.bias) + float(figures.variance)
    assert mse == pytest.approx(expected.test_mse, rel=0.02)


def test_precisions_that_cannot_vary_are_the_isotropic_prior():
    rng = np.random.default_rng(8)
    background = (background_of(2, 8, rng),)
    isotropic, ard = (BlockModel(problem_of(8, 2, 5, 0.2, prior)) for prior in (None, ARD(shape=1e8)))
    rho = {"rho_relevant": jnp.full(2, 8.0), "rho_rest": jnp.full(6, 8.0)}
    values = []
    for _ in range(3):
        sites = {
            "w_base": jnp.asarray(rng.standard_normal((5, 2))),
            "rest_base": jnp.asarray(rng.chisquare(6, 5) / 6),
        }
        both = [
            log_density(isotropic, background, {}, sites)[0],
            log_density(ard, background, {}, sites | rho)[0],
        ]
        values.append([float(v) for v in both])
    assert np.allclose(*np.diff(values, axis=0).T, rtol=1e-6)


SMALL = TwoLayerNetwork(input_dim=6, width=2, kappa=0.3), SparseParity(6, 2)


@pytest.fixture(scope="module")
def small_point():
    return BlockAdaptiveKernel(num_warmup=200, num_samples=1000).solve(
        *SMALL, num_data=100, key=jax.random.key(1)
    )


def test_two_neurons_against_importance_sampling(small_point):
    # Prior neurons reweighted by the direct density in the background that the chains found.
    pairs = [(i, j) for i, j in zip(*(v.tolist() for v in rest_modes(2, 6)[:2]), strict=True)]
    value = np.array([small_point.eigenvalues[pair] for pair in pairs])
    background = Background(value, small_point.effective_ridge, small_point.noise)
    w = np.random.default_rng(9).standard_normal((4000, 2, 6)) / math.sqrt(6)
    problem, found = problem_of(6, 2, 2, 0.5), jax.tree.map(jnp.asarray, background)

    def density_and_m(relevant, rest):
        features = block_features(relevant, rest, 6)
        return log_evidence(problem, features, found), block_figures(problem, features, found).order_parameter

    rest = np.linalg.norm(w[..., 2:], axis=-1)
    both = jax.jit(jax.vmap(density_and_m))(jnp.asarray(w[..., :2]), jnp.asarray(rest))
    log_weight, m = (np.asarray(v) for v in both)
    direct = np.array([direct_log_evidence(rows, 2, 0.5, background)[0] for rows in w[:100]])
    np.testing.assert_allclose(np.diff(log_weight[:100]), np.diff(direct), atol=1e-9)
    moment = (w[..., :2] ** 2).mean(axis=(1, 2))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    for values, sampled in ((m, small_point.order_parameter), (moment, small_point.moment_relevant)):
        mean = weight @ values
        error = math.sqrt((weight**2 * (values - mean) ** 2).sum())
        assert abs(mean - sampled) < 4 * error + 4 * small_point.error
        assert error < 0.1 * mean
    assert small_point.converged


def test_point_is_complete(small_point):
    network, teacher = SMALL
    row = json.loads(json.dumps(small_point.to_dict()))
    keys = {"order_parameter", "test_mse", "precisions", "residual", "error", "effective_sample_size"}
    keys |= {"iterations", "converged", "branches", "num_aligned", "num_data", "effective_ridge"}
    assert keys | {"test_mse_error", "r_hat"} <= row.keys()
    assert {s for branch in row["branches"] for s in branch["starts"]} == {"prior", "aligned"}
    tree = small_point.tree
    assert tree.posterior.w_relevant.dims == ("chain", "draw", "neuron", "relevant_input")
    assert tree.posterior.rest_norm.shape == (4, 1000, 2)
    assert float(tree["order_parameters"].order_parameter.mean()) == pytest.approx(row["order_parameter"])
    assert tree.attrs["scheme"] == "block-adaptive-kernel"

    data = teacher.sample(jax.random.key(2), 100, 200)
    networks = small_point.sample_networks(jax.random.key(3), 300, data)
    assert networks["w"].shape == (300, 2, 6)
    moment = (networks["w"] ** 2).mean(axis=1)
    assert moment[:, :2].mean() == pytest.approx(small_point.moment_relevant, rel=0.15)
    assert moment[:, 2:].mean() == pytest.approx(small_point.moment_rest, rel=0.1)
    full = build_tree(
        network,
        data,
        {name: value[None] for name, value in networks.items()},
        scheme="block-adaptive-kernel",
        settings={},
        seed=jax.random.key(3),
        wall_time_s=0.0,
        gradient_evaluations=0,
        independent_draws=False,
    )
    assert abs(float(full["order_parameters"].order_parameter.mean()) - small_point.order_parameter) < 0.05


def test_same_key_same_answer():
    theory = BlockAdaptiveKernel(num_warmup=200, num_samples=100)
    calls = []
    first = theory.solve(
        *SMALL, num_data=100, key=jax.random.key(4), progress=lambda *call: calls.append(call)
    )
    second, other = (theory.solve(*SMALL, num_data=100, key=jax.random.key(s)) for s in (4, 5))
    assert first.to_dict() == second.to_dict()
    assert first.order_parameter != other.order_parameter
    done, total, text = zip(*calls, strict=True)
    assert done == tuple(range(50, 601, 50))
    assert set(total) == {600}
    assert (text[0], text[-1]) == ("prior start", "aligned start")


@pytest.mark.slow
def test_large_noise_is_the_prior():
    network, teacher = TwoLayerNetwork(input_dim=6, width=2, kappa=30.0), SparseParity(6, 2)
    point = BlockAdaptiveKernel(num_warmup=200, num_samples=400).solve(network, teacher)
    assert abs(point.order_parameter) < 1e-4
    assert point.moment_relevant == pytest.approx(1 / 6, rel=0.1)
    assert point.moment_rest == pytest.approx(1 / 6, rel=0.1)
    assert point.test_mse == pytest.approx(1.5, rel=0.05)  # 1 + σ_a² E[Σ]


DEFAULT = BlockAdaptiveKernel(num_warmup=400, num_samples=400)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kappa", "num_data", "m", "mse"),
    [
        (0.07, 300, 0.31, 0.66),
        (0.05, 300, 0.66, 0.245),
        (0.03, 300, 0.869, 0.086),
        (0.05, 3000, 0.702, 0.198),
    ],
)
def test_against_sampled_networks(kappa, num_data, m, mse):
    # NUTS on the network over three data sets, whose m scatter by 0.015.
    network = TwoLayerNetwork(input_dim=16, width=64, kappa=kappa)
    point = DEFAULT.solve(network, SparseParity(16, 2), num_data=num_data)
    assert point.converged
    assert len(point.branches) == 1
    assert abs(point.order_parameter - m) < 0.02
    assert point.test_mse == pytest.approx(mse, rel=0.08)


@pytest.mark.slow
def test_frozen_at_the_adaptive_kernel():
    # The density at the adaptive kernel's λ and κ̃, as first tried, by NumPyro's own NUTS.
    network, teacher = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05), SparseParity(16, 2)
    point = AdaptiveKernel().solve(network, teacher, num_data=300)
    pairs = zip(*(v.tolist() for v in rest_modes(2, 16)[:2]), strict=True)
    values = (np.array([point.eigenvalues[pair] for pair in pairs]), point.effective_ridge, 0.0)
    background, model = Background(*map(jnp.asarray, values)), BlockModel(problem_of(16, 2, 64, 1 / 64))
    mcmc = MCMC(NUTS(model, max_tree_depth=8), num_warmup=400, num_samples=400, progress_bar=False)
    mcmc.run(jax.random.key(0), background)
    figures = draw_figures(model, mcmc.get_samples(group_by_chain=True), background)
    assert abs(float(figures.order_parameter.mean()) - 0.66) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kappa", "m", "mse", "aligned"), [(0.12, 0.655, 0.40, 35.5), (0.1, 0.794, 0.269, 41.2)]
)
def test_against_sampled_networks_with_ard(kappa, m, mse, aligned):
    network = TwoLayerNetwork(input_dim=16, width=64, kappa=kappa, prior=ARD())
    point = DEFAULT.solve(network, SparseParity(16, 2), num_data=300)
    assert point.converged
    assert abs(point.order_parameter - m) < 0.02
    assert point.test_mse == pytest.approx(mse, rel=0.08)
    assert abs(point.num_aligned - aligned) < 2
    assert point.precisions.relevant < 0.2 * point.precisions.rest
    assert point.tree.posterior.rho_relevant.dims == ("chain", "draw", "relevant_input")


@pytest.mark.slow
def test_langevin_samples_the_same_density(small_point):
    kernel = SGLD(step_size=3e-3)
    theory = BlockAdaptiveKernel(kernel=kernel, num_warmup=2000, num_samples=20_000)
    point = theory.solve(*SMALL, num_data=100)
    margin = 4 * math.hypot(point.error, small_point.error)
    assert (
        abs(point.order_parameter - small_point.order_parameter) < margin + 0.05 * small_point.order_parameter
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degree": 3}, "degree must be even"),
        ({"degree": 6}, "degree must be smaller than input_dim"),
        ({"activation": "tanh"}, "activation must be relu"),
        ({"bias": True}, "bias must be False"),
        ({"num_data": 0}, "num_data must be a whole number"),
        ({"start": "middle"}, "start must be one of"),
        ({"degree": 8, "input_dim": 12}, "degree must be at most 6"),
    ],
)
def test_bad_problems(change, message):
    settings = {"input_dim": 6, "degree": 2, "num_data": None, "start": "prior"} | change
    options = {k: v for k, v in settings.items() if k in ("activation", "bias")}
    network = TwoLayerNetwork(input_dim=settings["input_dim"], width=2, kappa=0.3, **options)
    teacher = SparseParity(settings["input_dim"], settings["degree"])
    with pytest.raises(ValueError, match=message):
        BlockAdaptiveKernel().solve(network, teacher, num_data=settings["num_data"], start=settings["start"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 1}, "num_samples"),
        ({"num_chains": 0}, "num_chains"),
        ({"inputs": "real"}, "inputs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        BlockAdaptiveKernel(**options)


def test_bad_data(small_point):
    with pytest.raises(ValueError, match=r"data must be a models\.Dataset"):
        small_point.sample_networks(jax.random.key(0), 1)
    data = Dataset(np.ones((3, 6)), np.ones(3), np.ones((1, 6)), np.ones(1), relevant=(2, 3))
    with pytest.raises(ValueError, match="relevant inputs"):
        small_point.sample_networks(jax.random.key(0), 1, data)
    for other in (SingleIndex(6, 1, 2), data):
        with pytest.raises(ValueError, match=r"teacher_or_data must be a models\.SparseParity"):
            BlockAdaptiveKernel().solve(SMALL[0], other)

"""AdaptiveKernel on sparse parity: published values, an independent oracle, limits, branches."""

import json
import math

import jax
import numpy as np
import pytest
from scipy.optimize import brentq
from straightforward import mode_powers

from inference.fixed_points import NNGP, AdaptiveKernel, MeanField
from inference.fixed_points.adaptive_kernel import AdaptiveKernelEquations
from inference.fixed_points.branches import continuation
from inference.fixed_points.branches.continuation import crossings, densely, trace, turns
from inference.fixed_points.branches.equations import System
from inference.fixed_points.branches.solve import solve as solve_with
from inference.fixed_points.neuron.nodes import lattice
from inference.fixed_points.populations.problem import population_problem
from models import ARD, Dataset, Isotropic, SparseParity, TwoLayerNetwork


def solve(input_dim, degree, width, kappa, num_data=None, start="prior", **options):
    network = TwoLayerNetwork(input_dim=input_dim, width=width, kappa=kappa, **options)
    teacher = SparseParity(input_dim, degree)
    return AdaptiveKernel().solve(network, teacher, num_data=num_data, start=start)


@pytest.mark.parametrize(
    ("num_data", "m", "mse"),
    [(None, 0.9406, 0.0277), pytest.param(10_000, 0.9353, 0.0296, marks=pytest.mark.slow)],
)
def test_published_values_at_degree_four(num_data, m, mse):
    point = solve(35, 4, 512, 0.005, num_data)
    assert point.converged
    assert point.order_parameter == pytest.approx(m, abs=1e-3)
    assert point.test_mse == pytest.approx(mse, rel=0.01)
    assert point.error < 1e-4
    assert point.test_mse_error < 1e-5
    assert point.effective_sample_size > 1000


ISOTROPIC = [
    (0.05, 300, 0.57, 0.31),
    (0.05, 3000, 0.615, 0.26),
    (0.1, 300, 0.08, 1.06),
    (0.07, 300, 0.28, 0.69),
    (0.03, 300, 0.81, 0.117),
    (0.07, 3000, 0.322, 0.61),
]
WITH_ARD = [(0.12, 300, 0.55, 0.45), (0.15, 300, 0.04, 1.18), (0.1, 300, 0.72, 0.30), (0.05, 300, 0.93, 0.12)]


@pytest.mark.parametrize(
    ("prior", "kappa", "num_data", "m", "mse"),
    [(Isotropic(), *row) for row in ISOTROPIC[:2]]
    + [(ARD(), *row) for row in WITH_ARD[:2]]
    + [pytest.param(Isotropic(), *row, marks=pytest.mark.slow) for row in ISOTROPIC[2:]]
    + [pytest.param(ARD(), *row, marks=pytest.mark.slow) for row in WITH_ARD[2:]],
)
def test_published_values_at_degree_two(prior, kappa, num_data, m, mse):
    # Printed to two figures from a rougher quadrature, so that the last is not to be trusted.
    point = solve(16, 2, 64, kappa, num_data, prior=prior)
    assert point.converged
    assert point.order_parameter == pytest.approx(m, abs=0.013)
    assert point.test_mse == pytest.approx(mse, rel=0.03)


def monte_carlo(d, k, width, kappa, num_data, gamma, scales, order=4, prior=None, num=400_000):
    """The equations as they stand, with neurons drawn in R^d from a wide Gaussian and reweighted to
    the prior.

    Plain damped iteration round a bisection for λ_k0. Returns m, the test error and the standard
    error of m from eight batches, each solved on its own.
    """
    weight_scale, readout_scale = scales
    coupling = readout_scale**2 / width ** (2 * gamma)
    multiplicity = np.array(
        [[math.comb(k, i) * math.comb(d - k, j) for j in range(order + 1)] for i in range(k + 1)]
    )
    results = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        wide = 1.6 * weight_scale / math.sqrt(d)
        w = wide * rng.standard_normal((num // 8, d))
        rest, squares = np.linalg.norm(w[:, k:], axis=1), w**2
        q = mode_powers(w[:, :k], rest, order)
        tail = 0.5 * squares.sum(axis=1) - q.sum(axis=(1, 2))
        rho = np.full(2, d / weight_scale**2)
        value, ridge = np.full((k + 1, order + 1), 1e-4), kappa**2

        def density(log_target, value, ridge, rho, q=q, tail=tail, squares=squares, wide=wide):
            inverse = 1 / (ridge + value)
            inverse[k, 0] = 1 / (ridge + math.exp(log_target))
            G = (q * inverse).sum(axis=(1, 2)) + tail / ridge
            B2 = q[:, k, 0] * inverse[k, 0] ** 2
            log_p = -0.5 * np.log1p(coupling * G) + 0.5 * coupling * B2 / (1 + coupling * G)
            log_p += 0.5 * (squares / wide**2).sum(axis=1)
            log_p -= 0.5 * (rho[0] * squares[:, :k].sum(axis=1) + rho[1] * squares[:, k:].sum(axis=1))
            p = np.exp(log_p - log_p.max())
            return p / p.sum()

        for _ in range(60):
            state = (value, ridge, rho)
            log_target = brentq(
                lambda x, s=state, q=q: math.log(width * coupling * density(x, *s) @ q[:, k, 0]) - x, -25, 5
            )
            p = density(log_target, *state)
            new = width * coupling * np.einsum("n,nij->ij", p, q) / np.maximum(multiplicity, 1)
            unresolved, new_ridge, new_rho = width * coupling * p @ tail, kappa**2, rho
            if num_data is not None:

                def excess(log_r, new=new, unresolved=unresolved):
                    r = math.exp(log_r)
                    freedom = (multiplicity * new / (new + r)).sum() + unresolved / r
                    return freedom / num_data + kappa**2 / r - 1

                new_ridge = math.exp(brentq(excess, math.log(kappa**2), 5))
            if prior is not None:
                second = [p @ squares[:, :k].mean(axis=1), p @ squares[:, k:].mean(axis=1)]
                shape, rate = prior.shape, prior.rate_for(d)
                new_rho = (shape + width / 2) / (rate + width / 2 * np.array(second))
            change = np.abs(np.log((new + 1e-15) / (value + 1e-15))).max() + np.abs(new_rho / rho - 1).max()
            value, ridge, rho = new, 0.5 * (ridge + new_ridge), np.sqrt(rho * new_rho)
            if change < 1e-5:
                break
        m = value[k, 0] / (ridge + value[k, 0])
        amplification = 1.0
        if num_data is not None:
            amplification = num_data / (num_data - (multiplicity * (value / (value + ridge)) ** 2).sum())
        variance = (multiplicity * value * ridge / (value + ridge)).sum() + unresolved
        results.append((m, amplification * (1 - m) ** 2 + variance))
    results = np.array(results)
    return results.mean(axis=0), results.std(axis=0, ddof=1) / math.sqrt(8)


@pytest.mark.parametrize(
    ("kappa", "num_data", "gamma", "scales", "prior"),
    [
        (0.15, 40, 0.5, (1.0, 1.0), None),
        pytest.param(0.25, None, 0.4, (1.3, 0.8), None, marks=pytest.mark.slow),
        (0.3, 60, 0.5, (1.0, 1.0), ARD(4.0)),
    ],
)
def test_against_importance_sampling(kappa, num_data, gamma, scales, prior):
    d, k, width = 6, 2, 8
    expected, error = monte_carlo(d, k, width, kappa, num_data, gamma, scales, prior=prior, num=80_000)
    chosen = prior or Isotropic(scales[0])
    point = solve(d, k, width, kappa, num_data, gamma=gamma, prior=chosen, readout_scale=scales[1])
    assert point.converged
    assert 0.05 < point.order_parameter < 0.95
    # Eight batches: a Student t with 7 degrees of freedom.
    assert abs(point.order_parameter - expected[0]) < 5 * error[0]
    assert abs(point.test_mse - expected[1]) < 5 * error[1]
    assert error[0] < 0.02


@pytest.mark.parametrize("num_data", [pytest.param(None, marks=pytest.mark.slow), 300])
def test_infinite_width_is_the_nngp(num_data):
    gap = []
    for width in (10**6, 10**7):
        network, teacher = TwoLayerNetwork(input_dim=16, width=width, kappa=0.05), SparseParity(16, 2)
        limit = NNGP().solve(network, teacher, num_data=num_data)
        point = AdaptiveKernel().solve(network, teacher, num_data=num_data)
        gap.append(abs(point.order_parameter - limit.order_parameter))
    assert gap[1] < 1e-5
    assert point.test_mse == pytest.approx(limit.test_mse, abs=1e-5)
    assert point.effective_ridge == pytest.approx(0.05**2 if num_data is None else 0.003, rel=0.1)
    assert point.relevance_ratio == pytest.approx(1.0, abs=1e-4)


def test_large_noise_leaves_nothing_learned():
    point = solve(16, 2, 64, 50.0, 300, prior=ARD())
    assert 0 < point.order_parameter < 1e-5
    assert point.test_mse_mean == pytest.approx(1.0, abs=1e-4)
    assert point.test_mse == pytest.approx(1.5, abs=2e-2)
    assert point.relevance_ratio == pytest.approx(1.0, abs=1e-3)


def test_stiff_ard_is_isotropic():
    stiff = solve(16, 2, 64, 0.05, 300, prior=ARD(shape=1e8))
    plain = solve(16, 2, 64, 0.05, 300)
    assert stiff.order_parameter == pytest.approx(plain.order_parameter, abs=1e-5)
    assert stiff.test_mse == pytest.approx(plain.test_mse, abs=1e-5)
    assert stiff.precisions.relevant == pytest.approx(16.0, rel=1e-5)


def test_many_data_are_the_population():
    population = solve(16, 2, 64, 0.05)
    gaps = [
        abs(solve(16, 2, 64, 0.05, p).order_parameter - population.order_parameter) for p in (10**4, 10**6)
    ]
    assert gaps[1] < 1e-4
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.05)
    assert population.effective_ridge == pytest.approx(0.05**2, rel=1e-12)
    assert population.amplification == 1.0


def test_adapting_learns_more_than_the_frozen_mean_field():
    network, teacher = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05), SparseParity(16, 2)
    assert AdaptiveKernel().solve(network, teacher).order_parameter > (
        1.5 * MeanField().solve(network, teacher).order_parameter
    )


def test_scales_enter_only_through_their_product():
    first = solve(16, 2, 64, 0.05, 300, prior=Isotropic(4.0), readout_scale=0.25)
    second = solve(16, 2, 64, 0.05, 300)
    assert first.order_parameter == pytest.approx(second.order_parameter, abs=1e-8)
    assert first.precisions.relevant == 1.0


def problem_of(network, degree, order=4):
    teacher = SparseParity(network.input_dim, degree)
    return population_problem(network, teacher, "AdaptiveKernel", Isotropic, ARD, max_order=order)


def test_order_of_the_cut_does_not_matter():
    network = TwoLayerNetwork(16, 64, 0.03)
    values = [
        solve_with(AdaptiveKernelEquations, problem_of(network, 2, order), 0.03, 300)
        .solutions[0]
        .figures["order_parameter"]
        for order in (4, 6)
    ]
    assert np.ptp(values) < 1e-5


def test_branches_and_folds_of_the_ard_theory():
    low = solve(16, 2, 64, 0.129, 300, prior=ARD())
    high = solve(16, 2, 64, 0.129, 300, start="aligned", prior=ARD())
    assert [b.stable for b in low.branches] == [True, False, True]
    assert [b.starts for b in low.branches] == [("prior",), (), ("aligned",)]
    assert all(b.residual < 1e-8 for b in low.branches)
    assert low.order_parameter == low.branches[0].order_parameter < 0.1
    assert high.order_parameter == high.branches[2].order_parameter > 0.4
    assert high.precisions.relevant < low.precisions.relevant < low.precisions.rest
    # The branches end where they were said to.
    lower, upper = low.folds
    assert lower < 0.129 < upper
    for kappa, count in ((lower * 0.998, 1), (lower * 1.002, 3), (upper * 1.002, 1)):
        assert len(solve(16, 2, 64, kappa, 300, prior=ARD()).branches) == count


def test_plain_iteration_leads_where_the_starts_say():
    network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.129, prior=ARD())
    nodes = lattice(problem_of(network, 2))
    equations = AdaptiveKernelEquations(nodes)
    system = System(equations, [nodes.nodes(np.arange(nodes.num_cells), 0, 8)])
    multiplicity = nodes.kernel.multiplicity
    for start, rho in (("prior", 16.0), ("aligned", 0.5)):
        z = np.log(np.concatenate([0.02 / multiplicity, [0.1], [rho, 16.0], [0.02]]))
        for _ in range(1000):
            step = system.at_noise(0.129, 300)(z)[0]
            z = z + 0.5 * step
            if np.abs(step).max() < 1e-5:
                break
        m = equations.figures(z[:-1], z[-1], system.latest.pooled, 300)["order_parameter"]
        expected = solve(16, 2, 64, 0.129, 300, start=start, prior=ARD()).order_parameter
        assert m == pytest.approx(expected, abs=1e-3)


def test_continuation_goes_round_a_fold():
    # x² + y² = 1 in the role of F(θ, p) = 0, from (0.6, 0.8) downwards on the side of positive x.
    def circle(x, y):
        return x**2 + y**2 - 1, np.diag(2 * x), np.array([2 * y])

    points = []

    def follow(end):
        points.clear()

        def visit(y, tangent):
            points.append((y, tangent))
            return end(y)

        assert trace(circle, np.array([0.6, 0.8]), visit)
        return densely(*map(np.array, zip(*points, strict=True)), 16)[0]

    assert turns(follow(lambda y: y[1] < -0.5)[:, 1]) == []
    samples = follow(lambda y: y[0] < -0.5)
    np.testing.assert_allclose(np.linalg.norm(samples, axis=1), 1.0, atol=1e-4)
    (fold,) = turns(samples[:, 1])
    assert samples[fold] == pytest.approx([0.0, -1.0], abs=0.05)
    places = crossings(samples[:, 1], -0.9)
    found = [samples[i, 0] + share * (samples[i + 1, 0] - samples[i, 0]) for i, share in places]
    assert found == pytest.approx([math.sqrt(0.19), -math.sqrt(0.19)], abs=1e-2)


def test_a_lost_curve_is_no_error():
    # F = θ² + p has no solution above p = 0: the curve that starts there is lost at once.
    def nothing(x, p):
        return np.array([np.nan]), np.eye(1), np.ones(1)

    assert not trace(nothing, np.array([0.0, 1.0]), lambda y, tangent: False)


def test_branches_that_may_be_missing_are_said(monkeypatch):
    monkeypatch.setattr(continuation, "_MAX_POINTS", 8)
    network, teacher = TwoLayerNetwork(7, 17, 0.1), SparseParity(7, 2)
    with pytest.warns(UserWarning, match="lost on the way to kappa=0.1 and branches may be missing"):
        point = AdaptiveKernel().solve(network, teacher)
    assert point.residual < 1e-8
    assert not point.converged
    with pytest.warns(UserWarning, match="branches may be missing"):
        assert not AdaptiveKernel().noise_curve(network, teacher, 0.1).complete


def test_networks_have_the_density_and_the_readout_posterior():
    network, teacher = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05, prior=ARD()), SparseParity(16, 2)
    point = AdaptiveKernel().solve(network, teacher, num_data=300)
    data = teacher.sample(jax.random.key(0), 300, 500)
    networks = point.sample_networks(jax.random.key(1), 40, data)
    assert networks["w"].shape == (40, 64, 16)
    assert networks["a"].shape == (40, 64)
    assert networks["rho"].shape == (40, 16)
    squares = (networks["w"] ** 2).mean(axis=1)
    relevant, rest = squares[:, :2].mean(axis=1), squares[:, 2:].mean(axis=1)
    error = relevant.std(ddof=1) / relevant.mean() / math.sqrt(40)
    assert abs(relevant.mean() / rest.mean() / point.relevance_ratio - 1) < 4 * error + 0.02
    # The learned kernel of the draws is that of the theory, here in the mode of the parity.
    w = networks["w"].astype(float).reshape(-1, 16)
    overlap = mode_powers(w[:, :2], np.linalg.norm(w[:, 2:], axis=1), 0)[:, 2, 0].reshape(40, 64)
    learned = overlap.sum(axis=1) / 64
    assert abs(learned.mean() - point.eigenvalues[2, 0]) < 4 * learned.std(ddof=1) / math.sqrt(40)
    # m is concave in the kernel, and independent neurons make it fluctuate: the draws lie below the
    # theory.
    f = np.asarray(network.apply(networks, data.x_test))
    m = (f * np.asarray(data.y_test)).mean()
    assert point.order_parameter - 0.12 < m < point.order_parameter
    again = point.sample_networks(jax.random.key(1), 40, data)
    assert np.array_equal(networks["w"], again["w"])


def test_to_dict_is_strict_json():
    point = solve(16, 2, 64, 0.129, 300, prior=ARD())
    record = point.to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["theory"] == "adaptive-kernel"
    assert {"effective_ridge", "amplification", "num_data", "test_mse_error", "folds"} <= set(record)
    assert point.eigenvalues[2, 0] / (point.eigenvalues[2, 0] + point.effective_ridge) == pytest.approx(
        point.order_parameter
    )


PARITY = SparseParity(8, 2)
DATA = PARITY.sample(jax.random.key(0), 20, 20)
REFUSED = [
    ({"activation": "erf"}, SparseParity(8, 7), {}, "degree must be at most 6"),
    ({"bias": True}, SparseParity(8, 8), {}, "degree must be smaller"),
    ({}, SparseParity(8, 8), {}, "degree must be smaller"),
    ({}, SparseParity(9, 2), {}, "teacher.input_dim must equal"),
    ({}, PARITY, {"num_data": 0}, "num_data must be a whole number"),
    ({}, PARITY, {"start": "cold"}, "start must be one of"),
]


@pytest.mark.parametrize(("changes", "teacher", "options", "message"), REFUSED)
def test_refused_combinations(changes, teacher, options, message):
    network = TwoLayerNetwork(**({"input_dim": 8, "width": 16, "kappa": 0.1} | changes))
    with pytest.raises(ValueError, match=message) as caught:
        AdaptiveKernel().solve(network, teacher, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_networks_need_the_teachers_data():
    point = solve(8, 2, 16, 0.1)
    with pytest.raises(ValueError, match="data must be a models"):
        point.sample_networks(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="data must be a models"):
        point.sample_networks(jax.random.key(0), 1, data=3)
    other = Dataset(DATA.x, DATA.y, DATA.x_test, DATA.y_test, (2, 3))
    wide = SparseParity(9, 2).sample(jax.random.key(0), 5, 5)
    with pytest.raises(ValueError, match="relevant inputs"):
        point.sample_networks(jax.random.key(0), 1, other)
    with pytest.raises(ValueError, match="input_dim=8"):
        point.sample_networks(jax.random.key(0), 1, wide)

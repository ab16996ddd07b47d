"""Curves of solutions over the noise: published folds and onsets, single solves, an oracle,
synthetic curves."""

import math

import jax
import numpy as np
import pytest
from straightforward import Nodes
from straightforward import solve as solve_straightforward

from inference.fixed_points import AdaptiveKernel, MeanField, MeanFieldARD, NoiseCurve
from inference.fixed_points.branches import curve as followed
from inference.fixed_points.neuron import nodes as node_sets
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

# Theory of the two transitions at k = 2, N = 512: m = 0.1 of MF, and the fold in which MF-ARD's
# aligned branch ends.
PUBLISHED = [
    (35, 0.0345, 0.1075),
    pytest.param(70, 0.0241, 0.1040, marks=pytest.mark.slow),
    pytest.param(140, 0.0178, 0.1023, marks=pytest.mark.slow),
    pytest.param(280, 0.0130, 0.1015, marks=pytest.mark.slow),
]


def network(d, width, prior=None):
    return TwoLayerNetwork(d, width, 1.0, prior=prior or Isotropic())


@pytest.mark.parametrize(("d", "onset", "fold"), PUBLISHED)
def test_published_onset_and_fold(d, onset, fold):
    curve = MeanField().noise_curve(network(d, 512), SparseParity(d, 2), 0.01)
    assert curve.onset(0.1) == pytest.approx(onset, rel=5e-3)
    assert curve.folds() == []
    curve = MeanFieldARD().noise_curve(network(d, 512, ARD()), SparseParity(d, 2), 0.05)
    lower, upper = curve.folds()
    assert upper.kappa == pytest.approx(fold, rel=5e-3)
    assert upper.order_parameter == pytest.approx(0.28, abs=0.02)
    assert curve.onset(0.1, "aligned") == pytest.approx(upper.kappa, rel=1e-6)
    assert curve.onset(0.1, "prior") == pytest.approx(lower.kappa, rel=1e-3)


@pytest.mark.parametrize("kappa", [0.0125, 0.01, 0.005])
def test_mean_field_at_degree_four(kappa):
    published = {0.0125: 0.0180, 0.01: 0.2106, 0.005: 0.6116}
    (solution,) = MeanField().noise_curve(network(35, 512), SparseParity(35, 4), 0.005).solutions(kappa)
    assert solution.stable
    assert solution.order_parameter == pytest.approx(published[kappa], abs=1e-3)


def test_mean_field_ard_at_degree_four():
    curve = MeanFieldARD().noise_curve(network(35, 512, ARD()), SparseParity(35, 4), 0.005)
    assert curve.reached(0.005).order_parameter == pytest.approx(0.8758, abs=1e-3)
    assert curve.reached(0.005).order_parameter == curve.reached(0.005, "aligned").order_parameter
    prior, middle, aligned = curve.solutions(0.02)
    assert [s.stable for s in (prior, middle, aligned)] == [True, False, True]
    assert prior.order_parameter < 2e-4
    assert abs(aligned.order_parameter - 0.533) < 3 * aligned.error


@pytest.mark.parametrize(
    ("prior", "kappa", "num_data", "start"),
    [
        pytest.param(Isotropic(), 0.07, 300, "prior", marks=pytest.mark.slow),
        (Isotropic(), 0.05, None, "prior"),
        pytest.param(ARD(), 0.129, 300, "prior", marks=pytest.mark.slow),
        (ARD(), 0.129, 300, "aligned"),
        pytest.param(ARD(), 0.05, 3000, "prior", marks=pytest.mark.slow),
    ],
)
def test_adaptive_kernel_agrees_with_a_single_solve(prior, kappa, num_data, start):
    teacher = SparseParity(16, 2)
    curve = AdaptiveKernel().noise_curve(network(16, 64, prior), teacher, 0.03, num_data=num_data)
    found = curve.reached(kappa, start)
    point = AdaptiveKernel().solve(
        TwoLayerNetwork(16, 64, kappa, prior=prior), teacher, num_data=num_data, start=start
    )
    assert (
        abs(found.order_parameter - point.order_parameter) < 3 * math.hypot(found.error, point.error) + 1e-5
    )
    assert found.test_mse == pytest.approx(point.test_mse, rel=1e-3)
    assert found.effective_ridge == pytest.approx(point.effective_ridge, rel=1e-3)
    assert [fold.kappa for fold in curve.folds()] == pytest.approx(list(point.folds), rel=5e-4)
    data = teacher.sample(jax.random.key(1), 10, 10)  # the readouts' alone
    networks = point.sample_networks(jax.random.key(0), 200, data)["w"].astype(float)
    share = (networks[:, :, :2] ** 2).sum(axis=2) / (networks**2).sum(axis=2)
    count = (share > 0.5).sum(axis=1)
    assert (
        abs(count.mean() - found.num_aligned)
        < 4 * count.std() / math.sqrt(len(count)) + 0.02 * found.num_aligned
    )


@pytest.mark.parametrize(
    ("kappa", "num_data"), [(0.03, 1000), pytest.param(0.01, None, marks=pytest.mark.slow)]
)
def test_adaptive_kernel_agrees_with_the_straightforward_solution(kappa, num_data):
    expected = np.array(
        [
            solve_straightforward(Nodes.draw(12, 4, 2**14, seed=s), 12, 4, 64, kappa, num_data, 1e-5)
            for s in range(4)
        ]
    )
    error = expected.std(axis=0, ddof=1) / 2
    curve = AdaptiveKernel().noise_curve(network(12, 64), SparseParity(12, 4), 0.01, num_data=num_data)
    found = curve.reached(kappa)
    assert 0.1 < found.order_parameter < 0.99
    assert abs(found.order_parameter - expected[:, 0].mean()) < 6 * math.hypot(error[0], found.error)
    assert found.test_mse == pytest.approx(expected[:, 1].mean(), abs=6 * error[1] + 1e-3)
    assert error[0] < 5e-3


def test_one_curve_serves_every_number_of_data():
    theory, teacher = AdaptiveKernel(), SparseParity(16, 2)
    curves = [
        theory.noise_curve(network(16, 64), teacher, 0.03, num_data=P) for P in (100, 1000, 10**7, None)
    ]
    onsets = [curve.onset(0.1) for curve in curves]
    assert onsets == sorted(onsets)
    assert onsets[2] == pytest.approx(onsets[3], rel=1e-3)
    # At few data the ridge that regularises is the data's: m stays low however small the noise.
    assert curves[0].reached(0.03).order_parameter < curves[1].reached(0.03).order_parameter


@pytest.mark.parametrize(
    ("d", "width", "prior"),
    [
        (35, 8192, ARD()),
        pytest.param(147, 11_191, ARD(shape=0.92), marks=pytest.mark.slow),
        pytest.param(35, 30_000, ARD(), marks=pytest.mark.slow),
    ],
)
def test_a_fold_at_a_tiny_order_parameter(d, width, prior):
    # Log m turns there within a thousandth in log κ, and the node sets' curves are far from
    # parallel.
    network, teacher = TwoLayerNetwork(d, width, 1.0, prior=prior), SparseParity(d, 4)
    lower, upper = MeanFieldARD().noise_curve(network, teacher, 0.003).folds()
    assert 0 < lower.order_parameter < 2e-3
    for side, count in ((0.99, 1), (1.01, 3)):
        near = TwoLayerNetwork(d, width, side * lower.kappa, prior=prior)
        assert len(MeanFieldARD().solve(near, teacher).branches) == count
    assert upper.kappa > 3 * lower.kappa


@pytest.mark.slow
def test_wide_ard_networks_have_the_folds_of_a_finer_curve(monkeypatch):
    # Their precisions together are held by the prior alone: quadrature errors enter them times N/(2
    # α0) = 3600.
    def folds():
        prior = ARD(shape=3.68)
        wide = TwoLayerNetwork(23, 26_294, 1.0, prior=prior)
        return [fold.kappa for fold in MeanFieldARD().noise_curve(wide, SparseParity(23, 2), 0.05).folds()]

    default = folds()
    assert len(default) == 2
    monkeypatch.setattr(followed, "_FINE", (4, 128, 128))
    assert default == pytest.approx(folds(), rel=1e-3)
    assert node_sets.lattice.cache_info().currsize > 0


def synthetic(noise):
    """m rises along the curve whose κ² is `noise`; two node sets that disagree by ±1e-3 in m."""
    m = np.linspace(0, 1, len(noise))
    same = dict.fromkeys(("test_mse", "test_mse_mean", "effective_ridge", "num_aligned"), m)
    own = np.stack([m - 1e-3, m + 1e-3])
    return NoiseCurve("synthetic", None, noise, m, **same, set_noise_squared=np.stack([noise] * 2),
                      set_order_parameter=own)  # fmt: skip


def test_an_s_shaped_curve():
    m = np.linspace(0, 1, 4001)
    curve = synthetic(2 - 6 * (m - 0.5) ** 3 + 0.9 * (m - 0.5) - m * 0.2)
    lower, upper = curve.folds()
    # 18 (m - ½)² = 0.7
    assert [lower.order_parameter, upper.order_parameter] == pytest.approx(
        [0.5 - math.sqrt(0.7 / 18), 0.5 + math.sqrt(0.7 / 18)], abs=1e-3
    )
    assert lower.kappa < upper.kappa
    between = 0.5 * (lower.kappa + upper.kappa)
    assert [s.stable for s in curve.solutions(between)] == [True, False, True]
    assert curve.reached(between).order_parameter < 0.3
    assert curve.reached(between, "aligned").order_parameter > 0.7
    assert curve.onset(0.6) == pytest.approx(lower.kappa, rel=1e-5)
    assert curve.onset(0.6, "aligned") == pytest.approx(upper.kappa, rel=1e-5)
    # A level on the prior's own branch is reached there.
    assert curve.reached(curve.onset(0.1)).order_parameter == pytest.approx(0.1, abs=1e-3)
    assert curve.solutions(10.0) == []
    assert curve.reached(10.0) is None


def test_folds_closer_than_the_curve_is_known_are_none():
    # A swing of κ² by ±`depth` on its way down: folds where it is deeper than twice 1e-4.
    noise = np.linspace(2.0, 1.0, 4001)
    for depth, count in ((1e-4, 0), (1e-2, 2)):
        swing = noise.copy()
        swing[2000:2010] += 1.5 * depth * np.linspace(0, 1, 10)
        assert len(synthetic(swing).folds()) == count


def test_error_of_a_curve_is_the_scatter_of_its_node_sets():
    noise = np.linspace(2.0, 1.0, 101)
    (solution,) = synthetic(noise).solutions(math.sqrt(1.5))
    assert solution.order_parameter == pytest.approx(0.5)
    # Two node sets: sd √2e-3, over √2, times the 68 % point of a Student t with one degree of
    # freedom. Shared by the node sets: 1e-4 in κ at dm/dlog κ = -2κ².
    assert solution.error == pytest.approx(math.hypot(1.837e-3, 1e-4 * 3.0), rel=1e-3)


def test_a_branch_that_is_never_left():
    curve = synthetic(np.linspace(1.0, -1.0, 101))
    assert curve.onset(0.3) == pytest.approx(math.sqrt(0.4), rel=1e-6)
    assert curve.onset(0.7) is None
    assert np.isnan(curve.kappa[-1])


def test_bad_input():
    curve = synthetic(np.linspace(2.0, 1.0, 11))
    with pytest.raises(ValueError, match="kappa must be a finite number greater than 0"):
        curve.solutions(-1.0)
    with pytest.raises(ValueError, match="order_parameter must lie between 0 and 1"):
        curve.onset(1.5)
    with pytest.raises(ValueError, match="start must be one of prior, aligned"):
        curve.reached(1.2, "cold")
    with pytest.raises(ValueError, match="kappa must be"):
        MeanField().noise_curve(network(8, 16), SparseParity(8, 2), 0.0)
    with pytest.raises(ValueError, match="num_data must be a whole number"):
        AdaptiveKernel().noise_curve(network(8, 16), SparseParity(8, 2), 0.1, num_data=0)
    with pytest.raises(ValueError, match=r"prior must be models\.ARD"):
        MeanFieldARD().noise_curve(network(8, 16), SparseParity(8, 2), 0.1)

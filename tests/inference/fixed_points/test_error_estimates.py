"""Honesty of the theories' error estimates: a battery of cases, each solved again with 16 times the nodes."""

import math

import pytest

from inference.fixed_points import AdaptiveKernel, MeanField, MeanFieldARD
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

PROBLEMS = [(16, 2, 64), (35, 2, 512), (3, 2, 64), (70, 2, 512)]
KAPPAS = (0.2, 0.1, 0.07, 0.05, 0.02, 0.008)


def misses(theory, network, teacher, factor, **options):
    """How many estimates the figures are off by: m, and the test error where it has an estimate."""
    rough, fine = (theory(refinement=r).solve(network, teacher, **options) for r in (1, factor))
    out = [abs(rough.order_parameter - fine.order_parameter) / (rough.error + 1e-9)]
    if hasattr(rough, "test_mse_error"):
        out.append(abs(rough.test_mse - fine.test_mse) / (rough.test_mse_error + 1e-9))
    # What the node sets share (the radial rule, the grid's border) does not fall with their number.
    assert fine.error < 1.1 * rough.error + 1e-9
    return out


def battery(problems, kappas, sizes, factor=16):
    """Every theory on every problem and noise, again with `factor` times the nodes."""
    found = []
    for d, k, width in problems:
        for kappa in kappas:
            network, teacher = TwoLayerNetwork(d, width, kappa), SparseParity(d, k)
            ard = TwoLayerNetwork(d, width, kappa, prior=ARD())
            found += misses(MeanField, network, teacher, factor)
            found += misses(MeanFieldARD, ard, teacher, factor, start="aligned")
            for size in sizes:
                found += misses(AdaptiveKernel, network, teacher, factor, num_data=size)
                found += misses(AdaptiveKernel, ard, teacher, factor, num_data=size, start="aligned")
    return found


def test_a_few_cases():
    # The battery takes sixteen times the nodes; four are enough to see an estimate that is too small.
    found = battery(PROBLEMS[:1], (0.05,), (300,), factor=4)
    assert len(found) == 6
    assert max(found) < 3


@pytest.mark.slow
def test_the_battery():
    found = battery(PROBLEMS, KAPPAS, (300, None))
    inside = sum(miss < 3 for miss in found)
    assert len(found) == 240
    assert inside >= 0.95 * len(found), sorted(found)[-15:]


@pytest.mark.slow
def test_degree_four():
    # Where the deviations from equal weights limit the accuracy.
    found = battery([(12, 4, 64), (35, 4, 512)], (0.02, 0.007), (1000,))
    inside = sum(miss < 3 for miss in found)
    assert len(found) == 24
    assert inside >= 0.95 * len(found) - 1, sorted(found)[-5:]


@pytest.mark.slow
@pytest.mark.parametrize("prior", [Isotropic(), ARD()])
def test_curves(prior):
    # The curve's own estimate, against single solves with 16 times the nodes.
    found = []
    for d, k, width, size in ((16, 2, 64, 300), (12, 4, 64, 2000)):
        network, teacher = TwoLayerNetwork(d, width, 1.0, prior=prior), SparseParity(d, k)
        curve = AdaptiveKernel().noise_curve(network, teacher, 0.01, size)
        for kappa in (0.1, 0.07, 0.05, 0.03, 0.02, 0.012):
            network = TwoLayerNetwork(d, width, kappa, prior=prior)
            point = AdaptiveKernel(refinement=4).solve(network, teacher, size)
            here = curve.reached(kappa)
            found.append(
                abs(here.order_parameter - point.order_parameter) / math.hypot(here.error, point.error)
            )
    assert sum(miss < 3 for miss in found) >= 0.95 * len(found) - 1, sorted(found)


@pytest.mark.parametrize("theory", [MeanField, MeanFieldARD, AdaptiveKernel])
@pytest.mark.parametrize("refinement", [0, 3, 1.5])
def test_bad_refinement(theory, refinement):
    with pytest.raises(ValueError, match="refinement must be a"):
        theory(refinement=refinement)

"""The rivals of the adaptive kernel: the same drive, another cost of the readout."""

import jax
import numpy as np
import pytest
from scipy import integrate

from inference.fixed_points import NNGP, AdaptiveKernel
from inference.fixed_points.adaptive_kernel import SELF_TERMS
from inference.fixed_points.neuron.nodes import lattice
from inference.fixed_points.neuron.self_terms import FirstOrderReadoutCost, NoReadoutCost
from inference.fixed_points.populations.problem import population_problem
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

TEACHER = SparseParity(8, 2)
# Where the curve of a rival ends is the point here, and said.
pytestmark = pytest.mark.filterwarnings("ignore:adaptive-kernel. the curve:UserWarning")


def order_parameter(self_term, width, kappa=0.3, prior=None, num_data=80):
    network = TwoLayerNetwork(8, width, kappa, prior=prior or Isotropic())
    return float(AdaptiveKernel(self_term).solve(network, TEACHER, num_data=num_data).order_parameter)


@pytest.mark.parametrize("self_term", SELF_TERMS)
def test_infinite_width_is_the_nngp(self_term):
    network = TwoLayerNetwork(8, 10**7, 0.3)
    expected = NNGP().solve(network, TEACHER, num_data=80).order_parameter
    assert order_parameter(self_term, 10**7) == pytest.approx(float(expected), rel=1e-3)


def test_rivals_leave_the_exact_term_at_their_order_in_the_coupling():
    # c = σ_a²/N: without a cost of the readout the error is of order c, with its first order c².
    orders = {}
    for self_term in ("none", "first-order"):
        gaps = [order_parameter(self_term, n) - order_parameter("exact", n) for n in (2000, 8000)]
        orders[self_term] = np.log(gaps[0] / gaps[1]) / np.log(4)
    assert orders["none"] == pytest.approx(1, abs=0.15)
    assert orders["first-order"] == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize(("density", "cost"), [(NoReadoutCost, 0.0), (FirstOrderReadoutCost, 1.0)])
def test_averages_over_the_length_against_quadrature(density, cost):
    problem = population_problem(
        TwoLayerNetwork(8, 64, 0.3), TEACHER, "AdaptiveKernel", Isotropic, max_order=2
    )
    nodes = lattice(problem).nodes(np.arange(lattice(problem).num_cells), 0, 1)
    count = nodes.features.shape[1]
    naturals = np.zeros((3, count))
    naturals[0, :-2], naturals[1, :-3], naturals[2, -2:] = 3.0, 2.0, problem.precision
    law = density(problem.coupling, naturals, lattice(problem).chart.dimension)
    part = slice(0, 5)
    found = law.at(nodes, part)
    energy, drive, slope = law.law(nodes, part)
    dimension = law.dimension
    for i in range(5):

        def weight(v, i=i):
            return v ** (dimension / 2 - 1) * np.exp(-0.5 * (energy[i] + cost * slope[i]) * v + drive[i] * v)

        moments = [integrate.quad(lambda v, p=p: v**p * weight(v), 0, 60)[0] for p in (0, 1, 2)]
        expected = [np.log(moments[0]), moments[1] / moments[0], cost / 2 * moments[1] / moments[0]]
        np.testing.assert_allclose(found[[0, 1, 3], i], expected, rtol=1e-6)
        assert found[4, i] == pytest.approx(moments[2] / moments[0], rel=1e-6)


def test_the_mean_field_cost_is_that_of_the_whole_neuron():
    # G = Σ/κ̃, of a ReLU neuron of unit length 1/2κ̃, whatever kernel the others form; theirs lowers it.
    problem = population_problem(
        TwoLayerNetwork(8, 64, 0.3), TEACHER, "AdaptiveKernel", Isotropic, max_order=2
    )
    nodes = lattice(problem).nodes(np.arange(lattice(problem).num_cells), 0, 1)
    theta, log_ridge = np.full(lattice(problem).kernel.num_pairs + 1, -3.0), np.array(-2.0)
    cost = {
        name: nodes.features @ SELF_TERMS[name](lattice(problem)).naturals(theta, log_ridge)[0]
        for name in ("mean-field", "exact")
    }
    np.testing.assert_allclose(cost["mean-field"], 0.5 * np.exp(2.0), rtol=1e-10)
    assert np.all(cost["exact"] < cost["mean-field"])


def test_neurons_drawn_have_the_second_moments_of_the_theory():
    network = TwoLayerNetwork(8, 64, 0.15, prior=ARD())
    point = AdaptiveKernel("first-order").solve(network, TEACHER, num_data=80)
    data = TEACHER.sample(jax.random.key(0), num_data=80)
    w = np.concatenate([n["w"].reshape(-1, 8) for n in [point.sample_networks(jax.random.key(1), 200, data)]])
    ratio = (w[:, :2] ** 2).mean() / (w[:, 2:] ** 2).mean()
    assert ratio == pytest.approx(point.relevance_ratio, rel=0.05)


def test_where_a_rival_does_not_go():
    with pytest.raises(ValueError, match=r"ends above kappa=0\.02.*self_term='exact'"):
        order_parameter("none", 64, kappa=0.02)
    data = TEACHER.sample(jax.random.key(0), num_data=30)
    with pytest.raises(ValueError, match="self_term='none' is for populations"):
        AdaptiveKernel("none").solve(TwoLayerNetwork(8, 64, 0.3), data)
    with pytest.raises(ValueError, match="self_term must be one of"):
        AdaptiveKernel("nothing")

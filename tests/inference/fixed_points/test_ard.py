"""MeanFieldARD on population parity: published values, branches and folds, limits."""

import json

import numpy as np
import pytest

from inference.fixed_points import MeanField, MeanFieldARD
from inference.fixed_points.branches.equations import System
from inference.fixed_points.mean_field import MeanFieldEquations
from inference.fixed_points.neuron.nodes import lattice
from inference.fixed_points.populations.problem import population_problem
from models import ARD, SparseParity, TwoLayerNetwork


def solve(input_dim, degree, width, kappa, start="prior", shape=4.0, **options):
    network = TwoLayerNetwork(
        input_dim=input_dim, width=width, kappa=kappa, prior=ARD(shape=shape, **options)
    )
    return MeanFieldARD().solve(network, SparseParity(input_dim, degree), start=start)


def test_single_branch_at_low_noise():
    point = solve(35, 4, 512, 0.005)
    assert point.converged
    assert len(point.branches) == 1
    assert point.branches[0].starts == ("prior", "aligned")
    assert point.order_parameter == pytest.approx(0.8758, abs=5e-4)
    assert point.precisions.relevant == pytest.approx(0.1608, rel=2e-3)
    assert point.precisions.rest == pytest.approx(110.8, rel=1e-3)
    assert point.error < 1e-4


def test_two_stable_branches_and_the_unstable_one_between_them():
    point = solve(35, 4, 512, 0.02, "aligned")
    assert point.converged
    assert [b.stable for b in point.branches] == [True, False, True]
    assert [b.starts for b in point.branches] == [("prior",), (), ("aligned",)]
    assert point.order_parameter == pytest.approx(0.533, abs=1e-3)
    assert point.branches[0].order_parameter == pytest.approx(1e-4, abs=5e-5)
    assert point.branches[2].order_parameter == point.order_parameter
    assert point.branches[2].test_mse == point.test_mse


@pytest.mark.parametrize(
    ("input_dim", "fold"),
    [
        (35, 0.1075),
        *(pytest.param(*v, marks=pytest.mark.slow) for v in ((70, 0.1040), (140, 0.1023), (280, 0.1015))),
    ],
)
def test_aligned_branch_ends_in_a_fold(input_dim, fold):
    below = solve(input_dim, 2, 512, fold - 2e-4, "aligned")
    above = solve(input_dim, 2, 512, fold + 2e-4, "aligned")
    assert [b.stable for b in below.branches] == [True, False, True]
    assert below.branches[1].order_parameter < 0.29 < below.order_parameter + 0.01
    assert len(above.branches) == 1
    assert above.order_parameter < 0.02


def test_start_chooses_the_branch():
    prior, aligned = (solve(16, 2, 512, 0.1, start) for start in ("prior", "aligned"))
    assert prior.start == "prior"
    assert aligned.start == "aligned"
    assert prior.branches == aligned.branches
    reported = {start: next(b for b in prior.branches if start in b.starts) for start in ("prior", "aligned")}
    assert prior.order_parameter == reported["prior"].order_parameter
    assert aligned.order_parameter == reported["aligned"].order_parameter


@pytest.mark.parametrize(("degree", "kappa"), [(2, 0.05), pytest.param(4, 0.02, marks=pytest.mark.slow)])
def test_infinite_shape_is_mean_field(degree, kappa):
    ard = solve(16, degree, 64, kappa, shape=1e10)
    network = TwoLayerNetwork(input_dim=16, width=64, kappa=kappa)
    plain = MeanField().solve(network, SparseParity(16, degree))
    assert len(ard.branches) == 1
    assert ard.order_parameter == pytest.approx(plain.order_parameter, abs=1e-6)
    assert ard.test_mse == pytest.approx(plain.test_mse, abs=1e-6)
    assert ard.precisions.relevant == pytest.approx(16.0, rel=1e-6)


def test_solution_satisfies_its_conjugate_update():
    point = solve(16, 2, 64, 0.05, rate=0.3)
    a0, b0, n = 4.0, 0.3, 64
    second_moments = [
        ((a0 + n / 2) / rho - b0) / (n / 2) for rho in (point.precisions.relevant, point.precisions.rest)
    ]
    assert second_moments[0] / second_moments[1] == pytest.approx(point.relevance_ratio, rel=1e-6)


def system(network, degree, seeds, points=8):
    teacher = SparseParity(network.input_dim, degree)
    problem = population_problem(network, teacher, "MeanFieldARD", ARD, max_order=0, target_only=True)
    nodes = lattice(problem)
    sets = [nodes.nodes(np.arange(nodes.num_cells), seed, points) for seed in seeds]
    return System(MeanFieldEquations(nodes), sets)


def test_residual_vanishes_on_other_nodes_within_the_error():
    point = solve(16, 2, 64, 0.07)
    theta = [point.order_parameter, np.log(point.precisions.relevant), np.log(point.precisions.rest)]
    network = TwoLayerNetwork(16, 64, 0.07, prior=ARD())
    residual = system(network, 2, range(500, 504))(np.array(theta), 2 * np.log(0.07))[0]
    assert np.abs(residual).max() < 1e-5


def test_to_dict_is_strict_json():
    record = solve(16, 2, 512, 0.1).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["theory"] == "mean-field-ard"


@pytest.mark.slow
@pytest.mark.parametrize("kappa", [0.002, 0.01, 0.03, 0.05])
def test_branches_alternate_in_stability(kappa):
    point = solve(35, 4, 512, kappa)
    stable = [b.stable for b in point.branches]
    assert stable == [i % 2 == 0 for i in range(len(stable))]
    assert all(b.residual < 1e-8 for b in point.branches)

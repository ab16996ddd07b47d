"""What a theory does not cover is one sentence that names the argument."""

import jax
import numpy as np
import pytest

from inference.fixed_points import NNGP, MeanField, MeanFieldARD
from models import ARD, Dataset, Isotropic, ParitySum, SingleIndex, SparseParity, TwoLayerNetwork

PARITY = SparseParity(8, 2)
DATA = PARITY.sample(jax.random.key(0), 20, 20)


def network(**changes):
    return TwoLayerNetwork(**({"input_dim": 8, "width": 16, "kappa": 0.1} | changes))


CASES = [
    (MeanField(), network(activation="erf"), SparseParity(8, 7), {}, "degree must be at most 6"),
    (MeanField(), network(bias=True), SparseParity(8, 8), {}, "degree must be smaller than input_dim"),
    (MeanField(), network(prior=ARD()), PARITY, {}, "prior must be models.Isotropic"),
    (MeanField(), network(input_dim=9), PARITY, {}, "teacher.input_dim must equal"),
    (MeanField(), network(), SparseParity(8, 8), {}, "degree must be smaller than input_dim"),
    (MeanField(), network(), ParitySum(8, ((0, 1), (2, 3))), {}, "teacher must be"),
    (MeanField(), network(), SingleIndex(9, 2, 2), {}, "teacher.input_dim must equal"),
    (MeanField(), network(), PARITY, {"num_data": 100}, "num_data must be None"),
    (MeanField(), "network", PARITY, {}, "network must be"),
    (MeanFieldARD(), network(), PARITY, {}, "prior must be models.ARD"),
    (MeanFieldARD(), network(prior=ARD()), PARITY, {"start": "cold"}, "start must be one of"),
    (MeanFieldARD(), network(prior=ARD()), PARITY, {"num_data": 5}, "num_data must be None"),
    (NNGP(), network(prior=ARD()), DATA, {}, "prior must be models.Isotropic"),
    (NNGP(), network(prior=ARD()), PARITY, {}, "prior must be models.Isotropic"),
    (NNGP(), network(input_dim=9), DATA, {}, "x must have input_dim=9"),
    (NNGP(), network(), DATA, {"num_data": 20}, "num_data must be None on a Dataset"),
    (NNGP(), network(), PARITY, {"num_data": 0}, "num_data must be a whole number"),
    (NNGP(), network(), PARITY, {"num_data": 2.5}, "num_data must be a whole number"),
    (NNGP(), network(prior=ARD()), SingleIndex(8, 2, 2), {}, "prior must be models.Isotropic"),
    (NNGP(), network(activation="tanh"), PARITY, {"num_data": 0}, "num_data must be a whole number"),
    (
        NNGP(),
        network(kappa=1e-12),
        Dataset(np.ones((4, 8)), np.ones(4), np.ones((1, 8)), np.ones(1)),
        {},
        "raise kappa",
    ),
]


@pytest.mark.parametrize(("theory", "net", "data", "options", "message"), CASES)
def test_uncovered_combination(theory, net, data, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        theory.solve(net, data, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_even_input_scale_has_no_effect_on_prior_precisions():
    point = NNGP().solve(network(prior=Isotropic(2.0)), DATA)
    assert point.precisions.relevant == 2.0
    assert point.relevance_ratio == 1.0

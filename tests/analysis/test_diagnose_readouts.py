"""The readouts' scatter about their exact law: of draws from it, of draws k times as wide, and of
SGLD at a step that is too large for collinear inputs."""

import jax
import numpy as np
import pytest
import synthetic_trees as synthetic

from analysis import diagnose
from analysis.diagnostics.readouts import check_readouts, readout_spread
from inference import SGLD, sample
from models import Dataset, TwoLayerNetwork

NETWORK = TwoLayerNetwork(input_dim=3, width=4, kappa=0.1, bias=True, gamma=0.7, readout_scale=1.5)


def run(scale, chains=4, draws=60):
    """Networks whose hidden layers are the prior's, and readouts `scale` times as far from their
    mean as they should be; in NumPy."""
    rng = np.random.default_rng(0)
    data = synthetic.problem(rng)
    w, b = rng.normal(size=(chains, draws, 4, 3)) / 3**0.5, rng.normal(size=(chains, draws, 4))
    phi = np.maximum(w @ data.x.T + b[..., None], 0) * 4**-0.7
    ridge = 0.1**2 * data.num_data
    precision = phi @ np.swapaxes(phi, -1, -2) / ridge + np.eye(4) / 1.5**2
    covariance = np.linalg.inv(precision)
    mean = (covariance @ (phi @ data.y)[..., None])[..., 0] / ridge
    white = rng.normal(size=(chains, draws, 4, 1))
    a = mean + scale * (np.linalg.cholesky(covariance) @ white)[..., 0]
    tree = synthetic.tree_of(data, {"w": w, "b": b, "a": a}, network=NETWORK)
    return tree, 4 - np.trace(covariance, axis1=-2, axis2=-1) / 1.5**2


@pytest.mark.parametrize(("scale", "status"), [(1.0, "passed"), (1.4, "failed"), (0.6, "failed")])
def test_scatter_is_measured_in_units_of_the_exact_law(scale, status):
    tree, degrees_of_freedom = run(scale)
    spread = readout_spread(tree).isel(draw=slice(0, 60))
    places = np.unique(np.linspace(0, 59, 50).astype(int))
    np.testing.assert_allclose(spread.expected, degrees_of_freedom[:, places], rtol=1e-4)
    # A χ² of as many degrees of freedom, times scale²: relative error √(2/dof)/√200.
    ratio = float(spread.found.mean() / spread.expected.mean())
    assert ratio == pytest.approx(scale**2, abs=4 * scale**2 * (2 / degrees_of_freedom.mean() / 200) ** 0.5)
    (check,) = check_readouts(tree)
    assert check.status == status
    assert check.value == pytest.approx(ratio - 1)
    if scale != 1:
        assert ("more" if scale > 1 else "less") in check.message


def test_the_verdict_sees_the_bias_of_a_step_that_collinear_inputs_make_too_large():
    """Six copies of one input with a little noise: the curvature of the likelihood is six times
    that of inputs which are independent, for which the step would be small enough."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=60)
    x = factor[:, None] + 0.05 * rng.normal(size=(60, 6))
    data = Dataset.from_arrays(x, factor + 0.2 * rng.normal(size=60), test_fraction=0.3)
    network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.05)

    def judged(step):
        steps = {"num_warmup": 2000, "num_samples": 8000, "thinning": 80}
        return diagnose(sample(network, data, SGLD(step_size=step), jax.random.key(0), **steps))

    found = {step: next(c for c in judged(step).checks if c.name == "readouts") for step in (1e-3, 1e-4)}
    assert found[1e-4].status == "passed"
    assert found[1e-3].failed
    assert "the step is too large for these data" in found[1e-3].message


def test_independent_draws_and_theories_of_infinite_data_are_not_judged():
    tree, _ = run(2.0, draws=10)
    independent = tree.copy()
    independent.attrs["independent_draws"] = 1
    assert check_readouts(independent) == []
    assert readout_spread(tree.drop_nodes("log_likelihood")) is None

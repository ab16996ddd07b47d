"""Every prior through NUTS, SGLD and the guide: relevant inputs are found, and the samplers
agree."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from numpyro.infer import NUTS

from analysis import inclusion_probabilities, order_parameters
from inference import SGLD, MeanFieldGuide, fit, sample
from models import NeuronARD, SparseParity, SpikeAndSlab, StudentT, TwoLayerNetwork
from models.priors import PRIORS

NUTS_KERNEL = partial(NUTS, max_tree_depth=8)


def differences(first, second, names):
    """(difference, combined standard error) of posterior means."""
    one, two = order_parameters(first), order_parameters(second)
    for name in names:
        gap = float(one[name].sel(estimate="mean") - two[name].sel(estimate="mean"))
        yield name, gap, math.hypot(*(float(v[name].sel(estimate="se")) for v in (one, two)))


def recovered(tree) -> float:
    """Share of the draws whose largest second moments are exactly those of the relevant inputs."""
    moments = tree["order_parameters"].second_moment.to_numpy()
    relevant = tree["constant_data"].relevant.to_numpy()
    rest = np.setdiff1d(np.arange(moments.shape[-1]), relevant)
    return float(np.mean(moments[..., relevant].min(axis=-1) > moments[..., rest].max(axis=-1)))


@pytest.fixture(scope="module")
def tiny():
    """Parity of two of five inputs, learned by eight neurons."""
    data = SparseParity(5, 2, relevant=(1, 3)).sample(jax.random.key(3), 80, 200)
    return TwoLayerNetwork(5, 8, 0.1, prior=SpikeAndSlab()), data


@pytest.mark.slow
def test_spike_and_slab_finds_the_relevant_inputs_and_sgld_agrees_with_nuts(tiny):
    network, data = tiny
    nuts = sample(
        network, data, NUTS_KERNEL, jax.random.key(0), num_warmup=300, num_samples=300, num_chains=2
    )
    kernel = SGLD(step_size=0.3 * network.kappa**2)
    sgld = sample(
        network,
        data,
        kernel,
        jax.random.key(1),
        num_warmup=5000,
        num_samples=60_000,
        thinning=100,
        num_chains=2,
    )
    for tree in (nuts, sgld):
        table = inclusion_probabilities(tree)
        assert table.probability[table.relevant].min() > 0.8
        assert table.probability[~table.relevant].max() < 0.5
        assert recovered(tree) > 0.95
    for name, gap, error in differences(nuts, sgld, ("order_parameter", "test_mse_draw")):
        assert abs(gap) < 5 * error + 0.02, name


@pytest.mark.slow
@pytest.mark.parametrize("name", PRIORS)
def test_nuts_recovers_the_relevant_inputs_and_sgld_agrees_on_the_default_problem(name, default_data):
    network = TwoLayerNetwork(16, 64, 0.05, prior=PRIORS[name]())
    nuts = sample(network, default_data, NUTS_KERNEL, jax.random.key(1), num_warmup=400, num_samples=400)
    sgld = sample(
        network,
        default_data,
        # A quarter of the default step: large scales of relevant inputs make the likelihood steep.
        SGLD(step_size=0.15 * network.kappa**2),
        jax.random.key(2),
        num_warmup=30_000,
        num_samples=200_000,
        thinning=500,
    )
    for tree in (nuts, sgld):
        moments = order_parameters(tree).second_moment.sel(estimate="mean").to_numpy()
        assert moments[:2].min() > 1.3 * moments[2:].max()
        # Where nothing selects inputs for the layer, three or four neurons carry the feature.
        assert recovered(tree) > (0.5 if name in ("isotropic", "learned-scale") else 0.95)
    # The tolerance is the bias of SGLD's constant step.
    for quantity, gap, error in differences(nuts, sgld, ("order_parameter", "test_mse_draw", "train_mse")):
        assert abs(gap) < 4 * error + 0.02, quantity


@pytest.mark.slow
@pytest.mark.parametrize("name", PRIORS)
def test_the_mean_field_guide_takes_every_prior(name, default_data):
    network = TwoLayerNetwork(16, 64, 0.05, prior=PRIORS[name]())
    tree = fit(network, default_data, MeanFieldGuide(), jax.random.key(0), num_steps=3000, num_draws=200)
    assert math.isfinite(tree.attrs["elbo"])
    history = tree["restarts"].elbo_history
    assert float(history.isel(step=-1).max()) > float(history.isel(step=0).max())
    assert tree["posterior"].w.shape == (4, 50, 64, 16)


@pytest.mark.slow
def test_neuron_ard_and_its_student_t_have_the_same_posterior(tiny):
    _, data = tiny
    trees = [
        sample(
            TwoLayerNetwork(5, 8, 0.1, prior=prior),
            data,
            NUTS_KERNEL,
            jax.random.key(i),
            num_warmup=500,
            num_samples=2000,
        )
        for i, prior in enumerate((NeuronARD(2.0), StudentT(4.0)))
    ]
    for name, gap, error in differences(*trees, ("order_parameter", "test_mse_draw", "train_mse")):
        assert abs(gap) < 4 * error, name

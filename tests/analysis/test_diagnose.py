"""The diagnosis speaks up on chains made to fail and stays quiet on good ones."""

import numpy as np
import pytest
import synthetic_trees as synthetic

from analysis import diagnose
from analysis.diagnostics import functions_of
from models import ARD, TwoLayerNetwork


def tree_of(network, data, draws, independent=False, stats=None):
    return synthetic.tree_of(data, draws, "test", stats, independent, network=network)


def prior_draws(network, seed, draws=250):
    return synthetic.prior_networks(np.random.default_rng(seed), 4, draws, network=network)


def test_independent_chains_of_one_law_pass(small_network, small_data):
    diagnosis = diagnose(tree_of(small_network, small_data, prior_draws(small_network, 0)))
    # They agree on the prior, of which the readouts' own check says that it is not the posterior.
    assert [check.name for check in diagnosis.checks if check.failed] == ["readouts"]
    assert diagnosis.r_hat_max < 1.01
    assert diagnosis.ess_min > 400


def test_a_chain_in_another_state_is_named(small_network, small_data):
    draws = prior_draws(small_network, 0)
    draws["w"][3, :, :, 1] *= 3.0  # one chain uses an input that the others do not
    diagnosis = diagnose(tree_of(small_network, small_data, draws))
    assert not diagnosis.converged
    assert any("second_moment[1]" in message and "aligned" in message for message in diagnosis.messages)


def test_a_slow_chain_has_too_few_effective_draws(small_network, small_data):
    draws = {name: np.repeat(v[:, ::10], 10, axis=1) for name, v in prior_draws(small_network, 0).items()}
    diagnosis = diagnose(tree_of(small_network, small_data, draws))
    assert not diagnosis.converged
    assert any("effective draws" in message for message in diagnosis.messages)


def test_permuted_neurons_change_nothing(small_network, small_data):
    """Chains that differ only in the labels of their neurons agree, though every single weight's
    R-hat is large."""
    draws = prior_draws(small_network, 0)
    order = np.argsort(draws["a"].mean(axis=(0, 1)))
    offset = {name: v.copy() for name, v in draws.items()}
    offset["a"][2:] = offset["a"][2:][:, :, order]
    offset["w"][2:] = offset["w"][2:][:, :, order]
    before = diagnose(tree_of(small_network, small_data, draws))
    after = diagnose(tree_of(small_network, small_data, offset))
    # Sums over neurons in another order differ in the last bits of float32, which ranks hardly
    # notice.
    np.testing.assert_allclose(before.table["r_hat"], after.table["r_hat"], atol=1e-3)


def test_independent_draws_have_no_r_hat(small_network, small_data):
    diagnosis = diagnose(tree_of(small_network, small_data, prior_draws(small_network, 0), independent=True))
    assert diagnosis.r_hat_max is None
    assert "r_hat" not in diagnosis.table
    assert diagnosis.converged


@pytest.mark.parametrize(("spread", "bad"), [(0.1, False), (4.0, True)])
def test_pareto_k_of_a_guide(small_network, small_data, spread, bad):
    """Importance ratios with light tails pass; exponential of a wide normal in 1000 draws does
    not."""
    rng = np.random.default_rng(0)
    stats = {"log_p": rng.normal(0, spread, (4, 250)), "log_q": np.zeros((4, 250))}
    diagnosis = diagnose(
        tree_of(small_network, small_data, prior_draws(small_network, 0), independent=True, stats=stats)
    )
    assert (diagnosis.pareto_k > 0.7) == bad
    assert any("Pareto" in message for message in diagnosis.messages) == bad
    assert diagnosis.converged != bad


@pytest.mark.parametrize(("width", "wanted"), [(0.5, 0.75), (0.7, 0.51), (2.0, None)])
def test_pareto_k_is_that_of_posterior_over_guide(small_network, small_data, width, wanted):
    """For the posterior N(0, 1) and the guide N(0, s²) the ratio's tail has shape 1 - s²; for s > 1
    it is bounded."""
    x = width * np.random.default_rng(0).normal(size=(4, 2500))
    stats = {"log_p": -(x**2) / 2, "log_q": -(x**2) / (2 * width**2)}
    draws = prior_draws(small_network, 0, draws=2500)
    k = diagnose(tree_of(small_network, small_data, draws, independent=True, stats=stats)).pareto_k
    if wanted is None:
        assert k < 0.5
    else:
        assert k == pytest.approx(wanted, abs=0.2)


def test_log_precisions_are_diagnosed(small_data):
    network = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3, prior=ARD())
    draws = prior_draws(network, 0)
    draws["rho"] = np.random.default_rng(0).gamma(4.0, 1.0, (4, 250, 5))
    functions = functions_of(tree_of(network, small_data, draws))
    np.testing.assert_allclose(functions["log_rho[2]"], np.log(draws["rho"][..., 2]))


def test_loo_is_that_of_the_log_likelihood(small_network, small_data):
    """For draws from the prior, p(y_i | y_-i) is estimated by importance weights 1/p(y_i | θ)."""
    tree = tree_of(small_network, small_data, prior_draws(small_network, 0))
    loo = diagnose(tree).loo
    log_likelihood = tree["log_likelihood"].y.to_numpy().reshape(-1, 30).astype(float)
    harmonic = -np.log(np.mean(np.exp(-log_likelihood), axis=0)).sum()
    assert loo.elpd == pytest.approx(harmonic, abs=0.5)  # smoothing moves it by its own error
    tree.attrs["population"] = 1
    assert diagnose(tree).loo is None

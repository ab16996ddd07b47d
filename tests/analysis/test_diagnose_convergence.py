"""Nested R-hat, differences between runs and matched neurons against independent calculations."""

import itertools

import numpy as np
import pytest
import synthetic_trees as synthetic
import xarray as xr

from analysis.diagnostics import convergence_table, match_neurons, mean_differences
from analysis.diagnostics.convergence import check_convergence
from analysis.diagnostics.neurons import _assign
from models import TwoLayerNetwork


def short_chains(seed, chains, draws, groups):
    """Chains of independent draws, a shift per group of them."""
    rng = np.random.default_rng(seed)
    data = synthetic.problem(rng)
    params = synthetic.prior_networks(rng, chains, draws)
    params["w"] *= 1 + 0.5 * np.repeat(groups, chains // len(groups))[:, None, None, None]
    return synthetic.tree_of(data, params)


def test_nested_r_hat_is_that_of_the_paper():
    """Equations 4 to 8 of Margossian et al. on the ranks' normal scores, by loops."""
    from scipy.stats import norm, rankdata

    tree = short_chains(0, 8, 6, (0, 1))
    ids = [0] * 4 + [1] * 4
    values = tree["order_parameters"].test_mse.to_numpy().astype(float)

    def nested(ary):
        z = norm.ppf((rankdata(ary).reshape(ary.shape) - 3 / 8) / (ary.size + 1 / 4))
        groups = [z[np.array(ids * 2) == k] for k in (0, 1)]
        between = np.var([g.mean() for g in groups], ddof=1)
        within = np.mean([np.var(g.mean(axis=1), ddof=1) + np.var(g, axis=1, ddof=1).mean() for g in groups])
        return np.sqrt(1 + between / within)

    split = np.concatenate([values[:, :3], values[:, 3:]])
    wanted = max(nested(split), nested(np.abs(split - np.median(split))))
    assert convergence_table(tree, ids)["nested_r_hat"]["test_mse"] == pytest.approx(wanted, abs=1e-6)


def test_many_short_chains_pass_by_nested_r_hat_alone():
    tree = short_chains(1, 128, 8, (0, 0))
    superchains = np.repeat([0, 1, 2, 3], 32)
    plain = check_convergence(tree, convergence_table(tree))[0]
    nested = check_convergence(tree, convergence_table(tree, superchains))[0]
    assert plain.failed
    assert "superchains" in plain.message
    assert not nested.failed
    apart = short_chains(1, 128, 8, (0, 1))
    assert check_convergence(apart, convergence_table(apart, superchains))[0].failed


@pytest.mark.parametrize("superchains", [[0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
def test_superchains_of_other_sizes_are_refused(superchains):
    with pytest.raises(ValueError, match="superchains"):
        convergence_table(short_chains(0, 4, 8, (0,)), superchains)


def test_errors_of_differences_have_the_right_size():
    """z-scores between runs of one law have standard deviation 1; AR(1) chains, so that ESS
    matters."""
    rng = np.random.default_rng(0)
    names = [f"g{i}" for i in range(120)]

    def run():
        noise = rng.normal(size=(120, 4, 400))
        for t in range(1, 400):
            noise[..., t] += 0.6 * noise[..., t - 1]
        return xr.Dataset({n: (("chain", "draw"), v) for n, v in zip(names, noise, strict=True)})

    z = mean_differences(run(), run())["z"]
    assert 0.75 < z.std() < 1.25
    assert abs(z.mean()) < 4 / 120**0.5


def named_neurons(seed, activation="relu"):
    """Draws of four distinct neurons with a little noise, and the same with random labels and
    signs."""
    rng = np.random.default_rng(seed)
    network = TwoLayerNetwork(3, 4, 0.3, activation=activation)
    data = synthetic.problem(rng)
    params = {
        "w": rng.normal(size=(4, 3)) + 0.05 * rng.normal(size=(2, 30, 4, 3)),
        "a": rng.normal(size=4) + 0.05 * rng.normal(size=(2, 30, 4)),
    }
    order = np.argsort(rng.uniform(size=(2, 30, 4)), axis=-1)
    signs = rng.choice([-1.0, 1.0], (2, 30, 4)) if activation == "tanh" else np.ones((2, 30, 4))
    mixed = {
        "w": np.take_along_axis(params["w"] * signs[..., None], order[..., None], axis=2),
        "a": np.take_along_axis(params["a"] * signs, order, axis=2),
    }
    return [synthetic.tree_of(data, p, network=network) for p in (params, mixed)]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_matching_undoes_permutations_and_signs(activation):
    named, mixed = named_neurons(0, activation)
    before, after = match_neurons(named), match_neurons(mixed)
    assert before.attrs["switching"] == 0
    assert after.attrs["switching"] > 0.5
    assert after.attrs["mismatch"] < 0.05
    # An odd activation leaves the sign of a whole neuron open: compare what does not depend on it.
    for name in ("w", "a"):
        np.testing.assert_allclose(np.abs(before[name]), np.abs(after[name]), atol=1e-5)
    np.testing.assert_allclose(before.a * before.w, after.a * after.w, atol=1e-5)


def test_signs_are_not_flipped_where_the_activation_has_no_such_symmetry():
    named, _ = named_neurons(0)
    assert (match_neurons(named).sign == 1).all()


def test_an_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    v, prototypes = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    for flips in (False, True):
        labels, signs = _assign(v, prototypes, flips)
        found = np.sum((signs[:, None] * v[labels] - prototypes) ** 2)
        choices = itertools.product([-1, 1], repeat=5) if flips else [(1,) * 5]
        best = min(
            np.sum((np.array(s)[:, None] * v[list(p)] - prototypes) ** 2)
            for s in choices
            for p in itertools.permutations(range(5))
        )
        assert found == pytest.approx(best)


def test_neurons_of_the_prior_have_no_identity():
    rng = np.random.default_rng(0)
    params = synthetic.prior_networks(rng, 4, 100)
    matched = match_neurons(synthetic.tree_of(synthetic.problem(rng), params))
    assert matched.attrs["mismatch"] > 0.4
    assert "share" in matched

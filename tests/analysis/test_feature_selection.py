"""Rankings, AUC and precision against counting by hand; error bars over seeds."""

import numpy as np
import pandas as pd
import pytest
import synthetic_trees as synthetic

from analysis.diagnostics import feature_selection, rank_inputs, selection_scores
from analysis.diagnostics.feature_selection import input_scores


def selecting_tree(seed, strength):
    """Prior draws in which the relevant input's weights are `strength` times as large."""
    rng = np.random.default_rng(seed)
    params = synthetic.prior_networks(rng, 4, 100)
    params["w"] = params["w"] * np.array([strength, 1.0, 1.0])
    return synthetic.tree_of(synthetic.problem(rng), params)


def test_ranks_and_inclusion_are_counts_over_draws():
    tree = selecting_tree(0, 2.0)
    table = rank_inputs(tree)
    moments = tree["order_parameters"].second_moment.to_numpy().reshape(-1, 3)
    for j in range(3):
        assert table["inclusion"][j] == pytest.approx(np.mean(moments.argmax(axis=1) == j))
    assert table["rank"][0] == 1
    assert table["relevant"].tolist() == [True, False, False]
    two = rank_inputs(tree, num_selected=2)
    assert two["inclusion"].sum() == pytest.approx(2)


def test_without_selection_every_input_is_included_alike():
    inclusion = rank_inputs(selecting_tree(1, 1.0))["inclusion"]
    np.testing.assert_allclose(inclusion, 1 / 3, atol=4 * (2 / 9 / 400) ** 0.5)


def test_weighted_scores_forget_idle_neurons():
    tree = selecting_tree(0, 1.0)
    posterior = tree["posterior"].to_dataset()
    a, w = posterior.a.to_numpy(), posterior.w.to_numpy()
    wanted = np.einsum("cdn,cdni->cdi", a**2, w**2) / (a**2).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        input_scores(tree, "weighted").transpose("chain", "draw", "input"), wanted, rtol=1e-5
    )
    with pytest.raises(ValueError, match="score must be one of"):
        input_scores(tree, "colour")


@pytest.mark.parametrize("seed", range(5))
def test_auc_and_precision_are_those_by_counting_pairs(seed):
    rng = np.random.default_rng(seed)
    relevant = rng.permutation([True] * 4 + [False] * 8)
    score = np.round(rng.normal(size=12) + relevant, 1)  # with ties
    table = pd.DataFrame({"score": score, "inclusion": rng.uniform(size=12), "relevant": relevant})
    pairs = [(s > t) + 0.5 * (s == t) for s in score[relevant] for t in score[~relevant]]
    found = selection_scores(table)
    assert found["auc"] == pytest.approx(np.mean(pairs))
    assert found["precision_at_k"] == relevant[np.argsort(-score, kind="stable")[:4]].mean()


def test_error_bars_are_over_seeds():
    strengths = (0.8, 1.0, 3.0)
    trees = [selecting_tree(seed, s) for seed, s in enumerate(strengths)]
    table = feature_selection({"all": trees, "one": trees[2]})
    aucs = [selection_scores(rank_inputs(tree))["auc"] for tree in trees]
    assert table["auc"]["all"] == pytest.approx(np.mean(aucs))
    assert table["auc_se"]["all"] == pytest.approx(np.std(aucs, ddof=1) / 3**0.5)
    assert table["num_seeds"].tolist() == [3, 1]
    assert np.isnan(table["auc_se"]["one"])
    assert table["auc"]["one"] == table["precision_at_k"]["one"] == 1


def test_indicators_of_the_prior_are_passed_on():
    tree = selecting_tree(0, 1.0)
    probability = np.random.default_rng(0).uniform(size=(4, 100, 3))
    tree["posterior"] = (
        tree["posterior"].to_dataset().assign(inclusion=(("chain", "draw", "input"), probability))
    )
    np.testing.assert_allclose(rank_inputs(tree)["posterior_inclusion"], probability.mean(axis=(0, 1)))


def test_unknown_relevance_is_said():
    tree = selecting_tree(0, 1.0)
    tree["constant_data"] = tree["constant_data"].to_dataset().drop_vars("relevant")
    with pytest.raises(ValueError, match="relevant inputs are unknown"):
        rank_inputs(tree)
    with pytest.raises(ValueError, match="num_selected must lie between 1 and"):
        rank_inputs(tree, num_selected=4)
    with pytest.raises(ValueError, match="AUC and precision need"):
        selection_scores(rank_inputs(tree, num_selected=1))

"""Every check says so on a run made to fail, and all stay quiet on a good one."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
import synthetic_trees as synthetic
from numpyro.infer import NUTS

from analysis import plots
from analysis.diagnostics import assess
from analysis.schemes.compare import summarise
from inference import SGLD, sample
from inference.runs.step_halving import StepSizeCheck


@pytest.fixture(scope="module")
def good():
    """Data from the model, exact posterior draws, their result, and a second such run from the
    aligned start."""
    data, params, tree = synthetic.good_run(0)
    return data, params, tree, synthetic.second_run(data, 1000)


def as_sgld(tree):
    """The same draws, as if by a kernel with a step size."""
    tree = tree.copy()
    tree.attrs |= {"scheme": "sgld", "settings": json.dumps({"kernel": "SGLD", "step_size": 0.1})}
    return tree


def failed(verdict):
    return {check.name for check in verdict.failures()}


def status(verdict):
    return {check.name: check.status for check in verdict.checks}


def message(verdict, name):
    return next(check.message for check in verdict.checks if check.name == name)


def test_a_good_run_is_trusted_in_every_respect(good):
    _, _, tree, other = good
    verdict = assess(tree, label="good", other_start=other, reference=other)
    assert verdict.trusted
    assert failed(verdict) == set()
    made = {"R-hat", "ESS bulk", "ESS tail", "E-BFMI", "divergences", "start", "reference", "LOO-PIT"}
    assert made <= set(status(verdict))
    assert str(verdict).startswith("good:\n  The draws can be taken for the posterior")


@pytest.mark.slow
def test_false_alarms_are_rare():
    """50 good runs, all checks: four of them are tests at the 1 % level, two alarms in all are to
    be expected.

    A Pareto k̂ above its limit at one of 30 points is no false alarm to be counted with them: with
    so few points one of them has leverage. Draws are exact, so that every failed check is a false
    alarm.
    """
    alarms = {}
    for seed in range(50):
        data, _, tree = synthetic.good_run(seed)
        other = synthetic.second_run(data, 1000 + seed)
        half = synthetic.second_run(data, 2000 + seed, start="prior", scheme="sgld")
        nuts = assess(tree, other_start=other, reference=other)
        alarms[seed] = failed(nuts) | (failed(assess(as_sgld(tree), half_step=half)) & {"step size"})
    assert sum(bool(names - {"LOO k̂"}) for names in alarms.values()) <= 4, alarms
    assert sum("LOO k̂" in names for names in alarms.values()) <= 8, alarms


def test_what_was_not_given_is_named_as_unchecked(good):
    _, _, tree, _ = good
    verdict = assess(tree)
    assert {n for n, s in status(verdict).items() if s == "unchecked"} == {"start", "reference"}
    assert any("start='aligned'" in sentence for sentence in verdict.sentences)


def test_a_stuck_chain(good):
    data, params, _, other = good
    stuck = {name: value.copy() for name, value in params.items()}
    for value in stuck.values():
        value[2] = value[2, :1]  # the third chain never leaves its first draw
    stats = synthetic.nuts_stats(np.random.default_rng(0), data, stuck)
    stats["energy"][2] = stats["energy"][2, 0]
    verdict = assess(synthetic.tree_of(data, stuck, stats=stats), other_start=other)
    assert not verdict.trusted
    assert {"R-hat", "ESS bulk", "E-BFMI"} <= failed(verdict)


def test_a_slow_chain_lacks_effective_draws(good):
    data, params, _, _ = good
    slow = {name: np.repeat(value[:, ::10], 10, axis=1) for name, value in params.items()}
    stats = synthetic.nuts_stats(np.random.default_rng(0), data, slow)
    verdict = assess(synthetic.tree_of(data, slow, stats=stats))
    assert {"ESS bulk", "ESS tail"} <= failed(verdict)


def test_another_state_from_the_aligned_start(good):
    data, params, tree, _ = good
    aligned = {"w": params["w"] * np.array([1.3, 1.0, 1.0]), "a": params["a"]}
    other = synthetic.tree_of(data, aligned, start="aligned")
    verdict = assess(tree, other_start=other)
    assert failed(verdict) == {"start"}
    assert "second_moment[0]" in message(verdict, "start")


def test_a_biased_step(good):
    """Second moments 1.2² times too large at ε, 1.1² times at ε/2."""
    data, params, _, _ = good
    exact = synthetic.posterior_networks(np.random.default_rng(3), data)
    coarse = synthetic.tree_of(data, {"w": params["w"] * 1.2, "a": params["a"]}, "sgld")
    half = synthetic.tree_of(data, {"w": exact["w"] * 1.1, "a": exact["a"]}, "sgld")
    verdict = assess(coarse, half_step=half)
    assert "step size" in failed(verdict)
    assert "second_moment" in message(verdict, "step size")
    row = verdict.tables["step_size"].loc["second_moment"]
    truth = (params["w"] ** 2).mean() * 2 * (1.2**2 - 1.1**2)
    assert abs(row["bias"] - truth) < 4 * row["se"]
    assert row["se"] < 0.2 * truth


def test_chains_from_both_starts_in_one_run(good):
    data, params, _, _ = good
    weights = params["w"].copy()
    weights[2:, ..., 0] *= 1.3  # the later half of the chains starts aligned
    for w, outcome in ((params["w"], "passed"), (weights, "failed")):
        tree = synthetic.tree_of(data, {**params, "w": w}, start="both")
        assert status(assess(tree))["start"] == outcome


@pytest.mark.parametrize(
    ("bias", "error", "outcome"), [(0.3, 0.01, "failed"), (0.0, 0.2, "note"), (0.01, 0.005, "passed")]
)
def test_a_step_size_check_is_taken_as_it_is(good, bias, error, outcome):
    _, _, tree, _ = good
    row = {"value": 1.0, "half_value": 1.0, "bias": bias, "se": error, "scale": 1.0}
    check = StepSizeCheck(0.1, pd.DataFrame(row, ["train_mse"]), 1, 0.05, largest_stable=1.0, recommended=0.1)
    assert status(assess(as_sgld(tree), half_step=check))["step size"] == outcome


def guide_tree(data, params, log_q):
    stats = {"log_p": synthetic.log_joint(data, params), "log_q": log_q}
    return synthetic.tree_of(data, params, "mf-guide", stats, independent=True)


def test_an_over_confident_guide(good):
    """A guide a quarter as wide as the posterior: its own weights and the reference both tell."""
    data, _, _, reference = good
    rng = np.random.default_rng(5)
    centre = {name: value[0, 0] for name, value in synthetic.posterior_networks(rng, data, 400).items()}
    draws, log_q = {}, 0.0
    for name, value in centre.items():
        noise = 0.1 * rng.normal(size=(4, 250, *value.shape))
        draws[name] = value + noise
        log_q = log_q - 0.5 * (noise**2 / 0.01).reshape(4, 250, -1).sum(-1)
    verdict = assess(guide_tree(data, draws, log_q), reference=reference)
    assert not verdict.trusted
    assert {"guide k̂", "reference"} <= failed(verdict)
    assert "over-confident" in message(verdict, "reference")
    assert "R-hat" not in status(verdict)


def test_a_guide_that_is_the_posterior_is_trusted(good):
    data, params, _, reference = good
    noise = 0.1 * np.random.default_rng(0).normal(size=(4, synthetic.DRAWS))
    log_q = synthetic.log_joint(data, params) + noise
    verdict = assess(guide_tree(data, params, log_q), reference=reference)
    assert verdict.trusted
    assert status(verdict)["guide k̂"] == "passed"


def test_permuted_neurons_are_named_and_harm_nothing(good):
    data, params, _, _ = good
    # Neurons with names: the same four in every draw but for a little noise.
    rng = np.random.default_rng(7)
    named = {name: value[:1, :1] + 0.02 * rng.normal(size=value.shape) for name, value in params.items()}
    kept = assess(synthetic.tree_of(data, named))
    order = [2, 0, 3, 1]
    permuted = {name: np.concatenate([v[:2], v[2:][:, :, order]]) for name, v in named.items()}
    verdict = assess(synthetic.tree_of(data, permuted))
    assert status(kept)["labels"] == "passed"
    assert status(verdict)["labels"] == "note"
    assert "R-hat of a single readout" in message(verdict, "labels")
    assert verdict.trusted == kept.trusted
    assert "R-hat" not in failed(verdict)


def test_the_table_and_the_verdict_say_the_same(good):
    """NUTS with divergent trajectories, a stuck sampler, a bad guide, an unsolved theory: one set
    of rules."""
    data, params, tree, _ = good
    diverging = tree.copy()
    diverging["sample_stats"] = tree["sample_stats"].to_dataset().copy(deep=True)
    diverging["sample_stats"].diverging[0, :15] = True
    stuck = {name: np.repeat(value[:, ::30], 30, axis=1) for name, value in params.items()}
    unsolved = synthetic.tree_of(data, params, "mean-field", independent=True)
    unsolved.attrs["converged"] = 0
    for bad, why in (
        (diverging, "15 of 1200 trajectories diverged"),
        (synthetic.tree_of(data, stuck), "effective draws"),
        (guide_tree(data, params, 9 * np.random.default_rng(0).normal(size=(4, 300))), "Pareto k̂"),
        (guide_tree(data, params, synthetic.log_joint(data, params)), "cannot be judged"),
        (unsolved, "has not converged"),
    ):
        result, verdict = summarise(bad, None), assess(bad)
        assert result.row["converged"] is False
        assert not verdict.trusted
        assert why in str(verdict)
        assert any(why in message for message in result.diagnosis.messages)
        failures = {c.message for c in verdict.failures()}
        assert {c.message for c in result.diagnosis.checks if c.failed} <= failures
    assert summarise(tree, None).row["converged"] is assess(tree).trusted is True


@pytest.mark.parametrize(
    ("chains", "draws", "said"),
    [
        (1, 100, "a single chain has none to agree with"),
        (1, 1, "chains of 1 draws are too short"),
        (4, 1, "chains of 1 draws are too short"),
        (4, 3, "chains of 3 draws are too short"),
        (2, 20, "effective draws"),
    ],
)
def test_what_cannot_be_judged_is_said(good, chains, draws, said):
    data, params, _, reference = good
    few = {name: value[:chains, :draws] for name, value in params.items()}
    stats = synthetic.nuts_stats(np.random.default_rng(0), data, few)
    for start in ("prior", "both"):
        short = synthetic.tree_of(data, few, stats=stats, start=start)
        verdict = assess(short, reference=reference, other_start=synthetic.second_run(data, 1))
        assert not verdict.trusted
        assert said in str(verdict)
        json.dumps(verdict.to_dict(), allow_nan=False)
    assert not assess(as_sgld(short), half_step=as_sgld(short)).trusted
    figures = [*plots.plot_verdicts({"short": short}, {"short": verdict}, []).values()]
    for figure in [*figures, plots.plot_function_traces(short)]:
        figure.canvas.draw()


@pytest.mark.parametrize("apart", [True, False])
def test_chains_that_never_move(good, apart):
    data, params, _, reference = good
    first = slice(None) if apart else slice(0, 1)
    still = {n: np.broadcast_to(v[first, :1], (4, 50, *v.shape[2:])) for n, v in params.items()}
    tree = synthetic.tree_of(data, still)
    verdict = assess(tree, reference=reference)
    assert "no chain has moved" in message(verdict, "R-hat")
    assert "no chain has moved" in message(verdict, "ESS bulk")
    assert summarise(tree, None).row["r_hat_max"] is None
    plots.plot_convergence([verdict]).canvas.draw()
    plots.plot_function_traces(tree).canvas.draw()


def test_a_funnel(good):
    data, params, _, _ = good
    verdict = assess(synthetic.tree_of(data, params, stats=synthetic.hmc_on_a_funnel(centred=True)))
    assert {"divergences", "E-BFMI"} <= failed(verdict)
    assert "non-centred" in message(verdict, "E-BFMI")
    cured = assess(synthetic.tree_of(data, params, stats=synthetic.hmc_on_a_funnel(centred=False)))
    assert not failed(cured) & {"divergences", "E-BFMI"}


def test_other_runs_must_be_of_the_same_posterior(good):
    data, params, tree, _ = good
    other_data, _, elsewhere = synthetic.good_run(1)
    with pytest.raises(ValueError, match="not of one data"):
        assess(tree, reference=elsewhere)
    with pytest.raises(ValueError, match="other_start must be a run from another start"):
        assess(tree, other_start=synthetic.tree_of(data, params))
    assert len(other_data.y) == len(data.y)


def test_a_verdict_is_json_able(good):
    _, _, tree, other = good
    written = json.loads(json.dumps(assess(tree, other_start=other).to_dict(), allow_nan=False))
    assert written["trusted"] is True
    assert written["tables"]["start"][0]["function"] == "order_parameter"


@pytest.mark.slow
def test_real_runs_are_told_apart(small_network, small_data):
    """NUTS from both starts and SGLD at a small step pass; SGLD at ten times that step does not."""

    def run(kernel, **options):
        return sample(small_network, small_data, kernel, jax.random.key(0), num_warmup=1000, **options)

    nuts = run(NUTS, num_samples=500)
    aligned = run(NUTS, num_samples=500, start="aligned")
    assert assess(nuts, other_start=aligned, reference=aligned).trusted
    steps = {"num_samples": 40_000, "thinning": 80}
    for step_size, trusted in ((0.01, True), (0.1, False)):
        tree = run(SGLD(step_size=step_size), **steps)
        half = run(SGLD(step_size=step_size / 2), num_samples=80_000, thinning=160)
        verdict = assess(tree, half_step=half, reference=nuts)
        assert verdict.trusted == trusted, str(verdict)
        assert ("step size" in failed(verdict)) != trusted

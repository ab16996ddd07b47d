"""Probes against counting by hand; the benchmark on real data, on one small cell."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

from analysis.cli import main
from analysis.diagnostics.probes import probe_scores, rank_probes
from models import Dataset
from models.probes import add_probes


def arrays(rows=40, columns=3, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, columns))
    return x, x[:, 0] + x[:, 1]


def test_probes_are_the_inputs_with_their_rows_permuted_together():
    x, y = arrays()
    data = Dataset.from_arrays(x, y, names=["a", "b", "c"], relevant=[0, 1]).standardised()
    probed = add_probes(data, jax.random.key(1))
    assert probed.names == ("a", "b", "c", "shuffled a", "shuffled b", "shuffled c")
    assert probed.relevant == (0, 1)
    for part, rows in (("x", 30), ("x_test", 10)):
        original, both = getattr(data, part), getattr(probed, part)
        np.testing.assert_array_equal(both[:, :3], original)
        order = [int(np.flatnonzero((original == row).all(axis=1))[0]) for row in both[:, 3:]]
        assert sorted(order) == list(range(rows))
        assert order != list(range(rows))
    np.testing.assert_array_equal(probed.y, data.y)
    assert len(probed.standardisation.to_dict(probed.names)["inputs"]) == 6
    other = add_probes(data, jax.random.key(2))
    assert not np.array_equal(other.x, probed.x)


def test_probes_are_independent_of_the_target():
    # |correlation| of 1000 rows: mean √(2/π)/√1000 = 0.025 for probes, and 0.71 for the inputs the
    # target is made of.
    x, y = arrays(1000, 2)
    data = Dataset(x, y, x[:10], y[:10])
    correlations = []
    for seed in range(20):
        probed = add_probes(data, jax.random.key(seed))
        correlations.append([abs(np.corrcoef(probed.x[:, j], y)[0, 1]) for j in (2, 3)])
    assert np.mean(correlations) < 0.04
    assert np.max(correlations) < 0.15


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_by_counting(seed):
    rng = np.random.default_rng(seed)
    relevance = np.round(rng.uniform(size=12) + (np.arange(12) < 6) * 0.4, 1)  # with ties
    inclusion = rng.uniform(size=12)
    found = probe_scores(relevance, inclusion)
    real, probes = relevance[:6], relevance[6:]
    assert found["auc"] == pytest.approx(np.mean([(r > p) + 0.5 * (r == p) for r in real for p in probes]))
    tops = []
    for _ in range(4000):  # ties broken at random
        order = np.lexsort((rng.uniform(size=12), -relevance))[:6]
        tops.append(np.mean(order >= 6))
    assert found["false_selection"] == pytest.approx(np.mean(tops), abs=4 * np.std(tops) / 4000**0.5 + 1e-12)
    assert found["above_mean"] == sum(p > relevance.mean() for p in probes) / 6
    assert found["above_probes"] == sum(all(r > p for p in probes) for r in real) / 6
    assert found["included"] == sum(i > 0.5 for i in inclusion[6:]) / 6


def test_a_perfect_a_blind_and_an_odd_ranking():
    perfect = probe_scores(np.array([3.0, 2.0, 0.0, 0.0]))
    assert perfect == {"false_selection": 0.0, "auc": 1.0, "above_mean": 0.0, "above_probes": 1.0}
    blind = probe_scores(np.ones(4))
    assert (blind["false_selection"], blind["auc"]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="a value for each of d inputs and d probes"):
        probe_scores(np.ones(5))


def test_a_result_is_ranked_by_the_neurons_that_matter():
    # Two inputs and two probes: two neurons of eight have large readouts, and they look at the
    # inputs.
    rng = np.random.default_rng(0)
    matters = np.arange(8) < 2
    a = np.where(matters, 5.0, 0.1) * np.ones((4, 50, 8))
    w = 3.0 * rng.normal(size=(4, 50, 8, 4))
    w[:, :, matters] *= np.array([1.0, 1.0, 0.1, 0.1])
    w[:, :, ~matters] *= np.array([0.5, 0.5, 1.0, 1.0])
    draws = ("chain", "draw", "neuron")
    groups = {"posterior": xr.Dataset({"w": ((*draws, "input"), w), "a": (draws, a)})}
    groups["order_parameters"] = xr.Dataset(
        {"second_moment": (("chain", "draw", "input"), (w**2).mean(axis=2))}
    )
    found = rank_probes(xr.DataTree.from_dict(groups))
    assert found == {"false_selection": 0.0, "auc": 1.0, "above_mean": 0.0, "above_probes": 1.0}


def test_compare_reports_probes(capsys, tmp_path):
    x, y = arrays(30, 2)
    pd.DataFrame(x, columns=["u", "v"]).assign(t=y).to_csv(tmp_path / "d.csv", index=False)
    args = [
        "compare",
        "--data",
        tmp_path / "d.csv",
        "--probes",
        "--schemes",
        "nngp,mf-guide",
        "--width",
        8,
    ]
    args += ["--prior", "isotropic", "--kappas", 0.2, "--no-plots", "--out", tmp_path / "a"]
    assert main([str(a) for a in args]) == 0
    assert "probes in top d" in capsys.readouterr().out
    ranked = pd.read_csv(tmp_path / "a" / "probes.csv")
    assert ranked.scheme.tolist() == ["mf-guide"]  # NNGP ranks nothing
    assert ranked.auc.between(0, 1).all()
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert settings["described"]["inputs"] == ["u", "v", "shuffled u", "shuffled v"]


def test_inputs_keep_their_names_when_a_constant_one_is_dropped(capsys, tmp_path):
    x, y = arrays(30, 3)
    x[:, 0] = 7.0
    pd.DataFrame(x, columns=["fixed", "u", "v"]).assign(t=y).to_csv(tmp_path / "d.csv", index=False)
    args = ["compare", "--data", tmp_path / "d.csv", "--prior", "spike-and-slab", "--schemes", "mf-guide"]
    args += ["--width", 8, "--kappas", 0.2, "--no-plots", "--out", tmp_path / "a"]
    assert main([str(a) for a in args]) == 0
    assert "left out, being constant: fixed" in " ".join(capsys.readouterr().err.split())
    assert pd.read_csv(tmp_path / "a" / "inclusion.csv").input.tolist() == ["u", "v"]


def test_a_file_is_sampled_in_standard_units(capsys, tmp_path):
    x, y = arrays(40, 2)
    pd.DataFrame(1e4 * x, columns=["u", "v"]).assign(t=1e3 * y + 5e4).to_csv(tmp_path / "d.csv", index=False)
    args = ["sample", "--data", tmp_path / "d.csv", "--scheme", "langevin", "--kappa", 0.2, "--width", 8]
    args += ["--num-samples", 400, "--json", "--out", tmp_path / "a"]
    assert main([str(a) for a in args]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["test_mse_mean"] < 1
    assert answer["problem"]["standardisation"]["inputs"]["u"]["scale"] > 1e3


# --- the benchmark ---


@pytest.fixture(scope="module")
def benchmark():
    pytest.importorskip("sklearn")
    import real_data

    return real_data


def test_predictive_distributions(benchmark):
    rng = np.random.default_rng(0)
    f, y = rng.normal(size=(3, 5)), rng.normal(size=5)
    one = benchmark.mixture(f[:1], 0.3, y)
    normal = benchmark.gaussian(f[0], 0.3, y)
    np.testing.assert_allclose(one["pit"], normal["pit"])
    np.testing.assert_allclose(one["log_density"], normal["log_density"])
    several = benchmark.mixture(f, 0.3, y)
    np.testing.assert_allclose(np.exp(several["log_density"]), norm.pdf(y, f, 0.3).mean(axis=0))


def test_figures_of_an_answer(benchmark):
    x, y = arrays(40, 2)
    labels = np.sign(y)
    data = add_probes(Dataset.from_arrays(x, labels, seed=1).standardised(), jax.random.key(0))
    spread = np.linspace(0.5, 1.5, 10)
    answer = benchmark.Answer(
        data.y_test * spread, pit=np.linspace(0, 1, 10), log_density=np.arange(10.0), relevance=np.arange(4.0)
    )
    row = benchmark.measure(answer, data, binary=True)
    assert row["mse"] == pytest.approx(np.mean((data.y_test * (spread - 1)) ** 2))
    assert row["coverage"] == pytest.approx(0.8)  # 0 and 1 are outside
    assert (row["log_density"], row["auc"]) == (4.5, 0.0)
    assert 0.5 < row["accuracy"] <= 1


def test_rows_are_kept_and_summarised(benchmark, tmp_path):
    file = tmp_path / "rows.csv"
    for split, mse in enumerate((0.5, 0.7, 0.9)):
        benchmark.keep({"data": "d", "split": split, "method": "m", "mse": mse}, file)
    assert benchmark.done({"data": "d", "split": 1, "method": "m"}, file)
    assert not benchmark.done({"data": "d", "split": 3, "method": "m"}, file)
    line = benchmark.summarise(pd.read_csv(file)).iloc[0]
    assert (line.splits, line.mse, line.auc) == (3, "0.700 ± 0.115", "–")

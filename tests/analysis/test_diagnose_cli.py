"""``mfzoo diagnose``: results of one posterior help each other; every figure that a check names is
drawn."""

import json

import numpy as np
import pytest
import synthetic_trees as synthetic
import xarray as xr

from analysis import plots, save_tree
from analysis.cli import main
from analysis.diagnostics.peers import assess_all, distances_by_problem, selection_by_scheme


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A comparison of NUTS and a guide, and NUTS from the aligned start in a folder of its own."""
    data, params, tree = synthetic.good_run(0)
    rng = np.random.default_rng(1)
    aligned = synthetic.second_run(data, 1)
    narrow = {"w": params["w"], "a": 0.3 * params["a"]}
    stats = {"log_p": synthetic.log_joint(data, narrow), "log_q": rng.normal(size=(4, synthetic.DRAWS))}
    guide = synthetic.tree_of(data, narrow, "mf-guide", stats, independent=True)
    history = xr.DataArray([[-20.0, -10.0], [-40.0, -30.0]], {"step": [1, 2]}, ("restart", "step"))
    last = {"elbo": history.isel(step=-1, drop=True), "elbo_se": ("restart", [0.1, 0.1])}
    guide["restarts"] = xr.Dataset({**last, "elbo_history": history})
    folder = tmp_path_factory.mktemp("runs")
    save_tree(xr.DataTree.from_dict({"/nuts": tree, "/guide": guide}), folder / "compare" / "run.nc")
    save_tree(aligned, folder / "aligned" / "run.nc")
    return folder, {"nuts": tree, "guide": guide, "aligned": aligned}


def test_the_command_diagnoses_side_by_side(runs, tmp_path, capsys):
    folder, _ = runs
    out = tmp_path / "out"
    paths = [str(folder / "compare"), str(folder / "aligned" / "run.nc")]
    assert main(["diagnose", *paths, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    verdicts = {v["label"]: v for v in answer["verdicts"]}
    guide, aligned = "mf-guide-isotropic-kappa0.5", "aligned/nuts-isotropic-kappa0.5"
    assert set(verdicts) == {"compare/nuts-isotropic-kappa0.5", guide, aligned}
    nuts = verdicts["compare/nuts-isotropic-kappa0.5"]
    assert nuts["trusted"]
    assert {c["name"]: c["status"] for c in nuts["checks"]}["start"] == "passed"
    assert not verdicts[guide]["trusted"]
    assert [row["scheme"] for row in answer["distances"]] == [guide, aligned]
    assert answer["feature_selection"][0]["auc"] is not None
    for name in ("verdicts.json", "checks.csv", "distances.csv", "feature_selection.csv", "settings.json"):
        assert (out / name).is_file()


def test_every_figure_that_a_check_names_is_drawn(runs, tmp_path):
    _, trees = runs
    picked = {name: trees[name] for name in ("nuts", "guide")}
    verdicts = assess_all(picked)
    drawn = plots.plot_verdicts(picked, verdicts, distances_by_problem(picked))
    named = {check.figure for verdict in verdicts.values() for check in verdict.checks if check.figure}
    assert named <= {name.split("-")[0] for name in drawn}
    assert all(hasattr(plots, f"plot_{name}") for name in named)
    drawn["calibration"].savefig(tmp_path / "calibration.png")
    assert (tmp_path / "calibration.png").stat().st_size > 10_000


def test_people_read_sentences(runs, tmp_path, capsys):
    folder, _ = runs
    assert main(["diagnose", str(folder / "aligned"), "--out", str(tmp_path / "out"), "--no-plots"]) == 0
    text = capsys.readouterr().out
    assert "The draws can be taken for the posterior" in text
    assert "Not checked: start dependence" in text


def test_files_that_are_not_ours_are_refused(runs, tmp_path, capsys):
    folder, _ = runs
    save_tree(xr.DataTree(), tmp_path / "run.nc")
    for arguments, said in (
        ([], "name at least one"),
        ([str(tmp_path)], "holds no results"),
        ([str(tmp_path / "none")], "does not exist"),
        ([str(folder / "aligned"), str(folder / "aligned")], "twice"),
    ):
        assert main(["diagnose", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_without_a_converged_reference_there_are_no_distances(runs):
    _, trees = runs
    guide = {"guide": trees["guide"], "other": trees["guide"]}
    assert distances_by_problem(guide) == []
    assert selection_by_scheme(guide)["num_seeds"].tolist() == [2]

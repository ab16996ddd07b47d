"""The command line: JSON on standard output alone, one sentence and status 2 for what will not
do."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis import load_tree
from analysis.cli import main, output
from analysis.cli.options import parse_numbers
from analysis.cli.output import show_table

SMALL = ["--input-dim", "5", "--degree", "2", "--width", "8"]
SOLVE_KEYS = {
    "order_parameter",
    "test_mse",
    "precisions",
    "residual",
    "error",
    "effective_sample_size",
    "iterations",
    "converged",
    "branches",
}


def run(capsys, *args):
    status = main(list(map(str, args)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("theory", ["nngp", "mean-field", "mean-field-ard", "adaptive-kernel"])
def test_solve_prints_one_json_object(capsys, theory):
    status, out, _ = run(capsys, "solve", "--theory", theory, *SMALL, "--kappa", 0.3, "--json")
    answer = json.loads(out)
    assert status == 0
    assert set(answer) >= SOLVE_KEYS
    assert set(answer["precisions"]) == {"relevant", "rest"}
    assert answer["converged"]


def test_solve_takes_the_adaptive_kernel_s_prior_and_data(capsys):
    common = [
        "solve",
        "--theory",
        "adaptive-kernel",
        "--input-dim",
        8,
        "--width",
        16,
        "--kappa",
        0.2,
        "--json",
    ]
    answers = []
    for prior in ("isotropic", "ard"):
        status, out, _ = run(capsys, *common, "--prior", prior, "--num-data", 200)
        assert status == 0
        answers.append(json.loads(out))
    assert all(answer["num_data"] == 200 and answer["converged"] for answer in answers)
    assert answers[0]["precisions"]["relevant"] == 8
    assert answers[1]["precisions"]["relevant"] != 8


@pytest.mark.parametrize("theory", ["nngp", "mean-field", "mean-field-ard", "adaptive-kernel"])
def test_solve_prints_a_table(capsys, theory):
    status, out, _ = run(capsys, "solve", "--theory", theory, *SMALL, "--kappa", 0.3)
    assert status == 0
    assert all(word in out for word in ("order_parameter", "branches", "yes"))


def test_solve_writes_its_folder(capsys, tmp_path):
    status, out, _ = run(
        capsys, "solve", "--theory", "mean-field", *SMALL, "--kappa", 0.3, "--out", tmp_path / "a"
    )
    assert status == 0
    assert "order_parameter" in out
    assert json.loads((tmp_path / "a" / "point.json").read_text())["converged"]
    assert json.loads((tmp_path / "a" / "settings.json").read_text())["kappa"] == 0.3


def test_compare_prints_json_and_writes_its_folder(capsys, tmp_path):
    args = ["compare", *SMALL, "--num-data", 30, "--num-test", 20, "--kappas", "0.3,0.6", "--schemes"]
    status, out, err = run(capsys, *args, "nngp,mean-field-ard", "--json", "--out", tmp_path, "--no-plots")
    answer = json.loads(out)
    assert status == 0
    assert [(r["kappa"], r["scheme"]) for r in answer["rows"]] == [
        (0.3, "nngp"),
        (0.3, "mean-field-ard"),
        (0.6, "nngp"),
        (0.6, "mean-field-ard"),
    ]
    assert answer["problem"]["num_data"] == 30
    assert "results in" in err
    tree = load_tree(tmp_path / "run.nc")
    assert set(tree["nngp-isotropic-kappa0.3"].children) >= {"posterior", "order_parameters"}


def test_sample_writes_its_folder_and_repeats(capsys, tmp_path):
    args = ["sample", *SMALL, "--num-data", 30, "--num-test", 20, "--kappa", 0.3, "--num-warmup", 20]
    args += ["--num-samples", 40, "--thinning", 2, "--step-size", 0.001, "--json", "--seed", 3]
    status, out, _ = run(capsys, *args, "--out", tmp_path / "a")
    _, again, _ = run(capsys, *args, "--out", tmp_path / "b")
    first, second = json.loads(out), json.loads(again)
    assert status == 0
    assert {k: v for k, v in first.items() if k != "wall_time_s"} == {
        k: v for k, v in second.items() if k != "wall_time_s"
    }
    assert not first["converged"]
    assert first["messages"]
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "run.nc",
        "table.csv",
        "settings.json",
        "traces.png",
    }
    assert load_tree(tmp_path / "a" / "run.nc")["posterior"].sizes["draw"] == 20


def test_sample_reads_a_data_file(capsys, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    np.savez(tmp_path / "data.npz", x=x, y=x[:, 0])
    args = ["sample", "--data", tmp_path / "data.npz", "--width", 8, "--kappa", 0.3, "--scheme", "sgld"]
    args += ["--num-warmup", 20, "--num-samples", 20, "--thinning", 1, "--json", "--out", tmp_path / "a"]
    status, out, _ = run(capsys, *args)
    answer = json.loads(out)
    assert status == 0
    assert answer["problem"]["input_dim"] == 3
    assert answer["relevance_ratio"] is None


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            ["solve", "--theory", "mean-field", "--kappa", "-1"],
            "kappa must be a finite number greater than 0",
        ),
        (["solve", "--theory", "mean-field", "--kappa", "nan"], "kappa must be a finite number"),
        (["solve", "--theory", "mean-field", "--degree", "17"], "degree must not exceed input_dim"),
        (["solve", "--theory", "mean-field", "--input-dim", "9", "--degree", "7"], "at most 6"),
        (["solve", "--theory", "mean-field", "--degree", "0"], "degree must be a whole number of at least 1"),
        (["solve", "--theory", "mean-field", "--width", "0"], "width must be a whole number of at least 1"),
        (["solve", "--theory", "mean-field-ard", "--alpha0", "-4"], "shape must be a finite number greater"),
        (
            ["solve", "--theory", "mean-field-ard", "--num-data", "10"],
            "num_data must be None for MeanFieldARD",
        ),
        (
            ["solve", "--theory", "mean-field", "--prior", "ard"],
            "prior must be models.Isotropic for MeanField",
        ),
        (["solve", "--theory", "nngp", "--num-data", "0"], "num_data must be a whole number of at least 1"),
        (["compare", "--kappas", "0.1,0.1"], "kappas must hold at least one value, none of them twice"),
        (["compare", "--priors", "flat"], "prior must be one of isotropic, ard"),
        (["compare", "--schemes", "sgdl"], "schemes must be one of"),
        (["compare", "--num-data", "0"], "num_data must be a whole number"),
        (["compare", "--data", "nothing.npz"], "does not exist"),
        (["compare", "--data", "nothing.txt"], "must end in .npz, .csv or .parquet"),
        (["compare", "--seed", "-1"], "seed must be a whole number of at least 0"),
        (["compare", "--target", "y"], "target names a column of the file"),
        (["sample", "--step-size", "-1"], "step_size must be a positive number"),
        (["sample", "--num-samples", "0"], "num_samples must be a whole number"),
        (["sample", "--subsample-size", "301"], "subsample_size must not exceed num_data=300"),
        (["sample", "--scheme", "nuts", "--step-size", "0.1"], "step_size is for the Langevin kernels"),
        (["sample", "--scheme", "sgld", "--friction", "1"], "friction is for langevin, sghmc; leave it out"),
        (["sample", "--preconditioner", "prior"], "preconditioner goes with a step size of your own"),
        (
            ["sample", *SMALL, "--step-size", "1e6", "--num-samples", "1000", "--thinning", "1"],
            "use a smaller step_size",
        ),
    ],
)
def test_bad_arguments_end_in_one_sentence(capsys, args, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *args)
    assert status == 2
    assert out == ""
    assert sentence in err
    lines = [line for line in err.splitlines() if line.startswith("mfzoo: error: ")]
    assert len(lines) == 1
    assert lines[0].endswith(".")
    assert "Traceback" not in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "args",
    [
        ["solve", "--theory", "mean-feild"],
        ["solve"],
        ["compare", "--kappas", "a,b"],
        ["compare", "--kappas", "0:1:3"],
        ["frobnicate"],
        [],
    ],
)
def test_arguments_that_do_not_parse_exit_with_2(capsys, args):
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_foreign_data_file_is_refused(capsys, tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"PK\x03\x04 not an archive")
    status, _, err = run(capsys, "sample", "--data", path)
    assert status == 2
    assert "is not a readable .npz archive" in err


def test_an_unwritable_folder_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, _, err = run(
        capsys, "solve", "--theory", "mean-field", *SMALL, "--kappa", 0.3, "--out", tmp_path / "file" / "a"
    )
    assert status == 2
    assert "out: cannot write" in err


@pytest.mark.process
def test_the_installed_command_answers():
    command = os.path.join(os.path.dirname(sys.executable), "mfzoo")
    done = subprocess.run([command, "solve", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--theory" in done.stdout


def test_lists_and_log_ranges():
    assert parse_numbers("0.05,0.1") == (0.05, 0.1)
    assert parse_numbers("0.01:1:3") == (0.01, 0.1, 1.0)
    for text in ("", "a", "1:2", "0:1:3", "1,inf"):
        with pytest.raises(ValueError, match="is not a list of numbers"):
            parse_numbers(text)


@pytest.mark.process
def test_help_imports_no_science():
    code = (
        "import sys; from analysis.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpyro', 'pandas', 'arviz', 'matplotlib', 'xarray') if m in sys.modules])"
    )
    priors = ["priors", "--prior", "ard"]
    for args, imported, word in ((["--help"], "[]", "sample"), (priors, "['jax', 'numpyro']", "ard(shape")):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == imported
        assert word in done.stdout


@pytest.mark.process
def test_importing_leaves_matplotlib_as_it_was():
    code = (
        "import matplotlib; before = dict.__getitem__(matplotlib.rcParams, 'backend'); "
        "import analysis; from analysis import compare, sweep, order_parameters; "
        "assert dict.__getitem__(matplotlib.rcParams, 'backend') is before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.process
def test_functions_named_like_folders_stay_functions():
    code = (
        "import analysis.sweep.cells, analysis.report.page; from analysis import report, sweep; "
        "assert callable(sweep) and callable(report)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


COMPARE = ["compare", *SMALL, "--num-data", 30, "--num-test", 20, "--kappas", 0.3, "--no-plots"]


def test_draws_of_an_earlier_run_are_not_overwritten(capsys, tmp_path):
    steps = ["--num-warmup", 5, "--num-samples", 20, "--thinning", 1, "--scheme", "langevin", "--kappa", 0.3]
    sampled = ["sample", *SMALL, "--num-data", 30, "--num-test", 20, *steps, "--out", tmp_path]
    assert run(capsys, *sampled)[0] == 0
    before = (tmp_path / "run.nc").read_bytes(), (tmp_path / "settings.json").read_bytes()
    for command in (
        [*COMPARE, "--schemes", "nngp", "--prior", "isotropic"],
        ["solve", "--theory", "nngp", *SMALL],
        ["phase", "--theories", "nngp", *SMALL],
    ):
        status, _, err = run(capsys, *command, "--out", tmp_path)
        assert status == 2
        assert "holds the draws of an earlier run; name another folder, or give --overwrite" in err
    assert before == ((tmp_path / "run.nc").read_bytes(), (tmp_path / "settings.json").read_bytes())
    command = [*COMPARE, "--schemes", "nngp", "--prior", "isotropic", "--overwrite", "--out", tmp_path]
    assert run(capsys, *command)[0] == 0
    assert list(load_tree(tmp_path / "run.nc").children) == ["nngp-isotropic-kappa0.3"]


def test_a_scheme_that_fails_leaves_the_others_and_its_reason(capsys, tmp_path):
    command = [*COMPARE, "--degree", 5, "--schemes", "nngp,mean-field", "--prior", "isotropic"]
    status, out, err = run(capsys, *command, "--json", "--out", tmp_path)
    rows = json.loads(out)["rows"]
    assert status == 0
    assert [row["scheme"] for row in rows] == ["nngp", "mean-field"]
    assert "degree must be smaller" in rows[1]["error"]
    assert "mean-field isotropic κ=0.3 failed: degree must be smaller" in err
    assert list(load_tree(tmp_path / "run.nc").children) == ["nngp-isotropic-kappa0.3"]
    assert "degree must be smaller" in (tmp_path / "table.csv").read_text()


def test_a_named_scheme_runs_where_it_applies(capsys, tmp_path):
    status, out, err = run(capsys, *COMPARE, "--schemes", "nngp", "--json", "--out", tmp_path)
    assert status == 0
    assert [row["prior"] for row in json.loads(out)["rows"]] == ["isotropic"]
    assert "nngp is left out for the prior ard, which it does not cover" in err


def test_thinning_and_warm_up_follow_the_number_of_draws(capsys, tmp_path):
    common = ["sample", *SMALL, "--num-data", 30, "--num-test", 20, "--scheme", "sgld", "--kappa", 0.05]
    status, out, _ = run(capsys, *common, "--num-samples", 300, "--json", "--out", tmp_path)
    assert status == 0
    assert json.loads(out)["gradient_evaluations"] == 4 * (300 + 16 + 2 * (25 + 2 * 3))
    assert load_tree(tmp_path / "run.nc")["posterior"].sizes["draw"] == 300


def test_draws_that_cannot_be_judged_are_kept(capsys, tmp_path):
    common = ["sample", *SMALL, "--num-data", 30, "--num-test", 20, "--scheme", "langevin", "--kappa", 0.3]
    status, _, _ = run(capsys, *common, "--num-chains", 1, "--num-samples", 20, "--out", tmp_path)
    assert status == 0
    assert load_tree(tmp_path / "run.nc")["posterior"].sizes == {
        "chain": 1,
        "draw": 20,
        "neuron": 8,
        "input": 5,
    }


def test_a_wide_table_shows_every_figure(monkeypatch, capsys):
    frame = pd.DataFrame(
        {"scheme": ["nuts"], "prior": ["ard"]} | {f"input {j}": [j + 0.123] for j in range(40)}
    )
    narrow = Console(file=sys.stdout, width=80, force_terminal=True)
    monkeypatch.setattr(output, "console", lambda to_stderr: narrow)
    show_table(frame, "wide")
    shown = capsys.readouterr().out
    for j in range(40):
        assert f"{j + 0.123:.3f}" in shown
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines())) <= 80

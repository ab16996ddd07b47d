"""The experiment: what it draws and writes is what its cells hold, and no cell looks at the test
error to stop."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from analysis import load_tree
from analysis.cli import main
from analysis.plots.learning_curve import plot_learning_curve
from analysis.plots.reproduced import plot_reproduced_phase_diagram
from analysis.results.order_parameters import start_difference
from analysis.schemes.kernels import KERNELS, Budget
from analysis.schemes.registry import SAMPLERS, SCHEMES, run_sampler
from analysis.sweep.cells import Cell
from analysis.sweep.reproduction_table import read_reference, summary
from analysis.theory.phase_diagram import phase_diagram
from inference import UnderdampedLangevin
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

SIZES = (20, 40)
PUBLISHED = Path(__file__).parents[2] / "docs" / "data" / "learning_curve_kappa_5e-3.csv"
COMMON = ["--input-dim", "6", "--degree", "2", "--width", "8", "--num-test", "30", "--workers", "0"]
STEPS = ["--num-warmup", "10", "--num-samples", "40", "--thinning", "2"]
CURVE = ["reproduce", "learning-curve", *COMMON, *STEPS, "--kappas", "0.4", "--num-data", "20,40"]
CURVE += ["--seeds", "0:2", "--priors", "isotropic", "--theories", "adaptive-kernel,mean-field"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one run of the command left, its answer in ``answer.json``."""
    folder = tmp_path_factory.mktemp("reproduce")
    with (folder / "answer.json").open("w") as answer, contextlib.redirect_stdout(answer):
        assert main([*CURVE, "--out", str(folder / "out"), "--json"]) == 0
    return folder


def test_the_command_writes_the_grid_the_tables_and_the_figure(folder):
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {
        "networks",
        "learning_curve.nc",
        "learning_curve.png",
        "table.csv",
        "cells.csv",
        "settings.json",
    }
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["cells"]["done"] == 4
    assert answer["cells"]["failed"] == 0
    assert answer["cells"]["not_converged"] == 4  # so short a run cannot have converged
    assert answer["problem"]["input_dim"] == 6
    assert len(answer["rows"]) == len(pd.read_csv(folder / "out" / "table.csv"))
    settings = json.loads((folder / "out" / "settings.json").read_text())
    assert settings["command"] == "reproduce learning-curve"
    assert settings["budget"]["num_samples"] == 40


def test_the_table_holds_means_and_standard_errors_over_the_seeds(folder):
    grid = load_tree(folder / "out" / "learning_curve.nc")["networks"].to_dataset()
    table = pd.read_csv(folder / "out" / "table.csv")
    cells = pd.read_csv(folder / "out" / "cells.csv")
    for size in SIZES:
        row = table[(table.source == "networks") & (table.num_data == size)].squeeze()
        by_hand = grid.sel(prior="isotropic", kappa=0.4, num_data=size)
        for name, column in (("order_parameter", "order_parameter"), ("test_mse_draw", "test_mse")):
            one, other = by_hand[name].sel(seed=0).item(), by_hand[name].sel(seed=1).item()
            assert row[column] == pytest.approx((one + other) / 2, rel=1e-12)
            # Of two values: |difference|/√2 is their standard deviation, and √2 less that of their
            # mean.
            assert row[f"{column}_se"] == pytest.approx(abs(one - other) / 2, rel=1e-9)
            assert one != other  # the seed draws other data and other chains
            written = cells[(cells.num_data == size)].set_index("seed")[name]
            assert written.tolist() == pytest.approx([one, other], rel=1e-12)
        assert row.r_hat_max == pytest.approx(by_hand.r_hat_max.max().item())
        assert row.ess_min == pytest.approx(by_hand.ess_min.min().item())
        assert row.start_difference == pytest.approx(np.abs(by_hand.start_difference).max().item())
        assert (row.num_seeds, row.num_converged) == (2, 0)


def test_the_table_holds_the_theories(folder):
    table = pd.read_csv(folder / "out" / "table.csv")
    network, teacher = TwoLayerNetwork(6, 8, 0.4), SparseParity(6, 2)
    wanted = phase_diagram(network, teacher, [0.4], [20, None], ["adaptive-kernel", "mean-field"])
    for name, size in (("adaptive-kernel", 20), ("mean-field", np.inf)):
        row = table[(table.scheme == name) & (table.num_data == size) & (table.start == "prior")].squeeze()
        exact = wanted.sel(theory=name, num_data=size).squeeze()
        assert row.order_parameter == pytest.approx(exact.order_parameter.item())
        assert row.test_mse == pytest.approx(exact.test_mse.item())
    assert set(table[table.scheme == "mean-field"].num_data) == {np.inf}
    assert set(SIZES) < set(table[table.scheme == "adaptive-kernel"].num_data)


def test_the_same_command_runs_what_is_missing(folder, capsys):
    cells = folder / "out" / "networks" / "cells"
    first, *others = sorted(cells.iterdir())
    before, content = {path: path.stat().st_mtime_ns for path in others}, json.loads(first.read_text())
    first.unlink()
    assert main([*CURVE, "--out", str(folder / "out")]) == 0
    captured = capsys.readouterr()
    assert "4 of 4 cells did not converge" in captured.err
    assert before == {path: path.stat().st_mtime_ns for path in others}
    again = json.loads(first.read_text())
    for figures in (content["figures"], again["figures"]):
        del figures["wall_time_s"]
    assert again == content


@pytest.mark.parametrize("prior", [Isotropic(), pytest.param(ARD(), marks=pytest.mark.slow)])
def test_chains_do_not_look_at_the_test_targets(prior, small_data, small_network):
    network = replace(small_network, prior=prior)
    order = np.random.default_rng(0).permutation(len(small_data.y_test))
    other = replace(small_data, y_test=small_data.y_test[order])
    assert not np.array_equal(other.y_test, small_data.y_test)
    steps = {"num_warmup": 10, "num_samples": 20, "thinning": 2}
    trees = [
        run_sampler("langevin", network, data, jax.random.key(0), steps=steps) for data in (small_data, other)
    ]
    for site, draws in trees[0].posterior.items():
        np.testing.assert_array_equal(draws, trees[1].posterior[site])
    assert not np.array_equal(trees[0].order_parameters.test_mse, trees[1].order_parameters.test_mse)


def test_steps_depend_on_kappa_and_effort_alone():
    network, steps_at = TwoLayerNetwork(6, 8, 0.05), KERNELS["langevin"].steps
    steps = Budget().steps(steps_at(network))
    assert steps == steps_at(network) == steps_at(replace(network, width=16))
    # The step grows as κ, and so falls the number of steps in the same time; 250 draws stay.
    doubled = steps_at(replace(network, kappa=0.1))
    assert doubled["num_samples"] == pytest.approx(steps["num_samples"] / 2, rel=0.05)
    half = Budget(effort=0.5).steps(steps_at(network))
    assert half["num_samples"] == pytest.approx(steps["num_samples"] / 2, rel=0.05)
    assert half["num_samples"] // half["thinning"] == steps["num_samples"] // steps["thinning"] == 250


def test_another_kernel_makes_other_cells(monkeypatch):
    cells = [Cell(TwoLayerNetwork(6, 8, 0.1), SparseParity(6, 2), 20, 20, 0, "langevin") for _ in range(2)]
    other = replace(KERNELS["langevin"], default=lambda network: UnderdampedLangevin(step_size=0.01))
    before = cells[0].fingerprint
    monkeypatch.setitem(SAMPLERS, "langevin", replace(SAMPLERS["langevin"], kernel=other))
    assert cells[1].fingerprint != before


def test_the_difference_between_the_starts_is_aligned_minus_prior():
    rng = np.random.default_rng(1)
    offsets = np.array([0.0, 0.0, 0.0, 2.0, 2.0])  # the larger half of five chains is from the prior
    values = xr.DataArray(offsets[:, None] + 0.1 * rng.standard_normal((5, 400)), dims=("chain", "draw"))
    difference, se = start_difference(values)
    expected = 0.1 * np.sqrt(1 / 1200 + 1 / 800)
    assert difference == pytest.approx(2, abs=5 * expected)
    assert se == pytest.approx(expected, rel=0.3)


def test_a_cell_reports_the_difference_between_its_starts(folder):
    grid = load_tree(folder / "out" / "learning_curve.nc")["networks"].to_dataset()
    data = SparseParity(6, 2).sample(jax.random.key(1), 20, 30)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), 1), list(SCHEMES).index("langevin"))
    steps = {"num_warmup": 10, "num_samples": 40, "thinning": 2}
    m = run_sampler(
        "langevin", TwoLayerNetwork(6, 8, 0.4), data, key, steps=steps
    ).order_parameters.order_parameter
    by_hand = m[2:].mean() - m[:2].mean()
    cell = grid.sel(prior="isotropic", kappa=0.4, num_data=20, seed=1)
    assert cell.start_difference.item() == pytest.approx(by_hand.item(), abs=1e-6)
    assert cell.start_difference_se > 0


def fake_tree() -> xr.DataTree:
    """Two noises, two sizes, both priors, three seeds, one of them not converged; two theories."""
    rng = np.random.default_rng(0)
    shape, coords = (
        (2, 2, 2, 3),
        {
            "prior": ["isotropic", "ard"],
            "kappa": [0.05, 0.1],
            "num_data": [100, 1000],
            "seed": [0, 1, 2],
        },
    )
    names = ("order_parameter", "test_mse_draw", "test_mse_mean", "r_hat_max", "ess_min", "start_difference")
    networks = {name: (tuple(coords), rng.uniform(0.1, 0.9, shape)) for name in names}
    converged = np.ones(shape)
    converged[0, 0, 0, 0] = 0
    networks |= {
        "converged": (tuple(coords), converged),
        "gradient_evaluations": (tuple(coords), np.ones(shape)),
    }
    networks["status"] = tuple(coords), np.full(shape, "done")
    at = {
        "theory": ["adaptive-kernel", "mean-field"],
        "prior": coords["prior"],
        "start": ["prior", "aligned"],
        "kappa": coords["kappa"],
        "num_data": [100.0, 1000.0, np.inf],
    }
    values = rng.uniform(0.1, 0.9, (2, 2, 2, 2, 3))
    values[0, ..., 2] = values[1, ..., :2] = np.nan
    solved = {
        n: (tuple(at), values) for n in ("order_parameter", "test_mse", "test_mse_mean", "error", "converged")
    }
    solved["onset"] = ("theory", "prior", "start", "num_data"), values[..., 0, :] / 10
    return xr.DataTree.from_dict(
        {
            "/networks": xr.Dataset(networks, coords, {"scheme": "langevin"}),
            "/theories": xr.Dataset(solved, at),
        }
    )


def test_marks_are_hollow_where_a_seed_did_not_converge():
    figure = plot_learning_curve(summary(fake_tree()))
    assert len(figure.axes) == 4
    marks = [
        (axes.get_title(), line.get_markerfacecolor(), line.get_xdata().tolist())
        for axes in figure.axes[:2]
        for line in axes.lines
        if line.get_marker() == "o"
    ]
    assert ("κ = 0.05", "white", [100]) in marks
    assert ("κ = 0.05", "#0072B2", [1000]) in marks
    assert ("κ = 0.1", "white", []) in marks
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "hollow: not converged" in labels
    assert "AK theory" in labels
    assert "MF: P = ∞" in labels


def test_a_failed_seed_is_left_out_of_the_means():
    tree = fake_tree()
    grid = tree["networks"].to_dataset().copy(deep=True)
    place = {"prior": "ard", "kappa": 0.1, "num_data": 1000, "seed": 2}
    grid.status.loc[place] = "failed"
    for name in ("order_parameter", "test_mse_draw", "converged"):
        grid[name].loc[place] = np.nan
    tree["networks"] = xr.DataTree(grid)
    table = summary(tree)
    row = table[(table.source == "networks") & (table.prior == "ard") & (table.kappa == 0.1)]
    row = row[row.num_data == 1000].squeeze()
    two = grid.order_parameter.sel(prior="ard", kappa=0.1, num_data=1000).values[:2]
    assert (row.num_seeds, row.num_converged) == (2, 2)
    assert row.order_parameter == pytest.approx(two.mean())
    assert row.order_parameter_se == pytest.approx(abs(two[0] - two[1]) / 2)


@pytest.mark.parametrize("quantity", ["order_parameter", "test_mse"])
def test_the_phase_diagram_marks_cells_that_did_not_converge(quantity):
    figure = plot_reproduced_phase_diagram(fake_tree(), quantity)
    *panels, _ = figure.axes
    circles = [[(x, y) for x, y in line.get_xydata()] for line in panels[0].lines if line.get_marker() == "o"]
    assert circles == [[(0.05, 100)]]
    assert panels[0].get_title("left") == "networks, isotropic prior"
    assert not [line for line in panels[3].lines if line.get_marker() == "o"]  # the networks with ARD
    assert sum(line.get_linestyle() == "-" for line in panels[0].lines) == 1  # the onset


def test_the_phase_diagram_command_takes_the_cells_that_are_there(folder, tmp_path, capsys):
    shutil.copytree(folder / "out" / "networks", tmp_path / "networks")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "networks" / "cells").iterdir()}
    args = ["reproduce", "phase-diagram", *COMMON, *STEPS, "--kappas", "0.4", "--num-data", "20,40"]
    assert main([*args, "--seeds", "0:2", "--priors", "isotropic", "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["cells"]["done"] == 4
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "networks" / "cells").iterdir()}
    assert after == before
    assert {"phase_diagram.nc", "phase_diagram.png", "phase_diagram_mse.png", "table.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }
    theories = load_tree(tmp_path / "phase_diagram.nc")["theories"].to_dataset()
    assert theories.sizes["kappa"] == 40


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--kappas", "-1"], "kappa must be a finite number greater than 0"),
        (["--seed", "3"], "seed does not count beside seeds"),
        (["--effort", "0"], "effort must be a finite number greater than 0"),
        (
            ["--effort", "2", "--num-warmup", "1", "--num-samples", "5"],
            "effort is a factor on the default steps",
        ),
        (["--theories", "mean-field-ard"], "mean-field-ard covers the prior ARD, not isotropic"),
        (["--theories", "mean-feild"], "theory must be one of"),
        (["--num-data", "0"], "num_data must be a whole number of at least 1"),
        (["--workers", "2", "--scheduler", "tcp://localhost:1"], "workers are processes of this machine"),
        (["--reference", "nothing.csv"], "reference was measured at input_dim=35"),
    ],
)
def test_bad_arguments_end_in_one_sentence(capsys, tmp_path, args, sentence):
    command = ["reproduce", "learning-curve", "--input-dim", "6", "--width", "8", "--priors", "isotropic"]
    assert main([*command, *args, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.rglob("*.json"))


def test_the_published_curve_is_for_its_own_problem(tmp_path):
    network, teacher = TwoLayerNetwork(35, 512, 0.005), SparseParity(35, 4)
    table = read_reference(PUBLISHED, network, teacher, (0.005, 0.01))
    assert set(table.scheme) == {"SGLD", "MF", "MF-ARD"}
    row = table[(table.scheme == "SGLD") & (table.P == 1000)].squeeze()
    assert (row.test_mse, row.test_mse_sd, row.kappa) == (0.0597, 0.009, 0.005)
    with pytest.raises(ValueError, match="but the problem has width=64"):
        read_reference("x.csv", replace(network, width=64), teacher, (0.005,))
    with pytest.raises(ValueError, match=r"but the problem has kappas=0.01"):
        read_reference("x.csv", network, teacher, (0.01,))
    with pytest.raises(ValueError, match=r"x\.csv. cannot be read as \.csv \(No such file"):
        read_reference(tmp_path / "x.csv", network, teacher, (0.005,))
    (tmp_path / "x.csv").write_text("P,scheme\n1,SGLD\n")
    with pytest.raises(ValueError, match="has no column order_parameter, test_mse, test_mse_sd"):
        read_reference(tmp_path / "x.csv", network, teacher, (0.005,))

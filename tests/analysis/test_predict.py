"""Predictions at new inputs: in the file's own units, by name, from any result."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

from analysis import load_tree, predict, save_tree
from analysis.cli import main
from inference import SGLD, sample
from models import ARD, Dataset, TwoLayerNetwork


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a table with units, and a column that is constant; its folder, data and tree."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 2)) * [1, 50] + [0, 1000], columns=["age", "dose"])
    frame = frame.assign(fixed=7.0, y=100 + 30 * np.tanh(frame.age))
    folder = tmp_path_factory.mktemp("run")
    frame.to_csv(folder / "table.csv", index=False)
    data = Dataset.from_file(folder / "table.csv").standardised()
    network = TwoLayerNetwork(2, 8, 0.1, prior=ARD(), bias=True)
    options = {"num_warmup": 50, "num_samples": 40, "num_chains": 2}
    tree = sample(network, data, SGLD(step_size=1e-3), jax.random.key(0), **options)
    save_tree(tree, folder / "run.nc")
    return folder, frame, data, tree


def test_predictions_are_those_of_the_draws_in_the_file_s_units(run):
    folder, frame, data, tree = run
    table = predict(folder, frame, level=0.8)
    draws = {name: tree.posterior[name].to_numpy() for name in ("w", "a", "b")}
    units = data.standardisation
    x = (frame[["age", "dose"]].to_numpy() - units.mean) / units.scale
    f = TwoLayerNetwork(2, 8, 0.1, bias=True).apply(draws, x).reshape(80, -1)
    np.testing.assert_allclose(table["mean"], units.original(f.mean(axis=0)), rtol=1e-5)
    wanted = np.quantile(f, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(table[["f_low", "f_high"]].T, units.original(wanted), rtol=1e-5)
    # The interval of y has that much of the mixture's probability below either end.
    noise = 0.1 * data.num_data**0.5 * units.target_scale
    for name, probability in (("y_low", 0.1), ("y_high", 0.9)):
        below = norm.cdf((table[name].to_numpy() - units.original(f)) / noise).mean(axis=0)
        np.testing.assert_allclose(below, probability, atol=1e-4)
    assert data.standardisation.dropped == ("fixed",)


def test_on_the_test_rows_they_are_the_run_s_own(run):
    _, _, data, tree = run
    units = data.standardisation
    x = np.asarray(data.x_test) * units.scale + units.mean
    mean = tree.predictions["f"].mean(("chain", "draw"))
    np.testing.assert_allclose(predict(tree, x)["mean"], units.original(mean), rtol=1e-5)


def test_columns_are_found_by_name(run):
    folder, frame, _, _ = run
    wanted = predict(folder, frame)
    other = frame[["dose", "age"]].assign(comment="words").set_index(frame.index + 5)
    found = predict(folder, other)
    np.testing.assert_array_equal(found, wanted)
    assert list(found.index[:2]) == [5, 6]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda f: f.drop(columns="age"),
            "table lacks the column 'age', which is an input of the run; it has",
        ),
        (lambda f: f[["y"]], "table lacks the columns 'age', 'dose', which are inputs of the run"),
        (lambda f: f.assign(age="old"), "column 'age' is not numeric, row 1 of 'age' being 'old'"),
        (
            lambda f: f.assign(age=np.nan),
            r"table has missing values \(column and count: 'age' 40, of 40 rows\)",
        ),
        (lambda f: f[["age"]].to_numpy(), "table must have the 2 inputs of the run as columns, got 1"),
    ],
)
def test_what_is_missing_is_named(run, change, sentence):
    _, frame, _, tree = run
    with pytest.raises(ValueError, match=sentence):
        predict(tree, change(frame))


def test_arrays_without_names_are_taken_in_their_order(small_tree, small_data, tmp_path):
    wanted = small_tree.predictions["f"].mean(("chain", "draw"))
    np.testing.assert_allclose(predict(small_tree, small_data.x_test)["mean"], wanted, atol=1e-5)
    np.savez(tmp_path / "new.npz", x=small_data.x_test)
    np.testing.assert_allclose(predict(small_tree, tmp_path / "new.npz")["mean"], wanted, atol=1e-5)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        predict(small_tree, small_data.x_test, level=1)


def test_the_command_writes_and_prints_them(run, tmp_path, capsys):
    folder, frame, _, tree = run
    new, out = tmp_path / "new.csv", tmp_path / "out.csv"
    frame.drop(columns="y").to_csv(new, index=False)
    command = ["predict", str(folder), "--data", str(new)]
    assert main([*command, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    written, wanted = pd.read_csv(out), predict(tree, frame)
    np.testing.assert_allclose(written[wanted.columns], wanted, rtol=1e-9)
    np.testing.assert_allclose([row["mean"] for row in answer["rows"]], wanted["mean"], rtol=1e-9)
    assert main([*command, "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    new.write_text("age\n1\n")
    assert main(command) == 2
    assert "data file 'new.csv' lacks the column 'dose'" in capsys.readouterr().err


def test_one_of_several_results_is_named(run, tmp_path):
    _, frame, _, tree = run
    save_tree(xr.DataTree(children={"sgld-ard-kappa0.1": tree.copy()}), tmp_path / "run.nc")
    wanted = predict(tree, frame)
    np.testing.assert_allclose(predict(tmp_path, frame, result="sgld-ard-kappa0.1"), wanted)
    np.testing.assert_allclose(predict(load_tree(tmp_path / "run.nc"), frame), wanted)  # there is but one
    with pytest.raises(ValueError, match=r"result must be one of sgld-ard-kappa0\.1; got 'nuts'"):
        predict(tmp_path, frame, result="nuts")

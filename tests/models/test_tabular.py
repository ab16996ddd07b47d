"""Tables from files, standard units, and the noise that the evidence chooses."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

from analysis.cli import main
from inference.fixed_points.regression.covariances import nngp_kernel
from inference.fixed_points.regression.evidence import choose_kappa
from models import ARD, Dataset, TwoLayerNetwork


def table(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)) * [1, 50, 0.01] + [0, 1000, 5], columns=["u", "v", "w"])
    return frame.assign(t=3 * frame.u - 0.1 * frame.v + 7)


# --- files ---


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_are_read_by_name_and_split_by_the_seed(tmp_path, ending):
    frame, path = table(), tmp_path / f"d.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    data = Dataset.from_file(path, target="v", test_fraction=0.5, seed=3)
    assert data.names == ("u", "w", "t")
    assert (len(data.x), len(data.x_test)) == (20, 20)
    wanted = Dataset.from_arrays(frame[["u", "w", "t"]], frame.v, test_fraction=0.5, seed=3)
    np.testing.assert_allclose(data.x, wanted.x)
    np.testing.assert_allclose(data.y_test, wanted.y_test)
    assert Dataset.from_file(path).names == ("u", "v", "w")  # the last column is the target


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("models.tabular.find_spec", lambda name: None)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="needs pyarrow; install it with pip install pyarrow"):
        Dataset.from_file(tmp_path / "d.parquet")


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_a_foreign_parquet_file_is_refused(tmp_path):
    (tmp_path / "d.parquet").write_bytes(b"not a table")
    with pytest.raises(ValueError, match=r"'d\.parquet' is not a readable table"):
        Dataset.from_file(tmp_path / "d.parquet")


@pytest.mark.parametrize(
    ("spoiled", "sentence"),
    [
        ({"u": "red"}, "column 'u' is not numeric, row 4 of 'u' being 'red'; one-hot encode"),
        (
            {"u": "red", "w": "blue"},
            "columns 'u', 'w' are not numeric, row 4 of 'u' being 'red'; one-hot encode",
        ),
        (
            {"t": "yes"},
            "column 't' is not numeric.*'yes'; code its classes as numbers, two of them as -1 and 1",
        ),
        ({"u": "?"}, r"row 4 of 'u' being '\?'; remove or impute the rows where a value is missing"),
        ({"w": "12 %"}, "row 4 of 'w' being '12 %'; write per cents as plain numbers"),
        ({"v": "1,200.5"}, "row 4 of 'v' being '1,200.5'; write numbers without thousands separators"),
        ({"v": "0,52"}, "row 4 of 'v' being '0,52'; write decimal points"),
        ({"v": "2024-03-01"}, "row 4 of 'v' being '2024-03-01'; turn dates and times into numbers"),
        ({"v": "Total"}, "row 4 of 'v' being 'Total'; remove the rows that sum others up"),
        ({"u": None, "w": None}, r"missing values \(column and count: 'u' 2, 'w' 2, of 40 rows\)"),
    ],
)
def test_words_and_gaps_are_refused_by_column(tmp_path, spoiled, sentence):
    frame = table().astype(object)
    for name, value in spoiled.items():
        frame.loc[[3, 5], name] = value
    frame.to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(ValueError, match=sentence) as info:
        Dataset.from_file(tmp_path / "d.csv")
    assert str(info.value).endswith(".")


def test_long_lists_of_bad_columns_are_cut(tmp_path):
    frame = pd.DataFrame({f"c{j}": ["red", "blue"] for j in range(20)}).assign(t=[0.0, 1.0])
    frame.to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(ValueError, match="'c7' and 12 more are not numeric"):
        Dataset.from_file(tmp_path / "d.csv")


@pytest.mark.parametrize(("separator", "decimal"), [(";", "."), (";", ","), ("\t", "."), ("\t", ",")])
def test_other_separators_are_found(tmp_path, separator, decimal):
    frame = table().rename(columns={"v": "sulfur, total"})
    frame.to_csv(tmp_path / "d.csv", index=False, sep=separator, decimal=decimal)
    data = Dataset.from_file(tmp_path / "d.csv", seed=3)
    assert data.names == ("u", "sulfur, total", "w")
    wanted = Dataset.from_arrays(frame[["u", "sulfur, total", "w"]], frame.t, seed=3)
    np.testing.assert_allclose(data.x, wanted.x)
    np.testing.assert_allclose(data.y_test, wanted.y_test)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0.1,-2,3e-2\n1,2,3\n", "must have a header, but its first line holds the numbers 0.1, -2, 3e-2"),
        ("u,t\n1,2,3\n4,5,6\n", "has 3 fields in its first row but 2 names in its header; name every column"),
        ("u;t\n1,5;2.5\n4;5\n", "has decimal commas and decimal points"),
        ("u|t\n1|2\n", "at least two columns, inputs and a target, with commas, semicolons or tabs"),
    ],
)
def test_what_would_shift_columns_is_refused(tmp_path, text, sentence):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        Dataset.from_file(tmp_path / "d.csv")


def test_columns_that_are_only_numbered_are_named(tmp_path):
    pd.DataFrame(np.random.default_rng(0).normal(size=(9, 3))).to_csv(tmp_path / "d.csv", index=False)
    assert Dataset.from_file(tmp_path / "d.csv").names == ("0", "1")


def test_inputs_that_leak_are_named(tmp_path):
    frame = table().assign(copy=lambda f: f.t)
    frame.to_csv(tmp_path / "d.csv", index_label="id")
    with pytest.warns(UserWarning, match="remove that column from the file") as caught:
        Dataset.from_file(tmp_path / "d.csv", target="t")
    messages = [str(w.message) for w in caught]
    assert messages == [
        "input 'id' counts the rows, from 0 to 39; remove that column from the file.",
        "input 'copy' repeats the target 't'; remove that column from the file.",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_is_in_both_parts(seed):
    x, y = np.random.default_rng(0).normal(size=(40, 2)), np.zeros(40)
    y[[3, 17]] = 1
    data = Dataset.from_arrays(x, y, seed=seed)
    assert (data.y.sum(), data.y_test.sum()) == (1, 1)
    assert len(data.y_test) in (10, 11)
    assert sorted(map(tuple, np.vstack([data.x, data.x_test]))) == sorted(map(tuple, x))
    common = Dataset.from_arrays(x, np.sign(x[:, 0]), seed=seed)  # the rows that any target would hold out
    assert np.array_equal(common.x_test, Dataset.from_arrays(x, x[:, 0], seed=seed).x_test)


def test_names_must_match_the_inputs():
    with pytest.raises(ValueError, match="names must have one name per column of x: 1 against 2"):
        Dataset.from_arrays(np.eye(4)[:, :2], np.arange(4.0), names=["u"])


# --- standard units ---


def test_standard_units_are_those_of_the_training_rows():
    frame = table()
    raw = Dataset.from_arrays(frame[["u", "v", "w"]], frame.t, names=["u", "v", "w"], relevant=[0, 1])
    data = raw.standardised()
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(data.x.std(axis=0), 1)
    np.testing.assert_allclose([data.y.mean(), data.y.std()], [0, 1], atol=1e-9)
    # The held-out rows are moved with the training rows' moments, and not by their own.
    assert np.abs(data.x_test.mean(axis=0)).max() > 0.01
    units = data.standardisation
    np.testing.assert_allclose(data.x_test * units.scale + units.mean, raw.x_test)
    np.testing.assert_allclose(units.original(data.y_test), raw.y_test)
    assert (data.names, data.relevant, units.dropped) == (("u", "v", "w"), (0, 1), ())


def test_constant_inputs_are_dropped_and_the_others_keep_their_names():
    rng = np.random.default_rng(0)
    # The second input varies, but on held-out rows only; the third by rounding only.
    x, x_test = rng.normal(size=(20, 4)), rng.normal(size=(5, 4))
    x[:, 1], x[:, 2] = 2.0, np.where(x[:, 0] > 0, 0.3, 0.1 + 0.2)
    data = Dataset(
        x, x[:, 0], x_test, x_test[:, 0], relevant=(0, 3), names=("a", "b", "c", "d")
    ).standardised()
    assert (data.names, data.relevant) == (("a", "d"), (0, 1))
    assert data.standardisation.dropped == ("b", "c")
    assert data.standardisation.to_dict(data.names)["dropped"] == ["b", "c"]
    # Where there are no names, the numbers in the file are.
    assert Dataset(x, x[:, 0], x_test, x_test[:, 0]).standardised().names == ("0", "3")
    np.testing.assert_allclose(data.x_test[:, 1], (x_test[:, 3] - x[:, 3].mean()) / x[:, 3].std())


def test_nothing_to_learn_is_said():
    x = np.random.default_rng(0).normal(size=(8, 2))
    with pytest.raises(ValueError, match="target must vary over the training rows"):
        Dataset.from_arrays(x, np.ones(8)).standardised()
    with pytest.raises(ValueError, match="every one is constant"):
        Dataset.from_arrays(np.ones((8, 2)), x[:, 0]).standardised()
    spoiled = np.c_[x, np.ones(8)]
    with pytest.raises(ValueError, match="relevant input '2' is constant"):
        Dataset.from_arrays(spoiled, x[:, 0], relevant=[2]).standardised()


# --- the noise ---


def noisy(noise, rows=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    return Dataset(x, x[:, 0] + noise * rng.normal(size=rows), x[:9], x[:9, 0])


NETWORK = TwoLayerNetwork(input_dim=4, width=64, kappa=1.0)


@pytest.mark.parametrize("criterion", ["evidence", "loo"])
@pytest.mark.parametrize("noise", [0.2, 0.7])
@pytest.mark.parametrize("seed", [0, 1])
def test_known_noise_is_found(criterion, noise, seed):
    choice = choose_kappa(NETWORK, noisy(noise, seed=seed), criterion)
    # The standard deviation of 400 values is known to 1/√800 = 3.5 %; some of them go to f.
    assert choice.target_noise == pytest.approx(noise, rel=0.15)
    assert choice.kappa == pytest.approx(choice.target_noise / 20)
    assert not choice.at_bound


def test_criteria_are_densities_of_the_process_and_stationary():
    data = noisy(0.5, rows=30)
    kernel = nngp_kernel(NETWORK, data.x)

    def evidence(noise):
        return multivariate_normal(np.zeros(30), kernel + noise**2 * np.eye(30)).logpdf(data.y)

    def leave_one_out(noise):
        total = 0.0
        for left in range(30):
            rest = np.delete(np.arange(30), left)
            solve = np.linalg.solve(kernel[np.ix_(rest, rest)] + noise**2 * np.eye(29), kernel[rest, left])
            variance = kernel[left, left] + noise**2 - solve @ kernel[rest, left]
            total += norm.logpdf(data.y[left], solve @ data.y[rest], variance**0.5)
        return total

    for criterion, density in (("evidence", evidence), ("loo", leave_one_out)):
        choice = choose_kappa(NETWORK, data, criterion)
        assert choice.log_density == pytest.approx(density(choice.target_noise), abs=1e-6)
        assert density(choice.target_noise) > max(
            density(0.97 * choice.target_noise), density(1.03 * choice.target_noise)
        )


def test_noise_that_the_data_do_not_fix_is_at_the_bound():
    data = noisy(0.0, rows=60)
    linear = replace(NETWORK, activation="identity", prior=ARD())  # its NNGP holds the target exactly
    choice = choose_kappa(linear, data)
    assert choice.at_bound
    assert choice.target_noise == pytest.approx(0.03 * np.sqrt(np.mean(data.y**2)), rel=0.01)
    with pytest.raises(ValueError, match="criterion must be one of evidence, loo"):
        choose_kappa(NETWORK, data, "aic")
    with pytest.raises(ValueError, match="x must have input_dim=5 columns"):
        choose_kappa(replace(NETWORK, input_dim=5), data)


# --- the command line ---


def test_compare_reads_a_table_in_standard_units_at_the_noise_of_largest_evidence(capsys, tmp_path):
    frame = table(60).assign(constant=1.0)
    frame.to_csv(tmp_path / "d.csv", index=False)
    args = [
        "compare",
        "--data",
        tmp_path / "d.csv",
        "--target",
        "t",
        "--schemes",
        "nngp",
        "--prior",
        "isotropic",
    ]
    args += [
        "--test-fraction",
        0.4,
        "--seed",
        2,
        "--width",
        8,
        "--no-plots",
        "--json",
        "--out",
        tmp_path / "a",
    ]
    status = main([str(a) for a in args])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    data = Dataset.from_file(tmp_path / "d.csv", target="t", test_fraction=0.4, seed=2).standardised()
    answer = json.loads(printed.out)
    assert answer["problem"]["num_test"] == 24
    assert answer["problem"]["inputs"] == ["u", "v", "w"]
    kappa = choose_kappa(TwoLayerNetwork(3, 8, kappa=1.0), data).kappa
    assert answer["rows"][0]["kappa"] == pytest.approx(kappa, rel=0.01)
    for sentence in ("standardised units", "left out, being constant: constant", "largest NNGP evidence"):
        assert sentence in printed.err
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert settings["kappas"] == [answer["rows"][0]["kappa"]]
    recorded = settings["described"]["standardisation"]
    assert recorded["target"]["scale"] == pytest.approx(data.standardisation.target_scale)
    assert recorded["inputs"]["v"]["mean"] == pytest.approx(data.standardisation.mean[1])
    assert recorded["dropped"] == ["constant"]


def test_test_fraction_needs_a_file(capsys):
    assert main(["compare", "--test-fraction", "0.5"]) == 2
    assert "test_fraction is the share of the rows of the file" in capsys.readouterr().err

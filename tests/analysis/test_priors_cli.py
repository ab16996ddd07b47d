"""Priors on the command line: by name, with parameters, and from a user's own file."""

import json
import subprocess
import sys

import numpy as np
import pytest

from analysis import load_tree
from analysis.cli import main
from analysis.cli.options import Problem, parse_priors, try_prior
from models import GroupedARD, StudentT, TwoLayerNetwork, WeightPrior, make_prior
from models.priors import PRIORS

SMALL = ["--input-dim", "5", "--degree", "2", "--width", "4", "--num-data", "20", "--num-test", "10"]
OWN = """
from dataclasses import dataclass
import numpyro, numpyro.distributions as dist
from models import WeightPrior, input_plate, neuron_plate

@dataclass(frozen=True)
class Laplace(WeightPrior):
    scale: float = 1.0
    def weights(self, width, input_dim):
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("w", dist.Laplace(0.0, self.scale * input_dim**-0.5))

@dataclass
class Thawed(WeightPrior):
    scale: float = 1.0
    def weights(self, width, input_dim):
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("w", dist.Normal(0.0, self.scale))

@dataclass(frozen=True)
class Narrow(WeightPrior):
    def weights(self, width, input_dim):
        return numpyro.sample("w", dist.Normal().expand([width, input_dim - 1]).to_event(2))

@dataclass(frozen=True)
class Switch(WeightPrior):
    def weights(self, width, input_dim):
        with input_plate(input_dim):
            on = numpyro.sample("on", dist.Bernoulli(0.5))
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("w", dist.Normal(0.0, 0.1 + on))

class Wrong(WeightPrior):
    def weights(self, width, input_dim):
        return undefined
"""


def run(capsys, *args):
    status = main(list(map(str, args)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def own_file(tmp_path):
    """A user's file, and everything that importing it leaves behind taken away again."""
    path = tmp_path / "own_priors_of_a_test.py"
    path.write_text(OWN)
    before = list(sys.path)
    yield path
    sys.path[:] = before
    sys.modules.pop(path.stem, None)


def test_priors_are_listed_with_parameters_defaults_and_sources(capsys):
    status, out, _ = run(capsys, "priors", "--json")
    listed = {row["name"]: row for row in json.loads(out)["priors"]}
    assert status == 0
    assert list(listed) == list(PRIORS)
    assert listed["ard"]["parameters"] == {"shape": 4.0, "rate": None, "centered": False, "scale": 1.0}
    assert "Piironen" in listed["regularised-horseshoe"]["source"]
    _, alone, _ = run(capsys, "priors")
    _, named, _ = run(capsys, "priors", "--priors", ",".join(PRIORS))
    assert alone == named
    status, out, _ = run(capsys, "priors", "--priors", "spike-and-slab(inclusion=0.5)")
    assert status == 0
    assert out.startswith("spike-and-slab(inclusion=0.5, ratio=0.1, ")


def test_the_list_of_priors_needs_no_jax():
    code = "import sys; from analysis.cli import main; main(['priors']); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_prior_predictive_is_written_and_drawn(capsys, tmp_path, own_file):
    args = ["priors", *SMALL, "--priors", f"isotropic,{own_file}:Laplace(scale=2)", "--num-draws", 400]
    status, out, _ = run(capsys, *args, "--json", "--out", tmp_path / "a")
    rows = {row["prior"]: row for row in json.loads(out)["rows"]}
    assert status == 0
    # Var f = σ_a² E[w·x²]/2; for Laplace with scale b the variance of a weight is 2b².
    assert rows["isotropic"]["sd of f"] == pytest.approx(0.5**0.5, rel=0.15)
    assert rows["laplace"]["sd of f"] == pytest.approx((2 * 4 / 2) ** 0.5, rel=0.15)
    assert rows["laplace"]["m 5%"] < rows["laplace"]["m 50%"] < rows["laplace"]["m 95%"]
    tree = load_tree(tmp_path / "a" / "prior.nc")
    line = tree["isotropic/line"]
    w, a = (tree["isotropic/posterior"][name].to_numpy()[0, 0] for name in ("w", "a"))
    points = tree["isotropic/predictions_constant_data"].x_test.to_numpy()
    for t, value in ((0.0, points[0]), (1.0, points[np.flatnonzero((points != points[0]).any(1))[0]])):
        f = a @ np.maximum(w @ value, 0) / 2
        assert float(line.f.sel(position=t, method="nearest")[0]) == pytest.approx(f, abs=1e-4)
    assert (tmp_path / "a" / "prior_predictive.png").stat().st_size > 10_000


def test_sampling_and_comparing_take_a_user_s_prior(capsys, tmp_path, own_file):
    steps = ["--num-warmup", 5, "--num-samples", 8, "--thinning", 1, "--step-size", 1e-4, "--kappa", 1]
    args = ["sample", *SMALL, "--prior", f"{own_file}:Laplace(scale=0.5)", *steps, "--json"]
    status, out, _ = run(capsys, *args, "--out", tmp_path / "a")
    assert status == 0
    assert json.loads(out)["prior"] == "laplace"
    status, _, err = run(capsys, "compare", *SMALL, "--prior", f"{own_file}:Laplace", "--schemes", "nngp")
    assert status == 2
    assert "scheme 'nngp' does not apply to the prior 'laplace': it covers Isotropic" in err


@pytest.mark.parametrize(
    ("prior", "sentence"),
    [
        ("flat", "prior must be one of isotropic, ard, neuron-ard"),
        ("student-t(df=-1)", "df must be a finite number greater than 0"),
        ("student-t(nu=3)", "has no parameter 'nu'; it has df, scale"),
        ("student-t(3)", "must have its parameters as name=value"),
        ("student-t(df=", "must be a name, or a name with parameters"),
        ("grouped-ard(groups=((0,7),))", "groups name input 7, but the inputs are 0 to 4"),
        ("missing.py:Own", "'missing.py' does not exist"),
        (
            "FILE:Other",
            "has no subclass of models.WeightPrior named 'Other'; it has Laplace, Thawed, Narrow, Switch, Wrong",
        ),
        ("FILE:Thawed", "declare it with @dataclass(frozen=True)"),
        ("FILE:Narrow", "must return shape (width, input_dim) = (4, 5), got (4, 4)"),
        ("FILE:Switch", "has the discrete site 'on', along which no scheme can move; sum over its values"),
        ("FILE:Wrong", "fails with NameError: name 'undefined' is not defined"),
        ("FILE:Laplace(width=2)", "has no parameter 'width'; it has scale"),
    ],
)
def test_priors_that_will_not_do_end_in_one_sentence(capsys, own_file, tmp_path, prior, sentence):
    given = prior.replace("FILE", str(own_file))
    status, out, err = run(capsys, "sample", *SMALL, "--prior", given, "--out", tmp_path / "a")
    assert (status, out) == (2, "")
    assert sentence in err
    assert len([line for line in err.splitlines() if line.startswith("mfzoo: error: ")]) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("random.py", "", "has the name of another Python module; rename it"),
        ("my-prior.py", "", "must be named like a Python module"),
        ("broken_prior_of_a_test.py", "1 +", "cannot be imported: SyntaxError"),
        ("empty_prior_of_a_test.py", "", "named 'Own'; declare one there"),
    ],
)
def test_files_that_will_not_do(tmp_path, monkeypatch, file, text, sentence):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        make_prior(f"{tmp_path / file}:Own")
    sys.modules.pop("empty_prior_of_a_test", None)


def test_theories_and_duplicates_are_refused(capsys, tmp_path):
    for command in (
        ["solve", "--theory", "adaptive-kernel", "--prior", "student-t"],
        ["phase", "--theories", "mean-field", "--prior", "student-t", "--kappas", "0.1"],
    ):
        status, out, err = run(capsys, *command, "--out", tmp_path / "a")
        assert (status, out) == (2, "")
        assert "prior must be" in err
    status, _, err = run(capsys, "compare", "--priors", "ard,ard(shape=1)", "--out", tmp_path / "a")
    assert status == 2
    assert "priors must hold at least one value, none of them twice" in err


def test_texts_of_priors():
    assert parse_priors("ard(shape=1,scale=2), grouped-ard(groups=((0,1),(2,)))") == (
        "ard(shape=1,scale=2)",
        "grouped-ard(groups=((0,1),(2,)))",
    )
    assert make_prior(" student-t ( df=3 ) ") == StudentT(df=3)
    assert Problem(alpha0=2.0).prior("grouped-ard(groups=((0,1),))") == GroupedARD(((0, 1),), shape=2.0)
    assert Problem(alpha0=2.0).prior("ard(shape=3)").shape == 3
    assert Problem(alpha0=3.0).prior("spike-and-slab").shape == 2.0  # its own default


def test_a_zoo_prior_s_own_sentence_is_kept():
    network = TwoLayerNetwork(3, 2, 1.0, prior=GroupedARD(((0, 5),)))
    with pytest.raises(ValueError, match=r"^groups name input 5"):
        try_prior(network, "grouped-ard")
    with pytest.raises(ValueError, match="fails with TypeError: WeightPrior must define weights"):
        try_prior(TwoLayerNetwork(3, 2, 1.0, prior=WeightPrior()), "bare")

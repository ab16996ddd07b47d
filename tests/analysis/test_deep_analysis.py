"""Comparisons, diagnostics and the command line on deep networks."""

import json

import jax
import numpy as np
import pytest

from analysis import cli, compare, diagnose, match_neurons, order_parameters
from analysis.diagnostics.feature_selection import input_scores, rank_inputs
from analysis.diagnostics.functions import functions_of
from analysis.results.predictions import function_of_draws, network_of
from analysis.schemes.registry import SCHEMES, check_scheme, default_schemes
from inference.fixed_points import DeepLinear
from inference.runs.datatree import build_tree
from models import ARD, DeepNetwork, Isotropic, SparseParity

DATA = SparseParity(4, 2).sample(jax.random.key(0), num_data=20, num_test=10)
NETWORK = DeepNetwork(4, (6, 5), 0.3, activation="identity")
ARD_NETWORK = DeepNetwork(4, (6, 5), 0.3, prior=(Isotropic(), ARD()))


@pytest.fixture(scope="module")
def comparison():
    return compare(NETWORK, DATA, ["nngp", "kernel-renormalisation", "deep-linear"])


def test_theories_side_by_side(comparison):
    exact = DeepLinear().solve(NETWORK, DATA)
    table = comparison.table().set_index("scheme")
    assert table.order_parameter["deep-linear"] == pytest.approx(exact.order_parameter)
    assert table.elpd_loo["deep-linear"] == pytest.approx(exact.elpd_loo)
    tree = comparison.results[2].tree
    summary = order_parameters(tree).order_parameter
    mean, se = summary.sel(estimate="mean").item(), summary.sel(estimate="se").item()
    assert abs(mean - exact.order_parameter) < 4 * se
    assert comparison.problem["widths"] == (6, 5)
    # Draws of the exact posterior have a likelihood that PSIS can reweight; those of NNGP have not.
    seen = ["log_likelihood" in result.tree.children for result in comparison.results]
    assert seen == [False, False, True]
    assert diagnose(tree).loo.elpd == pytest.approx(exact.elpd_loo)


def test_diagnostics_of_deep_draws(comparison):
    tree = comparison.results[2].tree
    assert network_of(tree) == NETWORK
    w, w2, a = (
        tree["posterior"][n].to_numpy().reshape(500, *tree["posterior"][n].shape[2:])
        for n in ("w", "w2", "a")
    )
    f = np.einsum("sk,ski,sij,pj->sp", a, w2, w, DATA.x) / 5**0.5
    np.testing.assert_allclose(function_of_draws(tree, tree["constant_data"].x.to_numpy()), f, atol=1e-4)
    weight = (w2**2).sum(1)
    expected = np.einsum("si,sij->sj", weight, w**2) / weight.sum(1)[:, None]
    np.testing.assert_allclose(input_scores(tree, "weighted").to_numpy().reshape(500, 4), expected, rtol=1e-4)
    assert rank_inputs(tree).inclusion.sum() == pytest.approx(2)
    matched = match_neurons(tree, num_neurons=3, max_draws=40)
    assert matched.w.sizes == {"chain": 1, "draw": 40, "neuron": 3, "input": 4}
    assert "a" not in matched
    assert diagnose(tree).r_hat_max is None


def test_precisions_of_upper_layers_are_summed_up():
    rng = np.random.default_rng(0)
    draws = {
        "w": rng.normal(size=(2, 5, 6, 4)),
        "w2": rng.normal(size=(2, 5, 5, 6)),
        "a": rng.normal(size=(2, 5, 5)),
    }
    draws["rho2"] = rng.gamma(4.0, size=(2, 5, 6))
    tree = build_tree(
        ARD_NETWORK, DATA, draws, scheme="sgld", settings={}, seed=jax.random.key(0), wall_time_s=0.0,
        gradient_evaluations=0, independent_draws=False,
    )  # fmt: skip
    np.testing.assert_allclose(functions_of(tree)["log_rho2"], np.log(draws["rho2"]).mean(-1), rtol=1e-6)
    assert tree.attrs["prior"] == "isotropic+ard"


def test_schemes_that_cover_deep_networks():
    further = ["langevin", "collapsed-guide"]
    assert default_schemes(NETWORK, DATA) == ["sgld", "nuts", "mf-guide", "nngp", *further]
    assert default_schemes(ARD_NETWORK, DATA) == ["sgld", "nuts", "mf-ard-guide", *further]
    assert [name for name, scheme in SCHEMES.items() if not scheme.covers(NETWORK)] == [
        "mf-ard-guide", "mean-field", "mean-field-ard", "adaptive-kernel", "block-adaptive-kernel"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'mean-field' does not apply to a DeepNetwork"):
        check_scheme("mean-field", NETWORK)


def run(*words):
    try:
        return cli.main(list(words))
    except SystemExit as stop:  # of words that do not parse
        return stop.code


def test_command_line_takes_widths(tmp_path, capsys):
    small = ["--widths", "6,5", "--input-dim", "4", "--num-data", "20"]
    assert (
        run(
            "solve", "--theory", "deep-linear", *small, "--activation", "identity", "--kappa", "0.3", "--json"
        )
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    data = SparseParity(4, 2).sample(jax.random.key(0), num_data=20, num_test=1000)
    assert answer["order_parameter"] == pytest.approx(DeepLinear().solve(NETWORK, data).order_parameter)
    words = ["--schemes", "nngp", "--kappas", "0.3", "--priors", "isotropic,isotropic(scale=2)+isotropic"]
    out = tmp_path / "out"
    assert run("compare", *small, "--num-test", "10", *words, "--out", str(out), "--no-plots", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["prior"] for row in answer["rows"]] == ["isotropic", "isotropic+isotropic"]
    assert answer["problem"]["widths"] == [6, 5]
    assert answer["rows"][0]["order_parameter"] != answer["rows"][1]["order_parameter"]
    page = tmp_path / "report.html"
    assert run("report", str(out), "--out", str(page)) == 0
    assert "6, 5" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solve", "--theory", "mean-field", "--widths", "4,4"], "models.TwoLayerNetwork"),
        (["solve", "--theory", "nngp", "--widths", "4,4"], "give --num-data"),
        (["solve", "--theory", "nngp", "--widths", "4,x"], "not a list of widths"),
        (["solve", "--theory", "nngp", "--prior", "isotropic+ard"], "use a DeepNetwork"),
    ],
)
def test_command_line_says_what_is_wrong(words, message, capsys):
    assert run(*words) == 2
    assert message in " ".join(capsys.readouterr().err.split())

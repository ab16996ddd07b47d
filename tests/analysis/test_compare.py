"""A comparison on a small problem: its rows, its independence of threads and of the other schemes,
its files."""

import json
import math
from dataclasses import replace

import arviz
import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis import compare, plots
from analysis.cli.compare import draw, show_comparison
from analysis.schemes.compare import COLUMNS, DEVIATION, Comparison, SchemeFailure, SchemeResult
from analysis.schemes.kernels import sgld_steps
from analysis.schemes.registry import SCHEMES, default_schemes
from inference.fixed_points import NNGP
from models import ARD, Dataset, ParitySum, SparseParity, TwoLayerNetwork


@pytest.fixture(scope="module")
def small_comparison(small_network, small_data):
    isotropic = compare(small_network, small_data, ["nngp", "mean-field", "mf-guide"], jax.random.key(1))
    ard_network = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3, prior=ARD())
    return isotropic + compare(ard_network, small_data, ["sgld", "mean-field-ard"], jax.random.key(1))


def test_rows_are_json_and_complete(small_comparison):
    rows = json.loads(json.dumps(small_comparison.rows, allow_nan=False))
    assert [row["scheme"] for row in rows] == ["nngp", "mean-field", "mf-guide", "sgld", "mean-field-ard"]
    assert [row["prior"] for row in rows] == ["isotropic"] * 3 + ["ard"] * 2
    assert all(tuple(row) == (*COLUMNS, DEVIATION) for row in rows)
    by_scheme = {row["scheme"]: row for row in rows}
    assert by_scheme["sgld"]["r_hat_max"] is not None
    assert by_scheme["mf-guide"]["r_hat_max"] is None  # independent draws have no R-hat
    assert by_scheme["mf-guide"]["pareto_k"] is not None
    assert by_scheme["mean-field"]["elpd_loo"] is None  # a population theory has seen no data
    assert by_scheme["nngp"]["elpd_loo"] is not None


def result(scheme, kappa, order_parameter, se, converged=True):
    row = dict.fromkeys(COLUMNS) | {"scheme": scheme, "kappa": kappa, "prior": "isotropic"}
    row |= {"order_parameter": order_parameter, "order_parameter_se": se, "converged": converged}
    row |= {"test_mse_draw": 0.268, "test_mse_mean": 0.123, "relevance_ratio": 1.234, "r_hat_max": 1.011}
    row |= {"ess_min": 4321.0, "pareto_k": 1.234, "gradient_evaluations": 1234567, "wall_time_s": 1234.5}
    return SchemeResult(None, None, None, row)


def test_the_deviation_from_nuts_is_in_standard_errors():
    found = Comparison(
        {},
        (
            result("nuts", 0.1, 0.60, 0.03),
            result("sgld", 0.1, 0.50, 0.04),
            result("mean-field", 0.1, 0.30, 0.0),
            result("nuts", 0.2, 0.40, 0.03, converged=False),
            result("sgld", 0.2, 0.50, 0.04),
        ),
        (SchemeFailure("langevin", "isotropic", 0.1, ValueError("no")),),
    )
    deviation = found.table().set_index(["kappa", "scheme"])[DEVIATION]
    assert deviation[0.1, "sgld"] == pytest.approx(-2.0)
    assert deviation[0.1, "mean-field"] == pytest.approx(-10.0)
    assert deviation[[(0.1, "nuts"), (0.1, "langevin"), (0.2, "nuts"), (0.2, "sgld")]].isna().all()


def test_the_table_on_the_terminal_is_grouped_and_fits_100_columns(capsys):
    results = [result(name, kappa, 0.6, 0.012345) for kappa in (0.05, 0.1) for name in SCHEMES]
    failure = SchemeFailure("langevin", "isotropic", 0.1, ValueError("SGLD has diverged"))
    show_comparison(Comparison({}, tuple(results), (failure,)).table())
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line.startswith("κ")] == [
        f"κ = {k}, isotropic prior" for k in (0.05, 0.1)
    ]
    assert max(map(len, shown)) <= 100
    assert " ".join(shown[1].split()) == "m ± se Δm/se MSE of mean relevance R-hat ESS k̂ ∇U s ok"
    figures = next(line for line in shown if line.startswith("nuts ")).split()
    assert figures[:6] == ["nuts", "0.600", "0.012", "–", "0.268", "0.123"]


def test_only_what_has_seen_the_data_has_a_likelihood_of_them(small_comparison):
    seen = {r.row["scheme"]: "log_likelihood" in r.tree.children for r in small_comparison.results}
    assert seen == {
        "nngp": False,  # its hidden weights are the prior's
        "mean-field": False,
        "mean-field-ard": False,
        "mf-guide": True,
        "sgld": True,
    }
    with pytest.raises(TypeError, match="log likelihood not found"):
        arviz.loo(small_comparison.select(scheme="mean-field")[0].tree)


def test_a_theory_s_row_holds_its_exact_figures(small_comparison, small_network, small_data):
    row = small_comparison.select(scheme="nngp")[0].row
    point = NNGP().solve(small_network, small_data)
    assert row["order_parameter"] == pytest.approx(point.order_parameter)
    assert row["elpd_loo"] == pytest.approx(point.elpd_loo)
    assert row["test_mse_mean"] == pytest.approx(np.mean((point.predictions - small_data.y_test) ** 2))


def test_a_scheme_s_answer_does_not_depend_on_the_others(small_comparison, small_network, small_data):
    alone = compare(small_network, small_data, ["mf-guide"], jax.random.key(1), workers=2)
    row, again = small_comparison.select(scheme="mf-guide")[0].row, alone.results[0].row
    assert {k: v for k, v in row.items() if k != "wall_time_s"} == {
        k: v for k, v in again.items() if k != "wall_time_s"
    }


def test_default_schemes_follow_prior_and_teacher(small_network, small_data):
    ard = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3, prior=ARD())
    further = ["adaptive-kernel", "block-adaptive-kernel", "langevin", "collapsed-guide"]
    theories = ["nngp", "mean-field"]
    assert default_schemes(small_network, small_data) == ["sgld", "nuts", "mf-guide", *theories, *further]
    assert default_schemes(ard, small_data) == ["sgld", "nuts", "mf-ard-guide", "mean-field-ard", *further]
    for other in (replace(small_network, activation="tanh"), replace(small_network, width=512)):
        assert "block-adaptive-kernel" not in default_schemes(other, small_data)
    sampled = ["sgld", "nuts", "mf-guide", "nngp", "langevin", "collapsed-guide"]
    stairs = ParitySum(5, ((0,), (0, 1))).sample(jax.random.key(0), 20, 10)
    assert default_schemes(small_network, stairs) == sampled
    plain = Dataset.from_arrays(small_data.x, small_data.y)
    assert default_schemes(small_network, plain) == sampled


@pytest.mark.parametrize(
    ("schemes", "message"),
    [
        (["sgdl"], "schemes must be one of .*sgld.*; got 'sgdl'"),
        (["mean-field-ard"], "'mean-field-ard' does not apply to the prior 'isotropic': it covers ARD"),
        ([], "schemes must name at least one"),
    ],
)
def test_schemes_that_cannot_run_are_refused(small_network, small_data, schemes, message):
    with pytest.raises(ValueError, match=message):
        compare(small_network, small_data, schemes)


def test_a_scheme_that_fails_is_a_row_with_its_reason(small_network):
    whole = SparseParity(5, 5).sample(jax.random.key(0), 20, 10)
    found = compare(small_network, whole, ["mean-field", "nngp"])
    assert found.table().scheme.tolist() == ["nngp", "mean-field"]
    assert "degree must be smaller" in found.table().error[1]
    assert math.isnan(found.table().order_parameter[1])
    assert set(found.trees) == {"nngp-isotropic-kappa0.3"}
    json.dumps(found.rows, allow_nan=False)
    with pytest.raises(ValueError, match="degree must be smaller"):
        compare(small_network, whole, ["mean-field"])


def test_ctrl_c_stops_the_other_schemes(small_data):
    """NUTS stops at its next report and does not run to its end."""
    network = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3)
    reports = []

    def fail(done, total, text):
        raise KeyboardInterrupt

    callbacks = {"sgld": fail, "nuts": lambda *report: reports.append(report)}
    with pytest.raises(KeyboardInterrupt):
        compare(network, small_data, ["sgld", "nuts"], progress=callbacks, workers=2)
    assert all(done < total for done, total, _ in reports)


def test_data_of_another_dimension_are_refused(small_network):
    data = SparseParity(7, 2).sample(jax.random.key(0), 20, 10)
    with pytest.raises(ValueError, match=r"network\.input_dim=5 must equal"):
        compare(small_network, data, list(SCHEMES))


def test_the_steps_between_draws_stay_within_bounds():
    for kappa, thinning in ((0.05, 200), (10.0, 20), (1e-4, 1000)):
        assert sgld_steps(TwoLayerNetwork(5, 8, kappa))["thinning"] == thinning


def test_elpd_lays_the_schemes_that_saw_the_data_side_by_side(small_comparison):
    table = small_comparison.elpd()
    assert set(table.index.get_level_values("scheme")) == {
        "nngp-isotropic",
        "mf-guide-isotropic",
        "sgld-ard",
    }
    assert set(table.columns) >= {"rank", "elpd", "elpd_diff", "dse", "weight"}
    for result in small_comparison.select(prior="isotropic"):
        if result.row["elpd_loo"] is not None:  # ArviZ rounds to the precision of the standard error
            listed = table.xs(f"{result.row['scheme']}-isotropic", level="scheme").elpd.item()
            assert listed == pytest.approx(result.row["elpd_loo"], abs=max(1.0, result.diagnosis.loo.se))


@pytest.mark.parametrize("name", ["plot_order_parameters", "plot_second_moments", "plot_weight_marginals"])
def test_figures_draw_something_in_every_panel(small_comparison, name):
    figure = getattr(plots, name)(small_comparison)
    assert isinstance(figure, Figure)
    assert all(axes.has_data() for axes in figure.axes)


def test_traces_draw_every_function(small_comparison):
    figure = plots.plot_function_traces(small_comparison.select(scheme="sgld")[0].tree, "SGLD")
    titles = {axes.get_title() for axes in figure.axes}
    assert {"order parameter m", "train MSE", "log density", "f at a test point"} <= titles


def test_a_comparison_draws_its_figures_and_the_traces_of_its_chains(small_comparison):
    assert set(draw(small_comparison)) == {
        "order_parameters",
        "second_moments",
        "weight_marginals",
        "traces-sgld-ard-kappa0.3",
    }

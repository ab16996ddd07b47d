"""Phase diagrams, critical noises and their scaling."""

import json
import math

import numpy as np
import pytest

from analysis import critical_noise, phase_diagram, scaling_exponent
from analysis.cli import main
from analysis.plots import plot_noise_curves, plot_phase_diagram
from analysis.theory.phase_diagram import FIGURES, by_kind
from inference.fixed_points import NNGP, AdaptiveKernel, MeanFieldARD, NoiseCurve
from models import ARD, SparseParity, TwoLayerNetwork

NETWORK, TEACHER = TwoLayerNetwork(12, 48, 1.0), SparseParity(12, 2)


@pytest.fixture(scope="module")
def grid():
    theories = ["adaptive-kernel", "nngp", "mean-field", "mean-field-ard"]
    return phase_diagram(NETWORK, TEACHER, [0.2, 0.1, 0.05], [100, 1000], theories)


def test_layout(grid):
    assert dict(grid.sizes)["theory"] == 4
    assert grid.num_data.values.tolist() == [100, 1000, math.inf]
    for name in FIGURES:
        assert grid[name].dims == ("theory", "kappa", "num_data")
    population = grid.sel(theory=["mean-field", "mean-field-ard"])
    assert population.order_parameter.sel(num_data=[100, 1000]).isnull().all()
    assert population.order_parameter.sel(num_data=math.inf).notnull().all()
    assert grid.order_parameter.sel(theory=["adaptive-kernel", "nngp"], num_data=[100, 1000]).notnull().all()


def test_cells_are_the_fixed_points(grid):
    for kappa in (0.2, 0.05):
        network = TwoLayerNetwork(12, 48, kappa)
        for name, point in (
            ("adaptive-kernel", AdaptiveKernel().solve(network, TEACHER, num_data=1000)),
            ("nngp", NNGP().solve(network, TEACHER, num_data=1000)),
        ):
            cell = grid.sel(theory=name, kappa=kappa, num_data=1000)
            assert abs(cell.order_parameter - point.order_parameter) < 3 * cell.error + 1e-9
            assert float(cell.test_mse) == pytest.approx(point.test_mse, rel=1e-3)
        # The network's prior is isotropic; MF-ARD is solved with its own.
        point = MeanFieldARD().solve(TwoLayerNetwork(12, 48, kappa, prior=ARD()), TEACHER)
        cell = grid.sel(theory="mean-field-ard", kappa=kappa, num_data=math.inf)
        assert abs(cell.order_parameter - point.order_parameter) < 3 * cell.error + 1e-5


def test_more_data_and_less_noise_learn_more(grid):
    m = grid.order_parameter.sel(theory="adaptive-kernel", num_data=[100, 1000])
    assert (m.diff("kappa", label="lower") > 0).all()  # the noises fall along the axis
    assert (m.sel(num_data=1000) > m.sel(num_data=100)).all()


def test_folds_of_one_kind_share_a_position():
    # κ² has a minimum and a maximum; at few data the minimum lies below 0, and the maximum stays
    # where it was.
    m = np.linspace(0, 1, 401)
    noise = 1.3 - 6 * (m - 0.5) ** 3 + 0.9 * (m - 0.5) - m * 0.2
    same = dict.fromkeys(("test_mse", "test_mse_mean", "effective_ridge", "num_aligned"), m)

    def folds(shift):
        own = {
            "set_noise_squared": np.stack([noise - shift] * 2),
            "set_order_parameter": np.stack([m] * 2),
        }
        return by_kind(NoiseCurve("synthetic", None, noise - shift, m, **same, **own).folds())

    both, upper = folds(0.0), folds(1.15)
    assert len(both) == len(upper) == 2
    assert both[0] < both[1]
    assert math.isnan(upper[0])
    assert upper[1] == pytest.approx(math.sqrt(both[1] ** 2 - 1.15))


def test_critical_noise_is_where_the_grid_says():
    critical = critical_noise("adaptive-kernel", NETWORK, TEACHER, 1000)
    below, above = phase_diagram(
        NETWORK, TEACHER, [critical.onset * 0.999, critical.onset * 1.001], [1000], ["adaptive-kernel"]
    ).order_parameter.values.ravel()
    assert above < 0.1 < below
    assert below - above < 0.01
    # NNGP has no curve: found by search. Its m is λ/(λ + κ²).
    critical = critical_noise("nngp", NETWORK, TEACHER)
    point = NNGP().solve(TwoLayerNetwork(12, 48, critical.onset), TEACHER)
    assert point.order_parameter == pytest.approx(0.1, abs=1e-3)
    assert critical.folds == ()


def test_scaling_with_the_input_dimension():
    # Theorem 4.1 of arXiv:2510.15174: 1/√d for MF, no d for MF-ARD's aligned branch.
    network, teacher = TwoLayerNetwork(35, 512, 1.0), SparseParity(35, 2)
    plain = scaling_exponent("mean-field", network, teacher, "input_dim", [35, 70])
    assert plain.exponent == pytest.approx(-0.5, abs=0.05)
    ard = scaling_exponent("mean-field-ard", network, teacher, "input_dim", [35, 70], start="aligned")
    assert ard.exponent == pytest.approx(math.log(0.1040 / 0.1075) / math.log(2), abs=0.01)
    assert plain.values == (35, 70)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappas": [0.1, -0.1]}, "kappas must be a finite number greater than 0"),
        ({"kappas": []}, "kappas must hold at least one value"),
        ({"kappas": [0.1, 0.1]}, "none of them twice"),
        ({"num_data": [0]}, "num_data must be a whole number of at least 1"),
        ({"num_data": [10.5]}, "num_data must be a whole number"),
        ({"theories": ["kernel"]}, "theory must be one of"),
        ({"theories": []}, "theories must hold at least one value"),
        ({"start": "cold"}, "start must be one of prior, aligned"),
    ],
)
def test_bad_grids(options, message):
    with pytest.raises(ValueError, match=message):
        phase_diagram(NETWORK, TEACHER, **{"kappas": [0.1], **options})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: critical_noise("mean-field", NETWORK, TEACHER, 100), "num_data must be None for mean-field"),
        (lambda: critical_noise("nngp", NETWORK, TEACHER, order_parameter=1.0), "order_parameter must lie"),
        (lambda: scaling_exponent("nngp", NETWORK, TEACHER, "depth", [1, 2]), "varied must be one of"),
        (
            lambda: scaling_exponent("nngp", NETWORK, TEACHER, "width", [64, 64]),
            "at least two different numbers",
        ),
    ],
)
def test_bad_critical_noises(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_figures(grid):
    figure = plot_phase_diagram(grid)
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["AK theory", "NNGP"]
    assert len(figure.axes[2].get_lines()) == 2
    curve = MeanFieldARD().noise_curve(TwoLayerNetwork(12, 48, 1.0, prior=ARD()), TEACHER, 0.05)
    axes = plot_noise_curves({"MF-ARD": curve}).axes[0]
    solid, dashed = axes.get_lines()[:2]
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert np.isfinite(dashed.get_ydata()).sum() == pytest.approx((~curve.stable).sum(), abs=2)


def test_command_line(tmp_path, capsys):
    arguments = ["phase", "--theories", "adaptive-kernel,mean-field", "--input-dim", "12", "--width", "48",
                 "--kappas", "0.05:0.2:3", "--num-data", "100,1000", "--out", str(tmp_path), "--json"]  # fmt: skip
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["kappas"] == [0.05, 0.1, 0.2]
    assert printed["num_data"] == [100, 1000]
    kernel, plain = (printed["results"][name] for name in ("adaptive-kernel", "mean-field"))
    assert np.shape(kernel["order_parameter"]) == np.shape(kernel["test_mse"]) == (2, 3)
    assert plain["num_data"] == [None]
    assert np.shape(plain["order_parameter"]) == np.shape(plain["error"]) == (1, 3)
    assert max(kernel["error"][1]) < 1e-3
    assert {"phase.nc", "table.csv", "settings.json", "phase_diagram.png"} <= {
        p.name for p in tmp_path.iterdir()
    }
    assert main([*arguments[:-1], "--kappas", "0.1,-0.1"]) == 2
    assert "kappa" in capsys.readouterr().err

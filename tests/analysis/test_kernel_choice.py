"""The kernels of ``mfzoo sample``: what each name builds, with its defaults and with options of
one's own."""

import json
import re

import pytest

from analysis.cli import main
from analysis.results.files import load_tree
from analysis.schemes.kernels import KERNELS, choose_kernel
from models import ARD, TwoLayerNetwork

NETWORK = TwoLayerNetwork(16, 64, kappa=0.1)


@pytest.mark.parametrize("name", [name for name in KERNELS if name not in ("nuts", "psgld")])
def test_kernels_find_their_step_and_run_for_a_time_that_suits_the_noise(name):
    assert choose_kernel(name, NETWORK).settings()["step_size"] == "auto"
    power = 1 if name in ("langevin", "sghmc") else 2
    for prior in (NETWORK.prior, ARD()):
        coarse, fine = (
            KERNELS[name].steps(TwoLayerNetwork(16, 64, kappa=kappa, prior=prior)) for kappa in (0.1, 0.05)
        )
        assert coarse["num_samples"] == 250 * coarse["thinning"]
        assert fine["thinning"] == pytest.approx(2**power * coarse["thinning"], rel=0.1)


def test_options_of_ones_own_reach_the_kernel():
    settings = choose_kernel("langevin", NETWORK, 0.02, "prior", 2.0).settings()
    assert settings == {
        "kernel": "UnderdampedLangevin",
        "step_size": 0.02,
        "preconditioner": "prior",
        "friction": 2.0,
    }
    assert choose_kernel("sgld", NETWORK, 0.01, "none").settings()["preconditioner"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sgld", 0.1, None, 1.0), "friction is for langevin, sghmc; leave it out with sgld"),
        (
            ("psgld", 0.1, "prior"),
            "preconditioner is for sgld, langevin, sghmc, mala; leave it out with psgld",
        ),
        (("langevin", None, "prior"), "preconditioner goes with a step size of your own"),
        (("nuts", 0.1), "step_size is for the Langevin kernels"),
    ],
)
def test_options_that_do_not_apply_are_one_sentence(arguments, sentence):
    name, *options = arguments
    with pytest.raises(ValueError, match=sentence):
        choose_kernel(name, NETWORK, *options)


def test_the_command_samples_by_underdamped_langevin_from_both_starts(capsys, tmp_path):
    problem = ["--input-dim", "5", "--degree", "2", "--width", "8", "--num-data", "30", "--num-test", "20"]
    command = ["sample", *problem, "--kappa", "0.3", "--scheme", "langevin", "--start", "both", "--json"]
    assert main([*command, "--thinning", "2", "--out", str(tmp_path / "run")]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["scheme"] == "underdampedlangevin"
    # Steps, and products for the step size: 25 at the start and 3 at each of four tunings.
    assert row["gradient_evaluations"] == 4 * (540 + 2 * (25 + 4 * 3))


def test_the_command_starts_chains_from_a_theory_and_from_an_earlier_run(capsys, tmp_path):
    problem = ["--input-dim", "5", "--degree", "2", "--width", "8", "--num-data", "30", "--num-test", "20"]
    command = ["sample", *problem, "--kappa", "0.3", "--json", "--num-samples", "5", "--num-warmup", "0"]

    def start(name, folder):
        return main([*command, "--start", name, "--out", str(tmp_path / folder)])

    assert start("mean-field", "first") == 0
    assert start(str(tmp_path / "first" / "run.nc"), "second") == 0
    for folder, started in (("first", "mean-field"), ("second", "sgld")):
        with load_tree(tmp_path / folder / "run.nc") as tree:
            assert tree.attrs["start"] == started
    capsys.readouterr()
    for name, sentence in (
        ("nowhere", "start must be one of prior, aligned, both, .*collapsed-guide.*; got 'nowhere'"),
        ("mean-field-ard", "does not apply to the prior 'isotropic'"),
        (f"{tmp_path / 'first' / 'run.nc'}:no-label", "name one as .*run.nc:LABEL with LABEL among sgld"),
    ):
        assert start(name, "third") == 2
        assert re.search(sentence, capsys.readouterr().err)
        assert not (tmp_path / "third").exists()

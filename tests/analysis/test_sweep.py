"""Sweeps: a cell's numbers depend on its coordinates alone, and failures, deaths and stops lose no
other cell."""

import importlib
import json
import linecache
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

from analysis import compare, sweep
from analysis.cli import main
from analysis.cli.options import parse_seeds
from analysis.plots.sweep import plot_sweep
from analysis.schemes.kernels import Budget
from analysis.sweep.cells import Cell
from analysis.sweep.grid import FIGURES
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork, make_prior

# The package's name is that of its function too.
ENGINES = importlib.import_module("analysis.sweep.engines")
NETWORK = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3)
TEACHER = SparseParity(5, 2)
BUDGET = Budget(num_warmup=20, num_samples=40, thinning=2)
SMALL = ["--input-dim", "5", "--degree", "2", "--width", "8", "--num-test", "20", "--priors", "isotropic"]


OWN_PRIOR = """
from dataclasses import dataclass
import numpyro, numpyro.distributions as dist
from models import WeightPrior, input_plate, neuron_plate

@dataclass(frozen=True)
class Narrow(WeightPrior):
    sd: float
    def weights(self, width, input_dim):
        with neuron_plate(width), input_plate(input_dim):
            return numpyro.sample("w", dist.Normal(0.0, self.sd))
"""


@dataclass(frozen=True)
class Fragile(SparseParity):
    """A teacher that fails where it is asked for 31 points, the first `failures` times; `folder`
    counts them."""

    folder: str = ""
    failures: int = 1
    deadly: bool = False

    def sample(self, key, num_data, num_test=1000):
        if num_data == 31:
            seen = len(list(Path(self.folder).iterdir()))
            (Path(self.folder) / str(seen)).touch()
            if seen < self.failures:
                if self.deadly:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError("no data\ntoday")
        return super().sample(key, num_data, num_test)


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    """All figures are equal to the last bit, but for the time that they took."""
    left, right = (grid.drop_vars("wall_time_s").drop_attrs() for grid in (one, other))
    xr.testing.assert_identical(left, right)


def small_sweep(**options) -> xr.Dataset:
    given = {
        "num_data": [30],
        "seeds": [3],
        "priors": [Isotropic(), ARD()],
        "schemes": ["nngp", "sgld"],
        "num_test": 20,
        "budget": BUDGET,
        **options,
    }
    return sweep(NETWORK, given.pop("teacher", TEACHER), [0.3], **given)


@pytest.fixture(scope="module")
def in_this_process():
    return small_sweep(workers=0)


def test_the_dataset_holds_every_cell(in_this_process):
    grid = in_this_process
    assert dict(grid.sizes) == {"scheme": 2, "prior": 2, "kappa": 1, "num_data": 1, "seed": 1}
    assert set(grid.data_vars) == {*FIGURES, "status", "error"}
    assert (grid.status.sel(scheme="sgld") == "done").all()
    assert (grid.status.sel(scheme="nngp", prior="ard") == "skipped").all()
    sampled = grid.sel(scheme="sgld")
    assert np.isfinite(sampled[["order_parameter", "order_parameter_se", "r_hat_max", "train_mse"]]).all()
    assert grid.sel(scheme="nngp").r_hat_max.isnull().all()  # independent draws have no R-hat


def test_a_cell_is_a_comparison_with_its_seed(in_this_process):
    data = TEACHER.sample(jax.random.key(3), 30, 20)
    row = compare(NETWORK, data, ["nngp"], jax.random.fold_in(jax.random.key(3), 1)).rows[0]
    cell = in_this_process.sel(scheme="nngp", prior="isotropic", kappa=0.3, num_data=30, seed=3)
    for name in ("order_parameter", "test_mse_draw", "test_mse_mean", "elpd_loo"):
        assert cell[name].item() == row[name]


@pytest.mark.process
def test_figures_do_not_depend_on_processes_or_order(in_this_process):
    wanted = in_this_process.sel(prior=["isotropic"])
    same(small_sweep(priors=None, workers=2), wanted)
    alone = small_sweep(priors=None, workers=1, schemes=["nngp"], num_data=[20, 30])
    same(alone.sel(num_data=[30]), wanted.sel(scheme=["nngp"]))


@pytest.mark.process
@pytest.mark.slow
def test_a_larger_grid_does_not_depend_on_processes_or_order():
    grid = {"num_data": [20, 30], "seeds": [0, 3]}
    wanted = small_sweep(**grid, workers=0)
    same(small_sweep(**grid, workers=2), wanted)
    turned = small_sweep(num_data=[30, 20], seeds=[3, 0], schemes=["sgld", "nngp"], workers=1)
    same(turned.reindex_like(wanted), wanted)


def test_a_cell_that_fails_is_tried_again_and_stops_no_other(tmp_path):
    (tmp_path / "count").mkdir()
    teacher = Fragile(5, 2, folder=str(tmp_path / "count"), failures=3)
    options = {"teacher": teacher, "num_data": [31, 30], "schemes": ["nngp"], "seeds": [0], "workers": 0}
    grid = small_sweep(**options, out=tmp_path / "out").sel(scheme="nngp", prior="isotropic").squeeze()
    assert grid.status.values.tolist() == ["failed", "done"]
    assert grid.error.values.tolist() == ["RuntimeError: no data today", ""]
    assert grid.order_parameter.isnull().values.tolist() == [True, False]
    # The next call runs the failed cell alone, which fails once more and then does not.
    finished = time.time_ns()
    grid = small_sweep(**options, out=tmp_path / "out")
    assert (grid.sel(scheme="nngp", prior="isotropic").status == "done").all()
    assert len(list((tmp_path / "count").iterdir())) == 4
    written = [path.stat().st_mtime_ns > finished for path in (tmp_path / "out" / "cells").iterdir()]
    assert sorted(written) == [False, True]
    same(xr.load_dataset(tmp_path / "out" / "sweep.nc", engine="h5netcdf"), grid)


@pytest.mark.process
@pytest.mark.parametrize(
    ("failures", "status"), [(1, "done"), pytest.param(2, "failed", marks=pytest.mark.slow)]
)
def test_a_worker_process_that_dies_takes_no_other_cell_with_it(tmp_path, failures, status):
    teacher = Fragile(5, 2, folder=str(tmp_path), failures=failures, deadly=True)
    options = {"num_data": [30, 31, 32], "schemes": ["nngp"], "seeds": [0], "priors": None}
    grid = small_sweep(**options, teacher=teacher, workers=2).squeeze()
    assert grid.status.values.tolist() == ["done", status, "done"]
    if status == "failed":
        assert "the process that ran the cell died" in grid.error.values[1]
    else:
        same(grid, small_sweep(**options, workers=0).squeeze())


def test_what_determines_a_cell_is_in_its_fingerprint():
    cell = Cell(NETWORK, TEACHER, 30, 20, 0, "sgld")
    others = [
        Cell(TwoLayerNetwork(input_dim=5, width=9, kappa=0.3), TEACHER, 30, 20, 0, "sgld"),
        Cell(TwoLayerNetwork(input_dim=5, width=8, kappa=0.3, prior=ARD()), TEACHER, 30, 20, 0, "sgld"),
        Cell(NETWORK, SparseParity(5, 2, relevant=(1, 2)), 30, 20, 0, "sgld"),
        Cell(NETWORK, TEACHER, 31, 20, 0, "sgld"),
        Cell(NETWORK, TEACHER, 30, 21, 0, "sgld"),
        Cell(NETWORK, TEACHER, 30, 20, 1, "sgld"),
        Cell(NETWORK, TEACHER, 30, 20, 0, "nuts"),
        Cell(NETWORK, TEACHER, 30, 20, 0, "sgld", BUDGET),
        Cell(NETWORK, TEACHER, 30, 20, 0, "sgld", version="0"),
    ]
    assert len({cell.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
    assert Cell(NETWORK, TEACHER, 30, 20, 0, "nngp").fingerprint == (
        Cell(NETWORK, TEACHER, 30, 20, 0, "nngp", BUDGET).fingerprint  # it takes no steps
    )


def test_an_edited_prior_makes_other_cells(tmp_path):
    """As in two processes, of which the second reads the file anew."""
    names = []
    for text in (OWN_PRIOR, OWN_PRIOR.replace("0.0, self.sd", "0.0, 2 * self.sd")):
        path = tmp_path / "prior_of_an_edit_test.py"
        path.write_text(text)
        linecache.checkcache()
        prior = make_prior(f"{path}:Narrow(sd=0.5)")
        cell = Cell(TwoLayerNetwork(5, 8, 0.3, prior=prior), TEACHER, 30, 20, 0, "sgld")
        names.append(cell.fingerprint)
        del sys.modules["prior_of_an_edit_test"]
        sys.path.remove(str(tmp_path))
        importlib.invalidate_caches()
    assert names[0] != names[1]


def test_another_version_refuses_the_cell():
    with pytest.raises(ValueError, match="is installed where the cell runs, 0 where the sweep was started"):
        Cell(NETWORK, TEACHER, 30, 20, 0, "nngp", version="0").run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schemes": ["sgdl"]}, "schemes must be one of"),
        ({"schemes": []}, "schemes must hold at least one value"),
        ({"seeds": [1, 1]}, "seeds must hold at least one value, none of them twice"),
        ({"seeds": [-1]}, "seeds must be a whole number of at least 0"),
        ({"num_data": [0]}, "num_data must be a whole number of at least 1"),
        ({"workers": -1}, "workers must be a whole number of at least 0"),
        ({"retries": -1}, "retries must be a whole number of at least 0"),
        (
            {"priors": [ARD(), ARD(shape=2.0)]},
            r"priors must hold .* none of them twice; got \['ard', 'ard'\]",
        ),
        ({"schemes": ["nngp"], "priors": [ARD()]}, "it covers Isotropic"),
        ({"budget": Budget(num_samples=10, effort=2)}, "effort is a factor on the default steps"),
        ({"budget": Budget(num_warmup=0, num_samples=0)}, "num_samples must be a whole number of at least 1"),
    ],
)
def test_arguments_that_will_not_do(options, message):
    with pytest.raises(ValueError, match=message):
        small_sweep(**options)


def test_folders_and_files_that_are_not_a_sweep_s_are_refused(tmp_path):
    options = {"schemes": ["nngp"], "seeds": [0], "num_data": [30], "priors": None, "workers": 0}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.nc").touch()
    with pytest.raises(ValueError, match="holds files, but no sweep; name another folder"):
        small_sweep(**options, out=tmp_path / "other")
    with pytest.raises(ValueError, match="out: cannot write"):
        small_sweep(**options, out=tmp_path / "other" / "run.nc")
    small_sweep(**options, out=tmp_path / "out")
    (path,) = (tmp_path / "out" / "cells").iterdir()
    path.write_text("{")
    with pytest.raises(ValueError, match="is not a cell of this sweep; delete it"):
        small_sweep(**options, out=tmp_path / "out")


def test_the_command_prints_json_and_writes_its_folder(capsys, tmp_path):
    args = ["sweep", *SMALL, "--kappas", "0.2:0.4:2", "--num-data", "20", "--seeds", "0:2", "--workers", "0"]
    args += ["--schemes", "nngp,mean-field", "--priors", "isotropic,ard", "--out", str(tmp_path)]
    assert main([*args, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["cells"] == {"done": 8, "failed": 0}
    assert answer["problem"]["input_dim"] == 5
    assert len(answer["rows"]) == 8
    assert set(answer["rows"][0]) == {
        "scheme",
        "prior",
        "kappa",
        "num_data",
        "seed",
        *FIGURES,
        "status",
        "error",
    }
    assert {path.name for path in tmp_path.iterdir()} == {
        "cells",
        "sweep.nc",
        "sweep.png",
        "table.csv",
        "settings.json",
    }
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert main(args) == 0
    captured = capsys.readouterr()
    assert "2/2" in captured.out
    assert "8/8" in captured.err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--kappas", "-1"], "kappa must be a finite number greater than 0"),
        (["--priors", "flat"], "prior must be one of isotropic, ard"),
        (["--schemes", "sgdl"], "schemes must be one of"),
        (["--seeds", "0:2", "--seed", "3"], "seed does not count beside seeds"),
        (["--workers", "2", "--scheduler", "tcp://localhost:1"], "workers are processes of this machine"),
        (["--scheduler", "nowhere"], "scheduler must be the address of a Dask scheduler"),
    ],
)
def test_bad_arguments_end_in_one_sentence(capsys, monkeypatch, tmp_path, args, sentence):
    monkeypatch.setattr(ENGINES, "_PATIENCE_S", 2)
    assert main(["sweep", *SMALL, *args, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert "Traceback" not in captured.err


def test_seeds():
    assert parse_seeds("2:4") == (2, 3)
    for text in ("", "4:2", "a", "0:4:2"):
        with pytest.raises(ValueError, match="is not a list of seeds"):
            parse_seeds(text)


def test_the_figure_draws_every_scheme_and_prior(in_this_process):
    grid = in_this_process.copy(deep=True)
    grid.status.loc[{"scheme": "sgld", "num_data": 30}] = "failed"
    *panels, bar = plot_sweep(grid).axes
    assert [axes.get_title("left") for axes in panels] == [
        "NNGP, isotropic",
        "SGLD, isotropic",
        "NNGP, ARD",
        "SGLD, ARD",
    ]
    assert all(axes.collections for axes in panels)
    assert bar.get_ylabel() == "order parameter m"


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the processes from /proc")
@pytest.mark.parametrize("kill", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_sweep_that_is_stopped_keeps_its_cells_and_leaves_no_process(tmp_path, kill):
    args = ["sweep", *SMALL, "--kappas", "0.3", "--num-data", "20,30", "--seeds", "0:60", "--schemes", "nngp"]
    # Background processes of some shells ignore Ctrl-C from birth, and so would theirs.
    interruptible = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from analysis.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        interruptible,
        *args,
        "--json",
        "--no-plots",
        "--out",
        str(tmp_path),
        "--workers",
    ]
    running = subprocess.Popen(
        [*command, "2"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    cells = tmp_path / "cells"
    while not (cells.is_dir() and list(cells.glob("[!.]*.json"))) and running.poll() is None:
        time.sleep(0.01)
    workers = children(running.pid)
    assert len(workers) >= 2
    if kill == signal.SIGINT:  # Ctrl-C reaches all processes of the terminal
        os.killpg(running.pid, kill)
    else:
        os.kill(running.pid, kill)
    _, notes = running.communicate(timeout=60)
    kept = {path: path.stat().st_mtime_ns for path in cells.glob("[!.]*.json")}
    assert 0 < len(kept) < 120
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if kill == signal.SIGINT:
        assert running.returncode == 130
        assert f"to continue, repeat the command with --out {tmp_path}" in " ".join(notes.split())
        assert "Traceback" not in notes
        again = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
        assert json.loads(again.stdout)["cells"] == {"done": 120, "failed": 0}
        assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


def start(folder: Path, *args) -> subprocess.Popen:
    # The workers cannot import this module: the teacher that it declares travels with the cells.
    environment = {**os.environ, "NPROC": "1"}
    # Its notes go to a file: a pipe that nobody reads would fill up and stop it.
    with (folder / f"log-{time.monotonic_ns()}").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *args], stdout=log, stderr=log, cwd=folder, env=environment
        )


@contextmanager
def cluster(folder: Path, workers: int):
    """A Dask scheduler's address, its process, and those of its workers."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    address = f"tcp://127.0.0.1:{port}"
    processes = [start(folder, "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")]
    deadline = time.monotonic() + 60
    while processes[0].poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=1):
            break
        time.sleep(0.1)
    # Without a nanny, which would start a worker anew when it is killed.
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    processes += [start(folder, "worker", address, *options) for _ in range(workers)]
    try:
        yield address, processes
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.mark.process
def test_a_cluster_gives_the_same_cells_when_a_worker_is_killed(tmp_path):
    teacher = Fragile(5, 2, folder=str(tmp_path / "count"), failures=9)
    (tmp_path / "count").mkdir()
    options = {"num_data": [20, 30], "seeds": range(8), "schemes": ["nngp"], "priors": None}
    reports = []

    def report(done, total, text):
        reports.append(done)
        if done == 4:
            processes[1].send_signal(signal.SIGKILL)

    with cluster(tmp_path / "dask", 2) as (address, processes):
        found = small_sweep(**options, scheduler=address, out=tmp_path / "out", progress=report)
        assert processes[1].wait(timeout=10) == -signal.SIGKILL
        assert processes[2].poll() is None
        # A cell that fails on the cluster is tried again there, and recorded.
        failing = {**options, "num_data": [31, 20], "seeds": [0]}
        mixed = small_sweep(**failing, teacher=teacher, scheduler=address).squeeze()
    assert reports == list(range(17))
    same(found, small_sweep(**options, workers=0))
    assert mixed.status.values.tolist() == ["failed", "done"]
    assert mixed.error.values.tolist() == ["RuntimeError: no data today", ""]
    assert len(list((tmp_path / "count").iterdir())) == 2


@pytest.mark.process
def test_a_prior_of_a_user_s_file_travels_to_the_workers(tmp_path):
    (tmp_path / "prior_of_a_cluster_test.py").write_text(OWN_PRIOR)
    with cluster(tmp_path / "dask", 1) as (address, _):
        before = list(sys.path)
        prior = make_prior(f"{tmp_path}/prior_of_a_cluster_test.py:Narrow(sd=0.5)")
        sys.path[:] = before
        options = {"num_data": [20], "seeds": [0], "priors": [prior], "schemes": ["sgld"], "retries": 0}
        found = small_sweep(**options, scheduler=address)
    assert found.error.item() == ""
    same(found, small_sweep(**options, workers=0))


@pytest.mark.process
def test_a_cluster_that_is_not_there_or_lost_ends_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(ENGINES, "_PATIENCE_S", 2)
    options = {"num_data": [20], "seeds": range(40), "schemes": ["nngp"], "priors": None}
    with (
        cluster(tmp_path / "none", 0) as (address, _),
        pytest.raises(ValueError, match="has no worker; start some with `dask worker"),
    ):
        small_sweep(**options, scheduler=address)
    with pytest.raises(ValueError, match=r"none answers at .*; start one with `dask scheduler`"):
        small_sweep(**options, scheduler=address)
    monkeypatch.setattr(ENGINES, "_PATIENCE_S", 30)
    with (
        cluster(tmp_path / "lost", 1) as (address, processes),
        pytest.raises(ValueError, match="was lost in mid-sweep"),
    ):
        small_sweep(
            **options,
            scheduler=address,
            out=tmp_path / "out",
            progress=lambda done, total, text: processes[0].kill() if done == 1 else None,
        )
    assert any((tmp_path / "out" / "cells").iterdir())

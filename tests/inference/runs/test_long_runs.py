"""Runs that are killed, stopped or run out of disk end with the same draws; memory does not grow
with the draws."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from numpyro.infer import NUTS

from analysis import load_tree
from analysis.cli import main
from inference import SGLD, sample
from inference.runs import atomic, chains, streaming
from models import ARD, SparseParity, TwoLayerNetwork

SGLD_KERNEL, NUTS_KERNEL = SGLD(step_size=1e-3), partial(NUTS, max_tree_depth=5)
RUNS = {
    "sgld": (SGLD_KERNEL, {"num_warmup": 10_000, "num_samples": 60_000, "thinning": 300}),
    "nuts": (NUTS_KERNEL, {"num_warmup": 300, "num_samples": 600, "thinning": 3}),
    # Long enough that no process comes to the end before it is killed.
    "long sgld": (SGLD_KERNEL, {"num_warmup": 300_000, "num_samples": 1_200_000, "thinning": 4000}),
    "long nuts": (NUTS_KERNEL, {"num_warmup": 5000, "num_samples": 15_000, "thinning": 50}),
}
SGLD_STEPS = 70_000


def run(name, folder=None, **options):
    """One of the RUNS, the same in every process."""
    network = TwoLayerNetwork(5, 8, 0.3, prior=ARD(), bias=True)
    data = SparseParity(5, 2, relevant=(1, 3)).sample(jax.random.key(3), 30, 20)
    kernel, lengths = RUNS[name]
    key = jax.random.key(11)
    return sample(network, data, kernel, key, **lengths, num_chains=3, folder=folder, **options)


def child(name, folder, *arguments):
    """A process that runs this file, its own group leader so that signals reach nobody else."""
    command = [sys.executable, __file__, name, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill(process):
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"ended by itself: {err}"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The draws of an uninterrupted run, by name."""
    runs = {}

    def get(name):
        if name not in runs:
            runs[name] = run(name, tmp_path_factory.mktemp(name) / "whole")
        return runs[name]

    return get


def assert_same_draws(tree, other):
    """Every array of every group, bit for bit."""
    assert list(tree.children) == list(other.children)
    for group in tree.children:
        assert list(tree[group].variables) == list(other[group].variables)
        for name, value in tree[group].variables.items():
            assert np.array_equal(value.to_numpy(), other[group][name].to_numpy()), f"{group}/{name}"
    assert tree.attrs["gradient_evaluations"] == other.attrs["gradient_evaluations"]


# --- killed ---


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "moments"), [("sgld", (40_000,)), pytest.param("nuts", (400,), marks=pytest.mark.slow)]
)
def test_a_killed_run_ends_with_the_same_draws(name, moments, tmp_path, reference):
    """Killed a random time after a number of steps."""
    rng, whole = random.Random(1), reference(name)
    for moment in moments:
        process = child(name, tmp_path / "run")
        while int(process.stdout.readline()) < moment:
            pass
        time.sleep(rng.uniform(0, 0.1))
        kill(process)
    begun = []
    tree = run(name, tmp_path / "run", resume=True, progress=lambda done, total, text: begun.append(done))
    assert begun[0] >= moments[-1] // 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.nc"]
    assert_same_draws(tree, whole)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("name", ["long sgld", "long nuts"])
def test_a_run_killed_twenty_times_ends_with_the_same_draws(name, tmp_path, reference):
    rng, begun, whole = random.Random(2), [], reference(name)
    for _ in range(20):
        process = child(name, tmp_path / "run")
        begun.append(int(process.stdout.readline()))
        if rng.random() < 0.2:  # while it compiles, where it has not been faster
            time.sleep(rng.uniform(0, 3))
        else:  # once it has taken steps: while it draws or writes
            process.stdout.readline()
            time.sleep(rng.uniform(0, 1.5))
        kill(process)
    print(f"{name}: went on at steps {begun}")
    assert begun == sorted(begun)
    assert len(set(begun)) > 10  # most came on to another checkpoint
    assert_same_draws(run(name, tmp_path / "run", resume=True), whole)


class Killed(BaseException):
    """Stands in for a kill at one point of the program."""


def test_a_kill_at_any_change_of_a_file_loses_nothing(small_network, small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "PIECE_BYTES", 2000)
    counter = iter(())

    def counted(function):
        def call(*args, **kwargs):
            if next(counter, None) == 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    def short(folder):
        options = {"num_warmup": 2, "num_samples": 6, "num_chains": 2, "resume": True}
        return sample(
            small_network, small_data, SGLD(step_size=1e-3), jax.random.key(0), folder=folder, **options
        )

    whole = short(tmp_path / "whole")
    for owner, name in ((atomic, "_to_disk"), (Path, "replace"), (Path, "unlink"), (Path, "rmdir")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    killed, finished = 0, False
    while not finished:
        # Each attempt is killed four changes further on than where it began, whatever the earlier
        # ones left.
        counter = iter(range(killed % 7 + 2, -1, -1))
        try:
            short(tmp_path / "run")
            finished = True
        except Killed:
            killed += 1
        assert killed < 60
    counter = iter(())
    assert killed > 4
    assert_same_draws(short(tmp_path / "run"), whole)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.nc"]


@pytest.mark.process
def test_where_a_run_is_cut_into_calls_leaves_no_trace(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "PIECE_BYTES", 50_000)
    monkeypatch.setattr(chains, "CALL_SECONDS", 0.03)
    assert_same_draws(run("sgld", tmp_path / "run"), reference("sgld"))


@pytest.mark.process
def test_a_run_in_memory_has_the_same_draws(reference):
    tree = run("sgld")
    for group in ("posterior", "sample_stats"):
        for name, value in tree[group].data_vars.items():
            assert np.array_equal(value.to_numpy(), reference("sgld")[group][name].to_numpy()), name


# --- stopped by Ctrl-C ---


@pytest.mark.process
def test_a_run_that_is_called_off_or_stopped_by_ctrl_c_is_saved(tmp_path, reference):
    def call_off(done, total, text):
        if done > 20_000:
            raise RuntimeError("enough")

    def stop(done, total, text):
        if done > 40_000:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(RuntimeError, match="enough"):
        run("sgld", tmp_path / "run", progress=call_off, checkpoint_every=0.5)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt, match=r"stopped after \d+ of 70000 steps, which are saved in"):
            run("sgld", tmp_path / "run", progress=stop, checkpoint_every=0.5, resume=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    begun = []
    tree = run("sgld", tmp_path / "run", resume=True, progress=lambda done, total, text: begun.append(done))
    assert begun[0] > 40_000
    assert_same_draws(tree, reference("sgld"))


# --- a full disk ---


@pytest.mark.process
def test_a_full_disk_is_one_sentence_and_leaves_readable_files(reference, tmp_path, monkeypatch):
    written = []

    def save_piece(tree, path):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return real(tree, path)

    real = sys.modules["inference.runs.run_folder"].save_piece
    monkeypatch.setattr(streaming, "PIECE_BYTES", 50_000)
    # Short calls, so that a fast machine does not draw everything in one piece.
    monkeypatch.setattr(chains, "CALL_SECONDS", 0.02)
    with monkeypatch.context() as full:
        full.setattr("inference.runs.run_folder.save_piece", save_piece)
        with pytest.raises(
            ValueError, match=r"folder: cannot write .*No space left on device.*resume the run"
        ):
            run("sgld", tmp_path / "run")
    draws = 0
    for path in sorted((tmp_path / "run" / "draws").iterdir()):
        with xr.open_datatree(path, engine="h5netcdf") as piece:
            assert np.isfinite(piece["posterior"].w).all()
            draws += piece["posterior"].sizes["draw"]
    assert 0 < draws < 200
    assert_same_draws(run("sgld", tmp_path / "run", resume=True), reference("sgld"))


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, and a function that gives that a size in KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size, *options):
        options = ",".join([f"size={size}k", *options])
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0

    if not mount(200):
        pytest.skip("mounting a small file system needs the rights of root")
    yield folder, lambda size: mount(size, "remount")
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.process
def test_a_small_file_system_that_fills_up(small_disk, reference, monkeypatch):
    """First while pieces are written, then while they are put together; then there is space
    enough."""
    folder, resize = small_disk
    monkeypatch.setattr(streaming, "PIECE_BYTES", 30_000)
    monkeypatch.setattr(chains, "CALL_SECONDS", 0.02)

    def fill_up_and_join(*arguments):
        resize(shutil.disk_usage(folder).used // 1024 + 100)
        join(*arguments)

    join = sys.modules["inference.runs.run_folder"].join_pieces
    for joining, size in ((join, 200), (fill_up_and_join, 4000)):
        resize(size)
        monkeypatch.setattr("inference.runs.run_folder.join_pieces", joining)
        with pytest.raises(ValueError, match=r"\(No space left on device\); free some space .* and resume"):
            run("sgld", folder / "run", resume=True)
        assert not list((folder / "run").rglob(atomic.TEMPORARY + "*"))
        pieces = sorted((folder / "run" / "draws").iterdir())
        with xr.open_datatree(pieces[-1], engine="h5netcdf") as piece:
            assert (int(piece["posterior"].draw[-1]) == 199) == (joining is fill_up_and_join)
    resize(4000)
    monkeypatch.setattr("inference.runs.run_folder.join_pieces", join)
    with run("sgld", folder / "run", resume=True) as tree:
        assert_same_draws(tree, reference("sgld"))


# --- memory ---

MEMORY = """
import re, sys, jax
from pathlib import Path
from inference import SGLD, sample
from models import SparseParity, TwoLayerNetwork
network = TwoLayerNetwork(40, 64, 0.3)
data = SparseParity(40, 2).sample(jax.random.key(0), 20, 10)
num_samples = int(sys.argv[2])
for folder in (sys.argv[1], None):
    kernel, options = SGLD(step_size=1e-3), {"num_warmup": 1, "num_samples": num_samples, "folder": folder}
    tree = sample(network, data, kernel, jax.random.key(0), **options)
    assert tree["posterior"].sizes["draw"] == num_samples
    # Not ru_maxrss, in which a process starts with the peak of the one that started it.
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_draws(tmp_path):
    """Peak memory in MiB of a run, and of one with ten times its draws (250 MB); then of the same
    in memory."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEMORY, tmp_path / count, count], stdout=subprocess.PIPE, text=True
        )
        for count in ("600", "6000")
    ]
    (short, _), (long, in_memory) = (map(float, process.communicate()[0].split()) for process in processes)
    print(
        f"peak memory: short {short:.0f} MiB, ten times as long {long:.0f} MiB, in memory {in_memory:.0f} MiB"
    )
    assert long < 1.1 * short
    assert in_memory > 1.3 * long  # the test would notice


# --- the command line ---

COMMAND = [
    "sample",
    "--input-dim",
    "5",
    "--degree",
    "2",
    "--width",
    "8",
    "--num-data",
    "30",
    "--num-test",
    "20",
]
COMMAND += ["--kappa", "0.3", "--seed", "3", "--num-warmup", "1000", "--thinning", "500", "--json"]
COMMAND += ["--num-samples", "100000", "--step-size", "0.001"]
# Background processes of some shells ignore Ctrl-C from birth.
INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from analysis.cli import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.process
def test_the_command_stops_at_ctrl_c_and_goes_on(tmp_path, capsys):
    folder = tmp_path / "a run"
    command = [
        sys.executable,
        "-c",
        INTERRUPTIBLE,
        *COMMAND,
        "--out",
        str(folder),
        "--checkpoint-every",
        "0.2",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "draws").is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert f"continue with: mfzoo sample --out '{folder}' --resume" in err
    assert "train MSE" in err
    status = main(["sample", "--out", str(folder), "--resume", "--kappa", "0.4"])
    assert status == 2
    assert "kappa is 0.3 in the run to resume, got 0.4" in capsys.readouterr().err
    assert main(["sample", "--out", str(folder), "--resume", "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert {p.name for p in folder.iterdir()} == {"run.nc", "table.csv", "settings.json", "traces.png"}
    assert main([*COMMAND, "--out", str(tmp_path / "whole")]) == 0
    whole = json.loads(capsys.readouterr().out)
    del resumed["wall_time_s"], whole["wall_time_s"]
    assert resumed == whole
    assert_same_draws(load_tree(folder / "run.nc"), load_tree(tmp_path / "whole" / "run.nc"))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no run to resume; start one without --resume"),
        ({"settings.json": "{"}, "is damaged; start a run in another folder"),
        (
            {"settings.json": '{"command": "compare", "command_line": "mfzoo compare"}'},
            "is from mfzoo compare; resume a folder of mfzoo sample",
        ),
        (
            {
                "settings.json": '{"command": "sample", "command_line": "mfzoo sample"}',
                "checkpoint.npz": "half",
            },
            "is damaged or not one of this project; delete its folder",
        ),
    ],
)
def test_a_folder_that_cannot_be_resumed_is_one_sentence(files, sentence, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["sample", "--out", str(tmp_path), "--resume"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mfzoo: error: ")]
    assert len(lines) == 1
    assert sentence in lines[0]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_resuming_needs_a_folder_and_a_folder_with_a_run_needs_resuming(tmp_path, capsys):
    assert main(["sample", "--resume"]) == 2
    assert "give --out FOLDER" in capsys.readouterr().err
    (tmp_path / "run.nc").write_text("whatever it is")
    assert main(["sample", "--out", str(tmp_path)]) == 2
    assert "holds a run already; resume it, or choose another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]


if __name__ == "__main__":
    report = partial(print, flush=True)
    run(
        sys.argv[1],
        sys.argv[2],
        resume=True,
        checkpoint_every=0.1,
        progress=lambda done, total, text: report(done),
    )

"""Files are whole or absent, and foreign files are refused with a sentence."""

import errno
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from analysis import load_tree, save_tree
from analysis.results.files import write_atomically, write_text


def test_netcdf_round_trip(small_tree, tmp_path):
    save_tree(small_tree, tmp_path / "run.nc")
    loaded = load_tree(tmp_path / "run.nc")
    assert loaded.groups == small_tree.groups
    for name in small_tree.children:
        xr.testing.assert_identical(loaded[name].to_dataset(), small_tree[name].to_dataset())
    assert dict(loaded.attrs) == dict(small_tree.attrs)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ValueError, match=r"out: cannot write .*No space left on device.*free some space"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path):
    def interrupt(temporary):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "run.nc", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_device_is_one_sentence():
    with pytest.raises(ValueError, match="out: cannot write"):
        write_text("/dev/full/x/run.txt", "text")


@pytest.mark.process
def test_a_file_that_outgrows_its_limit_is_one_sentence_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for a disk that fills up while a run is being
    written."""
    code = """
import resource, sys
import numpy as np, xarray as xr
from analysis import save_tree
tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"w": ("draw", np.zeros(100_000))})})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_tree(tree, sys.argv[1])
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run.nc"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "out: cannot write" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not netcdf", np.arange(100).tobytes()])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.nc"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run file .* is not a netCDF file of this project"):
        load_tree(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_tree(tmp_path / "none.nc")

"""Results on disk: whole files only, written under a temporary name and renamed."""

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import xarray as xr


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` in the folder of `path`, then rename the result to `path`.

    A reader sees the old file or the new one, never half of one; after a failure the temporary file is gone.

    Raises
    ------
    ValueError
        Where the file cannot be written (a full disk, a folder without permission), naming the path.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise ValueError(
            f"out: cannot write {str(path)!r} ({_reason(error)}); free some space or name another folder."
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    # HDF5 wraps the system's error in a long message of its own.
    if os.strerror(errno.ENOSPC) in str(error):
        return os.strerror(errno.ENOSPC)
    return error.strerror or " ".join(str(error).split())


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value) -> None:
    """Write `value` as JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def save_tree(tree: xr.DataTree, path: Path) -> None:
    """Write a DataTree as netCDF-4, whole or not at all.

    Examples
    --------
    >>> import tempfile, xarray
    >>> from analysis import load_tree, save_tree
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tree(xarray.DataTree(), folder + "/run.nc")
    ...     load_tree(folder + "/run.nc").groups
    ('/',)
    """
    # Through memory: HDF5 does not survive a disk that fills up under it.
    content = tree.to_netcdf(engine="h5netcdf")
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))


def load_tree(path: Path) -> xr.DataTree:
    """Read a DataTree that :func:`save_tree` wrote, into memory.

    Raises
    ------
    ValueError
        For a path that does not exist or a file that is not netCDF-4.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"run file {str(path)!r} does not exist; check the path.")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            return tree.load()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"run file {str(path)!r} is not a netCDF file of this project: {error}.") from None

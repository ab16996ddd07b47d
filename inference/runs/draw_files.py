"""Draws on disk: pieces of a run, put together into one file without holding them in memory."""

import errno
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import h5netcdf
import numpy as np
import xarray as xr

from inference.runs.atomic import replace_file

# Of a chunk of the final file: read at the disk's speed, yet small for a look at a few draws.
_CHUNK_BYTES = 2**20


def write_tree(tree: xr.DataTree, path: Path, **options) -> None:
    """Write a tree as netCDF-4 to the file at `path`, with the `options` of ``to_netcdf``.

    Through memory, since HDF5 does not survive a disk that fills up under it.
    """
    # The buffer is released by hand, and write_bytes, which keeps a view of it in its frame,
    # avoided: Python 3.12.1 crashes where the garbage collector finds the buffer of a BytesIO, as
    # it would after an error.
    with memoryview(tree.to_netcdf(engine="h5netcdf", **options)) as content, path.open("wb") as file:
        file.write(content)


def save_piece(tree: xr.DataTree, path: Path) -> None:
    """Write some draws as netCDF-4, whole or not at all; ``OSError`` where that fails."""
    replace_file(path, lambda temporary: write_tree(tree, temporary))


def join_pieces(
    pieces: Sequence[Path],
    path: Path,
    extra_attributes: dict | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Put `pieces`, in order, together along the dimension ``draw`` in one netCDF-4 file at `path`.

    The first piece is the template: its groups without draws are taken over; attributes of the root
    are those of the last piece and `extra_attributes`. Memory is that of one variable of one piece.
    `path` is written whole or not at all, ``OSError`` where it cannot be; ``report(done, total)``
    counts the pieces.
    """

    def write(temporary: Path) -> None:
        with open_draws(pieces[-1]) as last:
            attributes = {**last.attrs, **(extra_attributes or {})}
            num_draws = int(last["posterior"].draw[-1]) + 1
        _reserve(temporary, _write_empty(pieces[0], temporary, attributes, num_draws))
        with h5netcdf.File(temporary, "r+") as target:
            for count, piece in enumerate(pieces, 1):
                _append(piece, target)
                report(count, len(pieces))

    replace_file(path, write)


def open_draws(path: Path) -> xr.DataTree:
    """A DataTree whose arrays are read from `path` when used; ``ValueError`` for no such file."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"run file {str(path)!r} does not exist; check the path.")
    try:
        tree = xr.open_datatree(path, engine="h5netcdf")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"run file {str(path)!r} is not a netCDF file of this project: {error}.") from None
    # Attributes as the plain numbers that they were, so that they go into JSON again.
    tree.attrs = {k: v.item() if isinstance(v, np.generic) else v for k, v in tree.attrs.items()}
    return tree


def _write_empty(piece: Path, path: Path, attributes: dict, num_draws: int) -> int:
    """Write a file like `piece` without draws; returns its bytes once it has `num_draws`."""
    with xr.open_datatree(piece, engine="h5netcdf") as tree:
        encoding, unlimited, room = {}, {}, 0
        for group in tree.subtree:
            for name, variable in group.variables.items():
                if "draw" not in variable.dims:
                    continue
                chunks = _chunks(variable, num_draws)
                unlimited[group.path] = ["draw"]
                encoding.setdefault(group.path, {})[name] = {"chunksizes": chunks}
                # Whole chunks, also at the end, and an entry in HDF5's list of chunks for each.
                count = -(-num_draws // chunks[variable.dims.index("draw")])
                room += count * (math.prod(chunks) * variable.dtype.itemsize + 64)
        template = xr.DataTree.from_dict(
            {
                group.path: group.to_dataset().isel(draw=slice(0, 0), missing_dims="ignore")
                for group in tree.subtree
            }
        )
        template.attrs = attributes
        write_tree(template, path, encoding=encoding, unlimited_dims=unlimited)
    return path.stat().st_size + room + 2**16  # HDF5's own structures


def _chunks(variable: xr.Variable, num_draws: int) -> tuple[int, ...]:
    rest = math.prod(size for dim, size in variable.sizes.items() if dim != "draw")
    draws = int(np.clip(_CHUNK_BYTES // max(rest * variable.dtype.itemsize, 1), 1, num_draws))
    return tuple(draws if dim == "draw" else max(size, 1) for dim, size in variable.sizes.items())


def _append(piece: Path, target) -> None:
    """Append the draws of one piece, as raw values: both files have the same encodings."""
    with h5netcdf.File(piece, "r") as source:
        for name, group in source.groups.items():
            if "draw" not in group.dimensions:
                continue
            begin, count = target[name].dimensions["draw"].size, group.dimensions["draw"].size
            target[name].resize_dimension("draw", begin + count)
            for key, variable in group.variables.items():
                if "draw" in variable.dimensions:
                    where = [slice(None)] * len(variable.dimensions)
                    where[variable.dimensions.index("draw")] = slice(begin, begin + count)
                    target[name].variables[key][tuple(where)] = variable[...]


def _reserve(path: Path, num_bytes: int) -> None:
    """Set room for `num_bytes` aside on the disk; ``OSError`` where there is less."""
    # HDF5 does not survive a full disk; it cuts off what it did not need when it closes the file.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
    elif shutil.disk_usage(path.parent).free < num_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

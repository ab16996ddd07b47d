"""Results on disk: whole files only, written under a temporary name and renamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` in the folder of `path`, then rename the result to `path`.

    A reader sees the old file or the new one, never half of one; after a failure the temporary file
    is gone, and a ``ValueError`` names the path.
    """
    from inference.runs.atomic import reason, replace_file

    try:
        replace_file(path, write)
    except OSError as error:
        raise ValueError(
            f"out: cannot write {str(path)!r} ({reason(error)}); free some space or name another folder."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write `table` without its index, whole or not at all."""
    write_atomically(path, lambda temporary: table.to_csv(temporary, index=False))


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
    from inference.runs.draw_files import write_tree

    write_atomically(Path(path), lambda temporary: write_tree(tree, temporary))


def load_tree(path: Path) -> xr.DataTree:
    """Read what :func:`save_tree` wrote into memory; ``ValueError`` for no netCDF-4 file."""
    from inference.runs.atomic import reason
    from inference.runs.draw_files import open_draws

    with open_draws(path) as tree:
        try:
            return tree.load()
        except OSError as error:  # opened, and damaged further inside
            raise ValueError(f"run file {str(path)!r} cannot be read ({reason(error)}).") from None

"""Tables of measurements, read from a file and checked."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

_SHOWN = 8  # columns that a sentence names before it only counts


def read_table(path: Path, target: str | None) -> dict:
    """Inputs, target and input names of a ``.csv`` or ``.parquet`` file: arguments of ``Dataset.from_arrays``.

    Raises
    ------
    ValueError
        For a file that is no table, an unknown target, columns that are not numbers, and missing values.
    """
    table = _read(path)
    if table.empty:
        raise ValueError(f"data file {path.name!r} must have at least one row below its header.")
    if table.shape[1] < 2:
        raise ValueError(f"data file {path.name!r} must have at least two columns: inputs and a target.")
    table.columns = [str(name) for name in table]
    target = table.columns[-1] if target is None else target
    if target not in table:
        raise ValueError(f"target {target!r} is not a column; the columns are {', '.join(table)}.")
    _check_numeric(table, target)
    missing = table.isna().sum()
    missing = missing[missing > 0]
    if len(missing):
        counts = _listed([f"{name!r} {count}" for name, count in missing.items()])
        raise ValueError(
            f"data file {path.name!r} has missing values (column and count: {counts}, of {len(table)} rows); "
            "remove or impute those rows first."
        )
    inputs = table.drop(columns=target)
    return {"x": inputs.to_numpy(float), "y": table[target].to_numpy(float), "names": tuple(inputs)}


def _read(path: Path) -> pd.DataFrame:
    parquet = path.suffix == ".parquet"
    if parquet and find_spec("pyarrow") is None:
        raise ValueError(
            "data file in the format .parquet needs pyarrow; install it with pip install pyarrow, or save a .csv."
        )
    try:
        # ValueError covers pyarrow's own errors as well as those of the parser.
        return pd.read_parquet(path, engine="pyarrow") if parquet else pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".").replace(". ", ": ")
        raise ValueError(f"data file {path.name!r} is not a readable table: {reason}.") from None


def _check_numeric(table: pd.DataFrame, target: str) -> None:
    real = {name: pd.api.types.is_numeric_dtype(kind) for name, kind in table.dtypes.items()}
    text = [name for name in table if not real[name] or pd.api.types.is_complex_dtype(table[name])]
    if not text:
        return
    noun, verb = ("column", "is") if len(text) == 1 else ("columns", "are")
    if text == [target]:
        remedy = "code its classes as numbers, two of them as -1 and 1"
    else:
        remedy = "one-hot encode such inputs first (pandas.get_dummies), or leave them out"
    raise ValueError(f"{noun} {_listed([repr(name) for name in text])} {verb} not numeric; {remedy}.")


def _listed(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

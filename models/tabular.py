"""Data files, read and checked: tables of measurements, and archives of arrays."""

from __future__ import annotations

import csv
import re
import warnings
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models import checks

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 8  # columns that a sentence names before it only counts
_SAMPLED = 100  # lines that tell the separators
_COUNTED = 8  # rows from which on a column of consecutive numbers is no accident

# What a field that is no number may be, and what to do about it; the first that fits.
_REMEDIES = [
    (r"[?*.\-–—]+|n/?a\.?|nil|missing|unknown", "remove or impute the rows where a value is missing"),
    (r".*\d\s*%", "write per cents as plain numbers, without the sign"),
    (r"[+-]?\d{1,3}([,.'’\s]\d{3})+([.,]\d+)?", "write numbers without thousands separators"),
    (r"[+-]?\d+,\d+", "write decimal points for decimal commas"),
    (
        r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}.*|\d{1,2}:\d{2}.*",
        "turn dates and times into numbers, such as days since the first",
    ),
    (r"(grand |sub)?totals?|sums?|means?|averages?", "remove the rows that sum others up"),
]


def read_file(path: Path, target: str | None) -> dict:
    """Arguments of ``Dataset.from_arrays`` from a ``.npz``, ``.csv`` or ``.parquet`` file."""
    _check_file(path)
    return (_read_npz if path.suffix == ".npz" else _read_table)(path, target)


def read_inputs(path: Path, names: list[str] | None, count: int) -> np.ndarray:
    """Inputs (P, count) of new rows from such a file, see :func:`take_inputs`; no target needed."""
    _check_file(path)
    what = f"data file {path.name!r}"
    if path.suffix != ".npz":
        return take_inputs(_read_columns(path), names, count, what)
    x = checks.finite_array("x", _read_npz(path, None, ("x",))["x"], ndim=2)
    if x.shape[1] != count:
        raise ValueError(f"{what} must have the run's {count} inputs as columns of x, got {x.shape[1]}.")
    return x


def take_inputs(table: pd.DataFrame, names: list[str] | None, count: int, what: str) -> np.ndarray:
    """The columns `names` of a table in that order; without names all of them, `count` in number.

    ``ValueError``, of the table as `what`, for columns that are missing or hold no numbers.
    """
    table = table.set_axis([str(name) for name in table], axis=1)
    if names is None and table.shape[1] != count:
        raise ValueError(f"{what} must have the run's {count} inputs as columns, got {table.shape[1]}.")
    wanted = list(table) if names is None else names
    missing = [repr(name) for name in wanted if name not in table]
    if missing:
        noun, verb = ("column", "is an input") if len(missing) == 1 else ("columns", "are inputs")
        raise ValueError(
            f"{what} lacks the {noun} {listed(missing)}, which {verb} of the run; it has {listed(list(table))}."
        )
    return checks.finite_array(what, _numbers(table[wanted], None, what), ndim=2)


def _check_file(path: Path) -> None:
    if path.suffix not in (".npz", ".csv", ".parquet"):
        raise ValueError(f"data file must end in .npz, .csv or .parquet, got {path.name!r}.")
    if not path.is_file():
        raise ValueError(f"data file {str(path)!r} does not exist or is not a file; check the path.")


def _read_table(path: Path, target: str | None) -> dict:
    """Inputs, target and input names of a table.

    A ``.csv`` file has a header, and commas, semicolons or tabs between its fields, whichever make
    the most names of the header; where they are not commas, numbers may have decimal commas. An
    input that counts the rows or repeats the target, which no new row can tell, is warned about.
    """
    table = _read_columns(path)
    if table.shape[1] < 2:
        raise ValueError(
            f"data file {path.name!r} must have at least two columns, inputs and a target, with commas, "
            "semicolons or tabs between them."
        )
    table.columns = [str(name) for name in table]
    target = table.columns[-1] if target is None else target
    if target not in table:
        raise ValueError(f"target {target!r} is not a column; the columns are {', '.join(table)}.")
    table = _numbers(table, target, f"data file {path.name!r}")
    _warn_of_leaks(table, target)
    inputs = table.drop(columns=target)
    return {"x": inputs.to_numpy(), "y": table[target].to_numpy(), "names": tuple(inputs)}


def _read_columns(path: Path) -> pd.DataFrame:
    table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    if table.empty:
        raise ValueError(f"data file {path.name!r} must have at least one row below its header.")
    return table


def _numbers(table: pd.DataFrame, target: str | None, what: str) -> pd.DataFrame:
    """The table in floating point; ``ValueError`` for what is no number, or missing."""
    _check_numeric(table, target)
    missing = table.isna().sum()
    missing = missing[missing > 0]
    if len(missing):
        counts = listed([f"{name!r} {count}" for name, count in missing.items()])
        raise ValueError(
            f"{what} has missing values (column and count: {counts}, of {len(table)} rows); "
            "remove or impute those rows first."
        )
    return table.astype(float)


def _read_npz(path: Path, target: str | None, needed: tuple[str, ...] = ("x", "y")) -> dict:
    if target is not None:
        raise ValueError(
            "target names a column of a .csv or .parquet file; an .npz file holds its targets in the array y."
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in ("x", "y", "x_test", "y_test", "relevant") if k in stored}
    except Exception:  # of the archive, the arrays or their names: half a dozen kinds
        raise ValueError(
            f"data file {path.name!r} is not a readable .npz archive of number arrays; write it with numpy.savez."
        ) from None
    if not set(needed) <= set(arrays):
        raise ValueError(f"data file {path.name!r} must hold arrays named {' and '.join(needed)}.")
    return arrays


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd  # a fifth of the time that a first import of the package takes

    if find_spec("pyarrow") is None:
        raise ValueError(
            "data file in the format .parquet needs pyarrow; install it with pip install pyarrow, or save a .csv."
        )
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:  # ValueError covers pyarrow's own errors
        raise _unreadable(path, error) from None


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in islice(file, _SAMPLED) if line.strip()]
        split = {mark: list(csv.reader(lines, delimiter=mark)) for mark in ",;\t"}
        separator, rows = max(split.items(), key=lambda item: len(item[1][0]))
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from None
    except IndexError:
        raise _unreadable(path, "it is empty") from None
    header, fields = rows[0], [field.strip() for row in rows[1:] for field in row]
    if all(map(_is_number, header)) and header != [str(j) for j in range(len(header))]:
        raise ValueError(
            f"data file {path.name!r} must have a header, but its first line holds the numbers "
            f"{listed(header)}; put a line with the names of the columns above it."
        )
    if len(rows) > 1 and len(rows[1]) > len(header):
        raise ValueError(
            f"data file {path.name!r} has {len(rows[1])} fields in its first row but {len(header)} names in its "
            "header; name every column."
        )
    decimal_comma = separator != "," and any(re.fullmatch(r"[+-]?\d+,\d+", f) for f in fields)
    if decimal_comma and any(re.fullmatch(r"[+-]?\d+\.\d+", f) for f in fields):
        raise ValueError(
            f"data file {path.name!r} has decimal commas and decimal points; write all numbers in one way."
        )
    try:
        return pd.read_csv(path, sep=separator, decimal="," if decimal_comma else ".", encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError covers the parser's own errors
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error) -> ValueError:
    reason = " ".join(str(error).split()).rstrip(".").replace(". ", ": ")
    return ValueError(f"data file {path.name!r} is not a readable table: {reason}.")


def _is_number(field: str) -> bool:
    return re.fullmatch(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?\s*", field, re.IGNORECASE) is not None


def _check_numeric(table: pd.DataFrame, target: str | None) -> None:
    import pandas as pd
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    text = [name for name in table if not is_numeric_dtype(table[name]) or is_complex_dtype(table[name])]
    if not text:
        return
    column = table[text[0]]
    bad = column[pd.to_numeric(column.astype(str), errors="coerce").isna() & column.notna()]
    row, value = (1, "nothing") if bad.empty else (table.index.get_loc(bad.index[0]) + 1, str(bad.iloc[0]))
    remedy = "one-hot encode such inputs first (pandas.get_dummies), or leave them out"
    if text == [target]:
        remedy = "code its classes as numbers, two of them as -1 and 1"
    known = [said for pattern, said in _REMEDIES if re.fullmatch(pattern, value.strip(), re.IGNORECASE)]
    noun, verb = ("column", "is") if len(text) == 1 else ("columns", "are")
    raise ValueError(
        f"{noun} {listed([repr(name) for name in text])} {verb} not numeric, row {row} of {text[0]!r} "
        f"being {value[:30]!r}; {known[0] if known else remedy}."
    )


def _warn_of_leaks(table: pd.DataFrame, target: str) -> None:
    for name in table.columns.drop(target):
        if np.array_equal(table[name], table[target]):
            found = f"repeats the target {target!r}"
        elif len(table) >= _COUNTED and (np.diff(table[name]) == 1).all():
            found = f"counts the rows, from {table[name].iloc[0]:g} to {table[name].iloc[-1]:g}"
        else:
            continue
        warnings.warn(f"input {name!r} {found}; remove that column from the file.", stacklevel=5)


def listed(items: list[str]) -> str:
    """The first few of `items`, and how many more there are."""
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

"""A benchmark's results as rows of a file: what is there already is not run again."""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.results.files import write_atomically


def done(cell: dict, file: Path) -> bool:
    """Whether the file has a row with these columns."""
    if not file.is_file():
        return False
    table = pd.read_csv(file)
    return bool(np.all([table[name] == value for name, value in cell.items()], axis=0).any())


def keep(row: dict, file: Path, sort: list[str] | None = None) -> None:
    """Add a row to the file, sorted by some columns if they are named."""
    old = [pd.read_csv(file)] if file.is_file() else []
    table = pd.concat([*old, pd.DataFrame([row])])
    if sort:
        table = table.sort_values(sort, kind="stable")
    write_atomically(file, lambda path: table.to_csv(path, index=False, float_format="%.6g"))
    print(row, flush=True)

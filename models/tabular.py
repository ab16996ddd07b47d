"""Tables of measurements: read from a file, checked, and brought to standard units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from models.dataset import Dataset

_SHOWN = 8  # columns that a sentence names before it only counts


@dataclass(frozen=True)
class Standardisation:
    """How the columns of a dataset were brought to standard units, by the moments of the training rows.

        x_j ← (x_j - mean_j)/scale_j,     y ← (y - target_mean)/target_scale

    Parameters
    ----------
    mean, scale
        Mean and standard deviation (divisor P) of every input, each of length d.
    target_mean, target_scale
        Those of the target.
    dropped
        Inputs that were left out since they are constant on the training rows.

    Examples
    --------
    >>> units = Standardisation((2.0,), (4.0,), 10.0, 5.0)
    >>> float(units.original(1.0))
    15.0
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    target_mean: float
    target_scale: float
    dropped: tuple[str, ...] = ()

    def original(self, y):
        """Targets or predictions in the file's own units; a mean squared error is multiplied by target_scale²."""
        return self.target_mean + self.target_scale * np.asarray(y)

    def to_dict(self, names: tuple[str, ...] | None) -> dict:
        """JSON-able values: mean and scale by input, those of the target, and the inputs dropped."""
        named = names or tuple(map(str, range(len(self.mean))))
        columns = zip(named, self.mean, self.scale, strict=True)
        return {
            "inputs": {name: {"mean": mean, "scale": scale} for name, mean, scale in columns},
            "target": {"mean": self.target_mean, "scale": self.target_scale},
            "dropped": list(self.dropped),
        }


def standardise(data: Dataset) -> Dataset:
    """`data` with inputs and target of mean 0 and standard deviation 1 on the training rows.

    The priors give the weights of all inputs one scale, which means little where the inputs have units of their own,
    and the network has no offset that could stand for the target's mean. The moments are those of the training rows,
    so that nothing of the held-out rows is used; their own mean is then not exactly 0. Inputs that are constant on
    the training rows (to twelve digits) are dropped: they can teach nothing.

    Raises
    ------
    ValueError
        For a target or a relevant input that is constant on the training rows, or where all inputs are.

    Examples
    --------
    >>> from models import Dataset
    >>> data = Dataset([[1.0, 5.0], [3.0, 5.0]], [10.0, 30.0], [[5.0, 5.0]], [0.0])
    Traceback (most recent call last):
    ...
    ValueError: y_test must not be all zeros: the order parameter E[f y]/E[y²] divides by E[y²].
    >>> data = standardise(Dataset([[1.0, 5.0], [3.0, 5.0]], [10.0, 30.0], [[5.0, 5.0]], [40.0]))
    >>> data.x.tolist(), data.x_test.tolist(), data.y_test.tolist(), data.standardisation.dropped
    ([[-1.0], [1.0]], [[3.0]], [2.0], ('1',))
    """
    names = data.names or tuple(map(str, range(data.input_dim)))
    varies = _varies(data.x)
    constant = [names[j] for j in np.flatnonzero(~varies)]
    if not _varies(data.y):
        raise ValueError("target must vary over the training rows, but is constant; name another column.")
    if not varies.any():
        raise ValueError("inputs must vary over the training rows, but every one is constant.")
    relevant = data.relevant
    if relevant is not None:
        fixed = [j for j in relevant if not varies[j]]
        if fixed:
            raise ValueError(
                f"relevant input {names[fixed[0]]!r} is constant over the training rows; take it off the list."
            )
        place = np.cumsum(varies) - 1
        relevant = tuple(int(place[j]) for j in relevant)
    x, x_test = data.x[:, varies], data.x_test[:, varies]
    mean, scale = x.mean(axis=0), x.std(axis=0)
    target_mean, target_scale = float(data.y.mean()), float(data.y.std())
    return replace(
        data,
        x=(x - mean) / scale,
        y=(data.y - target_mean) / target_scale,
        x_test=(x_test - mean) / scale,
        y_test=(data.y_test - target_mean) / target_scale,
        relevant=relevant,
        teacher=None,
        names=None if data.names is None else tuple(np.asarray(names, dtype=object)[varies]),
        standardisation=Standardisation(
            tuple(mean.tolist()), tuple(scale.tolist()), target_mean, target_scale, tuple(constant)
        ),
    )


def _varies(values: np.ndarray) -> np.ndarray:
    return np.ptp(values, axis=0) > 1e-12 * np.abs(values).max(axis=0)


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
    import pandas as pd  # a fifth of the time that a first import of the package takes

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
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    text = [name for name in table if not is_numeric_dtype(table[name]) or is_complex_dtype(table[name])]
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

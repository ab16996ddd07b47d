"""Training and test data, from a teacher, from arrays, or from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models import checks
from models.tabular import read_file


@dataclass(frozen=True)
class Standardisation:
    """How a dataset was brought to standard units, by the moments of the training rows.

        x_j ← (x_j - mean_j)/scale_j,     y ← (y - target_mean)/target_scale

    with standard deviations of divisor P; `dropped` inputs were constant on the training rows.

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
        """Targets or predictions in the file's own units; an MSE is multiplied by target_scale²."""
        return self.target_mean + self.target_scale * np.asarray(y)

    def to_dict(self, names: tuple[str, ...] | None) -> dict:
        """JSON-able mean and scale of every input and of the target, and the inputs dropped."""
        named = names or tuple(map(str, range(len(self.mean))))
        columns = zip(named, self.mean, self.scale, strict=True)
        return {
            "inputs": {name: {"mean": mean, "scale": scale} for name, mean, scale in columns},
            "target": {"mean": self.target_mean, "scale": self.target_scale},
            "dropped": list(self.dropped),
        }


@dataclass(frozen=True, eq=False)
class Dataset:
    """A regression problem with held-out data.

    Parameters
    ----------
    x, y
        Training inputs (P, d) and targets (P,); finite.
    x_test, y_test
        Held-out inputs (P_test, d) and targets (P_test,).
    relevant
        Indices of the inputs that the target depends on, where that is known; else None.
    teacher
        The :class:`models.Teacher` that made the data, where there is one; population theories ask
        for it.
    names
        Names of the inputs, where they have some, as the columns of a table do.
    standardisation
        How the data were brought to standard units, where they were, see :meth:`standardised`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(40, 3))
    >>> data = Dataset.from_arrays(x, x[:, 0], relevant=[0])
    >>> data.x.shape, data.x_test.shape, data.relevant
    ((30, 3), (10, 3), (0,))
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    relevant: tuple[int, ...] | None = None
    teacher: Callable | None = None
    names: tuple[str, ...] | None = None
    standardisation: Standardisation | None = None

    def __post_init__(self):
        for inputs, targets in (("x", "y"), ("x_test", "y_test")):
            x, y = _checked(inputs, getattr(self, inputs), targets, getattr(self, targets))
            if x.size == 0:
                raise ValueError(f"{inputs} must have at least one row and one column, got shape {x.shape}.")
            object.__setattr__(self, inputs, x)
            object.__setattr__(self, targets, y)
        if not self.y_test.any():
            raise ValueError(
                "y_test must not be all zeros, as the order parameter E[f y]/E[y²] divides by E[y²]; "
                "hold out other rows, or code two classes as -1 and 1."
            )
        if self.x.shape[1] != self.x_test.shape[1]:
            raise ValueError(
                f"x_test must have as many columns as x: {self.x_test.shape[1]} against {self.x.shape[1]}."
            )
        if self.relevant is not None:
            object.__setattr__(self, "relevant", check_relevant(self.relevant, self.input_dim))
        if self.names is not None:
            names = tuple(map(str, self.names))
            if len(names) != self.input_dim:
                raise ValueError(
                    f"names must have one name per column of x: {len(names)} against {self.input_dim}."
                )
            object.__setattr__(self, "names", names)

    @property
    def input_dim(self) -> int:
        """Number of input coordinates d."""
        return self.x.shape[1]

    @property
    def num_data(self) -> int:
        """Number of training points P."""
        return len(self.x)

    @classmethod
    def from_arrays(
        cls, x, y, x_test=None, y_test=None, relevant=None, test_fraction=0.25, seed=0, names=None
    ) -> Dataset:
        """Data from arrays; without test arrays, a random `test_fraction` of the rows is held out.

        Where `y` has two values, one of which is so rare that it would be missing among the
        held-out or the training rows, the share is that of each value's own rows.
        """
        if (x_test is None) != (y_test is None):
            raise ValueError("x_test and y_test must be given together, or both left out.")
        if x_test is not None:
            return cls(x, y, x_test, y_test, relevant, names=names)
        x, y = _checked("x", x, "y", y)
        if len(x) < 2:
            raise ValueError(
                f"x must have at least 2 rows to hold some out, got {len(x)}; or pass x_test and y_test."
            )
        checks.finite("test_fraction", test_fraction)
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must lie between 0 and 1, got {test_fraction!r}.")
        order = np.random.default_rng(seed).permutation(len(x))
        num_test = _held_out(len(x), test_fraction)
        held_out, kept = order[:num_test], order[num_test:]
        classes = np.unique(y)
        if len(classes) == 2 and min(len(np.unique(y[part])) for part in (held_out, kept)) < 2:
            # Each class by itself, since the other way one of them would be missing from a part.
            parts = [order[y[order] == value] for value in classes]
            sizes = [_held_out(len(part), test_fraction) for part in parts]
            held_out = np.concatenate([part[:size] for part, size in zip(parts, sizes, strict=True)])
            kept = np.concatenate([part[size:] for part, size in zip(parts, sizes, strict=True)])
        held_out, kept = np.sort(held_out), np.sort(kept)
        return cls(x[kept], y[kept], x[held_out], y[held_out], relevant, names=names)

    @classmethod
    def from_file(cls, path, target: str | None = None, test_fraction=0.25, seed=0) -> Dataset:
        """Data from ``.npz`` (x, y, maybe x_test, y_test, relevant) or from a table of numbers.

        A table is a ``.csv`` file with a header, its fields separated by commas, semicolons or
        tabs, or a ``.parquet`` file (which needs pyarrow); it is read in its own units. The target
        is the column `target`, or the last one; columns of words and missing values are refused,
        and an input that counts the rows or repeats the target is warned about. A random
        `test_fraction` of the rows is held out, the same for the same `seed`.
        """
        return cls.from_arrays(**read_file(Path(path), target), test_fraction=test_fraction, seed=seed)

    def standardised(self) -> Dataset:
        """The same data with mean 0 and standard deviation 1 on the training rows.

        The priors give the weights of all inputs one scale, which means little where the inputs
        have units of their own, and the network has no offset that could stand for the target's
        mean. The moments are those of the training rows, so that nothing of the held-out rows is
        used; their own mean is then not exactly 0. Inputs that are constant on the training rows
        (to twelve digits) are dropped, since they can teach nothing; the others keep their names,
        which are their numbers where they had none. ``ValueError`` where the target, a relevant
        input or every input is constant.

        Examples
        --------
        >>> data = Dataset([[5.0, 1.0], [5.0, 3.0]], [10.0, 30.0], [[5.0, 5.0]], [40.0]).standardised()
        >>> data.x.tolist(), data.x_test.tolist(), data.y_test.tolist()
        ([[-1.0], [1.0]], [[3.0]], [2.0])
        >>> data.names, data.standardisation.dropped
        (('1',), ('0',))
        """
        names = self.names or tuple(map(str, range(self.input_dim)))
        varies = _varies(self.x)
        constant = [names[j] for j in np.flatnonzero(~varies)]
        if not _varies(self.y):
            raise ValueError("target must vary over the training rows, but is constant; name another column.")
        if not varies.any():
            raise ValueError("inputs must vary over the training rows, but every one is constant.")
        relevant = self.relevant
        if relevant is not None:
            fixed = [j for j in relevant if not varies[j]]
            if fixed:
                raise ValueError(
                    f"relevant input {names[fixed[0]]!r} is constant over the training rows; take it off the list."
                )
            place = np.cumsum(varies) - 1
            relevant = tuple(int(place[j]) for j in relevant)
        x, x_test = self.x[:, varies], self.x_test[:, varies]
        mean, scale = x.mean(axis=0), x.std(axis=0)
        target_mean, target_scale = float(self.y.mean()), float(self.y.std())
        return replace(
            self,
            x=(x - mean) / scale,
            y=(self.y - target_mean) / target_scale,
            x_test=(x_test - mean) / scale,
            y_test=(self.y_test - target_mean) / target_scale,
            relevant=relevant,
            teacher=None,
            names=tuple(np.asarray(names, dtype=object)[varies]) if constant else self.names,
            standardisation=Standardisation(
                tuple(mean.tolist()), tuple(scale.tolist()), target_mean, target_scale, tuple(constant)
            ),
        )


def _checked(inputs: str, x, targets: str, y) -> tuple[np.ndarray, np.ndarray]:
    """The arrays; ``ValueError`` unless they are finite, with a target for every row."""
    x, y = checks.finite_array(inputs, x, ndim=2), checks.finite_array(targets, y, ndim=1)
    if len(x) != len(y):
        raise ValueError(f"{targets} must have one value per row of {inputs}: {len(y)} against {len(x)}.")
    return x, y


def _held_out(num_rows: int, test_fraction: float) -> int:
    """How many of `num_rows` to hold out: at least one, but never all."""
    return min(num_rows - 1, max(1, round(test_fraction * num_rows)))


def _varies(values: np.ndarray) -> np.ndarray:
    return np.ptp(values, axis=0) > 1e-12 * np.abs(values).max(axis=0)


def check_relevant(relevant, input_dim: int) -> tuple[int, ...]:
    """`relevant` as a tuple; ``ValueError`` where empty, repeated or not in 0 … input_dim - 1."""
    given = np.atleast_1d(np.asarray(relevant))
    if given.ndim > 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(f"relevant must be a list of input indices (whole numbers), got {relevant!r}.")
    indices = tuple(int(j) for j in given)
    if not indices:
        raise ValueError(
            "relevant must name at least one input; pass None where the relevant inputs are unknown."
        )
    if len(set(indices)) < len(indices) or min(indices) < 0 or max(indices) >= input_dim:
        raise ValueError(f"relevant must be distinct indices from 0 to {input_dim - 1}, got {indices}.")
    return indices

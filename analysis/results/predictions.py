"""Predictions of a run at inputs that it has not seen, in the units of the file it was made from."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import ndtr

from analysis.results.order_parameters import group
from inference.runs.draw_files import open_draws
from models import DeepNetwork, Network, TwoLayerNetwork, checks
from models.dataset import Standardisation
from models.tabular import read_inputs, take_inputs

_BATCH = 8  # draws whose hidden activations are in memory at once
_ROWS = 1000  # rows at once, of all draws
_HALVINGS = 50


def predict(
    run: xr.DataTree | str | Path, table, *, level: float = 0.9, result: str | None = None
) -> pd.DataFrame:
    """Posterior mean and central intervals of f and of a new target y for every row of `table`.

        f(x) = N^(-γ) Σ_i a_i φ(w_i·x + b_i) over the draws,      y = f(x) + κ√P ξ,   ξ ~ Normal(0, 1)

    The interval of y is that of the mixture of the draws' Normal laws, to rounding. Where the run
    standardised its data, `table` is in the file's own units and so is the answer.

    Parameters
    ----------
    run
        A result, or the folder or ``run.nc`` of one.
    table
        New rows: a ``.csv``, ``.parquet`` or ``.npz`` (``x``) file, a DataFrame, or an array of the
        run's inputs in their order. Columns are found by name; others, such as the target or an
        input that the run left out for being constant, do not count.
    level
        Probability of the intervals, between 0 and 1.
    result
        Label of the result where `run` holds several, as those of ``mfzoo compare`` do.

    Returns
    -------
    pandas.DataFrame
        A row per row of `table`: ``mean`` (of f and of y), ``f_low``, ``f_high``, ``y_low``,
        ``y_high``.

    Raises
    ------
    ValueError
        For columns that are missing or hold no numbers, which it names; a file that is no run.

    Examples
    --------
    >>> predict(tree, np.ones((2, 6))).columns.tolist()
    ['mean', 'f_low', 'f_high', 'y_low', 'y_high']
    """
    checks.finite("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}.")
    tree = run if isinstance(run, xr.DataTree) else _open(Path(run))
    if "posterior" not in tree.children:
        labels = [name for name, node in tree.children.items() if "posterior" in node.children]
        if not labels:
            raise ValueError(
                "run holds no draws; give a folder of mfzoo sample or mfzoo compare, or its run.nc."
            )
        label = labels[0] if result is None and len(labels) == 1 else result
        checks.one_of("result", label, labels)
        tree = tree[label]
    x, index = _inputs(tree, table)
    units = tree.attrs.get("standardisation")
    units = None if units is None else Standardisation(**json.loads(units))
    if units is not None:
        x = (x - np.asarray(units.mean)) / np.asarray(units.scale)
    noise = network_of(tree).kappa * group(tree, "observed_data").sizes["data"] ** 0.5
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    parts = []
    for begin in range(0, len(x), _ROWS):
        f = function_of_draws(tree, x[begin : begin + _ROWS])
        bounds = (*np.quantile(f, tails, axis=0), *(_mixture_quantile(f, noise, tail) for tail in tails))
        parts.append(np.stack([f.mean(axis=0), *bounds], axis=1))
    columns = ["mean", "f_low", "f_high", "y_low", "y_high"]
    values = np.concatenate(parts)
    return pd.DataFrame(values if units is None else units.original(values), index, columns)


def network_of(tree: xr.DataTree) -> Network:
    """The network of a result, without its prior: enough for its function and its noise."""
    settings = json.loads(tree.attrs["network"])
    kind = DeepNetwork if "widths" in settings else TwoLayerNetwork
    names = set(kind.__dataclass_fields__) - {"prior"}
    return kind(**{name: value for name, value in settings.items() if name in names})


def function_of_draws(tree: xr.DataTree, x: np.ndarray) -> np.ndarray:
    """f at `x` (P, d), (draw, P), all chains together."""
    posterior, network = group(tree, "posterior"), network_of(tree)
    draws = [posterior[name].transpose("chain", "draw", ...) for name in network.parameter_names]
    params = {v.name: jnp.asarray(v.to_numpy(), jnp.float32).reshape(-1, *v.shape[2:]) for v in draws}
    return np.asarray(_apply(network, params, jnp.asarray(x, jnp.float32)), float)


@partial(jax.jit, static_argnums=0)
def _apply(network, params, x):
    return jax.lax.map(lambda one: network.apply(one, x), params, batch_size=_BATCH)


def _mixture_quantile(f: np.ndarray, noise: float, probability: float) -> np.ndarray:
    """Of the mean over draws (draw, P) of the laws Normal(f, noise²), by bisection."""
    low, high = f.min(axis=0) - 10 * noise, f.max(axis=0) + 10 * noise
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = ndtr((middle - f) / noise).mean(axis=0) < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _open(path: Path) -> xr.DataTree:
    """A run whose draws are read when they are used."""
    return open_draws(path / "run.nc" if path.is_dir() else path)


def _inputs(tree: xr.DataTree, table) -> tuple[np.ndarray, pd.Index | None]:
    """The inputs (P, d) of new rows, in the order of the run's, and the index of the rows."""
    names = group(tree, "posterior").w["input"].to_numpy()
    named = None if names.dtype.kind in "iu" else list(map(str, names))
    if isinstance(table, pd.DataFrame):
        return take_inputs(table, named, len(names), "table"), table.index
    if isinstance(table, str | Path):
        return read_inputs(Path(table), named, len(names)), None
    x = checks.finite_array("table", table, ndim=2)
    if x.shape[1] != len(names):
        raise ValueError(f"table must have the {len(names)} inputs of the run as columns, got {x.shape[1]}.")
    return x, None

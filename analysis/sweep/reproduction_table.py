"""The reproduction in numbers: a row per point of its figure, and published points beside it."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from models import SparseParity, TwoLayerNetwork

# Where the published learning curve was measured, arXiv:2510.15174: d, k, N, κ and γ.
PUBLISHED = {"input_dim": 35, "degree": 4, "width": 512, "kappa": 5e-3, "gamma": 0.5}
# Its schemes that can be laid over the figure; its NNGP is that of another kernel and ridge.
PUBLISHED_SCHEMES = ("SGLD", "MF", "MF-ARD")


def summary(tree: xr.DataTree) -> pd.DataFrame:
    """A row per (prior, κ, P) of the networks and per point of a theory.

    For networks the mean over the seeds whose cell is done, with the standard error of that mean
    over the seeds (NaN for one seed), the worst R-hat and ESS, and the largest difference between
    chains from the two starts. For theories order_parameter_se is their own error of m.
    """
    grid, found = (tree[name].to_dataset() for name in ("networks", "theories"))
    cells = grid.assign(start_difference=np.abs(grid.start_difference)).to_dataframe().reset_index()
    # What a row says, in order: a column of the cells, and its statistic over the seeds.
    statistics = {
        "order_parameter": ("order_parameter", "mean"),
        "order_parameter_se": ("order_parameter", "sem"),
        "test_mse": ("test_mse_draw", "mean"),
        "test_mse_se": ("test_mse_draw", "sem"),
        "test_mse_mean": ("test_mse_mean", "mean"),
        "num_seeds": ("seed", "size"),
        "num_converged": ("converged", "sum"),
        "r_hat_max": ("r_hat_max", "max"),
        "ess_min": ("ess_min", "min"),
        "start_difference": ("start_difference", "max"),
        "gradient_evaluations": ("gradient_evaluations", "mean"),
    }
    seeds = cells[cells.status == "done"].groupby(["prior", "kappa", "num_data"], sort=False)
    networks = seeds.agg(**statistics).reset_index()
    parts = [networks.assign(source="networks", scheme=grid.attrs["scheme"])]
    if found.data_vars:
        names = {"error": "order_parameter_se", "converged": "num_converged", "theory": "scheme"}
        theories = (
            found.drop_vars("onset", errors="ignore").to_dataframe().reset_index().rename(columns=names)
        )
        parts.append(theories.dropna(subset="order_parameter").assign(source="theory"))
    columns = ["source", "scheme", "prior", "start", "kappa", "num_data", *statistics]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def read_reference(
    path: Path | str, network: TwoLayerNetwork, teacher: SparseParity, kappas: tuple[float, ...]
) -> pd.DataFrame:
    """The published learning curve in the .csv file `path`, with its noise as a column kappa.

    Its errors are standard deviations over three runs. The published networks (SGLD) were stopped
    early on the test error, so that they are not draws from the posterior at a given time.
    ``ValueError`` for missing columns, or a problem that is not :data:`PUBLISHED`.
    """
    declared = {**vars(network), **vars(teacher)}
    other = {n: declared[n] for n in PUBLISHED if n != "kappa" and declared[n] != PUBLISHED[n]}
    if not np.isclose(kappas, PUBLISHED["kappa"]).any():
        other["kappas"] = ",".join(map("{:g}".format, kappas))
    if other:
        wanted, got = (", ".join(f"{k}={v}" for k, v in part.items()) for part in (PUBLISHED, other))
        raise ValueError(
            f"reference was measured at {wanted}, but the problem has {got}; leave one of them out."
        )
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"reference file {str(path)!r} cannot be read as .csv ({reason}).") from None
    missing = {"P", "scheme", "test_mse", "test_mse_sd", "order_parameter"} - set(table)
    if missing:
        raise ValueError(f"reference file {str(path)!r} has no column {', '.join(sorted(missing))}.")
    return table[table.scheme.isin(PUBLISHED_SCHEMES)].assign(kappa=PUBLISHED["kappa"])

"""Which cost of a neuron's own readout comes closest to sampled networks?

    python benchmarks/self_terms.py

AdaptiveKernel with each of its self-terms at P = 300 against NUTS on the default problem over the
noise (``benchmarks/data/nuts_reference.csv``, mean over its data sets; nuts_reference.py makes it).
Prints the table of docs/experiments.md and writes ``benchmarks/data/self_terms.csv``.
"""

import warnings
from pathlib import Path

import pandas as pd

from analysis.cli.options import Problem
from analysis.cli.output import show_table
from analysis.results.files import write_atomically
from inference.fixed_points import AdaptiveKernel
from inference.fixed_points.adaptive_kernel import SELF_TERMS

DATA = Path(__file__).parent / "data"


def row(kappa: float, prior: str, cell: pd.DataFrame) -> dict:
    """m and the MSE of a draw by NUTS and by every self-term; NaN where a theory has ended."""
    problem, size = Problem(), int(cell.num_data.iloc[0])
    network, teacher = problem.network(kappa, prior), problem.teacher()
    out = {
        "prior": prior,
        "kappa": kappa,
        "nuts m": cell.order_parameter.mean(),
        "nuts mse": cell.test_mse.mean(),
    }
    for name in SELF_TERMS:
        try:
            point = AdaptiveKernel(name).solve(network, teacher, num_data=size)
        except ValueError:
            continue
        out |= {f"{name} m": point.order_parameter, f"{name} mse": point.test_mse}
    return out


if __name__ == "__main__":
    warnings.filterwarnings(
        "ignore", message="adaptive-kernel: the curve"
    )  # what ends below is the point here
    cells = pd.read_csv(DATA / "nuts_reference.csv").groupby(["prior", "kappa"], sort=False)
    table = pd.DataFrame([row(kappa, prior, cell) for (prior, kappa), cell in cells])
    table = table.sort_values(["prior", "kappa"], ascending=[False, False])
    write_atomically(
        DATA / "self_terms.csv", lambda path: table.to_csv(path, index=False, float_format="%.4g")
    )
    for prior, rows in table.groupby("prior", sort=False):
        show_table(rows.drop(columns="prior"), f"{prior} prior")

"""Has a result converged? What its own draws say; the rules behind every verdict and table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.convergence import check_convergence, convergence_table
from analysis.diagnostics.differences import check_start, start_dependence
from analysis.diagnostics.energy import check_energy
from analysis.diagnostics.importance import check_guide, guide_pareto_k, leave_one_out
from analysis.diagnostics.readouts import check_readouts


@dataclass(frozen=True)
class Diagnosis:
    """What the draws of one result say about themselves.

    `tables` are ``functions``, see :func:`convergence_table`, and, for a run from both starts,
    ``start``, see :func:`start_dependence`; `checks` all that need no other run on the draws being
    those of the posterior; `pareto_k` is k̂ of a guide's ratios posterior/guide, None for chains;
    `loo` is PSIS-LOO (``arviz.ELPDDataLOO``), pointwise, None where it has no meaning.
    """

    tables: dict[str, pd.DataFrame]
    checks: tuple[Check, ...]
    pareto_k: float | None
    loo: object | None

    @property
    def table(self) -> pd.DataFrame:
        """A row per function: mean, sd, mcse, and for Markov chains r_hat, ess_bulk, ess_tail."""
        return self.tables["functions"]

    @property
    def r_hat_max(self) -> float | None:
        """The worst R-hat; None for independent draws, and where chains have none."""
        return self._worst("r_hat", pd.Series.max)

    @property
    def ess_min(self) -> float | None:
        """The worst bulk ESS; None for independent draws, and where chains have none."""
        return self._worst("ess_bulk", pd.Series.min)

    @property
    def converged(self) -> bool:
        """Whether every check passed; a result that has not converged is never trusted."""
        return not self.messages

    @property
    def messages(self) -> list[str]:
        """One sentence per check that failed, with the remedy."""
        return [f"{c.message[0].upper()}{c.message[1:]}." for c in self.checks if c.failed]

    def _worst(self, column: str, of) -> float | None:
        value = of(self.table[column]) if column in self.table else np.nan
        return float(value) if np.isfinite(value) else None


def diagnose(tree: xr.DataTree, superchains: Sequence[int] | None = None) -> Diagnosis:
    """Diagnose a result on functions that do not depend on the labels of the neurons.

    `superchains` are as in :func:`convergence_table`. PSIS-LOO of a guide takes its draws as
    posterior draws. :func:`analysis.assess` adds what takes another run, and judges predictions.

    Examples
    --------
    >>> diagnose(tree).converged  # twenty steps are not enough
    False
    """
    tables = {"functions": convergence_table(tree, superchains)}
    pareto_k = guide_pareto_k(tree)
    checks = [*check_convergence(tree, tables["functions"]), *check_energy(tree), *check_readouts(tree)]
    if tree.attrs.get("start") == "both" and tree["posterior"].sizes["chain"] > 1:
        tables["start"] = start_dependence(tree)
        checks.append(check_start(tables["start"], ("prior", "aligned")))
    checks += check_guide(tree, pareto_k)
    if "converged" in tree.attrs:
        solved = "passed", "the theory's equations are solved"
        open_ = (
            "failed",
            "the solver of the theory has not converged: its networks are not those of a fixed point",
        )
        checks.append(Check("fixed point", POSTERIOR, *(solved if tree.attrs["converged"] else open_)))
    return Diagnosis(tables, tuple(checks), pareto_k, leave_one_out(tree))

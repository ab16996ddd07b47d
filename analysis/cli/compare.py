"""``mfzoo compare``: the main job."""

import json
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Self

import pandas as pd
import tyro
from rich.console import Console

from analysis import plots
from analysis.cli.options import (
    DataOptions,
    Kappas,
    Names,
    OutputOptions,
    Priors,
    Problem,
    check_distinct,
    check_kappas,
)
from analysis.cli.output import console, progress_board, show_table, write_figure, write_settings
from analysis.diagnostics.probes import rank_probes
from analysis.results import headings
from analysis.results.files import save_tree, write_atomically
from analysis.results.inclusion import has_inclusion, inclusion_probabilities
from analysis.results.order_parameters import is_independent
from analysis.schemes.compare import Comparison, compare
from analysis.schemes.registry import check_scheme, default_schemes
from inference.fixed_points.evidence import choose_kappa
from models import Dataset

_HEADERS = {
    **headings.COMPARISON,
    "false_selection": "probes in top d",
    "auc": "AUC",
    "above_mean": "probes > mean",
    "above_probes": "inputs > probes",
    "included": "P(incl.) > ½",
}


@dataclass(frozen=True)
class Compare:
    """Run every scheme on the same problem and lay the answers side by side.

    Without options: parity, 16 inputs, degree 2, width 64, 300 training points, κ = 0.05 and 0.1, isotropic and
    ARD prior. With --data FILE on measurements: in standardised units, at the noise that the evidence of the NNGP
    chooses. Writes run.nc (all draws), table.csv, elpd.csv, the figures and settings.json to one folder; under the
    prior spike-and-slab inclusion.csv, the posterior inclusion probabilities of the inputs; with --probes probes.csv.
    """

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    inputs: tyro.conf.OmitArgPrefixes[DataOptions] = field(
        default_factory=partial(DataOptions, standardise=True)
    )
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    kappas: Kappas = ()
    """Noise levels κ. By default (auto) 0.05 and 0.1 on parity; on a file's data the one that maximises the evidence
    of the NNGP, whose noise of one target is κ√P."""
    priors: Priors = ("isotropic", "ard")
    """Priors over the hidden weights, as mfzoo priors lists them or FILE.py:CLASS; with parameters as in
    'student-t(df=3)'."""
    schemes: Names = ()
    """Schemes among sgld, nuts, mf-guide, mf-ard-guide, nngp, mean-field, mean-field-ard, adaptive-kernel,
    block-adaptive-kernel, langevin, nuts-collapsed and collapsed-guide; by default all but the last five that cover
    the problem. A named scheme is skipped for the priors it does not cover."""
    plots: bool = True
    """Draw the figures."""

    def run(self) -> None:
        """Run the comparison, write its folder, print its table."""
        notes = console(to_stderr=True)
        data = self.inputs.load(self.problem, self.output.seed)
        self.with_kappas(data, notes)._run(data, notes)

    def _run(self, data: Dataset, notes: Console) -> None:
        comparison = self.compare(data)
        folder = self.output.folder("compare")
        settings = {"command": "compare", **asdict(self), "described": comparison.problem}
        with notes.status("writing results"):
            save(comparison, folder, settings, self.plots)
            if self.inputs.probes:
                ranked = probe_table(comparison)
                write_atomically(folder / "probes.csv", lambda path: ranked.to_csv(path, index=False))
        if self.output.json:
            json.dump(
                {"problem": comparison.problem, "rows": comparison.rows},
                sys.stdout,
                indent=1,
                allow_nan=False,
            )
            print()
        else:
            show_table(comparison.table(), "Schemes side by side", _HEADERS)
            included = inclusion_table(comparison)
            if len(included):
                wide = included.pivot(index=["kappa", "scheme"], columns="input", values="probability")
                show_table(wide.reset_index(), "P(input is included | data)", _HEADERS)
            if self.inputs.probes:
                show_table(ranked, "How the shuffled copies of the inputs are ranked", _HEADERS)
            for result in comparison.results:
                for message in result.diagnosis.messages:
                    notes.print(f"[dim]{result.label}:[/dim] {message}", highlight=False, soft_wrap=True)
        notes.print(f"results in {folder}", highlight=False, soft_wrap=True)

    def with_kappas(self, data: Dataset, notes: Console) -> Self:
        """This command with its noise levels chosen where they are left open; says how, and in which units."""
        units = data.standardisation
        if units is not None:
            dropped = f"; left out, being constant: {', '.join(units.dropped)}" if units.dropped else ""
            notes.print(
                "predictions and MSE are in standardised units: 1 is a standard deviation of the target, "
                f"{units.target_scale:.4g}{dropped}",
                highlight=False, soft_wrap=True, markup=False,
            )  # fmt: skip
        if self.kappas:
            return self
        if self.inputs.data is None:
            return replace(self, kappas=(0.05, 0.1))
        problem = self.inputs.fitted(self.problem, data)
        chosen = choose_kappa(problem.network(1.0, "isotropic"), data)
        kappa = float(f"{chosen.kappa:.3g}")
        bound = " (at the end of the range searched: the data do not fix it)" if chosen.at_bound else ""
        notes.print(
            f"κ = {kappa:g}, the noise of largest NNGP evidence: κ√P = {chosen.noise:.3g} for one target{bound}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return replace(self, kappas=(kappa,))

    def compare(self, data: Dataset) -> Comparison:
        """All priors and noise levels, with progress on standard error."""
        check_kappas(self.kappas)
        problem = self.inputs.fitted(self.problem, data)
        jobs = [
            (kappa, prior, problem.network(kappa, prior)) for kappa in self.kappas for prior in self.priors
        ]
        check_distinct([network.prior for kappa, _, network in jobs if kappa == self.kappas[0]])
        named = [self._schemes(network, data) for _, _, network in jobs]
        key = self.output.key()
        parts = []
        with progress_board(sum(map(len, named))) as board:
            for (kappa, prior, network), names in zip(jobs, named, strict=True):
                callbacks = {name: board.callback(f"κ={kappa:g} {prior} {name}") for name in names}
                workers = max(1, min(os.cpu_count() or 1, len(names)))
                parts.append(compare(network, data, names, key, progress=callbacks, workers=workers))
        return sum(parts[1:], parts[0])

    def _schemes(self, network, data) -> list[str]:
        names = default_schemes(network, data)
        if not self.schemes:
            return names
        covered = []
        for name in self.schemes:
            try:
                check_scheme(name, network, data)
                covered.append(name)
            except ValueError:
                # A scheme named for several priors applies to some of them; one that applies to none is an error.
                if not any(self._covers(name, prior, network.kappa, data) for prior in self.priors):
                    raise
        if not covered:
            raise ValueError(
                f"schemes {','.join(self.schemes)} leave nothing to run for the prior {network.prior.name!r}; name "
                f"some of {', '.join(names)}."
            )
        return covered

    def _covers(self, name, prior, kappa, data) -> bool:
        problem = self.inputs.fitted(self.problem, data)
        try:
            check_scheme(name, problem.network(kappa, prior), data)
        except ValueError:
            return False
        return True


def inclusion_table(comparison: Comparison) -> pd.DataFrame:
    """Posterior inclusion probabilities of all inputs, under the priors that have them."""
    place = ("kappa", "scheme", "prior")
    tables = [
        inclusion_probabilities(r.tree).assign(**{name: r.row[name] for name in place})
        for r in comparison.results
        if has_inclusion(r.tree)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def probe_table(comparison: Comparison) -> pd.DataFrame:
    """How each result ranks the probes, see :func:`analysis.diagnostics.probes.rank_probes`; NNGP, which ranks none, left out."""
    place = ("kappa", "scheme", "prior")
    ranked = [result for result in comparison.results if result.row["scheme"] != "nngp"]
    return pd.DataFrame([{**{n: r.row[n] for n in place}, **rank_probes(r.tree)} for r in ranked])


def save(comparison: Comparison, folder, settings: dict, figures: bool) -> None:
    """Write run.nc, the tables, settings.json and the figures into `folder`, each file whole."""
    save_tree(comparison.to_tree(), folder / "run.nc")
    write_atomically(folder / "table.csv", lambda path: comparison.table().to_csv(path, index=False))
    elpd = comparison.elpd()
    if len(elpd):
        write_atomically(folder / "elpd.csv", lambda path: elpd.to_csv(path))
    included = inclusion_table(comparison)
    if len(included):
        write_atomically(folder / "inclusion.csv", lambda path: included.to_csv(path, index=False))
    write_settings(folder, settings)
    if figures:
        drawn = {
            "order_parameters": plots.plot_order_parameters(comparison),
            "second_moments": plots.plot_second_moments(comparison),
            "weight_marginals": plots.plot_weight_marginals(comparison),
        }
        if len(included):
            drawn["inclusion"] = plots.plot_inclusion(comparison)
        for result in comparison.results:
            if not is_independent(result.tree):
                drawn[f"traces-{result.label}"] = plots.plot_function_traces(result.tree, result.label)
        for name, figure in drawn.items():
            write_figure(figure, folder / f"{name}.png")

"""``mfzoo compare``: the main job."""

import os
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Self

import pandas as pd
import tyro
from matplotlib.figure import Figure

from analysis.cli.options import DataOptions, Kappas, Names, OutputOptions, Priors, Problem
from analysis.cli.output import console, note, print_json, progress_board, show_table, write_results
from analysis.diagnostics.probes import rank_probes
from analysis.plots import plot_function_traces
from analysis.plots.comparison import plot_comparison
from analysis.results.headings import COMPARISON, show_value
from analysis.results.inclusion import has_inclusion, inclusion_probabilities
from analysis.results.order_parameters import is_independent
from analysis.schemes.compare import PLACE, Comparison, run_schemes, sentence
from analysis.schemes.registry import SCHEMES, check_scheme, default_schemes
from inference.fixed_points.regression.evidence import choose_kappa
from models import Dataset, Network, checks


@dataclass(frozen=True)
class Compare:
    """Run every scheme on the same problem and lay the answers side by side.

    Without options: parity, 16 inputs, degree 2, width 64, 300 training points, κ = 0.05 and 0.1,
    isotropic and ARD prior. With --data FILE on measurements: in standardised units, at the noise
    that the evidence of the NNGP chooses. Writes run.nc (all draws), table.csv, elpd.csv, the
    figures and settings.json to one folder; under the prior spike-and-slab inclusion.csv, the
    posterior inclusion probabilities of the inputs; with --probes probes.csv.
    """

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    inputs: tyro.conf.OmitArgPrefixes[DataOptions] = field(
        default_factory=partial(DataOptions, standardise=True)
    )
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    kappas: Kappas = ()
    """Noise levels κ. By default (auto) 0.05 and 0.1 on parity; on a file's data the one that
    maximises the evidence of the NNGP, whose noise of one target is κ√P."""
    priors: Priors = ("isotropic", "ard")
    """Priors over the hidden weights, as mfzoo priors lists them or FILE.py:CLASS; with parameters
    as in 'student-t(df=3)'. Of a deep network for every layer, or one a layer as in ard+isotropic."""
    schemes: Names = ()
    """Schemes among sgld, nuts, mf-guide, mf-ard-guide, nngp, mean-field, mean-field-ard,
    adaptive-kernel, block-adaptive-kernel, langevin, nuts-collapsed, collapsed-guide,
    kernel-renormalisation and deep-linear; by default those that cover the problem, but for
    nuts-collapsed and the last two, theories on a dataset other than nngp, and
    block-adaptive-kernel beyond 128 neurons. A named scheme is left out for the priors that it does
    not cover."""
    plots: bool = True
    """Draw the figures."""

    def run(self) -> None:
        folder = self.output.folder("compare")
        data = self.inputs.load(self.problem, self.output.seed)
        chosen = self.with_kappas(data)
        comparison = chosen.compare(data)
        included = inclusion_table(comparison)
        ranked = probe_table(comparison) if self.inputs.probes else pd.DataFrame()
        settings = {"command": "compare", **asdict(chosen), "described": comparison.problem}
        with console(to_stderr=True).status("writing results"):
            tables = {"table": comparison.table(), "elpd": comparison.elpd().reset_index()}
            tables |= {"inclusion": included, "probes": ranked}
            figures = draw(comparison) if self.plots else {}
            trees = {"run": comparison.to_tree()}
            write_results(folder, settings, trees=trees, tables=tables, figures=figures)
        if self.output.json:
            print_json({"problem": comparison.problem, "rows": comparison.rows})
        else:
            show_comparison(comparison.table())
            if len(included):
                by_input = included.pivot(index="input", columns=["kappa", "scheme"], values="probability")
                by_input.columns = [f"{scheme} κ={kappa:g}" for kappa, scheme in by_input]
                show_table(by_input.reset_index(), "P(input is included | data)")
            if len(ranked):
                show_table(ranked, "How the shuffled copies of the inputs are ranked")
            for result in comparison.results:
                for message in result.diagnosis.messages:
                    note(f"{result.label}: {message}")
        note(f"results in {folder}")

    def with_kappas(self, data: Dataset) -> Self:
        """This command with its noise levels chosen where they are left open; says how."""
        if self.kappas:
            return self
        if self.inputs.data is None:
            return replace(self, kappas=(0.05, 0.1))
        # The evidence is that of the process at every noise: the network's own κ is not used.
        chosen = choose_kappa(self.problem.on(data).network(1.0, "isotropic"), data)
        kappa = float(f"{chosen.kappa:.3g}")
        bound = " (at the end of the range searched: the data do not fix it)" if chosen.at_bound else ""
        noise = f"κ√P = {chosen.target_noise:.3g} for one target{bound}"
        note(f"κ = {kappa:g}, the noise of largest NNGP evidence: {noise}")
        return replace(self, kappas=(kappa,))

    def compare(self, data: Dataset) -> Comparison:
        """All priors and noise levels, with progress on standard error."""
        checks.distinct("kappas", self.kappas)
        problem = self.problem.on(data)
        networks = [problem.network(kappa, prior) for kappa in self.kappas for prior in self.priors]
        checks.distinct("priors", [network.prior.name for network in networks[: len(self.priors)]])
        named = self._schemes(networks, data)
        comparison = Comparison({}, ())
        with progress_board(sum(map(len, named))) as board:
            for network, names in zip(networks, named, strict=True):
                at, key = f"κ={network.kappa:g} {network.prior.name}", self.output.key()
                callbacks = {name: board(f"{at} {name}") for name in names}
                workers = os.cpu_count() or 1
                comparison += run_schemes(network, data, names, key, progress=callbacks, workers=workers)
        for failure in comparison.failures:
            note(f"{failure.scheme} {failure.prior} κ={failure.kappa:g} failed: {sentence(failure.error)}")
        if not comparison.results:
            raise comparison.failures[0].error
        return comparison

    def _schemes(self, networks: list[Network], data: Dataset) -> list[list[str]]:
        """For each network the default schemes, or those named that cover its prior."""
        for name in self.schemes:
            checks.one_of("schemes", name, SCHEMES)
            left_out = [n.prior.name for n in networks[: len(self.priors)] if not SCHEMES[name].covers(n)]
            if len(left_out) == len(self.priors):
                check_scheme(name, networks[0])
            if left_out:
                note(f"{name} is left out for the prior {' and '.join(left_out)}, which it does not cover")
        if not self.schemes:
            return [default_schemes(network, data) for network in networks]
        return [[name for name in self.schemes if SCHEMES[name].covers(network)] for network in networks]


# How the terminal writes the figures and headings of a comparison that its 100 columns are short for.
_FORMATS = {
    "order_parameter_se": "{:.2g}",
    "deviation": "{:+.1f}",
    "relevance_ratio": "{:.2f}",
    "ess_min": "{:.0f}",
    "pareto_k": "{:.2f}",
    "gradient_evaluations": "{:,.0f}",
    "wall_time_s": "{:.0f}",
}
_HEADINGS = {"scheme": "", "test_mse_draw": "MSE", "test_mse_mean": "of mean", "converged": "ok"}


def show_comparison(table: pd.DataFrame) -> None:
    """The table on standard output, in 100 columns, a piece for each noise and prior."""
    shown = table.drop(columns=["kappa", "prior", "elpd_loo", "error"], errors="ignore").astype(object)
    for name, form in _FORMATS.items():
        shown[name] = [value if pd.isna(value) else form.format(value) for value in shown[name]]
    shown = shown.map(show_value)
    shown["scheme"] = shown.scheme.str.ljust(shown.scheme.str.len().max())
    shown = shown.rename(columns=COMPARISON | _HEADINGS)
    for (kappa, prior), part in shown.groupby([table.kappa, table.prior], sort=False):
        lines = (f"κ = {kappa:g}, {prior} prior", part.to_string(index=False), "")
        console(to_stderr=False).print(*lines, sep="\n", highlight=False, soft_wrap=True, markup=False)
    note(
        "Δm/se: m minus that of NUTS, in standard errors of the difference; MSE: test error of a draw, and of their "
        "mean; ∇U: gradient evaluations; ok: it has converged; mfzoo diagnose says more"
    )


def inclusion_table(comparison: Comparison) -> pd.DataFrame:
    """Posterior inclusion probabilities of all inputs, by name, under the priors that have them."""
    tables = [
        inclusion_probabilities(r.tree).assign(**{name: r.row[name] for name in PLACE})
        for r in comparison.results
        if has_inclusion(r.tree)
    ]
    if not tables:
        return pd.DataFrame()
    table, names = pd.concat(tables, ignore_index=True), comparison.problem["inputs"]
    return table if names is None else table.assign(input=table.input.map(dict(enumerate(names))))


def probe_table(comparison: Comparison) -> pd.DataFrame:
    """How each result but NNGP, which ranks none, ranks the probes."""
    ranked = [result for result in comparison.results if result.row["scheme"] != "nngp"]
    return pd.DataFrame([{**{n: r.row[n] for n in PLACE}, **rank_probes(r.tree)} for r in ranked])


def draw(comparison: Comparison) -> dict[str, Figure]:
    """The figures by the name of their file."""
    chains = [result for result in comparison.results if not is_independent(result.tree)]
    traces = {f"traces-{r.label}": plot_function_traces(r.tree, r.label) for r in chains}
    return plot_comparison(comparison) | traces

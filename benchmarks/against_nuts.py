"""Every theory against NUTS on the default problem over the noise: table and figure of the docs.

    python benchmarks/against_nuts.py

Needs ``benchmarks/data/nuts_reference.csv`` (nuts_reference.py makes it). Theories of the
population are solved at P = ∞ and, where they have a finite-P form, at the data's P; those on a
data set on every one of NUTS's. Writes ``benchmarks/data/theories.csv`` and
``docs/figures/against_nuts.png``.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import tyro
from matplotlib.ticker import NullLocator

from analysis.cli.options import Names, Problem
from analysis.cli.output import show_table, write_figure
from analysis.plots.style import BLACK, colour, legend, new_figure, title
from analysis.results.files import write_atomically
from analysis.theory.theories import THEORIES
from models import TwoLayerNetwork

HERE = Path(__file__).parent
REFERENCE, RESULT = HERE / "data" / "nuts_reference.csv", HERE / "data" / "theories.csv"
FIGURE = HERE.parent / "docs" / "figures" / "against_nuts.png"
NOISES = (0.03, 0.05, 0.1, 0.2, 0.3)  # labelled in the figure
_FIGURES = ("order_parameter", "test_mse", "moment_relevant", "moment_rest", "num_aligned")


@dataclass(frozen=True)
class AgainstNUTS:
    """Solve every theory where NUTS has run, and lay the answers side by side."""

    theories: Names = tuple(name for name, theory in THEORIES.items() if theory.population)
    """Which."""
    data_sets: bool = True
    """Also solve on the data sets (minutes)."""
    start: str = "prior"
    """Start of theories that have several solutions."""

    def run(self) -> None:
        """Solve what is missing, write the table and the figure."""
        nuts = pd.read_csv(REFERENCE)
        rows = pd.read_csv(RESULT).to_dict("records") if RESULT.is_file() else []
        for (kappa, prior), cell in nuts.groupby(["kappa", "prior"], sort=False):
            for name in self.theories:
                if THEORIES[name].covers(Problem().prior(prior)):
                    for form in self.forms(name):
                        label = {"theory": name, "on": form, "kappa": kappa, "prior": prior}
                        if not any(all(row[k] == v for k, v in label.items()) for row in rows):
                            rows.append(label | self.solve(name, form, kappa, prior, cell))
                            frame = pd.DataFrame(rows)
                            write_atomically(
                                RESULT, lambda p, f=frame: f.to_csv(p, index=False, float_format="%.6g")
                            )
                            print(rows[-1], flush=True)
        frame = pd.DataFrame(rows)
        for prior in dict.fromkeys(nuts.prior):
            for name, header in (("order_parameter", "m"), ("test_mse", "test MSE of a draw")):
                table = side_by_side(nuts[nuts.prior == prior], frame[frame.prior == prior], name)
                show_table(table, f"{header}, {prior} prior")
        table = moments(nuts, frame)
        show_table(table, "second moment of a weight times d, relevant / irrelevant, and aligned neurons")
        write_figure(figure(nuts, frame), FIGURE)

    def forms(self, name: str) -> list[str]:
        """population (P = ∞), finite P, data sets."""
        theory = THEORIES[name]
        forms = ["population"] + ["finite P"] * theory.finite_data
        return forms + ["data sets"] * (self.data_sets and not theory.sampled)

    def solve(self, name: str, form: str, kappa: float, prior: str, cell: pd.DataFrame) -> dict:
        """Figures of one theory, averaged over the data sets where it is solved on them."""
        problem, theory = Problem(), THEORIES[name]
        network, teacher = problem.network(kappa, prior), problem.teacher()
        size = int(cell.num_data.iloc[0])
        if form == "data sets":
            data = [teacher.sample(jax.random.key(int(seed)), size, 1000) for seed in cell.seed]
            points = [theory.solver().solve(network, d, start=self.start) for d in data]
        else:
            num_data = size if form == "finite P" else None
            points = [theory.solver().solve(network, teacher, num_data=num_data, start=self.start)]
        values = [self.figures(point, network, teacher) for point in points]
        return {k: float(np.mean([v[k] for v in values])) for k in values[0]} | {
            "converged": all(point.converged for point in points)
        }

    @staticmethod
    def figures(point, network: TwoLayerNetwork, teacher) -> dict:
        """m, test MSE, second moments and the number of aligned neurons; these two from networks of
        the theory."""
        out = {"order_parameter": point.order_parameter, "test_mse": point.test_mse}
        if point.sampler is None:
            return out | dict.fromkeys(_FIGURES[2:], np.nan)
        # Weights alone: readouts do not matter here.
        data = teacher.sample(jax.random.key(0), 20, 10)
        finite = point.theory in ("adaptive-kernel", "block-adaptive-kernel") and not hasattr(
            point, "second_moment"
        )
        w = point.sample_networks(jax.random.key(0), 400, *([data] if finite else []))["w"]
        share = (w[:, :, : teacher.degree] ** 2).sum(axis=2) / (w**2).sum(axis=2)
        return out | {
            "moment_relevant": float((w[:, :, : teacher.degree] ** 2).mean()),
            "moment_rest": float((w[:, :, teacher.degree :] ** 2).mean()),
            "num_aligned": float((share > 0.5).sum(axis=1).mean()),
        }


def side_by_side(nuts: pd.DataFrame, theories: pd.DataFrame, name: str) -> pd.DataFrame:
    """The figure `name` of NUTS, with the standard error over data sets, and of every theory; a row
    per κ."""
    rows = []
    for kappa, cell in nuts.groupby("kappa", sort=False):
        row = {"κ": f"{kappa:g}", "NUTS": f"{cell[name].mean():.3f} ± {cell[name].sem():.3f}"}
        for _, found in theories[theories.kappa == kappa].iterrows():
            row[_label(found.theory, found.on)] = f"{found[name]:.3f}"
        rows.append(row)
    return pd.DataFrame(rows)


def moments(nuts: pd.DataFrame, theories: pd.DataFrame) -> pd.DataFrame:
    """d E[w²] of a relevant and an irrelevant weight, and the number of aligned neurons (in
    brackets)."""
    dim, rows = Problem().input_dim, []
    for (kappa, prior), cell in nuts.groupby(["kappa", "prior"], sort=False):
        row = {"prior": prior, "κ": f"{kappa:g}", "NUTS": _moments(cell.mean(numeric_only=True), dim)}
        for _, found in theories[(theories.kappa == kappa) & (theories.prior == prior)].iterrows():
            finest = found.on == "data sets" or (
                found.theory == "block-adaptive-kernel" and found.on == "finite P"
            )
            if finest and np.isfinite(found.moment_rest):
                row[_label(found.theory, found.on)] = _moments(found, dim)
        rows.append(row)
    return pd.DataFrame(rows).fillna("–").sort_values("prior", ascending=False, kind="stable")


def _moments(row: pd.Series, dim: int) -> str:
    return f"{dim * row.moment_relevant:.2f} / {dim * row.moment_rest:.2f} ({row.num_aligned:.1f})"


def _label(theory: str, on: str) -> str:
    return f"{title(theory).removesuffix(' theory')}, {on.replace('population', 'P = ∞')}"


def figure(nuts: pd.DataFrame, theories: pd.DataFrame):
    """m, test MSE, second moments and aligned neurons against κ; a row per prior."""
    priors, names = (
        list(dict.fromkeys(nuts.prior)),
        ("m", "test MSE of a draw", "E[w²] relevant/irrelevant", "aligned neurons"),
    )
    result, grid = new_figure(len(priors), 4, 13.0, 2.9 * len(priors) + 0.7, sharex=True, xlabel="noise κ")
    styles = {"population": ":", "finite P": "-", "data sets": "--"}
    for prior, line in zip(priors, grid, strict=True):
        for place, (axes, name) in enumerate(zip(line, names, strict=True)):
            cells = nuts[nuts.prior == prior].groupby("kappa")
            mean, spread = _column(cells.mean(numeric_only=True), place), None
            if place < 2:
                spread = 2 * cells[_FIGURES[place]].sem()
            axes.errorbar(
                mean.index, mean, yerr=spread, fmt="o", ms=4, color=BLACK, capsize=2, label="NUTS", zorder=3
            )
            for (theory, on), rows in theories[theories.prior == prior].groupby(["theory", "on"], sort=False):
                values = _column(rows.set_index("kappa").sort_index(), place)
                axes.plot(values.index, values, styles[on], color=colour(theory), label=_label(theory, on))
            axes.set(xscale="log")
            axes.set_title(f"{prior} prior: {name}" if place == 0 else name, fontsize=10)
            axes.set_xticks(NOISES, [f"{k:g}" for k in NOISES])
            axes.xaxis.set_minor_locator(NullLocator())
            if place > 0:
                axes.set_yscale("log")
    shown = {}
    for line in grid:
        handles, labels = line[0].get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    order = sorted(shown, key=lambda label: (label != "NUTS", label))
    legend(result, handles=[shown[label] for label in order], labels=order, ncols=7)
    return result


def _column(frame: pd.DataFrame, place: int) -> pd.Series:
    if place == 2:
        return frame.moment_relevant / frame.moment_rest
    return frame[("order_parameter", "test_mse", "", "num_aligned")[place]]


if __name__ == "__main__":
    tyro.cli(AgainstNUTS).run()

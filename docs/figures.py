"""Make the figures of the documentation that need no long run.

    python docs/figures.py [--only learning_curve,branches]

The authors' learning curve in docs/data is that of arXiv:2510.15174 (mean and standard deviation of
3 runs; networks stopped early on the test error).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import tyro

from analysis import assess_all, compare, distances, phase_diagram, plots, scaling_exponent
from analysis.cli.options import Names
from analysis.cli.output import write_figure
from analysis.plots.comparison import plot_comparison
from analysis.plots.learning_curve import plot_learning_curve
from analysis.plots.style import BLACK, GREEN, PINK, RED, SKY, legend, new_figure
from analysis.sweep.reproduction_table import PUBLISHED_SCHEMES
from inference import SGLD, sample
from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD
from models import ARD, Isotropic, SparseParity, SpikeAndSlab, TwoLayerNetwork

HERE = Path(__file__).parent
PAPER, PARITY = TwoLayerNetwork(35, 512, 0.005), SparseParity(35, 4)


def learning_curve():
    """Test MSE and m against P at the paper's κ = 0.005, over the authors' points."""
    table = pd.read_csv(HERE / "data" / "learning_curve_kappa_5e-3.csv")
    sizes = np.unique(np.round(np.geomspace(50, 12_000, 40)).astype(int))
    figure, ((left, right),) = new_figure(1, 2, 10.0, 4.4, sharex=True)
    for scheme, marker in {"SGLD": "*", "MF": "x", "MF-ARD": "+"}.items():
        rows = table[table.scheme == scheme]
        look = {"fmt": f"{marker}-", "ms": 6, "lw": 0.6, "capsize": 2, "color": BLACK, "zorder": 3}
        label = f"published {scheme.replace('SGLD', 'networks')}"
        left.errorbar(rows.P, rows.test_mse, yerr=rows.test_mse_sd, label=label, **look)
        right.errorbar(rows.P, rows.order_parameter, **look)
    network_ard = replace(PAPER, prior=ARD())
    for network, start, shade, style in (
        (PAPER, "prior", SKY, "-"),
        (network_ard, "prior", RED, "--"),
        (network_ard, "aligned", RED, "-"),
    ):
        found = [
            AdaptiveKernel().noise_curve(network, PARITY, 0.005, num_data=int(p)).reached(0.005, start)
            for p in sizes
        ]
        label = "AK" if network is PAPER else f"AK, ARD prior, {start} start"
        left.plot(sizes, [s.test_mse for s in found], style, color=shade, label=label)
        right.plot(sizes, [s.order_parameter for s in found], style, color=shade)
    kernel = [NNGP().solve(PAPER, PARITY, num_data=int(p)) for p in sizes[::3]]
    left.plot(sizes[::3], [p.test_mse for p in kernel], color="#999999", label="NNGP")
    right.plot(sizes[::3], [p.order_parameter for p in kernel], color="#999999")
    for theory, network, shade, label in (
        (MeanField(), PAPER, GREEN, "MF, P = ∞"),
        (MeanFieldARD(), network_ard, PINK, "MF-ARD, P = ∞"),
    ):
        point = theory.solve(network, PARITY)
        left.axhline(point.test_mse, ls=":", color=shade, label=label)
        right.axhline(point.order_parameter, ls=":", color=shade)
    left.set(xscale="log", yscale="log", xlabel="training points P", ylabel="test MSE of one network")
    right.set(xlabel="training points P", ylabel="order parameter m")
    legend(figure, handles=left.get_legend_handles_labels()[0], ncols=5)
    return figure


def phase_diagram_isotropic():
    """m over κ and P with the isotropic prior."""
    theories = ["adaptive-kernel", "nngp", "mean-field"]
    return plots.plot_phase_diagram(
        phase_diagram(
            PAPER, PARITY, np.geomspace(5e-4, 0.1, 40), np.geomspace(100, 20_000, 24).round(), theories
        )
    )


def phase_diagram_ard():
    """m over κ and P with the ARD prior, from the aligned start: onset and folds."""
    network = replace(PAPER, prior=ARD())
    theories = ["adaptive-kernel", "mean-field-ard"]
    sizes = np.geomspace(100, 20_000, 24).round()
    return plots.plot_phase_diagram(
        phase_diagram(network, PARITY, np.geomspace(2e-3, 0.1, 40), sizes, theories, start="aligned")
    )


def critical_noise_dimension():
    """κ_c against d: theorem 4.1."""
    dims = [35, 70, 140, 280]
    starts = {"mean-field": "prior", "mean-field-ard": "aligned", "adaptive-kernel": "prior"}
    scalings = {
        name: scaling_exponent(
            name, TwoLayerNetwork(35, 512, 1.0), SparseParity(35, 2), "input_dim", dims, start=start
        )
        for name, start in starts.items()
    }
    return plots.plot_critical_noise(scalings, "inputs d (k = 2, N = 512)")


def critical_noise_degree():
    """κ_c against k."""
    starts = {"mean-field": "prior", "mean-field-ard": "aligned", "adaptive-kernel": "prior"}
    scalings = {
        name: scaling_exponent(
            name, TwoLayerNetwork(35, 512, 1.0), SparseParity(35, 2), "degree", [2, 4, 6], start=start
        )
        for name, start in starts.items()
    }
    return plots.plot_critical_noise(scalings, "degree k (d = 35, N = 512)")


def branches():
    """m against κ with every branch."""
    network, teacher = TwoLayerNetwork(35, 512, 1.0), SparseParity(35, 2)
    ard = replace(network, prior=ARD())
    curves = {
        "MF": MeanField().noise_curve(network, teacher, 0.005),
        "MF-ARD": MeanFieldARD().noise_curve(ard, teacher, 0.005),
        "AK": AdaptiveKernel().noise_curve(network, teacher, 0.005),
        "AK, ARD prior, P = 1000": AdaptiveKernel().noise_curve(ard, teacher, 0.005, num_data=1000),
    }
    return plots.plot_noise_curves(curves, (0.005, 0.3))


def marginals():
    """Density of one relevant and of one irrelevant weight over the neurons of the theories'
    networks."""
    theories = {
        "prior": (None, Isotropic(), "0.6"),
        "MF": (MeanField(), Isotropic(), GREEN),
        "AK": (AdaptiveKernel(), Isotropic(), SKY),
        "MF-ARD": (MeanFieldARD(), ARD(), PINK),
    }
    figure, (panels,) = new_figure(1, 2, 9.0, 3.6)
    scale = PAPER.input_dim**-0.5
    for label, (theory, prior, shade) in theories.items():
        if theory is None:
            w = scale * np.random.default_rng(0).standard_normal((400, PAPER.width, PAPER.input_dim))
        else:
            point = theory.solve(replace(PAPER, prior=prior), PARITY)
            few = PARITY.sample(jax.random.key(0), 20, 10)  # for the readouts, which do not matter here
            w = point.sample_networks(jax.random.key(0), 400, few)["w"]
        for axes, inputs in zip(panels, (PARITY.relevant, range(4, PAPER.input_dim)), strict=True):
            edges = np.linspace(-6, 6, 161) if inputs == PARITY.relevant else np.linspace(-0.8, 0.8, 161)
            density, _ = np.histogram(w[:, :, list(inputs)], edges)
            width = edges[1] - edges[0]
            density = density / (w[:, :, list(inputs)].size * width)
            axes.plot(
                0.5 * (edges[1:] + edges[:-1]),
                np.where(density > 0, density, np.nan),
                color=shade,
                label=label,
            )
    for axes, name in zip(panels, ("relevant", "irrelevant"), strict=True):
        axes.set(yscale="log", xlabel=f"weight of one {name} input", ylabel="density")
    legend(figure, handles=panels[0].lines, ncols=4)
    return figure


def experiment():
    """The sampled networks of docs/data/experiment.csv and the theories over them."""
    return plot_learning_curve(pd.read_csv(HERE / "data" / "experiment.csv"))


def experiment_paper_scale():
    """The networks of docs/data/experiment_paper_scale.csv, theories, and the published points."""
    cells = pd.read_csv(HERE / "data" / "experiment_paper_scale.csv")
    networks = cells.rename(columns={"test_mse_draw": "test_mse", "converged": "num_converged"})
    # One data set: no error over data sets.
    networks = networks.assign(source="networks", num_seeds=1, order_parameter_se=np.nan, test_mse_se=np.nan)
    rows, curve = [], AdaptiveKernel()
    for size in np.geomspace(100, 2133, 16).round().astype(int):
        found = curve.noise_curve(PAPER, PARITY, PAPER.kappa, num_data=int(size)).reached(PAPER.kappa)
        rows.append(("adaptive-kernel", size, found.order_parameter, found.test_mse))
        point = NNGP().solve(PAPER, PARITY, num_data=int(size))
        rows.append(("nngp", size, point.order_parameter, point.test_mse))
    point = MeanField().solve(PAPER, PARITY)
    rows.append(("mean-field", np.inf, point.order_parameter, point.test_mse))
    theories = pd.DataFrame(rows, columns=["scheme", "num_data", "order_parameter", "test_mse"])
    theories = theories.assign(source="theory", prior="isotropic", start="prior", kappa=PAPER.kappa)
    published = pd.read_csv(HERE / "data" / "learning_curve_kappa_5e-3.csv").assign(kappa=PAPER.kappa)
    published = published[published.scheme.isin(PUBLISHED_SCHEMES)]
    return plot_learning_curve(pd.concat([networks, theories], ignore_index=True), published)


def gallery():
    """One small posterior in every figure that verdicts, sweeps and comparisons have."""
    data = SparseParity(6, 2).sample(jax.random.key(0), 60)
    network = TwoLayerNetwork(6, 8, 0.15, prior=SpikeAndSlab())
    comparison = compare(network, data, ["nuts", "mf-guide"])
    trees = dict(comparison.trees)
    steps = {"num_warmup": 2000, "num_samples": 80_000, "thinning": 160}
    for label, step, start in (
        ("sgld", 0.01, "prior"),
        ("sgld, half the step", 0.005, "prior"),
        ("sgld, aligned start", 0.01, "aligned"),
    ):
        trees[label] = sample(network, data, SGLD(step_size=step), jax.random.key(1), start=start, **steps)
    drawn = plots.plot_verdicts(trees, assess_all(trees), [distances(trees, next(iter(trees)))])
    drawn |= plot_comparison(comparison)
    kinds = {"convergence", "calibration", "pareto_k", "feature_selection", "inclusion"}
    kinds |= {"differences", "distances", "energy", "restarts"}
    named = [(name.split("-")[0], figure) for name, figure in drawn.items()]
    return {kind: figure for kind, figure in reversed(named) if kind in kinds}  # the first of each kind


FIGURES = {
    f.__name__: f
    for f in (
        learning_curve,
        phase_diagram_isotropic,
        phase_diagram_ard,
        critical_noise_dimension,
        critical_noise_degree,
        branches,
        marginals,
        experiment,
        experiment_paper_scale,
        gallery,
    )
}


@dataclass(frozen=True)
class Figures:
    """Draw the figures of docs/theory.md into docs/figures."""

    only: Names = tuple(FIGURES)
    """Which."""

    def run(self) -> None:
        """Draw."""
        for name in self.only:
            drawn = FIGURES[name]()
            for part, figure in (drawn if isinstance(drawn, dict) else {"": drawn}).items():
                write_figure(
                    figure,
                    HERE / "figures" / name / f"{part}.png" if part else HERE / "figures" / f"{name}.png",
                )
            print(name, flush=True)


if __name__ == "__main__":
    tyro.cli(Figures).run()

"""Make the figures of docs/theory.md.

    python docs/figures.py [--only learning_curve,branches]

The authors' learning curve in docs/data is that of arXiv:2510.15174 (mean and standard deviation of
3 runs; networks stopped early on the test error).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from analysis import phase_diagram, plots, scaling_exponent
from analysis.cli.options import Names
from analysis.cli.output import write_figure
from analysis.plots.style import new_figure, tidy
from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

HERE = Path(__file__).parent
PAPER, PARITY = TwoLayerNetwork(35, 512, 0.005), SparseParity(35, 4)


def learning_curve():
    """Test MSE and m against P at the paper's κ = 0.005, over the authors' points."""
    table = pd.read_csv(HERE / "data" / "learning_curve_kappa_5e-3.csv")
    sizes = np.unique(np.round(np.geomspace(50, 12_000, 40)).astype(int))
    figure, ((left, right),) = new_figure(1, 2, 10.0, 4.4, sharex=True)
    published = {"SGLD": ("#0072B2", "networks"), "MF": ("#009E73", "MF"), "MF-ARD": ("#CC79A7", "MF-ARD")}
    for scheme, (shade, label) in published.items():
        rows = table[table.scheme == scheme]
        label = f"authors' {label}"
        left.errorbar(
            rows.P, rows.test_mse, yerr=rows.test_mse_sd, fmt="o", ms=4, color=shade, capsize=2, label=label
        )
        right.plot(rows.P, rows.order_parameter, "o", ms=4, color=shade)
    network_ard = replace(PAPER, prior=ARD())
    for network, start, shade, style in (
        (PAPER, "prior", "#0072B2", "-"),
        (network_ard, "prior", "#CC79A7", "--"),
        (network_ard, "aligned", "#CC79A7", "-"),
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
        (MeanField(), PAPER, "#009E73", "MF, P = ∞"),
        (MeanFieldARD(), network_ard, "#CC79A7", "MF-ARD, P = ∞"),
    ):
        point = theory.solve(network, PARITY)
        left.axhline(point.test_mse, ls=":", color=shade, label=label)
        right.axhline(point.order_parameter, ls=":", color=shade)
    left.set(xscale="log", yscale="log", xlabel="training points P", ylabel="test MSE of one network")
    right.set(xlabel="training points P", ylabel="order parameter m")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False, fontsize=8
    )
    for axes in (left, right):
        tidy(axes)
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
        "MF": (MeanField(), Isotropic(), "#009E73"),
        "AK": (AdaptiveKernel(), Isotropic(), "#56B4E9"),
        "MF-ARD": (MeanFieldARD(), ARD(), "#CC79A7"),
    }
    figure, (panels,) = new_figure(1, 2, 9.0, 3.6)
    scale = PAPER.input_dim**-0.5
    for label, (theory, prior, shade) in theories.items():
        if theory is None:
            w = scale * np.random.default_rng(0).standard_normal((400, PAPER.width, PAPER.input_dim))
        else:
            point = theory.solve(replace(PAPER, prior=prior), PARITY)
            w = point.sampler(np.random.default_rng(0), 400)["w"]
        for axes, inputs in zip(panels, (PARITY.relevant, range(4, PAPER.input_dim)), strict=True):
            edges = np.linspace(-4, 4, 161) if inputs == PARITY.relevant else np.linspace(-0.8, 0.8, 161)
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
        tidy(axes)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


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
            write_figure(FIGURES[name](), HERE / "figures" / f"{name}.png")
            print(name, flush=True)


if __name__ == "__main__":
    tyro.cli(Figures).run()

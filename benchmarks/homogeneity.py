"""Does input selection carry the gain of isotropic networks? The homogeneity prior over its strength.

    python benchmarks/homogeneity.py [--kappa 0.05] [--seed 0]

Parity, d = 16, k = 2, N = 64, P = 300, by NUTS from both starts: exp(-½ s Σ_i Var_j |w_ij|) with
the scale σ_w of the isotropic prior, and with the scale at which E|w_i|² is the isotropic prior's
(the penalty shortens the weights too). One row a run goes to ``benchmarks/data/homogeneity.csv``;
a run that is there already is not repeated. Draws the figure ``docs/figures/homogeneity.png``.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import pandas as pd
import tyro
from numpyro.infer import NUTS
from priors import measure
from rows import done, keep
from scipy.optimize import brentq

from analysis.cli.options import Problem
from analysis.cli.output import show_table, write_figure
from analysis.plots.style import legend, new_figure
from inference import sample
from models import Homogeneous, TwoLayerNetwork

FILE = Path(__file__).parent / "data" / "homogeneity.csv"
FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "homogeneity.png"
SERIES = {"scale": "σ_w of the isotropic prior", "norm": "E|w|² of the isotropic prior"}


@dataclass(frozen=True)
class Ablation:
    """Run what is missing, print the table and draw the figure."""

    kappa: float = 0.05
    """Noise."""
    seed: int = 0
    """Seed of data and sampler."""
    strengths: tuple[float, ...] = (0.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
    """s; inputs are told apart by less than a neuron's mean weight from about d² on."""
    num_draws: int = 400
    """Steps of warm-up, and draws, of each of the four chains."""

    def run(self) -> None:
        """One run after the other."""
        for strength in self.strengths:
            for held in SERIES if strength else ("scale",):
                self.one(strength, held)
        table = pd.read_csv(FILE)
        table = table[(table.kappa == self.kappa) & (table.seed == self.seed)]
        show_table(table, "homogeneity")
        write_figure(figure(table), FIGURE)

    def one(self, strength: float, held: str) -> None:
        """One run, where it is missing."""
        place = {"kappa": self.kappa, "seed": self.seed, "strength": strength, "held": held}
        if done(place, FILE):
            return
        problem = Problem()
        prior = Homogeneous(strength)
        if held == "norm":
            prior = normalised(prior, problem.input_dim)
        network = TwoLayerNetwork(problem.input_dim, problem.width, self.kappa, prior=prior)
        data = problem.teacher().sample(jax.random.key(self.seed), 300, 1000)
        key, kernel = jax.random.fold_in(jax.random.key(self.seed), 1), partial(NUTS, max_tree_depth=8)
        lengths = {"num_warmup": self.num_draws, "num_samples": self.num_draws}
        tree = sample(network, data, kernel, key, start="both", **lengths)
        keep(
            place | {"weight_scale": prior.scale} | measure(tree, data),
            FILE,
            ["kappa", "seed", "held", "strength"],
        )


def normalised(prior: Homogeneous, input_dim: int) -> Homogeneous:
    """The prior with the scale at which E|w_i|² = 1."""

    def excess(scale):
        return replace(prior, scale=scale).mean_square(input_dim) - 1

    return replace(prior, scale=brentq(excess, 1.0, 10 * input_dim**0.5))


def figure(table: pd.DataFrame):
    """m and the test MSE of a draw over the strength."""
    drawn, [axes] = new_figure(1, 2, 8, 3.2, xlabel="strength s of the homogeneity prior")
    names = {"order_parameter": "order parameter m", "test_mse_draw": "test MSE of a draw"}
    for panel, (name, label) in zip(axes, names.items(), strict=True):
        free = table[table.strength == 0][name].item()
        panel.axhline(free, color="grey", linestyle=":", label="isotropic prior (s = 0)")
        for held, line in SERIES.items():
            rows = table[(table.held == held) & (table.strength > 0)].sort_values("strength")
            panel.errorbar(rows.strength, rows[name], rows[name + "_se"], marker="o", label=line)
        panel.set(xscale="log", ylabel=label)
    legend(axes[0])
    return drawn


if __name__ == "__main__":
    tyro.cli(Ablation).run()

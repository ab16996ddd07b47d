"""Does depth move the transition? Networks of one and of two hidden layers on parity, over κ.

    python benchmarks/depth.py

d = 8, k = 2, P = 150, seed 0, 32 neurons a layer, isotropic and (layer-wise) ARD priors. BAOAB from both
starts at half the step of ``mfzoo compare``, and the guides. A row a cell goes to
``benchmarks/data/depth.csv``; a cell that is there already is not run again. The figure is
``docs/figures/depth.png``.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import tyro
import xarray as xr
from rows import done, keep

from analysis import diagnose, order_parameters
from analysis.cli.options import Names, Numbers
from analysis.cli.output import write_figure
from analysis.plots.style import BLUE, RED, new_figure
from analysis.results.order_parameters import start_difference
from inference import CollapsedGuide, MeanFieldARDGuide, UnderdampedLangevin, fit, sample
from models import DeepNetwork, Isotropic, SparseParity, make_prior

FILE = Path(__file__).parent / "data" / "depth.csv"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "depth.png"
WIDTH, TEACHER = 32, SparseParity(8, 2)
KEY = jax.random.key(1)
GUIDES = {"collapsed-guide": CollapsedGuide(), "mf-ard-guide": MeanFieldARDGuide()}


@dataclass(frozen=True)
class Depth:
    """Sample and fit over depths, priors and κ."""

    kappas: Numbers = (0.1, 0.05, 0.2)
    """Noise levels."""
    priors: Names = ("isotropic", "ard")
    """Priors, the same in every layer."""
    schemes: Names = ("langevin", "mf-ard-guide", "collapsed-guide")
    """Among langevin, collapsed-guide, mf-ard-guide."""
    depths: tuple[int, ...] = (1, 2)
    """Numbers of hidden layers."""

    def run(self) -> None:
        """Run what is missing, and draw the figure."""
        data = TEACHER.sample(jax.random.key(0), num_data=150, num_test=1000)
        for scheme in self.schemes:
            for kappa in self.kappas:
                for prior in self.priors:
                    for depth in self.depths:
                        cell = {"scheme": scheme, "prior": prior, "kappa": kappa, "depth": depth}
                        if done(cell, FILE) or (scheme == "mf-ard-guide" and prior != "ard"):
                            continue
                        network = DeepNetwork(8, (WIDTH,) * depth, kappa, prior=make_prior(prior))
                        keep(cell | row_of(run(scheme, network, data)), FILE, list(cell))
        write_figure(draw(pd.read_csv(FILE)), FIGURE)


def run(scheme: str, network: DeepNetwork, data) -> xr.DataTree:
    """Four chains, two from each start, or the best of two restarts of a guide."""
    if scheme in GUIDES:
        return fit(network, data, GUIDES[scheme], KEY, num_steps=1500, num_restarts=2, num_draws=400)
    isotropic = isinstance(network.prior, Isotropic)
    step = (0.4 if isotropic else 0.2) * network.kappa
    kernel = UnderdampedLangevin(step_size=step, friction=0.3 if isotropic else 1.0, preconditioner="prior")
    thinning = ceil(2 / step)
    lengths = {"num_warmup": 50 * thinning, "num_samples": 250 * thinning, "thinning": thinning}
    return sample(network, data, kernel, KEY, start="both", **lengths)


def row_of(tree: xr.DataTree) -> dict:
    """Figures of a result; ``hidden_share`` is the participation ratio of the norms of the first
    layer's outgoing weights, 0.943 and 0.691 under the isotropic and the ARD prior."""
    summary, diagnosis = order_parameters(tree), diagnose(tree)
    names = ("order_parameter", "test_mse_draw", "relevance_ratio")
    row = {n: summary[n].sel(estimate="mean").item() for n in names}
    row["order_parameter_se"] = summary.order_parameter.sel(estimate="se").item()
    row["start_difference"] = np.nan
    if tree.attrs.get("start") == "both":
        row["start_difference"] = start_difference(tree["order_parameters"].order_parameter)[0]
    row["hidden_share"] = np.nan
    if "w2" in tree["posterior"]:
        square = (tree["posterior"].w2.astype(float) ** 2).sum("neuron2")
        row["hidden_share"] = float((square.sum("neuron") ** 2 / (square**2).sum("neuron") / WIDTH).mean())
    return row | {"r_hat_max": diagnosis.r_hat_max, "ess_min": diagnosis.ess_min}


def draw(table: pd.DataFrame):
    """m against κ, a panel a prior: lines are the sampler's, open markers the guides'."""
    priors = list(dict.fromkeys(table.prior))
    figure, [axes] = new_figure(1, len(priors), 4.2 * len(priors), 3.4, xlabel="κ", sharey=True)
    for one, prior in zip(axes, priors, strict=True):
        for depth, colour in zip((1, 2), (BLUE, RED), strict=True):
            part = table[(table.prior == prior) & (table.depth == depth)].sort_values("kappa")
            chains = part[part.scheme == "langevin"]
            label = f"{depth} hidden layer" + "s" * (depth > 1)
            errors = 2 * chains.order_parameter_se
            one.errorbar(chains.kappa, chains.order_parameter, errors, color=colour, marker="o", label=label)
            for scheme, marker in (("collapsed-guide", "s"), ("mf-ard-guide", "^")):
                guide = part[part.scheme == scheme]
                one.plot(guide.kappa, guide.order_parameter, marker, mfc="none", color=colour)
        one.set(title=f"{prior} prior", xscale="log")
        kappas = sorted(table.kappa.unique())
        one.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
        one.minorticks_off()
    axes[0].set_ylabel("order parameter m")
    axes[0].legend(title="○ Langevin  □ collapsed  △ MF-ARD guide", fontsize=8)
    return figure


if __name__ == "__main__":
    tyro.cli(Depth).run()

"""Every prior of the zoo on the default problem: recovery of the relevant inputs, SGLD against
NUTS, and what the parametrisation costs.

    python benchmarks/priors.py [--kappa 0.05] [--seed 0]

Parity, d = 16, k = 2, N = 64, P = 300, four chains, the kernels of ``mfzoo compare``. Per prior
NUTS and SGLD on the prior's own form, and NUTS on the centred one, where there is one. One row a
run goes to ``benchmarks/data/priors.csv``; a run that is there already is not repeated.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import tyro
import xarray as xr
from numpyro.infer import NUTS
from rows import done, keep

from analysis import diagnose, order_parameters
from analysis.cli.options import Names, Problem
from analysis.cli.output import show_table
from analysis.schemes.kernels import default_sgld
from inference import sample
from models import Dataset, SparseParity, TwoLayerNetwork
from models.priors import PRIORS, make_prior

FILE = Path(__file__).parent / "data" / "priors.csv"
PLACE = ["kappa", "seed", "prior", "form", "scheme"]


@dataclass(frozen=True)
class Benchmark:
    """Run what is missing and print the table."""

    kappa: float = 0.05
    """Noise."""
    seed: int = 0
    """Seed of data and samplers."""
    priors: Names = tuple(PRIORS)
    """Priors, as --prior takes them."""
    runs: Names = ("nuts", "sgld", "nuts-centred")
    """Which of nuts, sgld, nuts-centred."""
    num_warmup: int = 300
    """NUTS's warm-up steps of each chain; SGLD takes 16 kept draws' worth."""
    num_draws: int = 300
    """Draws kept of each chain."""
    thinning: int = 250
    """SGLD's steps between kept draws."""

    def run(self) -> None:
        """One run after the other."""
        for run in self.runs:
            for prior in self.priors:
                self.one(prior, *run.split("-"))
        table = pd.read_csv(FILE)
        show_table(table[(table.kappa == self.kappa) & (table.seed == self.seed)], "priors")

    def one(self, prior: str, scheme: str, form: str = "own") -> None:
        """One run, where it is missing and its form exists."""
        place = {"kappa": self.kappa, "seed": self.seed, "prior": prior, "form": form, "scheme": scheme}
        declared = make_prior(prior)
        if form == "centred":
            if not hasattr(declared, "centered"):
                return
            declared = replace(declared, centered=True)
        if not done(place, FILE):
            problem = Problem()
            network = TwoLayerNetwork(problem.input_dim, problem.width, self.kappa, prior=declared)
            data = SparseParity(problem.input_dim, problem.degree).sample(
                jax.random.key(self.seed), 300, 1000
            )
            keep(place | measure(self.sample(network, data, scheme), data), FILE, PLACE)

    def sample(self, network: TwoLayerNetwork, data: Dataset, scheme: str) -> xr.DataTree:
        """Four chains from the prior."""
        if scheme == "nuts":
            kernel, steps = partial(NUTS, max_tree_depth=8), {"num_warmup": self.num_warmup}
            steps["num_samples"] = self.num_draws
        else:
            kernel, steps = default_sgld(network), {"thinning": self.thinning}
            steps |= {"num_warmup": 16 * self.thinning, "num_samples": self.num_draws * self.thinning}
        return sample(network, data, kernel, jax.random.fold_in(jax.random.key(self.seed), 1), **steps)


def measure(tree: xr.DataTree, data: Dataset) -> dict:
    """The figures of one run."""
    summary, diagnosis = order_parameters(tree), diagnose(tree)
    mean, se = summary.sel(estimate="mean"), summary.sel(estimate="se")
    gradients, ess = tree.attrs["gradient_evaluations"], diagnosis.table["ess_bulk"]
    moments = tree["order_parameters"].second_moment.to_numpy()
    stats = tree["sample_stats"]
    return {
        "order_parameter": mean.order_parameter.item(),
        "order_parameter_se": se.order_parameter.item(),
        "test_mse_draw": mean.test_mse_draw.item(),
        "test_mse_draw_se": se.test_mse_draw.item(),
        "test_mse_mean": mean.test_mse_mean.item(),
        "moment_relevant": mean.second_moment.to_numpy()[list(data.relevant)].mean(),
        "moment_rest": np.delete(mean.second_moment.to_numpy(), data.relevant).mean(),
        "recovered": recovered(moments, data.relevant),
        "inclusion_relevant": inclusion(tree, data.relevant).mean(),
        "inclusion_rest": inclusion(tree, np.setdiff1d(np.arange(data.input_dim), data.relevant)).mean(),
        "r_hat_max": diagnosis.r_hat_max,
        "ess_min": ess.min(),
        "slowest": ess.idxmin(),
        "ess_median": ess.median(),
        "divergent": int(stats.diverging.sum()) if "diverging" in stats else 0,
        "gradients": gradients,
        "ess_min_per_1000": 1000 * ess.min() / gradients,
        "ess_median_per_1000": 1000 * ess.median() / gradients,
        "seconds": tree.attrs["wall_time_s"],
    }


def recovered(moments: np.ndarray, relevant: tuple[int, ...]) -> float:
    """Share of the draws whose largest second moments are exactly those of the relevant inputs."""
    rest = np.setdiff1d(np.arange(moments.shape[-1]), relevant)
    return float(np.mean(moments[..., list(relevant)].min(axis=-1) > moments[..., rest].max(axis=-1)))


def inclusion(tree, inputs) -> np.ndarray:
    """Posterior inclusion probabilities of some inputs; NaN for priors without."""
    found = tree["posterior"]
    return (
        found.inclusion.mean(("chain", "draw")).to_numpy()[list(inputs)]
        if "inclusion" in found
        else np.array([np.nan])
    )


if __name__ == "__main__":
    tyro.cli(Benchmark).run()

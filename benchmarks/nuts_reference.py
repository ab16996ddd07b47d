"""NUTS on the default problem over the noise: the reference that the theories are held against.

    python benchmarks/nuts_reference.py [--seeds 0,1,2]

Parity, d = 16, k = 2, N = 64, P = 300. Per data set, prior and κ two chains start from the prior
and two from aligned neurons, so that R-hat of functions tells whether the answer depends on the
start. One row a cell goes to ``benchmarks/data/nuts_reference.csv``; a cell that is there already
is not run again.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from numpyro.infer import NUTS
from rows import done, keep

from analysis import diagnose
from analysis.cli.options import Names, Numbers, Problem
from inference import sample
from inference.starts import start_params

FILE = Path(__file__).parent / "data" / "nuts_reference.csv"


@dataclass(frozen=True)
class Reference:
    """Run NUTS over κ, priors and data sets."""

    kappas: Numbers = (0.3, 0.2, 0.15, 0.12, 0.1, 0.07, 0.05, 0.03)
    """Noise levels."""
    priors: Names = ("isotropic", "ard")
    """Priors."""
    seeds: Numbers = (0, 1, 2)
    """Seeds of the data sets."""
    num_data: int = 300
    """P."""
    num_warmup: int = 500
    """Warm-up steps of each of the four chains."""
    num_samples: int = 500
    """Steps kept."""

    def run(self) -> None:
        """Run what is missing."""
        for seed in map(int, self.seeds):
            for kappa in self.kappas:
                for prior in self.priors:
                    cell = {"num_data": self.num_data, "kappa": kappa, "prior": prior, "seed": seed}
                    if not done(cell, FILE):
                        keep(cell | self.cell(kappa, prior, seed), FILE)

    def cell(self, kappa: float, prior: str, seed: int) -> dict:
        """One posterior."""
        problem = Problem()
        network = problem.network(kappa, prior)
        data = problem.teacher().sample(jax.random.key(seed), self.num_data, 1000)
        key = jax.random.fold_in(jax.random.key(seed), round(1e6 * kappa) + (prior == "ard"))
        starts = [
            start_params(network, data, jax.random.fold_in(key, i), 2, s)
            for i, s in enumerate(("prior", "aligned"))
        ]
        tree = sample(
            network,
            data,
            partial(NUTS, max_tree_depth=8),
            jax.random.fold_in(key, 2),
            num_warmup=self.num_warmup,
            num_samples=self.num_samples,
            num_chains=4,
            init_params=jax.tree.map(lambda *v: jnp.concatenate(v), *starts),
        )
        values = tree["order_parameters"].to_dataset()
        diagnosis = diagnose(tree)
        by_chain = values.order_parameter.mean("draw").to_numpy()
        moment = values.second_moment.mean(("chain", "draw")).to_numpy()
        f, y = tree["predictions"].f.mean(("chain", "draw")).to_numpy(), data.y_test
        return {
            "order_parameter": by_chain.mean(),
            "from_prior": by_chain[:2].mean(),
            "from_aligned": by_chain[2:].mean(),
            "test_mse": float(values.test_mse.mean()),
            "test_mse_mean": np.mean((f - y) ** 2),
            "moment_relevant": moment[:2].mean(),
            "moment_rest": moment[2:].mean(),
            "num_aligned": float(values.num_specialised.mean()),
            "r_hat_max": diagnosis.r_hat_max,
            "ess_min": diagnosis.ess_min,
            "seconds": tree.attrs["wall_time_s"],
        }


if __name__ == "__main__":
    tyro.cli(Reference).run()

"""Gradient evaluations to equilibrium of the Langevin kernels, with plain SGLD as the unit.

    python benchmarks/equilibrium.py [--problems default transition] [--kernels sgld "baoab, prior"]
    [--seeds 3]

Four chains, two from the prior and two from the aligned state. At every horizon of a grid the first
half of each chain is thrown away; equilibrium is the first horizon from which on (1) the
rank-normalised R-hat over all four chains is below 1.01 for every one of the functions f at ten
test points, m, train MSE, test MSE and log density, and (2) m and the train MSE of the two starts
agree within three standard errors. Its cost is the gradient evaluations of all chains until then,
annealing and NUTS's adaptation included.

Step sizes were scanned on `default`: SGLD's at which the test MSE of a draw is 4 % too large, those
of the others with less bias than that; those called auto find theirs. The bias of each is in the
table, m and the test MSE against NUTS on the same data.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import arviz_stats
import jax
import numpy as np
import pandas as pd
import tyro
import xarray as xr
from numpyro.infer import NUTS

from analysis.cli.output import show_table
from analysis.diagnostics import functions_of
from analysis.results.files import write_atomically
from inference import MALA, PSGLD, SGHMC, SGLD, ParallelTempering, UnderdampedLangevin, annealed_start, sample
from inference.starts import start_params
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork

CHAINS = 4
KEPT = 1024  # draws of a chain, at equal distances up to its longest horizon
GRID = 2 ** np.arange(-7, 0.01, 0.25)  # horizons as fractions of the longest
OUT = Path(__file__).parent / "data" / "equilibrium.csv"


@dataclass(frozen=True)
class Case:
    """A posterior."""

    input_dim: int
    width: int
    num_data: int
    kappa: float
    ard: bool = False

    @property
    def network(self) -> TwoLayerNetwork:
        prior = ARD() if self.ard else Isotropic()
        return TwoLayerNetwork(self.input_dim, self.width, self.kappa, prior=prior)

    def data(self, seed: int):
        return SparseParity(self.input_dim, 2).sample(jax.random.key(seed), self.num_data)


PROBLEMS = {
    "default": Case(16, 64, 300, 0.05),
    "wide": Case(20, 256, 1000, 0.05),
    "transition": Case(16, 64, 300, 0.07),
    "ard transition": Case(16, 64, 300, 0.12, ard=True),
}


@dataclass(frozen=True)
class Method:
    """A kernel in units of κ, as ``kernel(κ)``, and the steps of its longest run, as ``steps/κ²``
    or ``steps/κ``.

    An adapting kernel does so in `adapt` steps, in the same unit, which count.
    """

    kernel: Callable[[float], object]
    steps: float
    power: int
    cost: int = 1
    annealed: bool = False
    adapt: float = 0.0

    def longest(self, kappa: float, length: float) -> int:
        return max(KEPT, round(length * self.steps / kappa**self.power / KEPT) * KEPT)


def methods(case: Case) -> dict[str, Method]:
    """Kernels with step sizes in units of κ² and κ, the powers by which stable steps fall with the
    noise."""
    h = 0.4 if case.ard else 0.8
    eps = 0.6 if case.ard else 3.0
    friction = 1.0 if case.ard else 0.3
    baoab = lambda k: UnderdampedLangevin(step_size=h * k, friction=friction, preconditioner="prior")  # noqa: E731
    return {
        "sgld": Method(lambda k: SGLD(step_size=0.6 * k**2), 1200, 2),
        "sgld, prior": Method(lambda k: SGLD(step_size=eps * k**2, preconditioner="prior"), 600, 2),
        "psgld": Method(lambda k: PSGLD(step_size=3.0 * k**2), 600, 2, adapt=5.0),
        "mala, prior": Method(
            lambda k: MALA(step_size=eps * k**2, preconditioner="prior"), 600, 2, adapt=5.0
        ),
        "sghmc, prior": Method(
            lambda k: SGHMC(step_size=0.5 * h * k, friction=friction, preconditioner="prior"), 4000, 1
        ),
        "baoab": Method(lambda k: UnderdampedLangevin(step_size=h * k, friction=friction), 2500, 1),
        "baoab, prior": Method(baoab, 2500, 1),
        "baoab, prior, long steps": Method(
            lambda k: UnderdampedLangevin(step_size=1.5 * h * k, friction=friction, preconditioner="prior"),
            2500,
            1,
        ),
        "baoab, prior, annealed": Method(baoab, 2500, 1, annealed=True),
        "baoab, prior, tempered": Method(
            lambda k: ParallelTempering(baoab(k), [k, 1.25 * k, 1.6 * k], steps_per_swap=20, step_growth=1.0),
            60,
            1,
            cost=63,
        ),
        "baoab, auto": Method(
            lambda k: UnderdampedLangevin(friction=0.5), 1000 if case.ard else 500, 1, adapt=10
        ),
        "sgld, averaged, auto": Method(lambda k: SGLD(averaged_noise=True), 150, 2, adapt=0.5),
        "nuts": Method(lambda k: partial(NUTS, max_tree_depth=8), 0, 0),
    }


@dataclass(frozen=True)
class Benchmark:
    """Measure gradient evaluations to equilibrium."""

    problems: tuple[str, ...] = ("default", "wide", "transition")
    """Names of PROBLEMS."""
    kernels: tuple[str, ...] = ()
    """Names of methods; all by default."""
    seeds: int = 3
    """Data sets and chains."""
    nuts_draws: int = 1024
    """Draws of NUTS a chain, after 300 steps of warm-up."""
    length: float = 1.0
    """Factor on the longest run of every other kernel."""
    out: Path = field(default=OUT)
    """Rows are added to this file; those of the same problem, kernel and seed are replaced."""

    def run(self) -> None:
        """Measure, keep every row as soon as it is there, print the table."""
        for name in self.problems:
            case = PROBLEMS[name]
            for seed in range(self.seeds):
                for label, method in methods(case).items():
                    if not self.kernels or label in self.kernels:
                        row = {"problem": name, "kernel": label, "seed": seed}
                        self.keep(row | self.measure(case, label, method, seed))
        show_table(summary(pd.read_csv(self.out)), "gradient evaluations to equilibrium")

    def measure(self, case: Case, label: str, method: Method, seed: int) -> dict:
        """One row."""
        network, data, key = case.network, case.data(seed), jax.random.key(100 + seed)
        if label == "nuts":
            return self._nuts(network, data, key)
        steps, start = method.longest(case.kappa, self.length), {"start": "both"}
        adapt = round(method.adapt / case.kappa**method.power)
        extra = CHAINS * adapt
        kernel = method.kernel(case.kappa)
        if method.annealed:
            keys = jax.random.split(jax.random.fold_in(key, 1))
            each = steps // 400
            parts = [
                annealed_start(
                    network,
                    data,
                    kernel,
                    k,
                    kappa_start=4 * case.kappa,
                    num_chains=CHAINS // 2,
                    num_levels=20,
                    steps_per_level=each,
                    step_growth=1.0,
                    start=s,
                )
                for k, s in zip(keys, ("prior", "aligned"), strict=True)
            ]
            start = {"init_params": jax.tree.map(lambda *v: np.concatenate(v), *parts)}
            extra += CHAINS * 20 * each
        tree = sample(
            network,
            data,
            kernel,
            key,
            num_warmup=adapt,
            num_samples=steps,
            num_chains=CHAINS,
            thinning=steps // KEPT,
            **start,
        )
        if "step_size_found" in json.loads(tree.attrs["settings"]):  # the products that found it
            extra = tree.attrs["gradient_evaluations"] - CHAINS * steps
        return judged(functions_of(tree), extra, CHAINS * steps * method.cost) | _about(tree)

    def _nuts(self, network, data, key) -> dict:
        """Warm-up counts, and nothing after it is thrown away."""
        both = start_params(network, data, jax.random.fold_in(key, 1), CHAINS, "both")
        warmup = 300
        tree = sample(
            network,
            data,
            partial(NUTS, max_tree_depth=8),
            key,
            num_warmup=warmup,
            num_samples=self.nuts_draws,
            num_chains=CHAINS,
            init_params=both,
        )
        drawn = tree["sample_stats"].n_steps.to_numpy().sum(0).cumsum()
        begun = int(tree.attrs["gradient_evaluations"]) - int(drawn[-1])
        return judged(functions_of(tree), begun, drawn, burn=0.0) | _about(tree)

    def keep(self, row: dict) -> None:
        """Put `row` into the file."""
        frame = pd.DataFrame([row])
        if self.out.exists():
            old, place = pd.read_csv(self.out), ["problem", "kernel", "seed"]
            same = (old[place] == pd.Series(row)[place]).all(axis=1)
            frame = pd.concat([old[~same], frame])
        self.out.parent.mkdir(exist_ok=True)
        write_atomically(self.out, lambda path: frame.to_csv(path, index=False, float_format="%.6g"))
        print(json.dumps(row), flush=True)


def judged(functions: xr.Dataset, extra: int, gradients, burn: float = 0.5) -> dict:
    """The first horizon from which on the criterion holds, in gradient evaluations; NaN where there
    is none."""
    names = [n for n in functions if n.startswith("f[")]
    names += ["order_parameter", "train_mse", "test_mse", "log_density"]
    functions = functions[[n for n in names if n in functions]]
    total = functions.sizes["draw"]
    cost = np.linspace(0, gradients, total + 1)[1:] if np.isscalar(gradients) else gradients
    at, worst = np.nan, np.nan
    for fraction in GRID[::-1]:
        count = max(16, round(fraction * total))
        ok, r_hat = agreed(functions.isel(draw=slice(round(burn * count), count)))
        if fraction == 1.0:
            worst = r_hat
        if not ok:
            break
        at = extra + cost[count - 1]
    return {"gradients": float(at), "longest": float(extra + cost[-1]), "r_hat": worst}


def agreed(functions: xr.Dataset) -> tuple[bool, float]:
    """Whether the criterion holds for these draws, and the worst R-hat."""
    r_hat = max(float(v) for v in arviz_stats.rhat(functions).data_vars.values())
    half = functions.sizes["chain"] // 2
    parts = [functions.isel(chain=slice(half)), functions.isel(chain=slice(half, None))]  # prior, aligned
    for name in ("order_parameter", "train_mse"):
        means = [float(p[name].mean()) for p in parts]
        errors = [float(arviz_stats.mcse(p[[name]])[name]) for p in parts]
        if not abs(means[0] - means[1]) < 3 * np.hypot(*errors):
            return False, r_hat
    return r_hat < 1.01, r_hat


def _about(tree) -> dict:
    """Means of the second half of all chains, for the bias."""
    values = tree["order_parameters"]
    half = slice(values.sizes["draw"] // 2, None)
    picked = values.to_dataset()[["order_parameter", "test_mse"]].isel(draw=half)
    errors = arviz_stats.mcse(picked)
    return {
        "m": float(picked.order_parameter.mean()),
        "m_se": float(errors.order_parameter),
        "test_mse": float(picked.test_mse.mean()),
        "test_mse_se": float(errors.test_mse),
        "seconds": float(tree.attrs["wall_time_s"]),
    }


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per problem and kernel: median over the seeds, ratio to plain SGLD, bias against
    NUTS."""
    out = []
    for (problem, kernel), cell in rows.groupby(["problem", "kernel"], sort=False):
        same = rows[(rows.problem == problem) & rows.seed.isin(cell.seed)]
        by_kernel = same.groupby("kernel").agg({"gradients": "median", "m": "mean", "test_mse": "mean"})
        unit = by_kernel.gradients.get("sgld", np.nan)
        nuts = by_kernel.loc["nuts"] if "nuts" in by_kernel.index else None
        reached = cell.gradients.notna().sum()
        median = cell.gradients.fillna(np.inf).median()
        out.append(
            {
                "problem": problem,
                "kernel": kernel,
                "reached": f"{reached}/{len(cell)}",
                "gradients": median,
                "sgld / it": unit / median,
                "bias of m": np.nan if nuts is None else cell.m.mean() - nuts.m,
                "bias of MSE (%)": np.nan
                if nuts is None
                else 100 * (cell.test_mse.mean() / nuts.test_mse - 1),
            }
        )
    return pd.DataFrame(out)


if __name__ == "__main__":
    tyro.cli(Benchmark).run()

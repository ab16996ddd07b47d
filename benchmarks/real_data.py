"""The zoo on measurements, with shuffled copies of the inputs as ground truth: error, calibration,
selection.

    pip install -e ".[real-data]"
    python benchmarks/real_data.py [--splits 0,1,2]

Data that scikit-learn ships: diabetes (regression), breast cancer (malignant -1, benign +1), digits
3 (-1) against 8 (+1). A quarter of the rows is held out, inputs and target are in standard units of
the training rows, inputs that are constant there are left out, and every input gets a shuffled copy
(:func:`models.probes.add_probes`). κ is the one of largest NNGP evidence on the
training rows, rounded to ten values a decade: one for all schemes and priors. The sampler is the
zoo's scheme langevin at reduced length; a run that diverges is repeated at half its step. One row a
cell goes to ``benchmarks/data/real_data.csv``; a cell that is there already is not run again.

scikit-learn's methods choose their own noise: ARDRegression by its evidence, LassoCV by 5-fold
cross-validation; the random forest has 300 trees, whose importance is the decrease of impurity.
They rank by |coefficient| or importance, the zoo by Σ a² w_j²/Σ a². Lasso and forest have no
predictive distribution, and NNGP ranks nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import arviz_stats
import jax
import numpy as np
import pandas as pd
import tyro
import xarray as xr
from rows import done, keep
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import ARDRegression, LassoCV

from analysis.cli.options import Names, Numbers, Problem
from analysis.cli.output import show_table
from analysis.diagnostics.feature_selection import input_scores
from analysis.diagnostics.probes import probe_scores
from analysis.results.inclusion import has_inclusion, inclusion_probabilities
from analysis.schemes.kernels import recommended_steps
from inference import CollapsedGuide, MeanFieldARDGuide, UnderdampedLangevin, fit, sample
from inference.fixed_points import NNGP
from inference.fixed_points.regression.evidence import choose_kappa
from models import Dataset, TwoLayerNetwork
from models.problems.measured import MEASURED, with_probes

FILE = Path(__file__).parent / "data" / "real_data.csv"
TAIL = 0.05  # of the central 90 % interval, on each side
_CHAINS = 2


@dataclass(frozen=True)
class Answer:
    """What one method says of one data set, in standard units.

    Attributes
    ----------
    mean
        Predictions at the test inputs.
    pit, log_density
        P(Y ≤ y) and log p(y) of every test target under its predictive distribution, noise
        included; None without.
    relevance, inclusion
        Score and inclusion probability of every input; None where the method has none.
    further
        Columns of the row that only some methods have.
    """

    mean: np.ndarray
    pit: np.ndarray | None = None
    log_density: np.ndarray | None = None
    relevance: np.ndarray | None = None
    inclusion: np.ndarray | None = None
    further: dict | None = None


@dataclass(frozen=True)
class Lengths:
    """How long each scheme of the zoo runs."""

    width: int = 64
    """Number of hidden neurons."""
    num_warmup: int = 8
    """Warm-up of each chain, in kept draws' time (2 units of the prior's own time each)."""
    num_draws: int = 20
    """Draws kept of each of the two chains."""
    guide_steps: int = 1500
    """Steps of the collapsed guide; the MF-ARD guide takes twice as many."""


def noise(data: Dataset, width: int) -> float:
    """κ of largest NNGP evidence on the training rows, rounded to ten values a decade of κ√P."""
    chosen = choose_kappa(TwoLayerNetwork(data.input_dim, width, kappa=1.0), data)
    return float(10 ** (round(10 * np.log10(chosen.target_noise)) / 10) / data.num_data**0.5)


def gaussian(mean: np.ndarray, sd: np.ndarray, y: np.ndarray) -> dict:
    """PIT and log density under a Normal predictive distribution."""
    return {"pit": norm.cdf(y, mean, sd), "log_density": norm.logpdf(y, mean, sd)}


def mixture(f: np.ndarray, sd: float, y: np.ndarray) -> dict:
    """PIT and log density under the draws f (draw, test) of the mean, with noise: an equal mixture
    of Normals."""
    log_density = logsumexp(norm.logpdf(y, f, sd), axis=0) - np.log(len(f))
    return {"pit": norm.cdf(y, f, sd).mean(axis=0), "log_density": log_density}


def from_tree(tree: xr.DataTree, data: Dataset, kappa: float, further: dict) -> Answer:
    """What the draws of a scheme say."""
    f = tree["predictions"].f.transpose("chain", "draw", "test").to_numpy().astype(float)
    f = f.reshape(-1, f.shape[-1])
    inclusion = inclusion_probabilities(tree)["probability"].to_numpy() if has_inclusion(tree) else None
    return Answer(
        f.mean(axis=0),
        **mixture(f, kappa * data.num_data**0.5, data.y_test),
        relevance=input_scores(tree, "weighted").mean(("chain", "draw")).to_numpy(),
        inclusion=inclusion,
        further=further | {"gradients": tree.attrs["gradient_evaluations"]},
    )


def langevin(prior: str) -> Callable:
    """The zoo's sampler under a prior."""

    def run(data: Dataset, kappa: float, key: jax.Array, lengths: Lengths) -> Answer:
        network = Problem(input_dim=data.input_dim, width=lengths.width).network(kappa, prior)
        thinning = recommended_steps(network)["thinning"]
        tree = sample(
            network, data, UnderdampedLangevin(), key, num_warmup=lengths.num_warmup * thinning,
            num_samples=lengths.num_draws * thinning, thinning=thinning, num_chains=_CHAINS,
        )  # fmt: skip
        functions = tree["order_parameters"].to_dataset()[["train_mse", "test_mse"]].astype(float)
        r_hat = float(max(arviz_stats.rhat(functions).values()))
        return from_tree(tree, data, kappa, {"r_hat": r_hat})

    return run


def guide(guide, prior: str, longer: int = 1) -> Callable:
    """A guide of the zoo under a prior."""

    def run(data: Dataset, kappa: float, key: jax.Array, lengths: Lengths) -> Answer:
        network = Problem(input_dim=data.input_dim, width=lengths.width).network(kappa, prior)
        steps = longer * lengths.guide_steps
        tree = fit(network, data, guide, key, num_steps=steps, num_restarts=2, num_draws=200)
        return from_tree(tree, data, kappa, {"elbo": tree.attrs["elbo"]})

    return run


def nngp(data: Dataset, kappa: float, key: jax.Array, lengths: Lengths) -> Answer:
    """The infinitely wide network: no ranking."""
    point = NNGP().solve(TwoLayerNetwork(data.input_dim, lengths.width, kappa), data)
    sd = np.sqrt(point.predictive_variance + kappa**2 * data.num_data)
    return Answer(point.predictions, **gaussian(point.predictions, sd, data.y_test))


def sklearn_ard(data: Dataset, *_) -> Answer:
    """Linear regression with a precision a coefficient, by its evidence."""
    model = ARDRegression().fit(data.x, data.y)
    mean, sd = model.predict(data.x_test, return_std=True)
    return Answer(mean, **gaussian(mean, sd, data.y_test), relevance=np.abs(model.coef_))


def sklearn_lasso(data: Dataset, *_) -> Answer:
    """The lasso, its penalty by cross-validation."""
    model = LassoCV(cv=5, random_state=0, max_iter=20_000).fit(data.x, data.y)
    return Answer(model.predict(data.x_test), relevance=np.abs(model.coef_))


def sklearn_forest(data: Dataset, *_) -> Answer:
    """A random forest."""
    model = RandomForestRegressor(300, random_state=0).fit(data.x, data.y)
    return Answer(model.predict(data.x_test), relevance=model.feature_importances_)


METHODS = {
    "nngp": nngp,
    "sklearn ARD": sklearn_ard,
    "sklearn lasso": sklearn_lasso,
    "sklearn forest": sklearn_forest,
    "mf-ard-guide": guide(MeanFieldARDGuide(), "ard", longer=2),
    "collapsed-guide, ard": guide(CollapsedGuide(), "ard"),
    "langevin, isotropic": langevin("isotropic"),
    "langevin, ard": langevin("ard"),
    "langevin, spike-and-slab": langevin("spike-and-slab"),
    "langevin, regularised-horseshoe": langevin("regularised-horseshoe"),
}


def measure(answer: Answer, data: Dataset, binary: bool) -> dict:
    """The figures of one cell."""
    row = {"mse": float(np.mean((answer.mean - data.y_test) ** 2))}
    if binary:
        original = data.standardisation.original
        row["accuracy"] = float(np.mean((original(answer.mean) > 0) == (original(data.y_test) > 0)))
    if answer.pit is not None:
        row["coverage"] = float(np.mean((answer.pit > TAIL) & (answer.pit < 1 - TAIL)))
        row["log_density"] = float(answer.log_density.mean())
    if answer.relevance is not None:
        row |= probe_scores(answer.relevance, answer.inclusion)
    return row | (answer.further or {})


@dataclass(frozen=True)
class RealData:
    """Run what is missing, and print the table."""

    lengths: tyro.conf.OmitArgPrefixes[Lengths] = Lengths()
    data: Names = tuple(MEASURED)
    """Data sets among diabetes, breast-cancer, digits-3-8."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Methods, by the names of the table."""
    splits: Numbers = (0, 1, 2)
    """Seeds of the splits."""
    file: Path = FILE
    """File of the rows."""
    markdown: bool = False
    """Print the README's table."""

    def run(self) -> None:
        """Split by split, method by method, so that a table of fewer splits is there early."""
        for split in map(int, self.splits):
            for method in self.methods:
                for name in self.data:
                    cell = {"data": name, "split": split, "method": method, **vars(self.lengths)}
                    if not done(cell, self.file):
                        keep(cell | self.cell(name, split, method), self.file)
        rows = pd.read_csv(self.file)
        if self.markdown:
            print(markdown(rows))
            return
        for name in self.data:
            show_table(summarise(rows[rows["data"] == name]), f"{name}: mean ± standard error over splits")

    def cell(self, name: str, split: int, method: str) -> dict:
        """One method on one split."""
        data = with_probes(name, split)
        kappa = noise(data, self.lengths.width)
        began = perf_counter()
        answer = METHODS[method](data, kappa, jax.random.fold_in(jax.random.key(split), 1), self.lengths)
        seconds = perf_counter() - began
        return {"kappa": kappa, **measure(answer, data, name != "diabetes"), "seconds": seconds}


FIGURES = (
    "mse", "accuracy", "coverage", "log_density", "false_selection", "auc", "above_mean", "above_probes", "included",
)  # fmt: skip


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard error over the splits, a row a method; a dash where a method has no such
    figure."""
    table = []
    for method, part in rows.groupby("method", sort=False):
        row = {"method": method, "splits": part["split"].nunique()}
        for name in FIGURES:
            values = part[name].dropna() if name in part else ()
            if len(values):
                se = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
                row[name] = f"{values.mean():.3f}" + ("" if np.isnan(se) else f" ± {se:.3f}")
            else:
                row[name] = "–"
        table.append(row)
    return pd.DataFrame(table)


def markdown(rows: pd.DataFrame) -> str:
    """The README's table: test error, coverage of 90 % intervals, AUC and false selections of every
    data set."""
    names = list(MEASURED)
    lines = [
        "| method | " + " | ".join(f"{name}: MSE | coverage | AUC | false" for name in names) + " |",
        "|---|" + "---:|" * 4 * len(names),
    ]
    for method in METHODS:
        cells = []
        for name in names:
            part = rows[(rows["data"] == name) & (rows["method"] == method)]
            mean = part[["mse", "coverage", "auc", "false_selection"]].mean()
            error = part["mse"].std(ddof=1) / len(part) ** 0.5
            cells.append(f"{mean.mse:.2f} ± {error:.2f}")
            cells += ["–" if np.isnan(value) else f"{value:.2f}" for value in mean.iloc[1:]]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(RealData).run()

"""``mfzoo priors``: the priors of the zoo, and what they say before they have seen data."""

from dataclasses import asdict, dataclass, field

import tyro

from analysis.cli.options import DataOptions, OutputOptions, Priors, Problem
from analysis.cli.output import note, print_json, progress_board, show_table, write_results
from analysis.cli.prior_list import show_priors, zoo_priors
from models import checks
from models.priors import PRIORS, WeightPrior

_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class ListPriors:
    """List the priors with their parameters, or draw networks from them before anyone fits.

    With --plot or --out draws from the prior predictive: functions on a line through input space,
    the order parameter m and the relevance ratio under the prior. Writes prior.nc (all draws),
    table.csv, prior_predictive.png and settings.json to one folder. Any prior is written NAME,
    FILE.py:CLASS, or with parameters as in 'ard(shape=0.1)'.
    """

    problem: tyro.conf.OmitArgPrefixes[Problem] = field(default_factory=Problem)
    inputs: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    priors: Priors = tuple(PRIORS)
    """Priors to show; by default all of the zoo."""
    plot: bool = False
    """Draw the prior predictive."""
    num_draws: int = 1000
    """Networks drawn from each prior."""

    def run(self) -> None:
        if self.plot or self.output.out is not None:
            self._predict()
            return
        rows = [describe(name, self.problem.prior(name)) for name in self.priors]
        if self.output.json:
            print_json({"priors": rows})
            return
        show_priors(rows)

    def _predict(self) -> None:
        import jax
        import pandas as pd
        import xarray as xr

        from analysis import plots, prior_predictive

        folder = self.output.folder("priors")
        data = self.inputs.load(self.problem, self.output.seed)
        problem = self.problem.on(data)
        networks = [problem.network(1.0, name) for name in self.priors]  # a prior knows of no noise
        checks.distinct("priors", [network.prior.name for network in networks])
        trees = []
        with progress_board(len(networks)) as board:
            for network in networks:
                report = board(network.prior.name)
                report(0, 1, "")
                # The same key for all: priors that agree then show the same networks.
                key = jax.random.fold_in(self.output.key(), 0)
                trees.append(prior_predictive(network, data, key, self.num_draws))
                report(1, 1, "")
        table = pd.DataFrame([row_of(tree) for tree in trees])
        write_results(
            folder,
            {"command": "priors", **asdict(self)},
            trees={"prior": xr.DataTree(children={tree.attrs["prior"]: tree for tree in trees})},
            tables={"table": table},
            figures={"prior_predictive": plots.plot_prior_predictive(trees)},
        )
        if self.output.json:
            print_json({"rows": table.to_dict(orient="records")})
        else:
            show_table(table, "Under the prior: mean and 5, 50 and 95 % quantiles")
        note(f"results in {folder}")


def describe(text: str, prior: WeightPrior) -> dict:
    """What is known of a prior, with the parameters as they are set."""
    name = text.partition("(")[0].strip()
    known = zoo_priors().get(name, {"name": name, "class": type(prior).__name__})
    blank = dict.fromkeys(("summary", "density", "source", "features"))
    names = getattr(prior, "__dataclass_fields__", vars(prior))
    return blank | known | {"parameters": {key: getattr(prior, key) for key in names}}


def row_of(tree) -> dict:
    """A prior's row: moments of f, m and the relevance ratio."""
    from analysis import order_parameters

    draws, summary = tree["order_parameters"].to_dataset(), order_parameters(tree)
    row = {"prior": tree.attrs["prior"], "sd of f": float(tree["predictions"].f.std())}
    row["test MSE"] = float(summary.test_mse_draw.sel(estimate="mean"))
    for name, label in (("order_parameter", "m"), ("relevance_ratio", "ratio")):
        if name in draws:
            for level, value in zip(_QUANTILES, draws[name].quantile(_QUANTILES).to_numpy(), strict=True):
                row[f"{label} {100 * level:.0f}%"] = float(value)
    return row

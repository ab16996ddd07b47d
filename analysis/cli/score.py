"""``mfzoo score``: is this scheme right?"""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import tyro
import xarray as xr

from analysis.cli.options import OutputOptions
from analysis.cli.output import console, note, print_json, progress_board, show_table
from analysis.results.files import load_tree
from analysis.results.headings import SCORE
from analysis.schemes.registry import SCHEMES
from analysis.scoring.leaderboard import SHOWN, leaderboard, score_scheme
from analysis.scoring.score import Score, score, usable_reference
from models.problems import Problem, problem


@dataclass(frozen=True)
class ScoreRuns:
    """Hold results against the reference posterior of a named problem: right, biased, cannot tell.

    A result is a folder with a run.nc, a netCDF file with draws of the problem's sites in the group
    posterior, or the name of a scheme, which then runs at its own length.
    """

    results: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders, files or schemes."""
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    problem: str | None = None
    """The problem, one that mfzoo problems lists, or FILE.py:NAME."""
    leaderboard: bool = False
    """Print the committed scores of all schemes instead, of the one problem if it is named."""
    functions: bool = False
    """Print every function's row too."""

    def run(self) -> None:
        if self.leaderboard:
            self._leaderboard()
            return
        if not self.results or self.problem is None:
            raise ValueError("score needs results and --problem NAME; or give --leaderboard.")
        of = problem(self.problem)
        usable_reference(of)
        scores, failures = [], []
        for result in self.results:
            try:
                scores += self._scores(result, of)
            except ValueError as error:
                failures.append(error)
                note(f"{result}: {error}")
        if not scores:
            raise failures[0]
        rows = [each.row for each in scores]
        if self.output.json:
            tables = [each.table.reset_index().to_dict(orient="records") for each in scores]
            said = [
                {"message": each.message, "table": table} for each, table in zip(scores, tables, strict=True)
            ]
            print_json({"rows": [row | more for row, more in zip(rows, said, strict=True)]})
            return
        for each in scores:
            console(to_stderr=False).print(str(each), highlight=False, soft_wrap=True, markup=False)
            if self.functions:
                shown = [
                    "reference",
                    "reference_sd",
                    "mean",
                    "bias",
                    "bias_se",
                    "z",
                    "z_sd",
                    "relative_error",
                    "ess",
                ]
                show_table(each.table[shown].reset_index(), each.scheme, SCORE)
        shown = ["scheme", "verdict", "bias", "bias_se", "bias_of", "rms_bias", "resolution", "ess_min"]
        shown += ["ess_per_1000_gradients", "ess_per_second"]
        show_table(pd.DataFrame(rows)[shown], f"Against the reference of {of.name}, in posterior sd", SCORE)

    def _scores(self, result: str, of: Problem) -> list[Score]:
        if result in SCHEMES and not Path(result).exists():
            with progress_board(1) as board:
                return [score_scheme(of, result, self.output.seed, board(result))]
        path = Path(result)
        tree = load_tree(path / "run.nc" if path.is_dir() else path)
        if "posterior" in tree.children:
            return [score(tree, of)]
        trees = [each for each in tree.children.values() if "posterior" in each.children]
        if not trees:
            raise ValueError(f"result {result!r} holds no draws: it has no group 'posterior'.")
        return [score(xr.DataTree(each.to_dataset(), children=each.children), of) for each in trees]

    def _leaderboard(self) -> None:
        table = leaderboard()
        if self.problem is not None:
            table = table[table["problem"] == self.problem]
        if self.output.json:
            print_json({"rows": table.to_dict(orient="records")})
            return
        dates = f"{table['date'].min()} to {table['date'].max()}" if len(table) else "no rows"
        more = ["ess_min", "ess_per_1000_gradients", "ess_per_second"]
        show_table(table[[*SHOWN, *more]], f"Schemes on the named problems, in posterior sd ({dates})", SCORE)

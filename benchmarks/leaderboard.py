"""Every scheme on every problem that has a reference: the rows of ``mfzoo score --leaderboard``.

    python benchmarks/leaderboard.py [--problems A,B] [--schemes C,D] [--again]

Each scheme runs at its own length (``mfzoo compare``'s), with a key apart from the references'. A
scheme that fails leaves a row that says so. One row a cell goes to
``analysis/scoring/leaderboard.csv``; a cell that is there already is not run again, unless
``--again``.
"""

from dataclasses import dataclass
from datetime import date

import pandas as pd
import tyro
from rows import done, keep

from analysis.cli.options import Names
from analysis.results.files import write_csv
from analysis.schemes.compare import sentence
from analysis.scoring.leaderboard import FILE, schemes_for, score_scheme
from models.problems import problem, problems


@dataclass(frozen=True)
class Leaderboard:
    """Run what is missing."""

    problems: Names = tuple(problems())
    """Problems; those without a reference are left out."""
    schemes: Names = ()
    """Schemes; by default all that cover the problem."""
    again: bool = False
    """Replace the rows that are there."""

    def run(self) -> None:
        for name in self.problems:
            of = problem(name)
            if of.reference is None or of.reference.status == "none":
                continue
            for scheme in schemes_for(of):
                cell = {"problem": name, "scheme": scheme}
                if (self.schemes and scheme not in self.schemes) or (done(cell, FILE) and not self.again):
                    continue
                if done(cell, FILE):
                    rows = pd.read_csv(FILE)
                    write_csv(rows[(rows["problem"] != name) | (rows["scheme"] != scheme)], FILE)
                try:
                    found = score_scheme(of, scheme)
                    keep(found.row | {"message": found.message}, FILE)
                except Exception as error:  # a row says so, and the next scheme runs
                    failed = {"verdict": "no answer", "date": date.today().isoformat()}
                    keep(cell | failed | {"message": sentence(error)}, FILE)


if __name__ == "__main__":
    tyro.cli(Leaderboard).run()

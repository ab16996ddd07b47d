"""``mfzoo predict``: a run's answer for new rows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from analysis.cli.options import OutputOptions
from analysis.cli.output import note, print_json, show_table
from analysis.results.files import write_csv
from analysis.results.predictions import predict


@dataclass(frozen=True)
class PredictOutput(OutputOptions):
    """Where predictions go."""

    out: Path | None = None
    """File to write, ending in .csv; by default the predictions are only printed."""
    overwrite: bool = False
    """Write the file even if it is there already."""

    def check(self) -> None:
        super().check()
        if self.out is None:
            return
        if self.out.suffix != ".csv":
            raise ValueError(f"out must be a file that ends in .csv, got {str(self.out)!r}.")
        if self.out.exists() and not self.overwrite:
            raise ValueError(
                f"out: {str(self.out)!r} is there already; name another file, or give --overwrite."
            )


@dataclass(frozen=True)
class Predict:
    """Predict new rows by a run of mfzoo compare, mfzoo sample or of one's own.

    A row per row of the file: the posterior mean, and the central intervals of f, the function, and
    of y, a target with its noise. Columns are found by their names, scaled as the run's were, and
    the answer is in the file's own units.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or its run.nc."""
    data: Path
    """The new rows, a .csv, .parquet or .npz (x) file; it needs no target."""
    result: str | None = None
    """Which of several results, by scheme, prior and κ, such as nuts-isotropic-kappa0.05."""
    level: float = 0.9
    """Probability of the intervals."""
    output: tyro.conf.OmitArgPrefixes[PredictOutput] = field(default_factory=PredictOutput)

    def run(self) -> None:
        table = predict(self.run_folder, self.data, level=self.level, result=self.result)
        table = table.rename_axis("row").reset_index()
        if self.output.out is not None:
            write_csv(table, self.output.out)
            note(f"predictions in {self.output.out}")
        if self.output.json:
            print_json({"level": self.level, "rows": table.to_dict(orient="records")})
        elif self.output.out is None:
            show_table(table, f"Posterior mean, and {self.level:.0%} intervals of f and of y", {})

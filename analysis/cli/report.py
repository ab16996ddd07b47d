"""``mfzoo report``: one self-contained HTML page on one run or several."""

import json
import math
import shlex
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import pandas as pd
import tyro
import xarray as xr

from analysis.cli.compare import Compare
from analysis.cli.diagnose import load_results
from analysis.cli.output import note, progress_board
from analysis.cli.sample import Sample
from analysis.report.page import RunRecord, report
from analysis.schemes.compare import COLUMNS
from models import checks

_COMMANDS = {"compare": Compare, "sample": Sample}
# Where a run writes, and how it is resumed, make no difference to its results.
_NOT_REPEATED = {"out", "json", "resume", "checkpoint_every", "plots"}


@dataclass(frozen=True)
class PageOptions:
    """Where the page goes."""

    out: Path | None = None
    """The file to write; by default runs/report-DATE-TIME.html below the current folder."""
    seed: int = 0
    """Seed of the simulated noise in the coverage of predictive intervals."""

    def check(self) -> None:
        """``ValueError`` for options out of range."""
        checks.whole("seed", self.seed, 0)
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"out is the page to write, a file that ends in .html; got {str(self.out)!r}.")

    def file(self) -> Path:
        """The file to write."""
        return self.out or Path("runs") / f"report-{datetime.now():%Y%m%d-%H%M%S}.html"


@dataclass(frozen=True)
class Report:
    """Write one HTML page on one run or several side by side: what was declared, the tables, verdicts and figures.

    Results are those of mfzoo compare and mfzoo sample. They are checked as by mfzoo diagnose. The page loads
    nothing, from the network or from other files, so that it can be sent as it is.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or their run.nc files."""
    output: tyro.conf.OmitArgPrefixes[PageOptions] = field(default_factory=PageOptions)
    title: str = "Posteriors side by side"
    """Heading of the page."""

    def run(self) -> None:
        """Check every result, write the page."""
        trees = load_results(self.runs)
        folders = [path if path.is_dir() else path.parent for path in self.runs]
        rows = {}
        for folder in folders:
            rows |= stored_rows(folder, trees)
        records = [run_record(folder) for folder in folders]
        path = self.output.file()
        with progress_board(1) as board:
            report(
                trees,
                path,
                title=self.title,
                rows=rows,
                runs=records,
                seed=self.output.seed,
                progress=board.callback("checks and figures"),
            )
        size = path.stat().st_size / 1e6
        note(f"report in {path} ({size:.1f} MB)")


def stored_rows(folder: Path, trees: dict[str, xr.DataTree]) -> dict[str, dict]:
    """The rows of a comparison's table.csv, by the labels of its results; none where it has no such table.

    Raises
    ------
    ValueError
        For a table.csv that cannot be read.
    """
    path = folder / "table.csv"
    if not path.is_file():
        return {}
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"table {str(path)!r} cannot be read ({error}); run the comparison again.") from None
    if not set(COLUMNS) <= set(frame):
        return {}  # that of mfzoo sample, a row a function
    rows = {}
    for row in frame[list(COLUMNS)].to_dict(orient="records"):
        name = f"{row['scheme']}-{row['prior']}-kappa{row['kappa']:g}"
        full = f"{folder.resolve().name}/{name}"
        label = full if full in trees else name
        if label in trees:
            rows[label] = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
    return rows


def run_record(folder: Path) -> RunRecord:
    """What settings.json says of a run; its name alone where there is none.

    Raises
    ------
    ValueError
        For a settings.json that cannot be read.
    """
    name, path = folder.resolve().name, folder / "settings.json"
    if not path.is_file():
        return RunRecord(name, facts={"settings.json": "none: the command is not known"})
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        command, version = settings["command"], settings["version"]
        described = settings.get("described") or {}
        facts = {
            "data": described.get("teacher") or settings["inputs"]["data"] or "drawn from the teacher",
            "seed": settings["output"]["seed"],
            "mean-field-zoo": version,
        }
        return RunRecord(name, repeat(command, settings), facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"settings file {str(path)!r} is damaged; take it away to report on the run without it."
        ) from None


def repeat(command: str, settings: dict) -> str | None:
    """The command line that repeats a run with these settings; None for a command that is not known.

    Examples
    --------
    >>> repeat("compare", {"problem": {"width": 8}, "kappas": [0.05, 0.1], "output": {"seed": 3}})
    'mfzoo compare --width 8 --seed 3 --kappas 0.05,0.1'
    """
    if command not in _COMMANDS:
        return None
    default = json.loads(json.dumps(asdict(_COMMANDS[command]()), default=str))
    return shlex.join(["mfzoo", command, *_options(default, settings)])


def _options(default: dict, stored: dict) -> list[str]:
    """The options that differ from their default, as words of a command line."""
    words = []
    for name, usual in default.items():
        value = stored.get(name, usual)
        if isinstance(usual, dict):
            words += _options(usual, value)
        elif value != usual and name not in _NOT_REPEATED:
            words += _option(name.replace("_", "-"), value)
    return words


def _option(name: str, value) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", ",".join(map(str, value))]
    return [f"--{name}", str(value)]

"""``mfzoo report``: one self-contained HTML page on one run or several."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import tyro

from analysis.cli.diagnose import load_results
from analysis.cli.output import note, progress_board
from analysis.report.page import RunRecord, report
from models import checks


@dataclass(frozen=True)
class PageOptions:
    """Where the page goes."""

    out: Path | None = None
    """The file to write; by default runs/report-DATE-TIME.html below the current folder."""
    seed: int = 0
    """Seed of the simulated noise in the coverage of predictive intervals."""

    def check(self) -> None:
        checks.whole("seed", self.seed, 0)
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"out is the page to write, a file that ends in .html; got {str(self.out)!r}.")

    def file(self) -> Path:
        return self.out or Path("runs") / f"report-{datetime.now():%Y%m%d-%H%M%S}.html"


@dataclass(frozen=True)
class Report:
    """Write one HTML page on one run or several side by side: what was declared, the tables,
    verdicts and figures.

    Results are those of mfzoo compare and mfzoo sample. They are checked as by mfzoo diagnose. The
    page loads nothing, from the network or from other files, so that it can be sent as it is.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or their run.nc files."""
    output: tyro.conf.OmitArgPrefixes[PageOptions] = field(default_factory=PageOptions)
    title: str = "Posteriors side by side"
    """Heading of the page."""

    def run(self) -> None:
        trees = load_results(self.runs)
        records = [run_record(path if path.is_dir() else path.parent) for path in self.runs]
        path = self.output.file()
        with progress_board(1) as board:
            told = {"title": self.title, "runs": records, "seed": self.output.seed}
            report(trees, path, progress=board("checks and figures"), **told)
        note(f"report in {path} ({path.stat().st_size / 1e6:.1f} MB)")


def run_record(folder: Path) -> RunRecord:
    """What settings.json says of a run; its name alone where there is none."""
    name, path = folder.resolve().name, folder / "settings.json"
    if not path.is_file():
        return RunRecord(name, facts={"settings.json": "none: the command is not known"})
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        described = settings.get("described") or {}
        facts = {
            "data": described.get("teacher") or settings["inputs"]["data"] or "drawn from the teacher",
            "seed": settings["output"]["seed"],
            "mean-field-zoo": settings["version"],
        }
        return RunRecord(name, settings.get("command_line"), facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"settings file {str(path)!r} is damaged; take it away to report on the run without it."
        ) from None

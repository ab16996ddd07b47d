"""Printing results: tables for people on standard output, progress and notes on standard error."""

import json
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from analysis.results.files import write_atomically, write_json
from analysis.results.headings import show_value
from inference.runs.progress import rich_progress


def console(to_stderr: bool) -> Console:
    """A console on standard error, or on standard output."""
    return Console(file=sys.stderr if to_stderr else sys.stdout)


def show_table(frame: pd.DataFrame, heading: str, headers: dict[str, str] | None = None) -> None:
    """Print a table on standard output, as wide as it needs to be when that is not a terminal."""
    table = Table(title=heading, title_justify="left", header_style="bold")
    for name in frame:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(
            (headers or {}).get(name, str(name)), justify="right" if numeric else "left", no_wrap=True
        )
    for row in frame.itertuples(index=False):
        table.add_row(*map(show_value, row))
    out = console(to_stderr=False)
    if not out.is_terminal:
        out.width = 200
    out.print(table)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))


def write_settings(folder: Path, settings: dict) -> None:
    """Write ``settings.json``: the options of a command, and the version that ran it."""
    settings = {**settings, "version": version("mean-field-zoo")}
    write_json(folder / "settings.json", json.loads(json.dumps(settings, default=str)))


def read_settings(folder: Path, command: str) -> dict:
    """The options that ``mfzoo`` `command` left in a folder; ``ValueError`` where there are none."""
    path = folder / "settings.json"
    if not path.is_file():
        raise ValueError(f"out: {str(folder)!r} holds no run to resume; start one without --resume.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        made_by = settings["command"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"settings file {str(path)!r} is damaged; start a run in another folder.") from None
    if made_by != command:
        raise ValueError(f"out: {str(folder)!r} is from mfzoo {made_by}; resume a folder of mfzoo {command}.")
    return settings


class Board:
    """A progress display on standard error: one bar for all jobs, and one for each job that is running."""

    def __init__(self, display, jobs: int):
        self._display = display
        self._all = display.add_task("all", total=jobs, text="")
        self._tasks, self._began = {}, {}

    def callback(self, name: str):
        """The callback ``(done, total, text)`` of the job `name`."""

        def report(done: int, total: int, text: str) -> None:
            if name not in self._tasks:
                self._tasks[name] = self._display.add_task(name, total=total, text="")
                self._began[name] = time.perf_counter()
            self._display.update(self._tasks[name], completed=done, total=total, text=text)
            if done >= total:
                self._display.update(self._tasks[name], visible=False)
                self._display.advance(self._all)
                seconds = time.perf_counter() - self._began[name]
                self._display.console.print(
                    f"[dim]done[/dim] {name} [dim]({seconds:.1f} s)[/dim]", highlight=False
                )

        return report


@contextmanager
def progress_board(jobs: int):
    """A :class:`Board` while the block runs."""
    with rich_progress() as display:
        yield Board(display, jobs)

"""What a command writes and prints: answers on standard output, notes on standard error."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from analysis.results.files import save_tree, write_atomically, write_csv, write_json
from analysis.results.headings import COMPARISON, show_value

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


# What is being run, as it would be typed; None where a command is run from Python.
COMMAND_LINE: ContextVar[str | None] = ContextVar("COMMAND_LINE", default=None)


def console(to_stderr: bool) -> Console:
    """A console on standard error, or on standard output."""
    return Console(file=sys.stderr if to_stderr else sys.stdout)


def note(text: str) -> None:
    """Print a sentence on standard error, as it is."""
    console(to_stderr=True).print(text, highlight=False, soft_wrap=True, markup=False)


def show_table(frame: pd.DataFrame, heading: str, headers: Mapping[str, str] = COMPARISON) -> None:
    """Print a table on standard output, in pieces where the terminal is too narrow for it."""
    out = console(to_stderr=False)
    # Each piece begins with the columns that say which row it is.
    keys = list(frame.select_dtypes(exclude=["number", "bool"]))[: min(2, frame.shape[1] - 1)]
    keys = keys or list(frame)[:1]
    shown = frame.map(show_value).set_index(keys)
    shown = shown.rename(columns=headers).rename_axis([headers.get(name, name) for name in keys])
    text = shown.to_string(line_width=out.width if out.is_terminal else 200, sparsify=False)
    for line in (heading, text):
        out.print(line, highlight=False, soft_wrap=True, markup=False)


def print_json(answer) -> None:
    """Print an answer as one JSON object, null for figures that there are not."""
    json.dump(jsonable(answer), sys.stdout, indent=1, allow_nan=False)
    print()


def jsonable(value):
    """`value` in JSON's own types; NaN and infinity become None.

    >>> jsonable({"m": np.float64("nan"), "P": np.int64(3), "path": Path("a")})
    {'m': None, 'P': 3, 'path': 'a'}
    """
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))


def write_results(
    folder: Path,
    settings: Mapping,
    *,
    trees: Mapping[str, xr.DataTree] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    figures: Mapping[str, Figure] | None = None,
) -> None:
    """Write NAME.nc, NAME.csv (if not empty), NAME.png and ``settings.json``, each whole."""
    for name, tree in (trees or {}).items():
        save_tree(tree, folder / f"{name}.nc")
    for name, frame in (tables or {}).items():
        if len(frame):
            write_csv(frame, folder / f"{name}.csv")
    write_settings(folder, settings)
    for name, figure in (figures or {}).items():
        write_figure(figure, folder / f"{name}.png")


def write_settings(folder: Path, settings: Mapping) -> None:
    """Write ``settings.json``: a command's options, how it was typed, and the version that ran."""
    made = {"command_line": COMMAND_LINE.get(), "version": version("mean-field-zoo")}
    write_json(folder / "settings.json", jsonable({**settings, **made}))


def read_command(folder: Path, command: str) -> list[str]:
    """The options with which ``mfzoo`` `command` began a folder; ``ValueError`` without such."""
    path = folder / "settings.json"
    if not path.is_file():
        raise ValueError(f"out: {str(folder)!r} holds no run to resume; start one without --resume.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        made_by, options = settings["command"], shlex.split(settings["command_line"] or "")[2:]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"settings file {str(path)!r} is damaged; start a run in another folder.") from None
    if made_by != command:
        raise ValueError(f"out: {str(folder)!r} is from mfzoo {made_by}; resume a folder of mfzoo {command}.")
    return options


@contextmanager
def progress_board(jobs: int):
    """Bars on standard error: gives a function from a job's name to its callback."""
    from inference.runs.progress import rich_progress

    with rich_progress() as display:
        every, tasks = display.add_task("all", total=jobs, text=""), {}

        def report(name: str, done: int, total: int, text: str) -> None:
            if name not in tasks:
                tasks[name] = display.add_task(name, text=""), time.perf_counter()
            task, began = tasks[name]
            display.update(task, completed=done, total=total, text=text)
            if done >= total:
                display.update(task, visible=False)
                display.advance(every)
                seconds = time.perf_counter() - began
                said = f"[dim]done[/dim] {name} [dim]({seconds:.1f} s)[/dim]"
                display.console.print(said, highlight=False)

        yield lambda name: partial(report, name)

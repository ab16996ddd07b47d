"""Progress of long computations, as a plain callback so that any front end can show it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from inference.runs.observables import observe
from models import Dataset, Network

ProgressCallback = Callable[[int, int, str], None]
"""Called as ``callback(done, total, text)`` between compiled pieces of work."""


def rich_progress() -> Progress:
    """A progress display on standard error, so that standard output stays free for results."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=Console(file=sys.stderr),
        # A large network reports minutes apart, for which the default of 30 s is too short.
        speed_estimate_period=3600,
    )


@contextmanager
def progress_callback(
    progress: bool | ProgressCallback | None, description: str
) -> Iterator[ProgressCallback]:
    """The callback to report to: the caller's own, a bar on standard error (True), or none."""
    if callable(progress):
        yield progress
    elif progress:
        with rich_progress() as display:
            task = display.add_task(description, total=None, text="")
            yield lambda done, total, text: display.update(task, completed=done, total=total, text=text)
    else:
        yield lambda done, total, text: None


def fit_text(network: Network, data: Dataset, sites: dict) -> str:
    """Means over chains of the current networks' train MSE and m, in words."""
    values = observe(network, data, sites)
    return f"train MSE {values['train_mse'].mean():.3g} m {values['order_parameter'].mean():.3f}"

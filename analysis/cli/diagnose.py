"""``mfzoo diagnose``: can these runs be trusted, and if not, why."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import tyro
import xarray as xr

from analysis.cli.options import OutputOptions
from analysis.cli.output import console, progress_board, show_table, write_figure, write_settings
from analysis.diagnostics import (
    Verdict,
    assess_all,
    distances_by_problem,
    name_of,
    selection_by_scheme,
)
from analysis.plots import plot_verdicts
from analysis.results import headings
from analysis.results.files import load_tree, write_atomically, write_json


@dataclass(frozen=True)
class Diagnose:
    """Say of each result whether it can be trusted, and if not, why; lay the answers side by side.

    Results are those of mfzoo compare and mfzoo sample. Runs of one network on the same data help each other: a run
    from another start shows whether the start matters, one at half the step size its bias, and NUTS, where it has
    converged, is the reference. Writes verdicts.json, checks.csv, distances.csv, feature_selection.csv and figures.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or their run.nc files."""
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    plots: bool = True
    """Draw the figures."""

    def run(self) -> None:
        """Diagnose every result, write the folder, print the verdicts."""
        trees = load_results(self.runs)
        with progress_board(1) as board:
            verdicts = assess_all(trees, seed=self.output.seed, progress=board.callback("checks"))
        tables = distances_by_problem(trees)
        selection = selection_by_scheme(trees)
        folder = self.output.folder("diagnose")
        answer = {
            "verdicts": [verdict.to_dict() for verdict in verdicts.values()],
            "distances": [row for table in tables for row in distance_rows(table)],
            "feature_selection": _rows(selection.reset_index()),
        }
        notes = console(to_stderr=True)
        with notes.status("writing results"):
            self._write(folder, trees, verdicts, tables, answer)
        if self.output.json:
            json.dump(answer, sys.stdout, indent=1, allow_nan=False)
            print()
        else:
            for verdict in verdicts.values():
                console(to_stderr=False).print(str(verdict), highlight=False, soft_wrap=True, markup=False)
            if answer["distances"]:
                shown = pd.DataFrame(answer["distances"])[list(headings.DISTANCES)]
                show_table(
                    shown, "Distances from NUTS, each with what equal laws would give", headings.DISTANCES
                )
            if len(selection):
                shown = selection.reset_index()[list(headings.SELECTION)]
                show_table(shown, "Selection of the relevant inputs, mean over seeds", headings.SELECTION)
        if len(trees) > 1 and not tables:
            notes.print(
                "no distances: they need a converged run of NUTS and another run of the same posterior"
            )
        notes.print(f"results in {folder}", highlight=False, soft_wrap=True)

    def _write(self, folder: Path, trees, verdicts: dict[str, Verdict], tables, answer) -> None:
        write_json(folder / "verdicts.json", answer)
        checks = pd.concat({label: v.to_frame() for label, v in verdicts.items()}, names=["result"])
        frames = {
            "checks": checks.droplevel(1).reset_index(),
            "distances": pd.DataFrame(answer["distances"]),
            "feature_selection": pd.DataFrame(answer["feature_selection"]),
        }
        for name, frame in frames.items():
            if len(frame):
                write_atomically(folder / f"{name}.csv", lambda path, f=frame: f.to_csv(path, index=False))
        write_settings(folder, {"command": "diagnose", **asdict(self)})
        if self.plots:
            for name, figure in plot_verdicts(trees, verdicts, tables).items():
                write_figure(figure, folder / f"{name}.png")


def load_results(paths) -> dict[str, xr.DataTree]:
    """The results in run files, by label; where labels repeat, with the name of the folder before them.

    Raises
    ------
    ValueError
        For no paths, for a file without results, for a result that is named twice.
    """
    if not paths:
        raise ValueError("runs: name at least one folder of mfzoo compare or mfzoo sample, or its run.nc.")
    found = []
    for path in paths:
        file = path / "run.nc" if path.is_dir() else path
        tree = load_tree(file)
        results = [tree] if "posterior" in tree.children else list(tree.children.values())
        results = [r for r in results if "posterior" in r.children and "network" in r.attrs]
        if not results:
            raise ValueError(f"run file {str(file)!r} holds no results of mfzoo compare or mfzoo sample.")
        found += [(file.resolve().parent.name, name_of(r), r) for r in results]
    names = [name for _, name, _ in found]
    labels = [name if names.count(name) == 1 else f"{folder}/{name}" for folder, name, _ in found]
    for place, label in enumerate(labels):
        if label in labels[:place]:
            raise ValueError(
                f"runs name {label!r} twice; give each run once, from folders of different names."
            )
    return {label: result for label, (_, _, result) in zip(labels, found, strict=True)}


def distance_rows(table: xr.Dataset) -> list[dict]:
    """A row per scheme but the reference, JSON-able; without the second moments of the single inputs."""
    frame = table.drop_vars([n for n in table.data_vars if "input" in table[n].dims]).to_dataframe()
    frame.insert(0, "reference", table.attrs["reference"])
    return _rows(frame.drop(index=table.attrs["reference"]).reset_index())


def _rows(frame: pd.DataFrame) -> list[dict]:
    """Records with None for figures that there are not."""
    return json.loads(frame.to_json(orient="records", double_precision=10)) if len(frame) else []

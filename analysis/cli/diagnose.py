"""``mfzoo diagnose``: can these runs be trusted, and if not, why."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import tyro
import xarray as xr

from analysis.cli.options import OutputOptions
from analysis.cli.output import console, jsonable, note, print_json, progress_board, show_table, write_results
from analysis.diagnostics import assess_all, distances_by_problem, name_of, selection_by_scheme
from analysis.plots import plot_verdicts
from analysis.report.sections import distance_frame
from analysis.results import headings
from analysis.results.files import load_tree, write_json


@dataclass(frozen=True)
class Diagnose:
    """Say of each result whether it can be trusted, and if not, why; lay the answers side by side.

    Results are those of mfzoo compare and mfzoo sample. Runs of one network on the same data help
    each other: a run from another start shows whether the start matters, one at half the step size
    its bias, and NUTS, where it has converged, is the reference. Writes verdicts.json, checks.csv,
    distances.csv, feature_selection.csv and figures.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or their run.nc files."""
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)
    plots: bool = True
    """Draw the figures."""

    def run(self) -> None:
        folder = self.output.folder("diagnose")
        trees = load_results(self.runs)
        with progress_board(1) as board:
            verdicts = assess_all(trees, seed=self.output.seed, progress=board("checks"))
        tables = distances_by_problem(trees)
        selection = selection_by_scheme(trees).reset_index()
        distances = pd.concat(map(distance_frame, tables)) if tables else pd.DataFrame()
        checks = pd.concat({label: v.to_frame() for label, v in verdicts.items()}, names=["result"])
        answer = {
            "verdicts": [verdict.to_dict() for verdict in verdicts.values()],
            "distances": distances.to_dict(orient="records"),
            "feature_selection": selection.to_dict(orient="records"),
        }
        with console(to_stderr=True).status("writing results"):
            write_json(folder / "verdicts.json", jsonable(answer))
            written = {"checks": checks.droplevel(1).reset_index(), "distances": distances}
            written["feature_selection"] = selection
            figures = plot_verdicts(trees, verdicts, tables) if self.plots else {}
            settings = {"command": "diagnose", **asdict(self)}
            write_results(folder, settings, tables=written, figures=figures)
        if self.output.json:
            print_json(answer)
        else:
            for verdict in verdicts.values():
                console(to_stderr=False).print(str(verdict), highlight=False, soft_wrap=True, markup=False)
            for frame, headers, heading in (
                (distances, headings.DISTANCES, "Distances from NUTS, each with what equal laws would give"),
                (selection, headings.SELECTION, "Selection of the relevant inputs, mean over seeds"),
            ):
                if len(frame):
                    show_table(frame[list(headers)], heading, headers)
        if len(trees) > 1 and not tables:
            note("no distances: they need a converged run of NUTS and another run of the same posterior")
        note(f"results in {folder}")


def load_results(paths) -> dict[str, xr.DataTree]:
    """The results in run files, by label; where labels repeat, after the name of their folder."""
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

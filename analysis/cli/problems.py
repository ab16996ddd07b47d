"""``mfzoo problems``: posteriors by name, and what is known of each."""

from dataclasses import dataclass, field

import pandas as pd
import tyro

from analysis.cli.options import OutputOptions
from analysis.cli.output import console, print_json, progress_board, show_table
from models import checks
from models.problems import Reference, problem
from models.problems.problem import REFERENCES
from models.problems.reference import load_reference
from models.problems.zoo import ZOO


@dataclass(frozen=True)
class ListProblems:
    """List the named problems with what is known of each, or say all about those that are named.

    A problem of your own is FILE.py:NAME, where NAME is a variable with a models.problems.Problem.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Problems to describe; none for the list of all."""
    make_reference: bool = False
    """Make the references of the problems named, minutes to hours each, and write their files."""
    effort: float = 1.0
    """Factor on the number of draws of a reference."""
    output: tyro.conf.OmitArgPrefixes[OutputOptions] = field(default_factory=OutputOptions)

    def run(self) -> None:
        if self.make_reference:
            self._make()
        if self.names:
            found = map(problem, self.names)
            rows = [describe(each.name, each, each.reference) for each in found]
        else:  # from the table: no data need be made
            stored = {name: load_reference(REFERENCES / f"{name}.json") for name in ZOO}
            rows = [describe(name, ZOO[name], reference) for name, reference in stored.items()]
        if self.output.json:
            print_json({"problems": rows})
        elif self.names:
            for row in rows:
                say(row)
        else:
            show_table(pd.DataFrame(rows)[["problem", "known", "description"]], "Named problems")

    def _make(self) -> None:
        from analysis.scoring.references import make_reference

        checks.positive("effort", self.effort)
        if not self.names:
            raise ValueError("make_reference needs the names of the problems.")
        with progress_board(len(self.names)) as board:
            for each in map(problem, self.names):
                make_reference(each, self.effort, self.output.seed, board(each.name))


def describe(name: str, declared, reference: Reference | None) -> dict:
    """What is declared of a problem, and what is known of it."""
    texts = {word: getattr(declared, word) for word in ("description", "source", "difficulty")}
    row = {"problem": name, **texts, "known": known(reference), "status": "none", "functions": 0}
    if reference is not None:
        further = {
            word: getattr(reference, word) for word in ("status", "reason", "recipe", "cross_check", "date")
        }
        row |= {**further, "functions": len(reference.functions)}
    return row


def known(reference: Reference | None) -> str:
    """What is known of a problem, in a few words."""
    if reference is None:
        return "no reference yet"
    if reference.status == "none":
        return f"no reference: {reference.reason}"
    if reference.status == "exact":
        return f"exact: {len(reference.functions)} functions"
    error = max(se / sd for _, sd, se, _ in reference.functions.values())
    return f"sampled: {len(reference.functions)} functions, to {error:.2g} sd"


def say(row: dict) -> None:
    """One problem, a line each of what is declared and known."""
    out = console(to_stderr=False)
    out.print(f"[bold]{row['problem']}[/bold]: {row['description']}", highlight=False, soft_wrap=True)
    for word in ("source", "difficulty", "known", "recipe", "cross_check", "date"):
        if row.get(word):
            value = row[word]
            if isinstance(value, dict):
                value = ", ".join(f"{name} {each}" for name, each in value.items())
            text = f"    {word.replace('_', ' ')}: {value}"
            out.print(text, highlight=False, soft_wrap=True, markup=False)

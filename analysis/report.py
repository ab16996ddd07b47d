"""One self-contained page on one run or several: what was declared, what came out, and whether to trust it."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import jinja2
import pandas as pd
import xarray as xr

from analysis import headings
from analysis.compare import COLUMNS, Comparison, SchemeResult, row_of
from analysis.diagnostics import Verdict, assess_all, distances_by_problem, selection_by_scheme
from analysis.diagnostics.check import ELPD, POSTERIOR, PREDICTIONS
from analysis.diagnostics.differences import same_posterior
from analysis.files import write_text
from analysis.headings import show_value
from analysis.report_figures import comparison_figures, posterior_figures, result_figures

_QUESTIONS = {POSTERIOR: "posterior", ELPD: "elpd LOO", PREDICTIONS: "predictive intervals"}
_STATES = {
    "passed": {"kind": "passed", "symbol": "✓", "word": "nothing against it"},
    "failed": {"kind": "failed", "symbol": "✗", "word": "do not trust"},
    "none": {"kind": "unchecked", "symbol": "–", "word": "not judged"},
}
_CHECK_STATES = {
    "passed": {"kind": "passed", "symbol": "✓", "word": "passed"},
    "note": {"kind": "note", "symbol": "!", "word": "note"},
    "failed": {"kind": "failed", "symbol": "✗", "word": "failed"},
    "unchecked": {"kind": "unchecked", "symbol": "–", "word": "not checked"},
}


@dataclass(frozen=True)
class RunRecord:
    """What is known of how results were made, beside what they hold themselves.

    Attributes
    ----------
    name
        Name of the run.
    command
        The command that repeats it, where that is known.
    facts
        Anything else to show, by name.
    """

    name: str
    command: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


def report(
    results: Mapping[str, xr.DataTree] | Comparison,
    path: Path,
    *,
    title: str = "Posteriors side by side",
    rows: Mapping[str, dict] | None = None,
    runs: Sequence[RunRecord] = (),
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Write one HTML page with the tables, verdicts and figures of some results; it loads nothing from elsewhere.

    Parameters
    ----------
    results
        Results in the schema by label, or a :class:`analysis.Comparison`.
    path
        File to write, whole or not at all.
    title
        Heading of the page.
    rows
        Rows of the comparison's table by label, see :func:`analysis.compare`: a fixed point knows its figures
        better than its draws do. Other rows are computed from the draws.
    runs
        How the results were made.
    seed
        As for :func:`analysis.assess`.
    progress
        Called as ``progress(done, total, text)``.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ValueError
        For no results, for something that is no result, or a file that cannot be written.

    Examples
    --------
    >>> import jax, tempfile
    >>> from analysis import compare
    >>> from models import TwoLayerNetwork, SparseParity
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40, num_test=50)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(compare(network, data, ["nngp"]), Path(folder) / "report.html").read_text()
    >>> "nngp-isotropic-kappa0.3" in page, "https://" in page
    (True, False)
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"path: {str(path)!r} is a folder; name a file in it, such as report.html.")
    if isinstance(results, Comparison):
        rows = {**{r.label: r.row for r in results.results}, **(rows or {})}
        results = results.trees
    _check(results)
    steps = _Steps(len(results), progress)
    verdicts = assess_all(results, seed=seed, progress=steps.assessed)
    write_text(path, render(results, verdicts, rows or {}, title, runs, steps.drawn))
    steps.finished()
    return path


def render(
    trees: Mapping[str, xr.DataTree],
    verdicts: Mapping[str, Verdict],
    rows: Mapping[str, dict],
    title: str,
    runs: Sequence[RunRecord] = (),
    drawn: Callable[[str], None] = lambda label: None,
) -> str:
    """The page as text; ``drawn(label)`` is called when a result's figures are."""
    results = {label: _result(trees[label], verdicts[label], rows.get(label)) for label in trees}
    problems = _groups(trees, _same_problem)
    posteriors = _groups(trees, same_posterior)
    selection = selection_by_scheme(trees)
    context = {
        "title": title,
        "summary": f"{_count(len(trees), 'result')} of {_count(len(posteriors), 'posterior')}, "
        f"{sum(v.trusted for v in verdicts.values())} with nothing against them.",
        "any_bias": any(_network(tree).get("bias") for tree in trees.values()),
        "versions": "; ".join(dict.fromkeys(_versions(tree) for tree in trees.values())),
        "version": version("mean-field-zoo"),
        "questions": list(_QUESTIONS.values()),
        "runs": [{"name": r.name, "command": r.command, "facts": _facts(r.facts)} for r in runs],
        "problems": [_problem({n: results[n] for n in group}) for group in problems],
        "comparison": _comparison(results),
        "exactness": _exactness(results, rows),
        "posteriors": [
            _posterior(number, {n: trees[n] for n in group}, verdicts, drawn)
            for number, group in enumerate(posteriors)
        ],
        "selection": _table(selection.reset_index(), headings.SELECTION) if len(selection) else None,
        "unchecked": _unchecked(verdicts),
    }
    return _template().render(context)


def _template() -> jinja2.Template:
    # Labels come from file names and priors from users' own classes: every value is escaped.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.jinja")


class _Steps:
    """Progress over the two long parts, which take a step a result each: the checks, then the figures."""

    def __init__(self, count: int, progress):
        self._total, self._report = 2 * count + 1, progress or (lambda done, total, text: None)
        self._done = 0

    def assessed(self, done: int, total: int, label: str) -> None:
        self._done = done
        self._report(done, self._total, label)

    def drawn(self, label: str) -> None:
        self._done += 1
        self._report(self._done, self._total, label)

    def finished(self) -> None:
        self._report(self._total, self._total, "")


def _check(trees: Mapping[str, xr.DataTree]) -> None:
    if not trees:
        raise ValueError("results must hold at least one result of sample(...), fit(...) or compare(...).")
    for label, tree in trees.items():
        if "posterior" not in tree.children or "network" not in tree.attrs:
            raise ValueError(
                f"results: {label!r} is no result of sample(...), fit(...), compare(...) or a fixed point."
            )


def _result(tree: xr.DataTree, verdict: Verdict, row: dict | None) -> SchemeResult:
    # A row that was given for a theory holds the figures of its fixed point, which stand for the point in figures.
    point = row if row is not None and "theory" in json.loads(tree.attrs["settings"]) else None
    return SchemeResult(tree, point, verdict.diagnosis, row or row_of(tree, verdict.diagnosis))


def _groups(trees: Mapping[str, xr.DataTree], alike) -> list[list[str]]:
    groups: list[list[str]] = []
    for label, tree in trees.items():
        for group in groups:
            if alike(trees[group[0]], tree):
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def _same_problem(first: xr.DataTree, second: xr.DataTree) -> bool:
    """Whether networks differ in κ and prior only, and the data not at all."""
    free = {"kappa", "prior", "readouts"}
    networks = [{k: v for k, v in _network(t).items() if k not in free} for t in (first, second)]
    data = [t["constant_data"].to_dataset().assign(y=t["observed_data"].y) for t in (first, second)]
    return networks[0] == networks[1] and data[0].equals(data[1])


def _problem(results: Mapping[str, SchemeResult]) -> dict:
    tree = next(iter(results.values())).tree
    network, constant = _network(tree), tree["constant_data"]
    kappas = dict.fromkeys(r.row["kappa"] for r in results.values())
    priors = dict.fromkeys(_network(r.tree)["prior"] for r in results.values())
    declared = {
        "inputs d": network["input_dim"],
        "width N": network["width"],
        "exponent γ": f"{network['gamma']:g}",
        "activation φ": network["activation"] + (", with biases" if network["bias"] else ""),
        "readout scale σₐ": f"{network['readout_scale']:g}",
        "training points P": tree["observed_data"].sizes["data"],
        "test points": constant.sizes["test"],
        "relevant inputs": show_value(constant["relevant"].to_numpy().tolist())
        if "relevant" in constant
        else "unknown",
        "noise κ": ", ".join(f"{kappa:g}" for kappa in kappas),
        "priors": ", ".join(priors),
    }
    return {"declared": _facts(declared), "figures": comparison_figures(results)}


def _posterior(number: int, trees, verdicts: Mapping[str, Verdict], drawn) -> dict:
    tree = next(iter(trees.values()))
    network, own = _network(tree), {label: verdicts[label] for label in trees}
    tables = distances_by_problem(trees)
    cards = []
    for place, label in enumerate(trees):
        cards.append(_card(f"result-{number}-{place}", trees[label], own[label]))
        drawn(label)
    return {
        "anchor": f"posterior-{number}",
        "heading": f"κ = {network['kappa']:g}, prior {tree.attrs['prior']}",
        "prior": network["prior"],
        "verdicts": cards,
        "distances": [
            {"reference": t.attrs["reference"], "table": _table(_distances(t), headings.DISTANCES)}
            for t in tables
        ],
        "figures": posterior_figures(trees, own, tables),
    }


def _card(anchor: str, tree: xr.DataTree, verdict: Verdict) -> dict:
    checks = [
        {
            "name": c.name,
            "state": _CHECK_STATES[c.status],
            "concern": _QUESTIONS[c.concern],
            "value": _number(c.value),
            "limit": _number(c.limit),
            "message": c.message,
        }
        for c in verdict.checks
    ]
    asides = ("Note: ", "Not checked: ")
    return {
        "anchor": anchor,
        "label": verdict.label,
        "trusted": verdict.trusted,
        "answers": [_answer(verdict, concern) for concern in _QUESTIONS],
        "sentences": [{"text": s, "aside": s.startswith(asides)} for s in verdict.sentences],
        "checks": checks,
        "num_failed": len(verdict.failures()),
        "num_unchecked": sum(c.status == "unchecked" for c in verdict.checks),
        "figures": result_figures(tree, verdict),
        "settings": _facts(_settings(tree)),
    }


def _answer(verdict: Verdict, concern: str) -> dict:
    if verdict.failures(concern):
        return _STATES["failed"]
    judged = any(c.concern == concern and c.status in ("passed", "note") for c in verdict.checks)
    return _STATES["passed" if judged else "none"]


def _settings(tree: xr.DataTree) -> dict:
    posterior = tree["posterior"]
    draws = f"{posterior.sizes['chain']} × {posterior.sizes['draw']}"
    independent = " (independent)" if tree.attrs.get("independent_draws", 0) else " (chains × draws)"
    facts = {"scheme": tree.attrs["scheme"], "draws kept": draws + independent}
    facts |= {name.replace("_", " "): value for name, value in json.loads(tree.attrs["settings"]).items()}
    return {**facts, "key": tree.attrs["seed"]}


def _comparison(results: Mapping[str, SchemeResult]) -> dict:
    frame = pd.DataFrame([r.row for r in results.values()], columns=list(COLUMNS))
    if any(label != result.label for label, result in results.items()):
        frame.insert(0, "result", list(results))
    return _table(frame, headings.COMPARISON, frame.columns)


def _exactness(results: Mapping[str, SchemeResult], rows: Mapping[str, dict]) -> str:
    theories = {n for n, r in results.items() if "theory" in json.loads(r.tree.attrs["settings"])}
    if not theories - set(rows):
        return "Figures of a theory are those of its fixed point." if theories else ""
    return "Figures of a theory are the means over its draws: the fixed point's own were not given."


def _distances(table: xr.Dataset) -> pd.DataFrame:
    frame = table.drop_dims("input").to_dataframe()
    return frame.drop(index=table.attrs["reference"]).reset_index()


def _unchecked(verdicts: Mapping[str, Verdict]) -> list[tuple[str, list[str]]]:
    """What was not checked, with the results that it was not checked of."""
    messages: dict[str, list[str]] = {}
    for label, verdict in verdicts.items():
        for check in verdict.checks:
            if check.status == "unchecked":
                messages.setdefault(check.message[0].upper() + check.message[1:] + ".", []).append(label)
    return list(messages.items())


def _table(frame: pd.DataFrame, names: Mapping[str, str], columns=None) -> dict:
    shown = frame[list(names if columns is None else columns)]
    columns = [
        {"text": names.get(name, name), "numeric": pd.api.types.is_numeric_dtype(shown[name])}
        for name in shown
    ]
    return {"columns": columns, "rows": [list(map(show_value, r)) for r in shown.itertuples(index=False)]}


def _facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    # A whole number here is a setting, not a figure of a table, and "16" reads better than "16.000".
    return [(name, "–" if value is None else str(value)) for name, value in facts.items()]


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _network(tree: xr.DataTree) -> dict:
    return json.loads(tree.attrs["network"])


def _versions(tree: xr.DataTree) -> str:
    return ", ".join(f"{name} {v}" for name, v in json.loads(tree.attrs["versions"]).items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

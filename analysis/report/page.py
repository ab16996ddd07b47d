"""One self-contained page: what was declared, what came out, and whether to trust it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path

import jinja2
import xarray as xr

from analysis.diagnostics import Verdict, assess_all, same_posterior, selection_by_scheme
from analysis.report import sections
from analysis.results import headings
from analysis.results.files import write_text
from analysis.schemes.compare import Comparison


@dataclass(frozen=True)
class RunRecord:
    """How results were made: the run's name, its command where known, and other facts to show."""

    name: str
    command: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


def report(
    results: Mapping[str, xr.DataTree] | Comparison,
    path: Path,
    *,
    title: str = "Posteriors side by side",
    runs: Sequence[RunRecord] = (),
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Write one HTML page with the tables, verdicts and figures of results; it loads nothing else.

    `results` are in the schema by label, or a :class:`analysis.Comparison`; `path`, written whole
    or not at all, is returned; `title` heads the page, `runs` say how the results were made;
    `progress` is called as by :func:`analysis.diagnostics.assess_all`. ``ValueError`` for no
    results, for something that is no result, or a file that cannot be written.

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
        results = results.trees
    _check(results)
    # Two long parts, which take a step a result each: the checks, then the figures.
    shown, total = progress or (lambda done, total, text: None), 2 * len(results) + 1
    verdicts = assess_all(results, seed=seed, progress=lambda done, _, label: shown(done, total, label))
    drawn = count(len(results) + 1)
    page = render(results, verdicts, title, runs, lambda label: shown(next(drawn), total, label))
    write_text(path, page)
    shown(total, total, "")
    return path


def render(
    trees: Mapping[str, xr.DataTree],
    verdicts: Mapping[str, Verdict],
    title: str,
    runs: Sequence[RunRecord] = (),
    drawn: Callable[[str], None] = lambda label: None,
) -> str:
    """The page as text; ``drawn(label)`` is called when a result's figures are."""
    results = {label: sections.result_of(trees[label], verdicts[label]) for label in trees}
    problems = sections.grouped(trees, sections.same_problem)
    posteriors = sections.grouped(trees, same_posterior)
    selection = selection_by_scheme(trees)
    context = {
        "title": title,
        "summary": f"{len(trees)} result{'s' * (len(trees) > 1)} of "
        f"{len(posteriors)} posterior{'s' * (len(posteriors) > 1)}, "
        f"{sum(v.trusted for v in verdicts.values())} with nothing against them.",
        "any_bias": any(sections.network_of(tree).get("bias") for tree in trees.values()),
        "versions": "; ".join(dict.fromkeys(map(_versions, trees.values()))),
        "version": version("mean-field-zoo"),
        "questions": list(sections.QUESTIONS.values()),
        "runs": [
            {"name": r.name, "command": r.command, "facts": sections.shown_facts(r.facts)} for r in runs
        ],
        "problems": [sections.problem_section({n: results[n] for n in group}) for group in problems],
        "comparison": sections.comparison_section(results),
        "exactness": sections.exactness(results),
        "posteriors": [
            sections.posterior_section(number, {n: trees[n] for n in group}, verdicts, drawn)
            for number, group in enumerate(posteriors)
        ],
        "selection": sections.shown_table(selection.reset_index(), headings.SELECTION)
        if len(selection)
        else None,
        "unchecked": sections.unchecked(verdicts),
    }
    # Labels come from file names and priors from users' own classes: every value is escaped.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.jinja").render(context)


def _versions(tree: xr.DataTree) -> str:
    return ", ".join(f"{name} {v}" for name, v in json.loads(tree.attrs["versions"]).items())


def _check(trees: Mapping[str, xr.DataTree]) -> None:
    if not trees:
        raise ValueError("results must hold at least one result of sample(...), fit(...) or compare(...).")
    for label, tree in trees.items():
        if "posterior" not in tree.children or "network" not in tree.attrs:
            raise ValueError(
                f"results: {label!r} is no result of sample(...), fit(...), compare(...) or a fixed point."
            )

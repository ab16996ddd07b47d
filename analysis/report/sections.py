"""The sections of a report, as the template takes them."""

import json
import math
from collections.abc import Mapping

import pandas as pd
import xarray as xr

from analysis.diagnostics import Verdict, distances_by_problem
from analysis.diagnostics.check import ELPD, POSTERIOR, PREDICTIONS
from analysis.report.figures import comparison_figures, posterior_figures, result_figures
from analysis.results import headings
from analysis.results.headings import show_value
from analysis.schemes.compare import COLUMNS, SchemeResult, row_of

QUESTIONS = {POSTERIOR: "posterior", ELPD: "elpd LOO", PREDICTIONS: "predictive intervals"}
# Of a check, and of an answer: symbol and words, never colour alone.
_CHECKED = {"passed": "✓ passed", "note": "! note", "failed": "✗ failed", "unchecked": "– not checked"}
_ANSWERED = {"passed": "✓ nothing against it", "failed": "✗ do not trust", "unchecked": "– not judged"}


def result_of(tree: xr.DataTree, verdict: Verdict) -> SchemeResult:
    """A result with the row that a comparison has given it, or that of its draws."""
    row = json.loads(tree.attrs["row"]) if "row" in tree.attrs else None
    # A theory's row from a comparison holds its fixed point's figures, and stands for the point.
    point = row if _is_theory(tree) else None
    return SchemeResult(tree, point, verdict.diagnosis, row or row_of(tree, verdict.diagnosis))


def _is_theory(tree: xr.DataTree) -> bool:
    return "theory" in json.loads(tree.attrs["settings"])


def grouped(trees: Mapping[str, xr.DataTree], alike) -> list[list[str]]:
    """Labels in groups of results that are alike, in the order of their first ones."""
    groups: list[list[str]] = []
    for label, tree in trees.items():
        for group in groups:
            if alike(trees[group[0]], tree):
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def same_problem(first: xr.DataTree, second: xr.DataTree) -> bool:
    """Whether networks differ in κ and prior only, and the data not at all."""
    free = {"kappa", "prior", "readouts"}
    networks = [{k: v for k, v in network_of(t).items() if k not in free} for t in (first, second)]
    data = ("constant_data", "observed_data", "predictions_constant_data")
    same_data = all(first[name].to_dataset().equals(second[name].to_dataset()) for name in data)
    return networks[0] == networks[1] and same_data


def problem_section(results: Mapping[str, SchemeResult]) -> dict:
    """What was declared, and the figures that compare all results of one problem."""
    tree = next(iter(results.values())).tree
    network, constant = network_of(tree), tree["constant_data"]
    kappas = dict.fromkeys(r.row["kappa"] for r in results.values())
    priors = dict.fromkeys(network_of(r.tree)["prior"] for r in results.values())
    declared = {
        "inputs d": network["input_dim"],
        "width N": ", ".join(map(str, network.get("widths") or [network["width"]])),
        "exponent γ": f"{network['gamma']:g}",
        "activation φ": network["activation"] + (", with biases" if network["bias"] else ""),
        "readout scale σₐ": f"{network['readout_scale']:g}",
        "training points P": tree["observed_data"].sizes["data"],
        "test points": tree["predictions_constant_data"].sizes["test"],
        "relevant inputs": show_value(constant["relevant"].to_numpy().tolist())
        if "relevant" in constant
        else "unknown",
        "noise κ": ", ".join(f"{kappa:g}" for kappa in kappas),
        "priors": ", ".join(priors),
    }
    return {"declared": shown_facts(declared), "figures": comparison_figures(results)}


def posterior_section(number: int, trees, verdicts: Mapping[str, Verdict], drawn) -> dict:
    """Verdicts, distances and figures of one posterior's results; ``drawn(label)`` after a card."""
    tree = next(iter(trees.values()))
    network, own = network_of(tree), {label: verdicts[label] for label in trees}
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
            {"reference": t.attrs["reference"], "table": shown_table(distance_frame(t), headings.DISTANCES)}
            for t in tables
        ],
        "figures": posterior_figures(trees, own, tables),
    }


def _card(anchor: str, tree: xr.DataTree, verdict: Verdict) -> dict:
    asides = ("Note: ", "Not checked: ")
    return {
        "anchor": anchor,
        "label": verdict.label,
        "trusted": verdict.trusted,
        "answers": [_answer(verdict, concern) for concern in QUESTIONS],
        "sentences": [{"text": s, "aside": s.startswith(asides)} for s in verdict.sentences],
        "checks": [
            {
                **{"name": c.name, "message": c.message, "concern": QUESTIONS[c.concern]},
                "state": _state(c.status, _CHECKED),
                "value": _number(c.value),
                "limit": _number(c.limit),
            }
            for c in verdict.checks
        ],
        "num_failed": len(verdict.failures()),
        "num_unchecked": sum(c.status == "unchecked" for c in verdict.checks),
        "figures": result_figures(tree, verdict),
        "settings": shown_facts(_settings(tree)),
    }


def _answer(verdict: Verdict, concern: str) -> dict:
    if verdict.failures(concern):
        return _state("failed", _ANSWERED)
    judged = any(c.concern == concern and c.status in ("passed", "note") for c in verdict.checks)
    return _state("passed" if judged else "unchecked", _ANSWERED)


def _state(kind: str, words: Mapping[str, str]) -> dict:
    symbol, _, word = words[kind].partition(" ")
    return {"kind": kind, "symbol": symbol, "word": word}


def _settings(tree: xr.DataTree) -> dict:
    posterior = tree["posterior"]
    draws = f"{posterior.sizes['chain']} × {posterior.sizes['draw']}"
    independent = " (independent)" if tree.attrs.get("independent_draws", 0) else " (chains × draws)"
    facts = {"scheme": tree.attrs["scheme"], "draws kept": draws + independent}
    facts |= {name.replace("_", " "): value for name, value in json.loads(tree.attrs["settings"]).items()}
    return {**facts, "key": tree.attrs["seed"]}


def comparison_section(results: Mapping[str, SchemeResult]) -> dict:
    """The table of all results, labelled where a label says more than the scheme does."""
    frame = pd.DataFrame([r.row for r in results.values()], columns=list(COLUMNS))
    if any(label != result.label for label, result in results.items()):
        frame.insert(0, "result", list(results))
    return shown_table(frame, headings.COMPARISON, frame.columns)


def exactness(results: Mapping[str, SchemeResult]) -> str:
    """Whether theories' figures are their fixed points' or their draws'; empty without theories."""
    theories = [result for result in results.values() if _is_theory(result.tree)]
    if all(result.point is not None for result in theories):
        return "Figures of a theory are those of its fixed point." if theories else ""
    return "Figures of a theory are the means over its draws: the fixed point's own were not given."


def distance_frame(table: xr.Dataset) -> pd.DataFrame:
    """A row per result but the reference, without the second moments of the single inputs."""
    reference = table.attrs["reference"]
    frame = table.drop_dims("input", errors="ignore").to_dataframe().drop(index=reference)
    return frame.reset_index().assign(reference=reference)


def unchecked(verdicts: Mapping[str, Verdict]) -> list[tuple[str, list[str]]]:
    """What was not checked, with the results that it was not checked of."""
    messages: dict[str, list[str]] = {}
    for label, verdict in verdicts.items():
        for check in verdict.checks:
            if check.status == "unchecked":
                messages.setdefault(check.message[0].upper() + check.message[1:] + ".", []).append(label)
    return list(messages.items())


def shown_table(frame: pd.DataFrame, names: Mapping[str, str], columns=None) -> dict:
    """Headings and shown values of some columns, by the names of `names`."""
    shown = frame[list(names if columns is None else columns)]
    numeric = {name: pd.api.types.is_numeric_dtype(shown[name]) for name in shown}
    columns = [{"text": names.get(name, name), "numeric": is_numeric} for name, is_numeric in numeric.items()]
    return {"columns": columns, "rows": shown.map(show_value).values.tolist()}


def shown_facts(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and values as text; a dash for None."""
    # Whole numbers here are settings, no figures of a table: "16" reads better than "16.000".
    return [(name, "–" if value is None else str(value)) for name, value in facts.items()]


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def network_of(tree: xr.DataTree) -> dict:
    """The network that a result is of, as it was declared."""
    return json.loads(tree.attrs["network"])

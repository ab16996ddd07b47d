"""Can I trust this, and if not, why? Every check on one result, and a verdict in plain words."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from analysis.diagnostics.calibration import Calibration, calibrate, check_calibration
from analysis.diagnostics.check import ELPD, POSTERIOR, PREDICTIONS, Check
from analysis.diagnostics.diagnose import Diagnosis, diagnose
from analysis.diagnostics.differences import check_start, check_step_bias, start_dependence, step_bias
from analysis.diagnostics.distances import distances
from analysis.diagnostics.importance import check_loo, has_seen_data
from analysis.diagnostics.neurons import check_labels, match_neurons
from analysis.diagnostics.provenance import bias_order, check_same_posterior
from analysis.results.order_parameters import is_independent
from inference.runs.step_halving import StepSizeCheck

# A scheme disagrees with the reference where f at a test point is off by this much, in units of the
# reference's posterior standard deviation (Wasserstein-1: a shift of the mean by as much, or a
# spread that is 30 % too small).
DISTANCE_LIMIT = 0.25
# More neurons than the strongest, and more draws, cost minutes at large widths and show little.
_MATCHED_NEURONS, _MATCHED_DRAWS = 64, 200
_CONCERNS = {
    POSTERIOR: ("The draws can be taken for the posterior", "Do not take the draws for the posterior"),
    ELPD: ("Elpd LOO can be trusted", "Do not trust elpd LOO"),
    PREDICTIONS: ("The predictive intervals are wide enough", "Do not trust the predictive intervals"),
}


@dataclass(frozen=True)
class Verdict:
    """What all checks on one result say.

    `checks` are in the order in which they are best read, those of the diagnosis among them;
    `tables`, by name, what they rest on and their figures show: ``functions`` (convergence),
    ``start``, ``step_size``, ``distances``, those that were asked for and apply; `neurons` the 64
    strongest neurons, matched in 200 draws, see :func:`match_neurons`.
    """

    label: str
    scheme: str
    checks: tuple[Check, ...]
    tables: dict[str, pd.DataFrame]
    calibration: Calibration
    neurons: xr.Dataset
    diagnosis: Diagnosis = field(repr=False)

    @property
    def trusted(self) -> bool:
        """Whether no check casts doubt on the draws being those of the posterior."""
        return not self.failures(POSTERIOR)

    def failures(self, concern: str | None = None) -> list[Check]:
        """The failed checks, all or those of one concern."""
        return [c for c in self.checks if c.failed and concern in (None, c.concern)]

    @property
    def sentences(self) -> list[str]:
        """The verdict in plain words: one sentence a concern, then what was not checked."""
        said = []
        for concern, (good, bad) in _CONCERNS.items():
            passed = [c.name for c in self.checks if c.concern == concern and c.status in ("passed", "note")]
            if failed := self.failures(concern):
                said.append(f"{bad}: {'; '.join(c.message for c in failed)}.")
            elif passed:
                said.append(f"{good}: nothing against it in {', '.join(passed)}.")
        said += [f"Note: {c.message}." for c in self.checks if c.status == "note"]
        said += [f"Not checked: {c.message}." for c in self.checks if c.status == "unchecked"]
        return said

    def __str__(self) -> str:
        return "\n  ".join([f"{self.label}:", *self.sentences])

    def to_frame(self) -> pd.DataFrame:
        """One row a check."""
        columns = ["name", "concern", "status", "value", "limit", "message", "figure"]
        return pd.DataFrame(list(self.checks), columns=columns)

    def to_dict(self) -> dict:
        """JSON-able values: label, scheme, trusted, verdict, checks, tables, coverage."""
        tables = {**self.tables, "coverage": self.calibration.coverage}
        return {
            "label": self.label,
            "scheme": self.scheme,
            "trusted": self.trusted,
            "verdict": self.sentences,
            "checks": _records(self.to_frame()),
            "tables": {name: _records(table.reset_index()) for name, table in tables.items()},
        }


def _records(table: pd.DataFrame) -> list[dict]:
    """The rows, JSON-able: None for what is not finite."""
    return json.loads(table.to_json(orient="records", double_precision=15))


def assess(
    tree: xr.DataTree,
    *,
    label: str | None = None,
    other_start: xr.DataTree | None = None,
    half_step: xr.DataTree | StepSizeCheck | None = None,
    reference: xr.DataTree | None = None,
    superchains: Sequence[int] | None = None,
    seed: int = 0,
) -> Verdict:
    """Check a result in every way that applies, and say in plain words whether to trust it.

    The checks are those of :func:`diagnose`, which need the result alone and decide whether it has
    converged, and with them those that take another run, and those of LOO and of the predictions. A
    check that needs another run, not given, is listed as not checked; runs that are not of the same
    network and data, or from the same start, are a ``ValueError``.

    A verdict on a sampler can only be negative: chains that agree may all miss the same mode. Start
    dependence and a reference are the remedies; :func:`simulation_based_calibration` tests a scheme
    on a small model.

    Parameters
    ----------
    label
        Name of the result in the verdict; the scheme by default.
    other_start
        A run of the same scheme from another start (``start="aligned"`` where `tree` has
        ``start="prior"``). A run with ``start="both"`` needs none: its own chains are compared.
    half_step
        A run at half the step size, or the result of ``kernel.check_step_size(...)``.
    reference
        A result to agree with, such as a converged run of NUTS.
    superchains
        For many short chains, the starting point of each, see :func:`convergence_table`.
    seed
        Of the simulated noise in the coverage of predictive intervals.

    Examples
    --------
    >>> assess(tree).trusted  # twenty steps are not enough
    False
    """
    scheme = tree.attrs.get("scheme", "unknown")
    diagnosis = diagnose(tree, superchains)
    checks, tables = list(diagnosis.checks), dict(diagnosis.tables)
    if not is_independent(tree):
        checks += _start_check(tree, other_start, tables)
        checks += _step_check(tree, half_step, tables)
    neurons = match_neurons(tree, num_neurons=_MATCHED_NEURONS, max_draws=_MATCHED_DRAWS)
    checks += [_reference_check(tree, reference, tables), check_labels(tree, neurons)]
    if has_seen_data(tree):
        checks.append(check_loo(diagnosis.loo))
    calibration = calibrate(tree, seed)
    checks += check_calibration(calibration)
    return Verdict(label or scheme, scheme, tuple(checks), tables, calibration, neurons, diagnosis)


def _unchecked(name: str, message: str) -> Check:
    return Check(name, POSTERIOR, "unchecked", message)


def _start_check(tree, other_start, tables) -> list[Check]:
    start = tree.attrs.get("start", "prior")
    if other_start is None:
        if "start" in tables:  # the diagnosis has compared the run's own chains
            return []
        other = "aligned" if start == "prior" else "prior"
        advice = f"run once more with start={other!r} and pass it as other_start"
        return [_unchecked("start", f"start dependence: {advice}")]
    other = other_start.attrs.get("start", "given")
    if other == start != "given":
        raise ValueError(f"other_start must be a run from another start than {start!r}; set its start=.")
    tables["start"] = start_dependence(tree, other_start)
    return [check_start(tables["start"], (start, other))]


def _step_check(tree, half_step, tables) -> list[Check]:
    if bias_order(tree) is None:
        return []
    if half_step is None:
        advice = "pass a run at half the step size, or kernel.check_step_size(...), as half_step"
        return [_unchecked("step size", f"step-size bias: {advice}")]
    tables["step_size"] = step_bias(tree, half_step)
    return [check_step_bias(tables["step_size"])]


def _reference_check(tree, reference, tables) -> Check:
    if reference is None:
        advice = "pass a converged run of NUTS as reference"
        return _unchecked("reference", f"agreement with another scheme: {advice}")
    check_same_posterior(tree, reference)
    table = distances({"this": tree, "reference": reference}, "reference")
    tables["distances"] = table.drop_dims("input").to_dataframe()
    row = tables["distances"].loc["this"]
    spread = reference["predictions"].f.astype(float).std(("chain", "draw"))
    # A distance between equal laws is about its floor: only what is beyond it is evidence.
    excess = max(0.0, float(row["wasserstein"] - row["wasserstein_floor"]))
    relative, ratio = excess / float(np.median(spread)), float(row["spread"])
    name, where = reference.attrs.get("scheme", "reference"), "f at the test points"
    status = "passed"
    message = f"{where} has the distribution that {name} gives it, within {relative:.2f} of its sd"
    if not relative <= DISTANCE_LIMIT:
        kind = "over-confident" if ratio < 0.8 else "too broad" if ratio > 1.25 else "in another place"
        status, m = "failed", "{order_parameter_difference:+.3f} ± {order_parameter_difference_se:.3f}"
        apart = f"{relative:.2f} posterior standard deviations from {name}, and {kind}"
        widths = f"its spread is {ratio:.2f} of {name}'s"
        message = f"{where} is {apart}: {widths}, and m differs by {m.format(**row)}"
    return Check("reference", POSTERIOR, status, message, relative, DISTANCE_LIMIT, "distances")

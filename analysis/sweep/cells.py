"""One cell of a sweep: what determines its answer, how it is computed, the file that keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import jax

from analysis.results.files import write_json
from analysis.results.order_parameters import order_parameters, start_difference
from analysis.schemes.compare import SchemeResult, compare, json_number, summarise
from analysis.schemes.kernels import Budget
from analysis.schemes.registry import SAMPLERS, SCHEMES, run_sampler
from inference.runs.binding import bind_kernel
from inference.runs.fingerprint import describe_kernel, fingerprint
from models import Network

# Figures of a sweep that a comparison's table does not have.
MORE_FIGURES = ("train_mse", "test_mse_draw_se", "start_difference", "start_difference_se")
_FORMAT = "mfzoo sweep cell 2"
_PACKAGE = "mean-field-zoo"


@dataclass(frozen=True)
class Cell:
    """One scheme on data that the teacher draws by the seed; these fields determine its answer.

    A process with another version of this package refuses it.
    """

    network: Network
    teacher: object
    num_data: int
    num_test: int
    seed: int
    scheme: str
    budget: Budget = field(default_factory=Budget)
    version: str = field(default_factory=lambda: version(_PACKAGE))

    @property
    def coordinates(self) -> dict:
        """The cell's place in the grid."""
        return {
            "scheme": self.scheme,
            "prior": self.network.prior.name,
            "kappa": self.network.kappa,
            "num_data": self.num_data,
            "seed": self.seed,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Name of the cell's file: the same for the same fields and source texts, everywhere."""
        values = [getattr(self, field.name) for field in fields(self) if field.name != "budget"]
        return fingerprint(*values, self._sampler())[:20]

    def run(self) -> dict:
        """The row of :func:`analysis.schemes.compare` and the train MSE of a draw, JSON-able."""
        if version(_PACKAGE) != self.version:
            raise ValueError(
                f"version {version(_PACKAGE)} of {_PACKAGE} is installed where the cell runs, {self.version} where "
                "the sweep was started; install the same on both."
            )
        data = self.teacher.sample(jax.random.key(self.seed), self.num_data, self.num_test)
        key = jax.random.fold_in(jax.random.key(self.seed), 1)
        if self.scheme not in SAMPLERS:
            result = compare(self.network, data, [self.scheme], key).results[0]
        else:
            # The key that a comparison gives the scheme: a budget changes nothing but the steps.
            key = jax.random.fold_in(key, list(SCHEMES).index(self.scheme))
            steps = self.budget.steps(SAMPLERS[self.scheme].kernel.steps(self.network))
            tree = run_sampler(self.scheme, self.network, data, key, steps=steps)
            result = summarise(tree, None)
        return {**result.row, **_more_figures(result)}

    def _sampler(self) -> dict:
        """Kernel, start and steps, so that a cell of other ones is not taken for this."""
        if self.scheme not in SAMPLERS:
            return {}
        sampler = SAMPLERS[self.scheme]
        kernel = describe_kernel(bind_kernel(sampler.kernel.default(self.network), self.network))
        steps = self.budget.steps(sampler.kernel.steps(self.network))
        return {"kernel": kernel, "start": sampler.start, **steps}


def _more_figures(result: SchemeResult) -> dict:
    """:data:`MORE_FIGURES`; None where one has no meaning."""
    summary, tree = order_parameters(result.tree), result.tree
    figures = {"train_mse": summary.train_mse.sel(estimate="mean").item()}
    if result.point is None:
        figures["test_mse_draw_se"] = summary.test_mse_draw.sel(estimate="se").item()
    if tree.attrs.get("start") == "both":
        difference = start_difference(tree["order_parameters"].order_parameter)
        figures |= zip(("start_difference", "start_difference_se"), difference, strict=True)
    return {name: json_number(figures.get(name)) for name in MORE_FIGURES}


@dataclass(frozen=True)
class Outcome:
    """A cell's figures, or why it has none."""

    cell: Cell
    figures: dict | None
    error: str | None = None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write a cell's file below `folder`, whole or not at all."""
    content = {
        "format": _FORMAT,
        "fingerprint": outcome.cell.fingerprint,
        "settings": {f.name: str(getattr(outcome.cell, f.name)) for f in fields(outcome.cell)},
        "figures": outcome.figures,
        "error": outcome.error,
    }
    write_json(_path(folder, outcome.cell), content)


def read_outcome(folder: Path, cell: Cell) -> Outcome | None:
    """What a sweep left of `cell` below `folder`, or None; ``ValueError`` for other files."""
    path = _path(folder, cell)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == _FORMAT and content["fingerprint"] == cell.fingerprint:
            return Outcome(cell, content["figures"], content["error"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"out: {str(path)!r} is not a cell of this sweep; delete it, or name another folder.")


def _path(folder: Path, cell: Cell) -> Path:
    return Path(folder) / "cells" / f"{cell.fingerprint}.json"

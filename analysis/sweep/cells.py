"""One cell of a sweep: what determines its answer, how it is computed, and the file that keeps it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import jax

from analysis.results.files import write_json
from analysis.results.order_parameters import group, order_parameters, start_difference
from analysis.schemes.compare import SchemeResult, compare, summarise
from analysis.schemes.registry import KEPT_DRAWS, SAMPLERS, SCHEMES, run_sampler
from inference.runs.binding import bind_kernel
from models import TwoLayerNetwork, checks

_FORMAT = "mfzoo sweep cell 1"
_PACKAGE = "mean-field-zoo"


@dataclass(frozen=True)
class Budget:
    """Steps of the samplers, SGLD, NUTS and Langevin; by default those of a comparison. They are fixed beforehand."""

    num_warmup: int | None = None
    """Steps of each chain thrown away, for the samplers; given together with num-samples."""
    num_samples: int | None = None
    """Steps of each chain after the warm-up, for the samplers; by default those of mfzoo compare."""
    thinning: int | None = None
    """Steps between kept draws, where num-samples is given; by default 250 draws of each chain are kept."""
    effort: float = 1.0
    """Factor on the samplers' default steps, which depend on κ alone; a chain keeps as many draws."""

    def check(self) -> None:
        """``ValueError`` for steps out of range, or for one number of steps without the other."""
        checks.positive("effort", self.effort)
        given = {n: v for n, v in vars(self).items() if v is not None and n != "effort"}
        if given and self.effort != 1:
            raise ValueError("effort is a factor on the default steps; leave it or num_samples out.")
        for name, value in given.items():
            checks.whole(name, value, 0 if name == "num_warmup" else 1)
        for name in given:
            for partner in ("num_warmup", "num_samples"):
                if partner not in given:
                    raise ValueError(
                        f"{name} needs {partner} as well; give both, or none for the default steps."
                    )

    def steps(self, scheme: str, network: TwoLayerNetwork) -> dict[str, int]:
        """What is passed to :func:`inference.sample`; empty for a scheme that is not a sampler.

        Examples
        --------
        >>> from models import TwoLayerNetwork
        >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
        >>> Budget(num_warmup=100, num_samples=1000).steps("nuts", network)
        {'num_warmup': 100, 'num_samples': 1000, 'thinning': 4}
        >>> Budget(effort=0.5).steps("sgld", network)
        {'num_warmup': 1120, 'num_samples': 17500, 'thinning': 70}
        >>> Budget(num_warmup=100, num_samples=1000).steps("nngp", network)
        {}
        """
        if scheme not in SAMPLERS:
            return {}
        if self.num_samples is not None:
            thinning = self.thinning or max(1, self.num_samples // KEPT_DRAWS)
            return {"num_warmup": self.num_warmup, "num_samples": self.num_samples, "thinning": thinning}
        default = SAMPLERS[scheme].steps(network)
        thinning = max(1, round(self.effort * default["thinning"]))
        return {
            "num_warmup": round(self.effort * default["num_warmup"]),
            "num_samples": default["num_samples"] // default["thinning"] * thinning,
            "thinning": thinning,
        }


class CellError(Exception):
    """A cell that failed, in one sentence. It travels between processes, which not every exception can do."""


@dataclass(frozen=True)
class Cell:
    """One scheme on one problem. Its answer depends on these fields alone.

    Attributes
    ----------
    network
        With the cell's κ and prior.
    teacher
        What the data are drawn from.
    num_data, num_test
        Sizes of the data.
    seed
        Of the data and of the scheme, as in ``mfzoo compare --seed``.
    scheme
        A name among :data:`analysis.schemes.registry.SCHEMES`.
    budget
        Steps of the samplers.
    version
        Of this package; a process that has another one refuses the cell.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=6, width=8, kappa=0.3), SparseParity(6, 2)
    >>> cell, other = (Cell(network, teacher, 30, 20, seed, "nngp") for seed in (0, 1))
    >>> cell.fingerprint == other.fingerprint, cell.run()["scheme"]
    (False, 'nngp')
    """

    network: TwoLayerNetwork
    teacher: object
    num_data: int
    num_test: int
    seed: int
    scheme: str
    budget: Budget = Budget()
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

    @property
    def settings(self) -> dict:
        """Everything that determines the answer, JSON-able."""
        return {
            "network": _spelled_out("network", self.network),
            "teacher": _spelled_out("teacher", self.teacher),
            "num_data": self.num_data,
            "num_test": self.num_test,
            "seed": self.seed,
            "scheme": self.scheme,
            "sampler": self._sampler(),
            "version": self.version,
        }

    @property
    def fingerprint(self) -> str:
        """Name of the cell's file: the same for the same settings, on every machine."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:20]

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
            # The key that a comparison gives the scheme, so that a budget changes nothing but the steps.
            key = jax.random.fold_in(key, list(SCHEMES).index(self.scheme))
            steps = self.budget.steps(self.scheme, self.network)
            tree = run_sampler(self.scheme, self.network, data, key, steps=steps)
            result = summarise(tree, None)
        return {**result.row, **_more_figures(result)}

    def _sampler(self) -> dict:
        """Kernel, start and steps, so that a cell of other ones is not taken for this."""
        if self.scheme not in SAMPLERS:
            return {}
        sampler = SAMPLERS[self.scheme]
        kernel = bind_kernel(sampler.kernel(self.network, self.num_data), self.network)
        described = kernel.settings() if hasattr(kernel, "settings") else {"kernel": type(kernel).__name__}
        return described | self.budget.steps(self.scheme, self.network) | {"start": sampler.start}


def _more_figures(result: SchemeResult) -> dict:
    """Figures of a sweep that a comparison's table does not have; None where they have no meaning."""
    summary, draws = order_parameters(result.tree), group(result.tree, "order_parameters")
    figures = {
        "train_mse": summary.train_mse.sel(estimate="mean").item(),
        "test_mse_draw_se": None,
        "start_difference": None,
        "start_difference_se": None,
    }
    if result.point is None:
        figures["test_mse_draw_se"] = summary.test_mse_draw.sel(estimate="se").item()
    if result.tree.attrs.get("start") == "both":
        difference, se = start_difference(draws.order_parameter)
        figures |= {"start_difference": difference, "start_difference_se": se}
    return {n: None if v is None or not math.isfinite(v) else v for n, v in figures.items()}


def attempt(cell: Cell) -> dict:
    """``cell.run()``, any failure as a :class:`CellError`; what worker processes are sent."""
    try:
        return cell.run()
    except Exception as error:
        raise CellError(sentence(error)) from None


def sentence(error: BaseException) -> str:
    """An exception in one line; the type's name too, but for errors whose message says enough."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, (ValueError, CellError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else f"{type(error).__name__}."


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
        "settings": outcome.cell.settings,
        "status": "failed" if outcome.figures is None else "done",
        "figures": outcome.figures,
        "error": outcome.error,
    }
    write_json(_path(folder, outcome.cell), content)


def read_outcome(folder: Path, cell: Cell) -> Outcome | None:
    """What an earlier sweep left of `cell` below `folder`, or None.

    Raises
    ------
    ValueError
        For a file of that name which no sweep has written.
    """
    path = _path(folder, cell)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == _FORMAT and content["settings"] == cell.settings:
            return Outcome(cell, content["figures"], content["error"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"out: {str(path)!r} is not a cell of this sweep; delete it, or name another folder.")


def _path(folder: Path, cell: Cell) -> Path:
    return Path(folder) / "cells" / f"{cell.fingerprint}.json"


def _spelled_out(name: str, value) -> str:
    text = repr(value)
    if re.search(r" at 0x[0-9a-f]+", text):
        # An address in memory differs from run to run, so that no cell would ever be found again.
        raise ValueError(
            f"{name} must have a repr that states its settings, got {text}; make it (or its prior) a dataclass."
        )
    return text

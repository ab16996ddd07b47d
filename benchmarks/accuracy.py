"""How accurate the population theories are: each against an independent oracle, its own error
estimate, its time.

    python benchmarks/accuracy.py [--oracle] [--only PATTERN]

``--oracle`` computes what is missing of data/accuracy_oracles.csv (tests/oracles.py; 20 minutes of
one core for all); without it every theory is solved whose row data/accuracy.csv lacks, each in a
process of its own and hence without remembered node sets, and the summary is printed. Delete
accuracy.csv, or its rows of interest, after a change of the theories.
"""

import multiprocessing
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from rows import done, keep

from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD
from models import ARD, SingleIndex, SparseParity, TwoLayerNetwork

_DATA = Path(__file__).parent / "data"
_ORACLES, _TABLE = _DATA / "accuracy_oracles.csv", _DATA / "accuracy.csv"
_FLOOR = 2e-6
_GOAL_M, _GOAL_SHARE, _GOAL_SECONDS, _LIMIT_SECONDS = 1e-3, 0.95, 20.0, 300
_THEORIES = {
    "nngp": NNGP,
    "mf": MeanField,
    "mf-ard": MeanFieldARD,
    "ak": AdaptiveKernel,
    "ak-ard": AdaptiveKernel,
}


@dataclass(frozen=True)
class Case:
    """A theory on a problem.

    Parameters
    ----------
    theory
        nngp, mf, mf-ard, ak or ak-ard.
    d, k, width, kappa
        Inputs, relevant inputs, N and κ.
    p
        Hermite degree of a single index; 0 for parity of degree k.
    activation, bias, shape, num_data, start
        φ, σ_b (0: none), α0 of ARD, P (0: ∞), and the start.
    """

    theory: str
    d: int
    k: int
    width: int
    kappa: float
    activation: str = "relu"
    bias: float = 0.0
    p: int = 0
    num_data: int = 0
    start: str = "prior"
    shape: float = 4.0

    @property
    def problem(self) -> str:
        """All that is not the theory, in words."""
        teacher = f"single index k={self.k} p={self.p}" if self.p else f"parity k={self.k}"
        bias = f" σ_b={self.bias:g}" if self.bias else ""
        prior = f" α0={self.shape:g}" if self.theory.endswith("ard") else ""
        data = f" P={self.num_data}" if self.num_data else ""
        size = f"d={self.d} N={self.width} κ={self.kappa:g}"
        return f"{teacher} {size} {self.activation}{bias}{prior}{data} {self.start}"

    @property
    def cell(self) -> dict:
        """The columns that name a row."""
        return {"theory": self.theory, "problem": self.problem}

    @property
    def arguments(self) -> tuple:
        """Network, teacher and P."""
        prior = {"prior": ARD(shape=self.shape)} if self.theory.endswith("ard") else {}
        bias = {"bias": True, "bias_scale": self.bias} if self.bias else {}
        network = TwoLayerNetwork(self.d, self.width, self.kappa, activation=self.activation, **bias, **prior)
        teacher = SingleIndex(self.d, self.k, self.p) if self.p else SparseParity(self.d, self.k)
        return network, teacher, self.num_data or None

    def truth(self):
        """The oracle's answer."""
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        import oracles

        theories = {
            "nngp": oracles.NNGPOracle,
            "mf": oracles.MeanFieldOracle,
            "ak": oracles.AdaptiveKernelOracle,
        }
        # A weak coupling of the precisions to the weights amplifies the averages' errors, and
        # neurons with biases align in several ways: more nodes; with few variables they cost
        # little.
        size = 13 if self.theory.endswith("ard") or self.bias else 12 if self.k <= 2 else 11
        theory = theories[self.theory.removesuffix("-ard")](*self.arguments)
        # Nodes of its own for every case, or all cases would err alike.
        return oracles.answer(theory, self.start, size, seed=zlib.crc32(self.problem.encode()))

    def solve(self) -> dict:
        """The theory's answer: m, its error, CPU seconds, or why there is none."""
        network, teacher, num_data = self.arguments
        theory = _THEORIES[self.theory]()
        options = {} if self.theory == "nngp" else {"start": self.start}
        began = time.process_time()  # of this process, so that other load does not count
        try:
            point = theory.solve(network, teacher, num_data=num_data, **options)
        except ValueError as reason:
            return {"reason": str(reason)}
        seconds = time.process_time() - began
        reason = "" if point.converged else "not converged"
        return {"m": point.order_parameter, "error": point.error, "seconds": seconds, "reason": reason}


def _starts(*arguments, **settings) -> list[Case]:
    return [Case(*arguments, **settings, start=start) for start in ("prior", "aligned")]


CASES = [
    # Mean field, ReLU parity without biases: far above, in and below the transition; odd degrees.
    *(Case("mf", 35, 4, 512, kappa) for kappa in (0.03, 0.0125, 0.01, 0.005)),
    Case("mf", 35, 2, 512, 0.0345), Case("mf", 140, 2, 512, 0.0178), Case("mf", 140, 4, 26000, 0.002),
    Case("mf", 70, 4, 8192, 0.003), Case("mf", 12, 6, 256, 0.003), Case("mf", 20, 6, 1024, 0.001),
    Case("mf", 6, 1, 16, 0.3), Case("mf", 8, 3, 64, 0.05), Case("mf", 10, 5, 64, 0.02),
    # With biases.
    Case("mf", 12, 4, 64, 0.02, bias=0.003), Case("mf", 12, 4, 64, 0.02, bias=1.0),
    Case("mf", 12, 4, 64, 0.01, bias=0.1),
    Case("mf", 10, 3, 64, 0.03, bias=1.0), Case("mf", 10, 3, 64, 0.03, bias=0.05),
    Case("mf", 8, 2, 32, 0.1, bias=0.5),
    Case("mf", 8, 1, 16, 0.3, bias=1.0), Case("mf", 12, 5, 64, 0.01, bias=1.0),
    Case("mf", 12, 6, 64, 0.008, bias=1.0),
    # Other activations.
    Case("mf", 8, 1, 32, 0.2, "erf"), Case("mf", 8, 3, 64, 0.03, "erf"), Case("mf", 8, 5, 64, 0.01, "erf"),
    Case("mf", 8, 2, 32, 0.06, "erf", 1.0), Case("mf", 12, 4, 64, 0.02, "erf", 0.5),
    Case("mf", 8, 2, 32, 0.06, "erf"),
    Case("mf", 8, 1, 32, 0.2, "tanh"), Case("mf", 8, 3, 64, 0.03, "tanh"),
    Case("mf", 8, 2, 32, 0.06, "tanh", 0.5),
    Case("mf", 10, 4, 128, 0.01, "tanh", 1.0), Case("mf", 8, 1, 32, 0.3, "identity"),
    Case("mf", 8, 1, 32, 0.2, "identity", 1.0), Case("mf", 8, 2, 32, 0.06, "identity", 1.0),
    # Single index.
    Case("mf", 6, 2, 64, 0.1, p=2), Case("mf", 18, 2, 1024, 0.02, bias=1.0, p=4),
    Case("mf", 10, 1, 32, 0.2, "erf", p=1),
    Case("mf", 10, 3, 64, 0.04, "tanh", 1.0, p=3), Case("mf", 12, 2, 64, 0.04, bias=1.0, p=3),
    Case("mf", 8, 2, 32, 0.1, "identity", p=2),
    # ARD.
    Case("mf-ard", 35, 4, 512, 0.005), *_starts("mf-ard", 35, 4, 512, 0.02),
    *_starts("mf-ard", 35, 2, 512, 0.09),
    Case("mf-ard", 16, 2, 64, 0.1), Case("mf-ard", 140, 2, 512, 0.09, start="aligned"),
    Case("mf-ard", 10, 3, 64, 0.04, "erf", start="aligned"),
    Case("mf-ard", 8, 2, 32, 0.06, "tanh", 0.5, start="aligned"),
    Case("mf-ard", 10, 2, 64, 0.1, bias=1.0, start="aligned"),
    Case("mf-ard", 10, 4, 64, 0.02, bias=0.3, start="aligned"),
    Case("mf-ard", 10, 2, 64, 0.2, p=2, start="aligned"),
    # Adaptive kernel.
    *(Case("ak", 35, 4, 512, 0.005, num_data=size) for size in (0, 1000, 10000)),
    *(Case("ak", 16, 2, 64, kappa, num_data=300) for kappa in (0.1, 0.07, 0.05)),
    Case("ak", 12, 6, 256, 0.003),
    Case("ak", 70, 4, 8192, 0.002, num_data=20000), Case("ak", 6, 1, 16, 0.3, num_data=40),
    Case("ak", 10, 3, 64, 0.03, bias=1.0, num_data=500), Case("ak", 12, 4, 64, 0.02, bias=0.003),
    Case("ak", 8, 3, 64, 0.03, "erf", num_data=200), Case("ak", 8, 2, 32, 0.06, "tanh", 0.5, num_data=100),
    Case("ak", 8, 1, 32, 0.2, "identity", num_data=50), Case("ak", 10, 2, 64, 0.2, p=2, num_data=200),
    Case("ak", 8, 2, 64, 0.1, "erf", 1.0, p=3),
    *_starts("ak-ard", 16, 2, 64, 0.12, num_data=300), Case("ak-ard", 16, 2, 64, 0.05, num_data=300),
    # No feature learning.
    Case("nngp", 16, 2, 64, 0.05, num_data=300), Case("nngp", 35, 4, 512, 0.005, num_data=10000),
    Case("nngp", 8, 3, 64, 0.03, "erf"), Case("nngp", 8, 2, 32, 0.06, "tanh", 0.5, num_data=100),
    Case("nngp", 6, 2, 64, 0.1, p=2, num_data=120), Case("nngp", 8, 2, 64, 0.1, "erf", 1.0, p=3),
    # The paper's, the slowest for the oracle.
    Case("mf-ard", 18, 2, 1024, 0.1, bias=1.0, p=4, shape=0.1, start="aligned"),
]  # fmt: skip


def _in_a_fork(case: Case) -> dict:
    """The theory's answer from a process that has solved nothing before, and need not import
    anything either."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(case.solve()))
    child.start()
    child.join(_LIMIT_SECONDS)
    if child.is_alive():
        child.kill()
        return {"reason": f"not solved in {_LIMIT_SECONDS} s"}
    return queue.get() if child.exitcode == 0 else {"reason": f"the process ended with {child.exitcode}"}


@dataclass(frozen=True)
class Accuracy:
    """Judge the theories."""

    oracle: bool = False
    """Compute the missing oracles instead."""
    only: str = ""
    """Only cases whose theory and problem contain this."""

    def run(self) -> None:
        """Fill the tables and print the summary."""
        for case in [case for case in CASES if self.only in f"{case.theory} {case.problem}"]:
            if self.oracle and not done(case.cell, _ORACLES):
                keep(self._oracle(case), _ORACLES)
            elif not self.oracle and done(case.cell, _ORACLES) and not done(case.cell, _TABLE):
                keep(self._judge(case), _TABLE)
        if _TABLE.is_file():
            summarise(pd.read_csv(_TABLE))

    def _oracle(self, case: Case) -> dict:
        began = time.process_time()
        try:
            found = case.truth()
        except (RuntimeError, ArithmeticError, np.linalg.LinAlgError) as reason:
            return case.cell | {"reason": str(reason), "oracle seconds": time.process_time() - began}
        return case.cell | {
            "oracle m": found.order_parameter, "se": found.error, "reason": "",
            "nodes": found.effective_sample_size, "signal nodes": found.effective_signal,
            "branches": " ".join(f"{m:.4f}{'' if stable else 'u'}" for m, stable in found.branches),
            "oracle seconds": time.process_time() - began,
        }  # fmt: skip

    def _judge(self, case: Case) -> dict:
        table = pd.read_csv(_ORACLES)
        truth = table[(table.theory == case.theory) & (table.problem == case.problem)].iloc[0]
        found = _in_a_fork(case)
        m, error = found.get("m", np.nan), found.get("error", np.nan)
        # All randomisations share the mixture: what it represents badly is not in their scatter.
        gap, combined = abs(m - truth["oracle m"]), np.hypot(error, max(truth["se"], _FLOOR))
        return case.cell | {
            "m": m, "error": error, "oracle m": truth["oracle m"], "se": truth["se"], "in errors": gap / combined,
            "|Δm|": gap, "seconds": found.get("seconds", np.nan), "reason": found["reason"],
        }  # fmt: skip


def summarise(table: pd.DataFrame) -> None:
    """Print how many cases are inside their errors, the largest |Δm| and the slowest, with the
    goals."""
    judged = table.dropna(subset=["|Δm|"])
    if judged.empty:
        return
    inside = (judged["in errors"] <= 3).mean()
    worst, slowest = judged.loc[judged["|Δm|"].idxmax()], judged.loc[judged["seconds"].idxmax()]
    print(f"{len(table)} cases, {len(judged)} judged, {len(table) - len(judged)} not solved")
    print(f"inside three errors: {inside:.1%} (goal {_GOAL_SHARE:.0%})")
    print(f"largest |Δm|: {worst['|Δm|']:.2g} (goal {_GOAL_M:g}), {worst.theory} on {worst.problem}")
    print(
        f"slowest: {slowest.seconds:.1f} s (goal {_GOAL_SECONDS:g} s), {slowest.theory} on {slowest.problem}"
    )
    bad = judged[(judged["in errors"] > 3) | (judged["|Δm|"] > _GOAL_M) | (judged.seconds > _GOAL_SECONDS)]
    if not bad.empty:
        print(bad.to_string(index=False))


if __name__ == "__main__":
    tyro.cli(Accuracy).run()

"""How fast the theories are, against the same equations solved the straightforward way in NumPy.

    python benchmarks/theories.py [--data]

Prints the adaptive kernel over 12 P by 20 κ at d = 35, k = 4, N = 512, first call with everything
included, per cell and against :mod:`straightforward` at equal or better accuracy; one point of MF
and MF-ARD, first and later calls, over d and N; with ``--data`` also the adaptive kernel on 1000
training points.
"""

import os
import platform
import sys
import time
from dataclasses import dataclass, replace

import jax
import numpy as np
import pandas as pd
import tyro
from straightforward import Nodes, solve

from analysis.cli.output import show_table
from analysis.theory.phase_diagram import phase_diagram
from inference.fixed_points import AdaptiveKernel, MeanField, MeanFieldARD
from models import ARD, SparseParity, TwoLayerNetwork

_KAPPAS = np.geomspace(0.0005, 0.1, 20)
_SIZES = np.round(np.geomspace(100, 20_000, 12)).astype(int)
_CELLS = ((0.0017, 20_000), (0.0063, 4715), (0.0141, 1799))  # (κ, P) where features are learned
_SEEDS = 4


@dataclass(frozen=True)
class Benchmark:
    """Time the theories."""

    data: bool = False
    """Also solve the adaptive kernel on a data set of 1000 points (a minute)."""
    nodes: int = 2**18
    """Nodes of the straightforward version."""

    def run(self) -> None:
        """Print what ran, and the tables."""
        machine = platform.processor() or platform.machine()
        print(f"{machine}, {os.cpu_count()} cores, Python {platform.python_version()}")
        show_table(
            pd.DataFrame(self.grid(), dtype=object), "adaptive kernel, 12 P by 20 κ, d = 35, k = 4, N = 512"
        )
        show_table(pd.DataFrame(self.points(), dtype=object), "one point at k = 4 (seconds)")
        if self.data:
            show_table(
                pd.DataFrame([self.on_data()], dtype=object),
                "adaptive kernel on data, P = 1000, d = 35, N = 512",
            )

    def grid(self) -> list[dict]:
        """Ours over the whole grid, the straightforward version on three of its cells."""
        network, teacher = TwoLayerNetwork(35, 512, 1.0), SparseParity(35, 4)
        began = time.perf_counter()
        grid = phase_diagram(network, teacher, _KAPPAS, _SIZES, ["adaptive-kernel"])
        ours = time.perf_counter() - began
        # The truth for both: the fully resolved solution, cell by cell.
        truth = [
            AdaptiveKernel().solve(replace(network, kappa=k), teacher, num_data=p).order_parameter
            for k, p in _CELLS
        ]
        cells = phase_diagram(
            network, teacher, [k for k, _ in _CELLS], [p for _, p in _CELLS], ["adaptive-kernel"]
        )
        found = np.diagonal(cells.order_parameter.values[0])
        seconds, values = [], []
        for seed in range(_SEEDS):
            nodes = Nodes.draw(35, 4, self.nodes, seed=seed)
            began = time.perf_counter()
            values.append([solve(nodes, 35, 4, 512, kappa, size)[0] for kappa, size in _CELLS])
            seconds.append((time.perf_counter() - began) / len(_CELLS))
        peer = float(np.mean(seconds))
        error = float(np.sqrt(np.mean((np.array(values) - truth) ** 2, axis=0)).max())
        return [
            {"version": "phase_diagram", "seconds": ours, "cells": 240, "s per cell": ours / 240,
             "error of m": float(np.abs(found - truth).max()), "largest estimate": float(grid.error.max()),
             "ratio": 1.0},
            {"version": f"straightforward, {self.nodes} nodes", "seconds": peer * 3, "cells": 3, "s per cell": peer,
             "error of m": error, "largest estimate": None, "ratio": peer / (ours / 240)},
        ]  # fmt: skip

    def points(self) -> list[dict]:
        """MF and MF-ARD: the first call makes the node sets, later ones share them."""
        rows = []
        for d, width in ((35, 512), (35, 8192), (140, 512)):
            row = {"d": d, "N": width}
            for name, theory, prior in (("MF", MeanField(), None), ("MF-ARD", MeanFieldARD(), ARD())):
                network = TwoLayerNetwork(d, width, 0.01, **({} if prior is None else {"prior": prior}))
                for call, kappa in (("first", 0.01), ("later", 0.008)):
                    began = time.perf_counter()
                    theory.solve(replace(network, kappa=kappa), SparseParity(d, 4))
                    row[f"{name}, {call}"] = time.perf_counter() - began
            rows.append(row)
        return rows

    def on_data(self) -> dict:
        """One solution on a data set."""
        data = SparseParity(35, 4).sample(jax.random.key(0), 1000, 1000)
        began, cpu = time.perf_counter(), time.process_time()
        point = AdaptiveKernel().solve(TwoLayerNetwork(35, 512, 0.005), data)
        return {
            "seconds": time.perf_counter() - began,
            "CPU seconds": time.process_time() - cpu,
            "m": point.order_parameter,
            "error": point.error,
            "converged": point.converged,
        }


if __name__ == "__main__":
    sys.exit(tyro.cli(Benchmark).run())

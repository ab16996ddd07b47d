"""Steps per second of full-batch SGLD: ours, BlackJAX's, a plain PyTorch loop, and what matrix
products allow.

    python benchmarks/langevin_steps.py [--num-data 1000 5000] [--chains 1 4] [--torch-python
    PYTHON] [--json]

The paper's network (d = 35, k = 4, N = 512, float32). Every measurement is a process of its own, so
that compile time and peak memory are its own; the peers take turns, round after round, and each
figure is the median over the rounds. "two matrix products" is W xᵀ and the transposed product of
the gradient, and nothing else: 100 % of the bound. BlackJAX runs once with the log density as one
writes it, activations laid out (data, neuron), and once with ours.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from analysis.cli.output import show_table

HERE = Path(__file__).parent
PEERS = ("ours", "blackjax", "blackjax, our layout", "two matrix products")


@dataclass(frozen=True)
class Benchmark:
    """Time one Langevin step."""

    num_data: tuple[int, ...] = (1000, 5000)
    """P."""
    chains: tuple[int, ...] = (1, 4)
    """Chains side by side; rates count the steps of all."""
    seconds: float = 4.0
    """Aim for one measurement."""
    rounds: int = 3
    """Turns of every peer."""
    torch_python: str = ""
    """An interpreter that has PyTorch; without one that peer is left out."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        """Print what ran, and the tables."""
        about = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        out = [row for size in self.num_data for count in self.chains for row in self.table(size, count)]
        if self.json:
            print(json.dumps({"machine": about, "rows": out}, indent=1))
            return
        print(about)
        show_table(pd.DataFrame(out, dtype=object), "one full-batch SGLD step, d = 35, N = 512")

    def table(self, num_data: int, chains: int) -> list[dict]:
        """One row a peer."""
        peers = [*PEERS, *(["torch"] if self.torch_python else [])]
        found = {peer: [] for peer in peers}
        # About 2 ns a multiply-add on one old core: only the length of a measurement depends on it.
        steps = max(20, int(self.seconds / (num_data * chains * 1.5e-6)))
        for _ in range(self.rounds):
            for peer in peers:
                found[peer].append(self.measure(peer, num_data, chains, steps))
        rate = {peer: statistics.median(run["rate"] for run in runs) for peer, runs in found.items()}
        return [
            {
                "P": num_data,
                "chains": chains,
                "peer": peer if peer in ("ours", "two matrix products") else f"{peer} ({runs[0]['version']})",
                "steps/s": rate[peer],
                "ours / peer": rate["ours"] / rate[peer],
                "of the bound": rate[peer] / rate["two matrix products"],
                "first call (s)": statistics.median(run["compile_s"] for run in runs),
                "peak memory (MB)": statistics.median(run["peak_mb"] for run in runs),
                "device": runs[0]["device"],
            }
            for peer, runs in found.items()
        ]

    def measure(self, peer: str, num_data: int, chains: int, steps: int) -> dict:
        """One process."""
        program = (
            [self.torch_python, "langevin_torch.py"]
            if peer == "torch"
            else [sys.executable, "langevin_jax.py"]
        )
        command = [program[0], str(HERE / program[1]), *([] if peer == "torch" else [peer])]
        command += map(str, (num_data, chains, steps))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{peer} failed:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    tyro.cli(Benchmark).run()

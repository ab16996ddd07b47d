"""The plain PyTorch loop of :mod:`langevin_steps`; needs only torch and numpy.

    python benchmarks/langevin_torch.py NUM_DATA CHAINS STEPS

Prints one JSON object. The update is that of Langevin training as a user writes it: autograd, full
batch, in place.
"""

import json
import resource
import sys
import time

import numpy as np
import torch
from langevin_problem import DEGREE, INPUT_DIM, KAPPA, STEP_SIZE, WIDTH


def main(num_data: int, chains: int, steps: int) -> dict:
    """Steps per second of all chains together, one after another where there are several."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], (num_data, INPUT_DIM)).astype(np.float32)
    y = torch.tensor(x[:, :DEGREE].prod(axis=1), device=device)
    x = torch.tensor(x, device=device)
    torch.manual_seed(1)
    w = (torch.randn(chains, WIDTH, INPUT_DIM, device=device) * INPUT_DIM**-0.5).requires_grad_()
    a = torch.randn(chains, WIDTH, device=device, requires_grad=True)

    def energy():
        # Hidden activations (chain, neuron, data): the faster of the two layouts here, too.
        hidden = torch.relu(torch.matmul(w, x.T))
        f = torch.einsum("cn,cnp->cp", a, hidden) * WIDTH**-0.5
        prior = 0.5 * INPUT_DIM * (w**2).sum() + 0.5 * (a**2).sum()
        return ((f - y) ** 2).sum() / (2 * KAPPA**2 * num_data) + prior

    def run(count):
        for _ in range(count):
            grads = torch.autograd.grad(energy(), (w, a))
            with torch.no_grad():
                for value, grad in zip((w, a), grads, strict=True):
                    value.add_(grad, alpha=-STEP_SIZE)
                    value.add_(torch.randn_like(value), alpha=(2 * STEP_SIZE) ** 0.5)
        if device == "cuda":
            torch.cuda.synchronize()

    began = time.perf_counter()
    run(3)
    first = time.perf_counter() - began
    began = time.perf_counter()
    run(steps)
    seconds = time.perf_counter() - began
    if not bool(torch.isfinite(w).all()):
        raise ValueError("the PyTorch loop diverged")
    return {
        "version": f"torch {torch.__version__}",
        "device": device,
        "rate": steps * chains / seconds,
        "compile_s": first,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:4]))))

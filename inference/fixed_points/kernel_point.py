"""A solved adaptive-kernel theory: its figures with errors, and networks given a dataset."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import numpy as np

from inference.fixed_points.directions import DirectionNodes
from inference.fixed_points.draws import NeuronSampler
from inference.fixed_points.kernel_density import radial_law, radial_moments
from inference.fixed_points.kernel_equations import KernelEquations
from inference.fixed_points.kernel_modes import ModeNodes
from inference.fixed_points.nngp import ReadoutSampler
from inference.fixed_points.parity import readout_data
from inference.fixed_points.point import Branch, FixedPoint
from inference.fixed_points.radial import Radial
from models import Dataset, TwoLayerNetwork, checks


@dataclass(frozen=True, kw_only=True)
class KernelBranch(Branch):
    """A solution of the adaptive-kernel theory.

    Parameters
    ----------
    effective_ridge
        κ̃; κ² at P = ∞.
    amplification
        E0 = P/(P - Σ mult (λ/(λ+κ̃))²); 1 at P = ∞.
    """

    effective_ridge: float
    amplification: float

    def to_dict(self) -> dict:
        """As :meth:`Branch.to_dict`, with ``effective_ridge`` and ``amplification``."""
        extra = {"effective_ridge": self.effective_ridge, "amplification": self.amplification}
        return super().to_dict() | extra


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaptiveKernelPoint(FixedPoint):
    """The adaptive kernel at a fixed point.

    Parameters
    ----------
    num_data
        P, or None for the population.
    effective_ridge, amplification
        As in :class:`KernelBranch`.
    test_mse_error
        Standard error of `test_mse`.
    folds
        κ at which the branches found merge, in order along their curve.
    eigenvalues
        λ_ij of the learned kernel by (i, j), Walsh degree in S and Hermite degree in the rest.
    """

    num_data: int | None
    effective_ridge: float
    amplification: float
    test_mse_error: float
    folds: tuple[float, ...]
    eigenvalues: dict[tuple[int, int], float] = field(repr=False)

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with the ridge, E0, P, the error of `test_mse` and the folds."""
        return super().to_dict() | {
            "num_data": self.num_data,
            "effective_ridge": self.effective_ridge,
            "amplification": self.amplification,
            "test_mse_error": self.test_mse_error,
            "folds": list(self.folds),
        }

    def sample_networks(
        self, key: jax.Array, num_draws: int, data: Dataset | None = None
    ) -> dict[str, np.ndarray]:
        """Networks of N independent neurons from p(w), and readouts from their exact posterior on `data`.

        Parameters
        ----------
        key
            A ``jax.random.key``.
        num_draws
            Number of networks, at least 1.
        data
            Training points, with the teacher's relevant inputs. The theory gives the hidden weights; readouts
            depend on the data. Of independent neurons the number that align fluctuates, which lowers m on average
            (it is concave in the kernel): the draws' m lies below `order_parameter`, the more so at small width.

        Returns
        -------
        dict
            float32 arrays: w (num_draws, N, d), a (num_draws, N) and, with ARD, rho (num_draws, d).

        Raises
        ------
        ValueError
            Without a dataset, or with one of another teacher.
        """
        checks.whole("num_draws", num_draws, 1)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        networks = self.sampler.on_dataset(rng, num_draws, readout_data(data, "adaptive-kernel"))
        return {name: np.asarray(value, dtype=np.float32) for name, value in networks.items()}


@dataclass
class KernelNeuronSampler(NeuronSampler):
    """As :class:`NeuronSampler`, for the adaptive kernel's density.

    Parameters
    ----------
    network, equations
        What was solved; `solution` is a :class:`KernelSolution`.
    """

    network: TwoLayerNetwork | None = None
    equations: KernelEquations | None = None

    def on_dataset(self, rng: np.random.Generator, num_draws: int, data: Dataset) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N) and, with ARD, rho (num_draws, d)."""
        if data.input_dim != self.problem.input_dim:
            raise ValueError(
                f"data must have input_dim={self.problem.input_dim} columns to match the network, got "
                f"{data.input_dim}."
            )
        if data.relevant is None or set(map(int, data.relevant)) != set(self.problem.relevant):
            raise ValueError(
                f"data must have the teacher's relevant inputs {sorted(self.problem.relevant)}, got {data.relevant}."
            )
        networks = self(rng, num_draws)
        readouts, biases = ReadoutSampler(self.network, data), np.zeros(self.problem.width)
        networks["a"] = np.stack([readouts.readout(rng, w, biases) for w in networks["w"]])
        return networks

    def _readouts(self, rng: np.random.Generator, weights: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.zeros(len(v))  # drawn together, given all weights and the data

    def _log_weight(self, nodes: DirectionNodes) -> np.ndarray:
        return radial_moments(*self._arguments(), ModeNodes.build(nodes, self.equations.modes))[0]

    def _radial_law(self, nodes: DirectionNodes, part: slice) -> Radial:
        nodes = ModeNodes.build(nodes.take(part), self.equations.modes)
        return radial_law(*self._arguments(), nodes, slice(None))

    def _arguments(self):
        equations = self.equations
        return equations.coupling, equations.problem.input_dim, equations.state(self.solution.theta)

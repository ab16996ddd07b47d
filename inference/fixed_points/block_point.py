"""A sampled block theory: its figures with Monte-Carlo errors, its draws as a DataTree, and networks."""

from __future__ import annotations

from dataclasses import dataclass, field

import arviz_base
import jax
import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from inference.fixed_points.block_chains import BlockDraws
from inference.fixed_points.nngp import ReadoutSampler
from inference.fixed_points.parity import readout_data
from inference.fixed_points.point import Branch, FixedPoint, Precisions
from models import ARD, Dataset, SparseParity, TwoLayerNetwork, checks

_SITES = ("w_relevant", "rest_norm", "rho_relevant", "rho_rest")


@dataclass(frozen=True, kw_only=True)
class BlockBranch(Branch):
    """What the chains from one start, or from both, settle on.

    Parameters
    ----------
    num_aligned
        Mean number of neurons with more than half of |w_i|² on S.
    test_mse_error
        Monte-Carlo standard error of `test_mse`.
    r_hat
        Rank-normalised R-hat of m over the chains.
    effective_ridge
        κ̃.
    """

    num_aligned: float
    test_mse_error: float
    r_hat: float
    effective_ridge: float

    def to_dict(self) -> dict:
        """As :meth:`Branch.to_dict`, with the further figures."""
        names = ("num_aligned", "test_mse_error", "r_hat", "effective_ridge")
        return super().to_dict() | {name: _finite(getattr(self, name)) for name in names}


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockAdaptiveKernelPoint(FixedPoint):
    """The block theory's averages over its draws.

    `error` and `test_mse_error` are Monte-Carlo standard errors, from effective sample sizes; `residual` is the
    change of the background that the draws call for, and `iterations` counts gradients of the density.

    Parameters
    ----------
    num_data
        P, or None for the population.
    effective_ridge, noise
        κ̃ and ε.
    eigenvalues
        λ_ij with j ≥ 1 by (i, j), Walsh degree in S and Hermite degree in the rest.
    num_aligned, test_mse_error, r_hat
        As in :class:`BlockBranch`.
    moment_relevant, moment_rest
        E[w_j²] on S and off S.
    tree
        The draws: ``posterior`` with w_relevant (chain, draw, neuron, relevant_input), rest_norm (chain, draw,
        neuron) and, with ARD, rho_relevant and rho_rest; ``sample_stats``; ``order_parameters`` of every draw.
    """

    num_data: int | None
    effective_ridge: float
    noise: float
    eigenvalues: dict[tuple[int, int], float] = field(repr=False)
    num_aligned: float
    test_mse_error: float
    r_hat: float
    moment_relevant: float
    moment_rest: float
    tree: xr.DataTree = field(repr=False)

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with the further figures; without the draws."""
        names = (
            "effective_ridge",
            "num_aligned",
            "test_mse_error",
            "r_hat",
            "moment_relevant",
            "moment_rest",
        )
        figures = {name: _finite(getattr(self, name)) for name in names}
        return super().to_dict() | {"num_data": self.num_data} | figures

    def sample_networks(
        self, key: jax.Array, num_draws: int, data: Dataset | None = None
    ) -> dict[str, np.ndarray]:
        """Networks whose reduced variables are draws of the chains, with readouts from their posterior on `data`.

        Parameters
        ----------
        key
            A ``jax.random.key``.
        num_draws
            Number of networks; above the number of draws they repeat, with new directions and readouts.
        data
            Training points, with the teacher's relevant inputs.

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
        networks = self.sampler(rng, num_draws, readout_data(data, "block-adaptive-kernel"))
        return {name: np.asarray(value, dtype=np.float32) for name, value in networks.items()}


@dataclass(frozen=True)
class BlockNetworkSampler:
    """Full networks from reduced draws.

    The direction of w_rest is that of a prior neuron given the precisions: uniform under the isotropic prior.

    Parameters
    ----------
    network, teacher
        What was solved.
    sites
        Draws, each (draw, ...).
    """

    network: TwoLayerNetwork
    teacher: SparseParity
    sites: dict[str, np.ndarray]

    def __call__(self, rng: np.random.Generator, num_draws: int, data: Dataset) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N) and, with ARD, rho (num_draws, d)."""
        d, width = self.network.input_dim, self.network.width
        if data.input_dim != d:
            raise ValueError(
                f"data must have input_dim={d} columns to match the network, got {data.input_dim}."
            )
        if data.relevant is None or set(map(int, data.relevant)) != set(self.teacher.relevant):
            raise ValueError(
                f"data must have the teacher's relevant inputs {sorted(self.teacher.relevant)}, got {data.relevant}."
            )
        available = len(self.sites["rest_norm"])
        order = np.concatenate([rng.permutation(available) for _ in range(-(-num_draws // available))])
        sites = {name: value[order[:num_draws]] for name, value in self.sites.items()}
        inside = list(self.teacher.relevant)
        outside = np.setdiff1d(np.arange(d), inside)
        networks = {}
        rest = rng.standard_normal((num_draws, width, len(outside)))
        if "rho_rest" in sites:
            rest /= np.sqrt(sites["rho_rest"])[:, None]
            networks["rho"] = np.empty((num_draws, d))
            networks["rho"][:, inside] = sites["rho_relevant"]
            networks["rho"][:, outside] = sites["rho_rest"]
        rest *= (sites["rest_norm"] / np.linalg.norm(rest, axis=-1))[..., None]
        w = np.empty((num_draws, width, d))
        w[..., inside], w[..., outside] = sites["w_relevant"], rest
        readouts, biases = ReadoutSampler(self.network, data), np.zeros(width)
        return networks | {"w": w, "a": np.stack([readouts.readout(rng, row, biases) for row in w])}


@dataclass(frozen=True)
class BlockSummary:
    """Averages and errors of the chains from one or more starts.

    Parameters
    ----------
    runs
        Draws by start.
    network
        What was sampled.
    """

    runs: dict[str, BlockDraws]
    network: TwoLayerNetwork

    def pooled(self, values) -> np.ndarray:
        """`values`(run) of all runs, chains leading."""
        return np.concatenate([values(run) for run in self.runs.values()])

    def mean_and_error(self, values) -> tuple[float, float]:
        """Mean and Monte-Carlo standard error of a figure of every draw."""
        array = self.pooled(values)
        size = float(array_stats.ess(array, method="mean"))
        return float(array.mean()), float(array.std(ddof=1) / np.sqrt(size))

    def order_parameter(self) -> tuple[float, float]:
        """m and its error."""
        return self.mean_and_error(lambda run: run.figures.block.order_parameter)

    def test_mse(self) -> tuple[float, float]:
        """Test error of a draw and its error."""
        return self.mean_and_error(lambda run: run.averages.draw_mse)

    def r_hat(self) -> float:
        """R-hat of m."""
        return float(array_stats.rhat(self.pooled(lambda run: run.figures.block.order_parameter)))

    def effective_sample_size(self) -> float:
        """Bulk ESS of m."""
        return float(
            array_stats.ess(self.pooled(lambda run: run.figures.block.order_parameter), method="bulk")
        )

    def average(self, values) -> float:
        """Mean over the runs of a figure of each."""
        return float(np.mean([values(run) for run in self.runs.values()]))

    def residual(self) -> float:
        """The largest residual of a run."""
        return max(run.averages.residual for run in self.runs.values())

    def precisions(self) -> Precisions:
        """Posterior means."""
        if not isinstance(self.network.prior, ARD):
            precision = self.network.prior.precision(self.network.input_dim)
            return Precisions(precision, precision)
        return Precisions(
            *(float(self.pooled(lambda r, n=n: r.sites[n]).mean()) for n in ("rho_relevant", "rho_rest"))
        )

    def branch(self) -> BlockBranch:
        """As a branch."""
        (m, error), (mse, mse_error) = self.order_parameter(), self.test_mse()
        return BlockBranch(
            order_parameter=m,
            test_mse=mse,
            precisions=self.precisions(),
            stable=True,
            starts=tuple(self.runs),
            residual=self.residual(),
            error=error,
            num_aligned=float(self.pooled(lambda run: run.figures.num_specialised).mean()),
            test_mse_error=mse_error,
            r_hat=self.r_hat(),
            effective_ridge=self.average(lambda run: float(run.background.ridge)),
        )

    def tree(self, teacher: SparseParity, attributes: dict) -> xr.DataTree:
        """The draws in the schema of the reduced variables."""
        names = [name for name in _SITES if name in next(iter(self.runs.values())).sites]
        stats = next(iter(self.runs.values())).stats
        figures = {
            "order_parameter": lambda run: run.figures.block.order_parameter,
            "test_mse": lambda run: run.averages.draw_mse,
            "num_specialised": lambda run: run.figures.num_specialised,
            "moment_relevant": lambda run: run.figures.moment_relevant,
            "moment_rest": lambda run: run.figures.moment_rest,
        }
        groups = {
            "posterior": {n: self.pooled(lambda run, n=n: run.sites[n]) for n in names},
            "sample_stats": {n: self.pooled(lambda run, n=n: run.stats[n]) for n in stats},
            "order_parameters": {name: self.pooled(values) for name, values in figures.items()},
            "constant_data": {"relevant": np.asarray(teacher.relevant)},
        }
        if not groups["sample_stats"]:
            del groups["sample_stats"]
        dims = {
            "w_relevant": ["neuron", "relevant_input"],
            "rest_norm": ["neuron"],
            "rho_relevant": ["relevant_input"],
            "rho_rest": ["rest_input"],
            "relevant": ["relevant_input"],
        }
        return arviz_base.from_dict(groups, dims=dims, check_conventions=False, attrs={"/": attributes})


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

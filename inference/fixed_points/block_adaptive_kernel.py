"""AKB: the adaptive kernel with the modes on the relevant inputs exact, for all neurons together."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import jax
import numpy as np
from numpyro.infer.mcmc import MCMCKernel

from inference.fixed_points.adaptive_kernel import AdaptiveKernel
from inference.fixed_points.block_chains import BlockChains
from inference.fixed_points.block_density import Background, BlockProblem
from inference.fixed_points.block_model import BlockModel
from inference.fixed_points.block_modes import rest_modes
from inference.fixed_points.block_point import BlockAdaptiveKernelPoint, BlockNetworkSampler, BlockSummary
from inference.fixed_points.parity import ParityProblem, parity_problem
from inference.runs.datatree import _PACKAGES, describe
from inference.starts import STARTS
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork, checks

_MAX_DEGREE = 8
_R_HAT = 1.05
_SAME = 0.01  # branches whose m differ by less than this and four errors are one


@dataclass(frozen=True)
class BlockAdaptiveKernel:
    """AKB, the adaptive kernel with the relevant block exact, on sparse parity.

    Few neurons align, with sign patterns that cancel each other's unwanted modes; a mean kernel misses both. All N
    neurons are kept together in the 2^(k-1) + k modes on S, ψ_i = (h_{T,0}(w_i))_T, and only the others are averaged:

        p(w_1..w_N) ∝ Π_i prior(w_i) (1 + cG_i)^(-1/2) · det(A)^(-1/2) exp(-½ e_SᵀA⁻¹e_S - ½ ε tr A⁻¹)
        A = κ̃ I + c Σ_i ψ_iψ_iᵀ/(1 + cG_i),            m = E[1 - κ̃ e_SᵀA⁻¹e_S]

    with G_i, λ_ij, κ̃ and ε as in :mod:`inference.fixed_points.block_density` and, for the averages that fix them and
    the test errors, :mod:`inference.fixed_points.block_averages`. It is a density over N (k+1) variables, itself a
    NumPyro model (:class:`BlockModel`), and is sampled: figures carry Monte-Carlo errors. Covers ReLU without biases,
    even k < d up to 8, the isotropic and the ARD prior, P = ∞ and finite P.

    Beyond the paper (arXiv:2510.15174).

    Parameters
    ----------
    kernel
        Samples the reduced network: a NumPyro kernel without a model, such as ``SGLD(step_size=1e-4)``, or a callable
        from a model to a kernel. None for NUTS with trees of depth up to 8.
    num_warmup, num_samples, num_chains
        Steps of every chain before and after the first kept one, and chains from each start.
    update
        True: λ_ij, κ̃ and ε are those that the draws themselves call for, found during the warm-up. False: λ_ij and
        κ̃ are the adaptive kernel's and ε = 0.
    max_order
        Largest Hermite degree in the rest that is resolved.
    inputs
        Those outside S: "gaussian" (default) as in the other theories, or "binary" for ±1 with corrections of order
        1/(d-k), see :func:`inference.fixed_points.block_modes.block_features`.
    tolerance
        On the residual, which carries the draws' Monte-Carlo noise.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=6, width=2, kappa=0.3), SparseParity(6, 2)
    >>> theory = BlockAdaptiveKernel(num_warmup=200, num_samples=100)
    >>> point = theory.solve(network, teacher, num_data=100)
    >>> 0 < point.order_parameter < 0.3, sorted(point.tree.posterior.sizes)
    (True, ['chain', 'draw', 'neuron', 'relevant_input'])
    """

    kernel: MCMCKernel | Callable | None = None
    num_warmup: int = 400
    num_samples: int = 500
    num_chains: int = 2
    update: bool = True
    max_order: int = 4
    inputs: str = "gaussian"
    tolerance: float = 0.05

    def __post_init__(self):
        checks.whole("num_warmup", self.num_warmup, 0)
        checks.whole("num_samples", self.num_samples, 4)
        checks.whole("num_chains", self.num_chains, 1)
        checks.whole("max_order", self.max_order, 1)
        checks.positive("tolerance", self.tolerance)
        checks.one_of("inputs", self.inputs, ("gaussian", "binary"))
        if not isinstance(self.update, bool):
            raise ValueError(f"update must be True or False, got {self.update!r}.")

    def solve(
        self,
        network: TwoLayerNetwork,
        teacher: SparseParity,
        num_data: int | None = None,
        start: str = "prior",
        key: jax.Array | None = None,
    ) -> BlockAdaptiveKernelPoint:
        """Sample from both starts, and report the one that is asked for.

        Parameters
        ----------
        network, teacher
            See the class.
        num_data
            P for the average over data sets of that size; None for the population.
        start
            "prior" or "aligned". Where the chains of both agree, all of them make one branch.
        key
            A ``jax.random.key``; the same key gives the same answer. None for ``jax.random.key(0)``.

        Returns
        -------
        BlockAdaptiveKernelPoint
            With `converged` False where R-hat of m exceeds 1.05 or the residual the tolerance.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        began = time.perf_counter()
        problem = parity_problem(network, teacher, "BlockAdaptiveKernel", Isotropic, ARD)
        if problem.degree > _MAX_DEGREE:
            raise ValueError(
                f"degree must be at most {_MAX_DEGREE} for BlockAdaptiveKernel, got {problem.degree}: it keeps all "
                "subsets of the relevant inputs."
            )
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        checks.one_of("start", start, STARTS)
        key = jax.random.key(0) if key is None else key
        with jax.enable_x64(True):
            runs = self._sample(network, teacher, block_problem(problem, self.max_order), num_data, key)
        summaries = {name: BlockSummary({name: run}, network) for name, run in runs.items()}
        both = BlockSummary(runs, network)
        if self._agree(summaries, both):
            summaries = dict.fromkeys(runs, both)
        chosen = summaries[start]
        attributes = self._attributes(network, chosen, num_data, start, key, time.perf_counter() - began)
        return self._point(network, teacher, num_data, start, summaries, attributes)

    def _sample(self, network, teacher, problem: BlockProblem, num_data, key: jax.Array) -> dict:
        key_prior, *keys = jax.random.split(key, 1 + len(STARTS))
        if self.update:
            background = BlockModel.at_prior(
                problem, network.prior, network.kappa, num_data, key_prior, self.inputs
            ).background
        else:
            background = self._frozen(network, teacher, problem, num_data)
        chains = _chains(problem, network.prior, self.inputs, self.kernel, self.num_chains, self.num_warmup)
        return {
            name: chains.run(k, name, background, network.kappa, num_data, self.num_samples, self.update)
            for name, k in zip(STARTS, keys, strict=True)
        }

    def _frozen(self, network, teacher, problem: BlockProblem, num_data) -> Background:
        """λ_ij and κ̃ of the adaptive kernel."""
        point = AdaptiveKernel(max_order=self.max_order).solve(network, teacher, num_data)
        degrees, orders, _ = rest_modes(problem.degree, problem.input_dim, self.max_order)
        value = [point.eigenvalues[i, j] for i, j in zip(degrees.tolist(), orders.tolist(), strict=True)]
        return Background(np.array(value), np.array(point.effective_ridge), np.zeros(()))

    def _agree(self, summaries: dict[str, BlockSummary], both: BlockSummary) -> bool:
        (m, error), (other, other_error) = (s.order_parameter() for s in summaries.values())
        return abs(m - other) < _SAME + 4 * np.hypot(error, other_error) and both.r_hat() < _R_HAT

    def _point(self, network, teacher, num_data, start, summaries, attributes) -> BlockAdaptiveKernelPoint:
        chosen = summaries[start]
        distinct = list({id(s): s for s in summaries.values()}.values())
        branches = sorted((s.branch() for s in distinct), key=lambda b: b.order_parameter)
        branch = next(b for b in branches if start in b.starts)
        relevant, rest = (
            float(chosen.pooled(lambda run, n=n: getattr(run.figures, n)).mean())
            for n in ("moment_relevant", "moment_rest")
        )
        sites = {
            name: chosen.pooled(lambda run, n=name: run.sites[n]).reshape(-1, *value.shape[2:])
            for name, value in next(iter(chosen.runs.values())).sites.items()
            if name in ("w_relevant", "rest_norm", "rho_relevant", "rho_rest")
        }
        consistent = branch.residual <= self.tolerance or not self.update
        return BlockAdaptiveKernelPoint(
            theory="block-adaptive-kernel",
            start=start,
            order_parameter=branch.order_parameter,
            test_mse=branch.test_mse,
            test_mse_mean=chosen.average(lambda run: run.averages.test_mse_mean),
            precisions=branch.precisions,
            relevance_ratio=relevant / rest,
            residual=branch.residual,
            error=branch.error,
            effective_sample_size=chosen.effective_sample_size(),
            iterations=attributes["gradient_evaluations"],
            converged=bool(branch.r_hat <= _R_HAT and consistent),
            branches=tuple(branches),
            sampler=BlockNetworkSampler(network, teacher, sites),
            num_data=num_data,
            effective_ridge=branch.effective_ridge,
            noise=chosen.average(lambda run: float(run.background.noise)),
            eigenvalues=self._eigenvalues(network, teacher, chosen),
            num_aligned=branch.num_aligned,
            test_mse_error=branch.test_mse_error,
            r_hat=branch.r_hat,
            moment_relevant=relevant,
            moment_rest=rest,
            tree=chosen.tree(teacher, attributes),
        )

    def _eigenvalues(self, network, teacher, chosen: BlockSummary) -> dict[tuple[int, int], float]:
        degrees, orders, _ = rest_modes(teacher.degree, network.input_dim, self.max_order)
        values = np.mean([run.background.eigenvalues for run in chosen.runs.values()], axis=0)
        return {(int(i), int(j)): float(v) for i, j, v in zip(degrees, orders, values, strict=True)}

    def _attributes(self, network, chosen: BlockSummary, num_data, start, key, seconds) -> dict:
        kernel = (
            "NUTS" if self.kernel is None else getattr(self.kernel, "__name__", type(self.kernel).__name__)
        )
        names = ("num_warmup", "num_samples", "num_chains", "update", "max_order", "inputs")
        settings = {"kernel": kernel, "num_data": num_data} | {name: getattr(self, name) for name in names}
        return tree_attributes(
            network, settings, key, seconds, sum(run.gradient_evaluations for run in chosen.runs.values())
        ) | {"start": start}


def block_problem(problem: ParityProblem, max_order: int = 4) -> BlockProblem:
    """The constants of the block theory."""
    coupling = problem.readout_scale**2 / problem.width ** (2 * problem.gamma)
    return BlockProblem(problem.input_dim, problem.degree, problem.width, coupling, max_order)


@lru_cache(maxsize=4)
def _chains(
    problem: BlockProblem, prior, inputs: str, kernel, num_chains: int, num_warmup: int
) -> BlockChains:
    """Chains whose compiled programs are kept: another κ, P or start costs no compilation."""
    return BlockChains(BlockModel(problem, prior, inputs=inputs), kernel, num_chains, num_warmup)


def tree_attributes(network, settings: dict, key: jax.Array, seconds: float, gradients: int) -> dict:
    """Attributes of a tree of reduced draws, as in :func:`inference.runs.datatree.build_tree`."""
    return {
        "scheme": "block-adaptive-kernel",
        "prior": network.prior.name,
        "independent_draws": 0,
        "settings": json.dumps(settings, default=str),
        "network": json.dumps(describe(network), default=str),
        "seed": json.dumps(np.asarray(jax.random.key_data(key)).tolist()),
        "versions": json.dumps({name: version(name) for name in _PACKAGES}),
        "wall_time_s": float(seconds),
        "gradient_evaluations": int(gradients),
    }

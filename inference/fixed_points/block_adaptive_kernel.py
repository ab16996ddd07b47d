"""AKB: the adaptive kernel with the modes on the relevant inputs exact, for all neurons together.

    p(w_1..w_N) ∝ Π_i prior(w_i) (1 + cG_i)^(-1/2) · det(A)^(-1/2) exp(-½ e_SᵀA⁻¹e_S - ½ ε tr A⁻¹)
    A = κ̃ I + c Σ_i ψ_iψ_iᵀ/(1 + cG_i),            m = E[1 - κ̃ e_SᵀA⁻¹e_S]

over all neurons at once, with ψ_i = (h_{T,0}(w_i))_T their components in the 2^(k-1) + k modes on
S. What a neuron adds in the other modes is G_i, see :mod:`inference.fixed_points.block.density`;
for the averages that fix λ_ij, κ̃ and ε, and the test errors, ``block.averages`` beside it. Beyond
the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from importlib.metadata import version

import jax
import numpy as np
from numpyro.infer.mcmc import MCMCKernel

from inference.fixed_points.block.averages import block_averages
from inference.fixed_points.block.chains import BlockChains
from inference.fixed_points.block.draws import BlockDraws
from inference.fixed_points.block.model import BlockModel
from inference.fixed_points.block.modes import MAX_ORDER, rest_modes
from inference.fixed_points.block.networks import BlockNetworks
from inference.fixed_points.block.point import BlockAdaptiveKernelPoint, BlockBranch
from inference.fixed_points.populations.problem import PopulationProblem, population_problem
from inference.runs.datatree import _PACKAGES, describe
from inference.runs.progress import ProgressCallback, progress_callback
from inference.starts import STARTS
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork, checks

_NAME = "block-adaptive-kernel"
_TOLERANCE = 0.05  # on the residual, which carries the draws' Monte-Carlo noise
_R_HAT = 1.05
_SAME = 0.01  # branches whose m differ by less than this and four errors are one


@dataclass(frozen=True)
class BlockAdaptiveKernel:
    """AKB, the adaptive kernel with the relevant block exact, on sparse parity.

    Few neurons align, with sign patterns that cancel each other's unwanted modes; a mean kernel
    misses both. All N neurons are kept together in the modes on S, and only the others are
    averaged, over the draws themselves. The equations: block_adaptive_kernel.py. It is a density
    over N (k+1) variables, itself a NumPyro model
    (:class:`inference.fixed_points.block.model.BlockModel`), and is sampled: figures carry
    Monte-Carlo errors. Covers ReLU without biases, even k < d up to 6, the isotropic and the ARD
    prior, P = ∞ and finite P. Beyond the paper (arXiv:2510.15174).

    Parameters
    ----------
    kernel
        Samples the reduced network: a NumPyro kernel without a model, such as
        ``SGLD(step_size=1e-4)``, or a callable from a model to a kernel. None for NUTS with trees
        of depth up to 8.
    num_warmup, num_samples, num_chains
        Steps of every chain before and after the first kept one, and chains from each start.
    inputs
        Those outside S: "gaussian" (default) as in the other theories, or "binary" for ±1 with
        corrections of order 1/(d-k), see
        :func:`inference.fixed_points.block.modes.block_features`.

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
    inputs: str = "gaussian"

    def __post_init__(self):
        checks.whole("num_warmup", self.num_warmup, 0)
        checks.whole("num_samples", self.num_samples, 4)
        checks.whole("num_chains", self.num_chains, 1)
        checks.one_of("inputs", self.inputs, ("gaussian", "binary"))

    def solve(
        self,
        network: TwoLayerNetwork,
        teacher_or_data: SparseParity,
        *,
        num_data: int | None = None,
        start: str = "prior",
        key: jax.Array | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> BlockAdaptiveKernelPoint:
        """Sample from both starts, and report the one that is asked for, "prior" or "aligned".

        Where the chains of both agree, all of them make one branch. `num_data` is P for the average
        over data sets of that size, None for the population; the same `key`, by default
        ``jax.random.key(0)``, gives the same answer; `progress` is True for a bar on standard
        error, or a callable ``(done, total, text)``. The point is not `converged` where R-hat of m
        exceeds 1.05 or the residual 0.05. ``ValueError`` for a combination that the theory does not
        cover.
        """
        began = time.perf_counter()
        problem = _problem(network, teacher_or_data)
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        checks.one_of("start", start, STARTS)
        key = jax.random.key(0) if key is None else key
        runs = self._sample(problem, float(network.kappa), num_data, key, progress)
        both = BlockDraws.pooled(list(runs.values()))
        if _agree(*runs.values()) and both.r_hat() < _R_HAT:
            runs = {STARTS: both}
        else:
            runs = {(name,): draws for name, draws in runs.items()}
        branches = {starts: BlockBranch.of(problem, draws, starts) for starts, draws in runs.items()}
        reached = next(starts for starts in runs if start in starts)
        draws, branch = runs[reached], branches[reached]
        moments = {name: draws.mean(name) for name in ("moment_relevant", "moment_rest")}
        degrees, orders, _ = rest_modes(teacher_or_data.degree, network.input_dim)
        pairs = zip(degrees.tolist(), orders.tolist(), strict=True)
        seconds = time.perf_counter() - began
        attributes = _attributes(self, network, num_data, start, key, draws, seconds)
        return BlockAdaptiveKernelPoint(
            theory=_NAME,
            start=start,
            test_mse_mean=draws.test_mse_mean,
            relevance_ratio=moments["moment_relevant"] / moments["moment_rest"],
            effective_sample_size=draws.effective_sample_size(),
            iterations=draws.gradient_evaluations,
            converged=branch.r_hat <= _R_HAT and branch.residual <= _TOLERANCE,
            branches=tuple(sorted(branches.values(), key=lambda b: b.order_parameter)),
            sampler=BlockNetworks(network, teacher_or_data, draws.sites),
            num_data=num_data,
            noise=float(draws.background.noise),
            eigenvalues=dict(zip(pairs, draws.background.eigenvalues.tolist(), strict=True)),
            tree=draws.tree(teacher_or_data.relevant, attributes),
            **moments,
            **{name: value for name, value in vars(branch).items() if name not in ("stable", "starts")},
        )

    def _sample(self, problem, kappa, num_data, key, progress) -> dict[str, BlockDraws]:
        """Draws by start, from the background of one set of prior neurons."""
        key_prior, *keys = jax.random.split(key, 1 + len(STARTS))
        steps, runs = self.num_warmup + self.num_samples, {}
        with jax.enable_x64(True), progress_callback(progress, _NAME) as report:
            chains = _chains(problem, self.inputs, self.kernel, self.num_chains, self.num_warmup)
            background = chains.model.prior_background(kappa, num_data, key_prior)
            average = partial(block_averages, problem, kappa=kappa, num_data=num_data)
            for number, (start, key_run) in enumerate(zip(STARTS, keys, strict=True)):

                def tell(done, number=number, start=start):
                    report(number * steps + done, len(STARTS) * steps, f"{start} start")

                runs[start] = chains.run(key_run, start, background, average, self.num_samples, tell)
        return runs


def _problem(network: TwoLayerNetwork, teacher: SparseParity) -> PopulationProblem:
    """The constants, or a ``ValueError`` that says what the theory covers."""
    theory = BlockAdaptiveKernel.__name__
    if not isinstance(teacher, SparseParity):
        raise ValueError(
            f"teacher_or_data must be a models.SparseParity for {theory}, got {type(teacher).__name__}: it keeps the "
            "subsets of a parity's relevant inputs; AdaptiveKernel takes other teachers and a models.Dataset."
        )
    problem = population_problem(network, teacher, theory, Isotropic, ARD, max_order=MAX_ORDER)
    if network.activation != "relu":
        raise ValueError(
            f"activation must be relu, got {network.activation!r}: {theory} has closed forms for ReLU only."
        )
    if network.bias:
        raise ValueError(f"bias must be False: {theory} covers networks without biases.")
    if teacher.degree % 2:
        raise ValueError(
            f"degree must be even for {theory}, got {teacher.degree}: a ReLU network without biases has no overlap "
            "with odd parities above 1, and the closed forms are those of even degree."
        )
    return problem


@lru_cache(maxsize=4)
def _chains(problem: PopulationProblem, inputs: str, kernel, num_chains: int, num_warmup: int) -> BlockChains:
    """Chains whose compiled programs are kept: another κ, P or start costs no compilation."""
    return BlockChains(BlockModel(problem, inputs), kernel, num_chains, num_warmup)


def _agree(one: BlockDraws, other: BlockDraws) -> bool:
    error = np.hypot(one.error("order_parameter"), other.error("order_parameter"))
    return abs(one.mean("order_parameter") - other.mean("order_parameter")) < _SAME + 4 * error


def _attributes(theory, network, num_data, start, key, draws: BlockDraws, seconds: float) -> dict:
    """Attributes of the tree, as in :func:`inference.runs.datatree.build_tree`."""
    kernel = theory.kernel
    name = "NUTS" if kernel is None else getattr(kernel, "__name__", type(kernel).__name__)
    settings = {field.name: getattr(theory, field.name) for field in fields(theory)}
    settings |= {"kernel": name, "num_data": num_data}
    return {
        "scheme": _NAME,
        "prior": network.prior.name,
        "independent_draws": 0,
        "settings": json.dumps(settings),
        "network": json.dumps(describe(network), default=str),
        "seed": json.dumps(np.asarray(jax.random.key_data(key)).tolist()),
        "versions": json.dumps({name: version(name) for name in _PACKAGES}),
        "wall_time_s": seconds,
        "gradient_evaluations": draws.gradient_evaluations,
        "start": start,
    }

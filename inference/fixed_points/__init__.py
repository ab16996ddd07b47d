"""Fixed points of feature learning: theories that are solved and not sampled."""

from inference.fixed_points.adaptive_kernel import AdaptiveKernel
from inference.fixed_points.block_adaptive_kernel import BlockAdaptiveKernel
from inference.fixed_points.branches.noise_curve import NoiseCurve, NoiseSolution
from inference.fixed_points.deep_linear import DeepLinear
from inference.fixed_points.kernel_renormalisation import KernelRenormalisation
from inference.fixed_points.mean_field import MeanField, MeanFieldARD
from inference.fixed_points.nngp import NNGP
from inference.fixed_points.point import Branch, FixedPoint, PopulationPoint
from inference.fixed_points.precisions import PrecisionRule, Precisions, precision_rule

__all__ = [
    "NNGP",
    "AdaptiveKernel",
    "BlockAdaptiveKernel",
    "Branch",
    "DeepLinear",
    "FixedPoint",
    "KernelRenormalisation",
    "MeanField",
    "MeanFieldARD",
    "NoiseCurve",
    "NoiseSolution",
    "PopulationPoint",
    "PrecisionRule",
    "Precisions",
    "precision_rule",
]

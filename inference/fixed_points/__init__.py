"""Fixed points of feature learning: theories that are solved and not sampled.

NNGP on a dataset and on population parity; MeanField and MeanFieldARD on population sparse parity; AdaptiveKernel
on sparse parity at P = ∞ and at finite P.
"""

from inference.fixed_points.adaptive_kernel import AdaptiveKernel
from inference.fixed_points.block_adaptive_kernel import BlockAdaptiveKernel
from inference.fixed_points.data_annealing import ParticleOptions
from inference.fixed_points.data_point import DataFieldPoint
from inference.fixed_points.data_precisions import PrecisionRule, precision_rule
from inference.fixed_points.mean_field import MeanField
from inference.fixed_points.mean_field_ard import MeanFieldARD
from inference.fixed_points.nngp import NNGP
from inference.fixed_points.noise_curve import NoiseCurve, NoiseSolution
from inference.fixed_points.point import Branch, FixedPoint, Precisions

__all__ = [
    "NNGP",
    "AdaptiveKernel",
    "BlockAdaptiveKernel",
    "Branch",
    "DataFieldPoint",
    "FixedPoint",
    "MeanField",
    "MeanFieldARD",
    "NoiseCurve",
    "NoiseSolution",
    "ParticleOptions",
    "PrecisionRule",
    "Precisions",
    "precision_rule",
]

"""Fixed points of feature learning: theories that are solved and not sampled.

NNGP on a dataset and on population parity; MeanField and MeanFieldARD on population sparse parity; AdaptiveKernel
on sparse parity at P = ∞ and at finite P.
"""

from inference.fixed_points.adaptive_kernel import AdaptiveKernel
from inference.fixed_points.mean_field import MeanField
from inference.fixed_points.mean_field_ard import MeanFieldARD
from inference.fixed_points.nngp import NNGP
from inference.fixed_points.point import Branch, FixedPoint, Precisions

__all__ = ["NNGP", "AdaptiveKernel", "Branch", "FixedPoint", "MeanField", "MeanFieldARD", "Precisions"]

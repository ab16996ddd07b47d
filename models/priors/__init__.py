"""Priors over the hidden weights: subclass :class:`WeightPrior` to declare a new one.

Examples
--------
>>> from models.priors import PRIORS, make_prior
>>> make_prior("regularised-horseshoe(num_relevant=4)") == PRIORS["regularised-horseshoe"](num_relevant=4)
True
"""

from models.priors.ard import ARD, GroupedARD, NeuronARD, expected_log_precision_gap
from models.priors.base import ScaleMixture, WeightPrior, has_weights_of, input_plate, neuron_plate
from models.priors.dirichlet import DirichletScaleMixture
from models.priors.homogeneous import Homogeneous
from models.priors.horseshoe import RegularisedHorseshoe
from models.priors.isotropic import Isotropic
from models.priors.learned_scale import LearnedScale
from models.priors.registry import PRIORS, make_prior
from models.priors.spike_and_slab import SpikeAndSlab
from models.priors.student_t import StudentT

__all__ = [
    "ARD",
    "PRIORS",
    "DirichletScaleMixture",
    "GroupedARD",
    "Homogeneous",
    "Isotropic",
    "LearnedScale",
    "NeuronARD",
    "RegularisedHorseshoe",
    "ScaleMixture",
    "SpikeAndSlab",
    "StudentT",
    "WeightPrior",
    "expected_log_precision_gap",
    "has_weights_of",
    "input_plate",
    "make_prior",
    "neuron_plate",
]

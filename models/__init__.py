"""What is declared: networks, priors, teachers and data. Knows nothing of samplers."""

from models.dataset import Dataset
from models.deep_network import DeepNetwork, LayerPriors
from models.network import CollapsedNetwork, Network, TwoLayerNetwork
from models.priors import (
    ARD,
    DirichletScaleMixture,
    GroupedARD,
    Homogeneous,
    Isotropic,
    LearnedScale,
    NeuronARD,
    RegularisedHorseshoe,
    ScaleMixture,
    SpikeAndSlab,
    StudentT,
    WeightPrior,
    input_plate,
    make_prior,
    neuron_plate,
)
from models.teachers import ParitySum, SingleIndex, SparseParity, Teacher

__all__ = [
    "ARD",
    "CollapsedNetwork",
    "Dataset",
    "DeepNetwork",
    "DirichletScaleMixture",
    "GroupedARD",
    "Homogeneous",
    "Isotropic",
    "LayerPriors",
    "LearnedScale",
    "Network",
    "NeuronARD",
    "ParitySum",
    "RegularisedHorseshoe",
    "ScaleMixture",
    "SingleIndex",
    "SparseParity",
    "SpikeAndSlab",
    "StudentT",
    "Teacher",
    "TwoLayerNetwork",
    "WeightPrior",
    "input_plate",
    "make_prior",
    "neuron_plate",
]

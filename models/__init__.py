"""What is declared: networks, priors, teachers and data. Knows nothing of samplers."""

from models.dataset import Dataset
from models.network import TwoLayerNetwork
from models.priors import ARD, Isotropic, WeightPrior, input_plate, neuron_plate
from models.teachers import ParitySum, SingleIndex, SparseParity, Teacher

__all__ = [
    "ARD",
    "Dataset",
    "Isotropic",
    "ParitySum",
    "SingleIndex",
    "SparseParity",
    "Teacher",
    "TwoLayerNetwork",
    "WeightPrior",
    "input_plate",
    "neuron_plate",
]

"""Vector fields: given, neural and Hamiltonian."""

from diffsim.fields.base import ConditionedField, FunctionField, VectorField
from diffsim.fields.gaussian_process import FourierHamiltonian, GaussianProcessHamiltonian
from diffsim.fields.hamiltonian import Hamiltonian, HamiltonianField, Separable, SeparableHamiltonian
from diffsim.fields.neural import NeuralField, mlp

__all__ = [
    "ConditionedField",
    "FourierHamiltonian",
    "FunctionField",
    "GaussianProcessHamiltonian",
    "Hamiltonian",
    "HamiltonianField",
    "NeuralField",
    "Separable",
    "SeparableHamiltonian",
    "VectorField",
    "mlp",
]

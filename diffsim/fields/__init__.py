"""Vector fields: given, neural and Hamiltonian."""

from diffsim.fields.base import ConditionedField, FunctionField, VectorField
from diffsim.fields.charts import AngleFeatures, EmbeddedField, to_momenta
from diffsim.fields.constraints import Rods
from diffsim.fields.control import EnergyShaping
from diffsim.fields.discrete import DiscreteField, DiscreteGradientField, VariationalField, discrete_gradient, roll_out
from diffsim.fields.gaussian_process import FourierHamiltonian, GaussianProcessHamiltonian
from diffsim.fields.graphs import Graph, GraphDelta, GraphEnergy, GraphField, GraphNetwork, RingLagrangian
from diffsim.fields.grid_energy import GridEnergy
from diffsim.fields.hamiltonian import Hamiltonian, HamiltonianField, Separable, SeparableHamiltonian
from diffsim.fields.inputs import Input, PiecewiseConstant
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.lagrangian_network import LagrangianNetwork
from diffsim.fields.latent import Autoencoder, LatentHamiltonian
from diffsim.fields.matrices import AntisymmetricMatrix, PositiveMatrix, canonical_structure
from diffsim.fields.mechanics import MechanicalHamiltonian, MechanicalLagrangian, ParticleMasses
from diffsim.fields.neural import NeuralField, mlp
from diffsim.fields.port_hamiltonian import DissipativeHamiltonian, GradientHamiltonian, PortHamiltonian

__all__ = [
    "AngleFeatures",
    "AntisymmetricMatrix",
    "Autoencoder",
    "ConditionedField",
    "DiscreteField",
    "DiscreteGradientField",
    "DissipativeHamiltonian",
    "EmbeddedField",
    "EnergyShaping",
    "FourierHamiltonian",
    "FunctionField",
    "GaussianProcessHamiltonian",
    "GradientHamiltonian",
    "Graph",
    "GraphDelta",
    "GraphEnergy",
    "GraphField",
    "GraphNetwork",
    "GridEnergy",
    "Hamiltonian",
    "HamiltonianField",
    "Input",
    "LagrangianField",
    "LagrangianNetwork",
    "LatentHamiltonian",
    "MechanicalHamiltonian",
    "MechanicalLagrangian",
    "NeuralField",
    "ParticleMasses",
    "PiecewiseConstant",
    "PortHamiltonian",
    "PositiveMatrix",
    "RingLagrangian",
    "Rods",
    "Separable",
    "SeparableHamiltonian",
    "VariationalField",
    "VectorField",
    "canonical_structure",
    "discrete_gradient",
    "mlp",
    "roll_out",
    "to_momenta",
]

"""Differentiable simulation: vector fields, known systems, solvers, runs, fits and what they are judged by."""

from diffsim.contracts import check_vector_field
from diffsim.data.derivatives import estimate_derivatives
from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError, ContractError, IntegrationError, TrainingError
from diffsim.fields.base import ConditionedField, FunctionField, VectorField
from diffsim.fields.charts import AngleFeatures, EmbeddedField
from diffsim.fields.constraints import Rods
from diffsim.fields.control import EnergyShaping
from diffsim.fields.discrete import DiscreteField, DiscreteGradientField, VariationalField, discrete_gradient, roll_out
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.fields.graphs import Graph, GraphDelta, GraphEnergy, GraphField, GraphNetwork, RingLagrangian
from diffsim.fields.hamiltonian import Hamiltonian, HamiltonianField, Separable, SeparableHamiltonian
from diffsim.fields.inputs import Input, PiecewiseConstant
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.lagrangian_network import LagrangianNetwork
from diffsim.fields.matrices import AntisymmetricMatrix, PositiveMatrix
from diffsim.fields.mechanics import MechanicalHamiltonian, MechanicalLagrangian
from diffsim.fields.neural import NeuralField, mlp
from diffsim.fields.port_hamiltonian import DissipativeHamiltonian, GradientHamiltonian, PortHamiltonian
from diffsim.integrate.ensemble import odeint_ensemble
from diffsim.integrate.event import Event, odeint_event
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solution import Solution, solve
from diffsim.integrate.solver import Solver
from diffsim.metrics import coordinate_error, energy_drift, energy_error, rmse, valid_prediction_time
from diffsim.native.choose import backend_of
from diffsim.systems.double_pendulum import DoublePendulum
from diffsim.systems.epidemic import SEIR
from diffsim.systems.free_particle import FreeParticle
from diffsim.systems.henon_heiles import HenonHeiles
from diffsim.systems.lorenz import Lorenz63
from diffsim.systems.lotka_volterra import LotkaVolterra
from diffsim.systems.n_body import NBody
from diffsim.systems.oscillators import DoubleWell, Duffing, ForcedDuffing, MassSpring, Pendulum, VanDerPol
from diffsim.training.canonical import check_canonical
from diffsim.training.experiments import Experiment, fit_experiments
from diffsim.training.fit import fit
from diffsim.training.fit_energy import fit_energy
from diffsim.training.fit_runs import RunFit, fit_runs
from diffsim.training.losses import (
    DerivativeLoss,
    DiscreteGradientLoss,
    OneStepLoss,
    RolloutLoss,
    free_particle,
    indefinite_mass,
)
from diffsim.training.report import FitReport
from diffsim.training.settings import Training

__all__ = [
    "SEIR",
    "AngleFeatures",
    "AntisymmetricMatrix",
    "ArgumentError",
    "ArgumentTypeError",
    "ConditionedField",
    "ContractError",
    "DerivativeLoss",
    "DiscreteField",
    "DiscreteGradientField",
    "DiscreteGradientLoss",
    "DissipativeHamiltonian",
    "DoublePendulum",
    "DoubleWell",
    "Duffing",
    "EmbeddedField",
    "EnergyShaping",
    "Event",
    "Experiment",
    "FitReport",
    "ForcedDuffing",
    "FreeParticle",
    "FunctionField",
    "GaussianProcessHamiltonian",
    "GradientHamiltonian",
    "Graph",
    "GraphDelta",
    "GraphEnergy",
    "GraphField",
    "GraphNetwork",
    "Hamiltonian",
    "HamiltonianField",
    "HenonHeiles",
    "Input",
    "IntegrationError",
    "LagrangianField",
    "LagrangianNetwork",
    "Lorenz63",
    "LotkaVolterra",
    "MassSpring",
    "MechanicalHamiltonian",
    "MechanicalLagrangian",
    "NBody",
    "NeuralField",
    "OneStepLoss",
    "Pendulum",
    "PiecewiseConstant",
    "PortHamiltonian",
    "PositiveMatrix",
    "RingLagrangian",
    "Rods",
    "RolloutLoss",
    "RunFit",
    "Separable",
    "SeparableHamiltonian",
    "Solution",
    "Solver",
    "Training",
    "TrainingError",
    "Trajectory",
    "VanDerPol",
    "VariationalField",
    "VectorField",
    "backend_of",
    "check_canonical",
    "check_vector_field",
    "coordinate_error",
    "discrete_gradient",
    "energy_drift",
    "energy_error",
    "estimate_derivatives",
    "fit",
    "fit_energy",
    "fit_experiments",
    "fit_runs",
    "free_particle",
    "indefinite_mass",
    "mlp",
    "odeint",
    "odeint_ensemble",
    "odeint_event",
    "rmse",
    "roll_out",
    "simulate",
    "solve",
    "valid_prediction_time",
]

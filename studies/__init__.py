"""Studies: choosing, running, recording and showing trials of a simulator. Names load when they are first used."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.acquisitions.gaussian_process import IntegratedVariance
    from studies.acquisitions.model_error import ErrorReduction, disagreement
    from studies.command import ShellCommand
    from studies.comparison import Comparison, compare, measured
    from studies.contracts import check_storage, check_strategy
    from studies.errors import CommandError, ConflictError, StorageError, StudyError
    from studies.files.study_file import StudyFile
    from studies.gradients import WithGradient, with_gradient
    from studies.history import History, Proposal, Trial
    from studies.objective import evaluate_objective
    from studies.progress import note
    from studies.randomness import isolated
    from studies.spaces.base import Space
    from studies.spaces.box import Box
    from studies.spaces.constraints import Linear, Nonlinear
    from studies.spaces.energy_shell import EnergyShell
    from studies.spaces.manifold import Manifold
    from studies.spaces.parameters import Choice, Integer, Log, Real
    from studies.spaces.pool import Pool
    from studies.stopping import Budget, ModelError, NoImprovement, RegretBound, Stop
    from studies.storage.base import Lease, Storage
    from studies.storage.memory import MemoryStorage
    from studies.storage.postgres import PostgreSQLStorage
    from studies.storage.resolve import open_storage
    from studies.storage.sqlite import SQLiteStorage
    from studies.strategies.base import Batched, Optimiser, Strategy, Versatile
    from studies.strategies.cma_es import CMAES
    from studies.strategies.constrained import ConstrainedImprovement
    from studies.strategies.finite_differences import FiniteDifferences
    from studies.strategies.gradient_descent import GradientDescent
    from studies.strategies.gradient_improvement import GradientImprovement
    from studies.strategies.hypervolume import Front, HypervolumeImprovement
    from studies.strategies.local_descent import LocalDescent
    from studies.strategies.model_based import ModelBased
    from studies.strategies.noisy_improvement import NoisyExpectedImprovement
    from studies.strategies.paper_loop import PaperLoop
    from studies.strategies.random import Random
    from studies.strategies.random_search import RandomSearch
    from studies.strategies.sobol import Sobol
    from studies.strategies.turbo import TuRBO
    from studies.study import Round, Study
    from studies.worker import work

__all__ = [
    "CMAES",
    "Batched",
    "Box",
    "Budget",
    "Choice",
    "CommandError",
    "Comparison",
    "ConflictError",
    "ConstrainedImprovement",
    "EnergyShell",
    "ErrorReduction",
    "FiniteDifferences",
    "Front",
    "GradientDescent",
    "GradientImprovement",
    "History",
    "HypervolumeImprovement",
    "Integer",
    "IntegratedVariance",
    "Lease",
    "Linear",
    "LocalDescent",
    "Log",
    "Manifold",
    "MemoryStorage",
    "ModelBased",
    "ModelError",
    "NoImprovement",
    "NoisyExpectedImprovement",
    "Nonlinear",
    "Optimiser",
    "PaperLoop",
    "Pool",
    "PostgreSQLStorage",
    "Proposal",
    "Random",
    "RandomSearch",
    "Real",
    "RegretBound",
    "Round",
    "SQLiteStorage",
    "ShellCommand",
    "Sobol",
    "Space",
    "Stop",
    "Storage",
    "StorageError",
    "Strategy",
    "Study",
    "StudyError",
    "StudyFile",
    "Trial",
    "TuRBO",
    "Versatile",
    "WithGradient",
    "check_storage",
    "check_strategy",
    "compare",
    "disagreement",
    "evaluate_objective",
    "isolated",
    "measured",
    "note",
    "open_storage",
    "with_gradient",
    "work",
]

_MODULES = {
    "studies.acquisitions.gaussian_process": ("IntegratedVariance",),
    "studies.acquisitions.model_error": ("ErrorReduction", "disagreement"),
    "studies.command": ("ShellCommand",),
    "studies.comparison": ("Comparison", "compare", "measured"),
    "studies.contracts": ("check_storage", "check_strategy"),
    "studies.errors": ("CommandError", "ConflictError", "StorageError", "StudyError"),
    "studies.files.study_file": ("StudyFile",),
    "studies.gradients": ("WithGradient", "with_gradient"),
    "studies.history": ("History", "Proposal", "Trial"),
    "studies.objective": ("evaluate_objective",),
    "studies.progress": ("note",),
    "studies.randomness": ("isolated",),
    "studies.spaces.base": ("Space",),
    "studies.spaces.box": ("Box",),
    "studies.spaces.constraints": ("Linear", "Nonlinear"),
    "studies.spaces.energy_shell": ("EnergyShell",),
    "studies.spaces.manifold": ("Manifold",),
    "studies.spaces.parameters": ("Choice", "Integer", "Log", "Real"),
    "studies.spaces.pool": ("Pool",),
    "studies.stopping": ("Budget", "ModelError", "NoImprovement", "RegretBound", "Stop"),
    "studies.storage.base": ("Lease", "Storage"),
    "studies.storage.memory": ("MemoryStorage",),
    "studies.storage.postgres": ("PostgreSQLStorage",),
    "studies.storage.resolve": ("open_storage",),
    "studies.storage.sqlite": ("SQLiteStorage",),
    "studies.strategies.base": ("Batched", "Optimiser", "Strategy", "Versatile"),
    "studies.strategies.cma_es": ("CMAES",),
    "studies.strategies.constrained": ("ConstrainedImprovement",),
    "studies.strategies.finite_differences": ("FiniteDifferences",),
    "studies.strategies.gradient_descent": ("GradientDescent",),
    "studies.strategies.gradient_improvement": ("GradientImprovement",),
    "studies.strategies.hypervolume": ("Front", "HypervolumeImprovement"),
    "studies.strategies.local_descent": ("LocalDescent",),
    "studies.strategies.model_based": ("ModelBased",),
    "studies.strategies.noisy_improvement": ("NoisyExpectedImprovement",),
    "studies.strategies.paper_loop": ("PaperLoop",),
    "studies.strategies.random": ("Random",),
    "studies.strategies.random_search": ("RandomSearch",),
    "studies.strategies.sobol": ("Sobol",),
    "studies.strategies.turbo": ("TuRBO",),
    "studies.study": ("Round", "Study"),
    "studies.worker": ("work",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

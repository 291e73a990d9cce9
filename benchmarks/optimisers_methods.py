"""The optimisers of the benchmark behind one interface: ask, tell, recommend. All have their default settings."""

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Protocol

__all__ = ["METHODS", "Method"]

Bounds = Sequence[tuple[float, float]]


class Method(Protocol):
    """An optimiser that is asked for one point at a time; none is told the noise."""

    version: str

    def ask(self) -> list[float]:
        """The next point."""
        ...

    def tell(self, value: float) -> None:
        """The value of the point that was asked last."""
        ...

    def recommend(self) -> list[float]:
        """The optimiser's own answer."""
        ...


class NoisyImprovement:
    """`NoisyExpectedImprovement` in a study."""

    def __init__(self, bounds: Bounds, seed: int) -> None:
        from studies import Box, NoisyExpectedImprovement, Study

        box = Box({f"x{i}": pair for i, pair in enumerate(bounds)})
        self.version = f"diffsim-studies {version('diffsim-studies')}"
        self.study = Study(box, NoisyExpectedImprovement(), seed=seed)

    def ask(self) -> list[float]:
        self.round = self.study.ask()
        return self.round.theta[0].tolist()

    def tell(self, value: float) -> None:
        self.study.tell(self.round, [value])

    def recommend(self) -> list[float]:
        return self.study.recommend().tolist()


class Ax:
    """Ax's `Client`; its answer is the best point by its model's predictions."""

    def __init__(self, bounds: Bounds, seed: int) -> None:
        logging.disable(logging.INFO)
        warnings.simplefilter("ignore")
        from ax.api.client import Client  # pyright: ignore[reportMissingImports]
        from ax.api.configs import RangeParameterConfig  # pyright: ignore[reportMissingImports]

        self.version = f"ax-platform {version('ax-platform')}, botorch {version('botorch')}"
        self.names = [f"x{i}" for i in range(len(bounds))]
        self.client = Client(random_seed=seed)
        self.client.configure_experiment(
            parameters=[
                RangeParameterConfig(name=name, parameter_type="float", bounds=pair)
                for name, pair in zip(self.names, bounds, strict=True)
            ]
        )
        self.client.configure_optimization(objective="-value")

    def ask(self) -> list[float]:
        ((self.trial, parameters),) = self.client.get_next_trials(max_trials=1).items()
        return self._point(parameters)

    def tell(self, value: float) -> None:
        self.client.complete_trial(self.trial, raw_data={"value": value})

    def recommend(self) -> list[float]:
        return self._point(self.client.get_best_parameterization()[0])

    def _point(self, parameters: Any) -> list[float]:
        return [float(parameters[name]) for name in self.names]


class Optuna:
    """Optuna's `GPSampler`; its answer is the point with the best value seen, as it has no other."""

    def __init__(self, bounds: Bounds, seed: int, deterministic: bool = False) -> None:
        warnings.simplefilter("ignore")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.version = f"optuna {optuna.__version__}"
        self.bounds = bounds
        sampler = optuna.samplers.GPSampler(seed=seed, deterministic_objective=deterministic)
        self.study = optuna.create_study(sampler=sampler)

    def ask(self) -> list[float]:
        self.trial = self.study.ask()
        return [self.trial.suggest_float(f"x{i}", *pair) for i, pair in enumerate(self.bounds)]

    def tell(self, value: float) -> None:
        self.study.tell(self.trial, value)

    def recommend(self) -> list[float]:
        return [self.study.best_params[f"x{i}"] for i in range(len(self.bounds))]


METHODS: dict[str, Callable[[Bounds, int], Method]] = {
    "noisy improvement": NoisyImprovement,
    "Ax": Ax,
    "Optuna GPSampler": Optuna,
    "Optuna GPSampler, deterministic": lambda bounds, seed: Optuna(bounds, seed, deterministic=True),
}

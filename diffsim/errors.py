"""The exceptions of `diffsim`: each derives from the built-in one that a reader expects."""

__all__ = ["ArgumentError", "ArgumentTypeError", "ContractError", "IntegrationError", "TrainingError"]


class ArgumentError(ValueError):
    """An argument has the wrong shape or value; the message names it, what was given and the mend."""


class ArgumentTypeError(TypeError):
    """An argument has the wrong type or dtype; the message names it, what was given and the mend."""


class ContractError(AssertionError):
    """A user's own class breaks a rule that the library relies on; the message names the rule."""


class IntegrationError(RuntimeError):
    """A solver diverged, underflowed its step or did not converge."""


class TrainingError(RuntimeError):
    """Training met a loss that is not finite, or data from which nothing can be learnt."""

"""Is a surrogate right? Its gradient beside differences of the simulator, its outcomes beside simulated ones."""

from surrogates.diagnostics.gradient import GradientCheck, check_gradient
from surrogates.diagnostics.outcomes import OutcomeCheck, check_outcomes, outcome_plot

__all__ = ["GradientCheck", "OutcomeCheck", "check_gradient", "check_outcomes", "outcome_plot"]

"""Failed trials by their cause: those whose errors end alike are one cause."""

from dataclasses import dataclass

from studies.report.view import View

__all__ = ["Cause", "causes"]

_LONGEST = 20_000  # characters of a traceback that are shown


@dataclass(frozen=True, slots=True)
class Cause:
    """What failed trials have in common.

    Args:
        words: The last line of their errors.
        trials: Their numbers.
        error: The whole error of the first, with its traceback.
    """

    words: str
    trials: tuple[int, ...]
    error: str

    @property
    def where(self) -> str:
        """The trials in a line."""
        shown = ", ".join(map(str, self.trials[:12]))
        return f"{shown}, … ({len(self.trials)} in all)" if len(self.trials) > 12 else shown


def causes(view: View) -> list[Cause]:
    """The causes of a study's failures, the most frequent first."""
    found: dict[str, list[int]] = {}
    for trial in view.trials:
        if trial.state == "failed":
            lines = (trial.error or "").strip().splitlines()
            found.setdefault(lines[-1].strip()[:300] if lines else "no error was given", []).append(trial.number)
    errors = {words: view.trials[numbers[0]].error or "" for words, numbers in found.items()}
    ordered = sorted(found.items(), key=lambda cause: (-len(cause[1]), cause[1][0]))
    return [Cause(words, tuple(numbers), errors[words][:_LONGEST]) for words, numbers in ordered]

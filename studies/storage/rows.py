"""Records as rows of the tables and back; a large outcome goes through its file, a damaged one is a failed trial."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from studies.errors import StorageError
from studies.storage.arrays import LARGE, OutcomeFiles, from_bytes, to_bytes
from studies.storage.base import Result, RoundRecord, StudyRecord

__all__ = ["as_result", "as_round", "as_study", "is_large", "result_values", "round_values", "study_values"]


def study_values(study: StudyRecord) -> dict[str, Any]:
    """The row of a study, but for its id."""
    return {
        "name": study.name,
        "space": json.dumps(study.space),
        "strategy": _text(study.strategy),
        "seed": study.seed,
        "versions": json.dumps(study.versions),
        "created": study.created,
    }


def as_study(row: sa.Row[Any]) -> StudyRecord:
    """The study of a row."""
    return StudyRecord(row.name, json.loads(row.space), row.strategy, row.seed, json.loads(row.versions), row.created)


def round_values(round: RoundRecord) -> dict[str, Any]:
    """The row of a round, but for its study."""
    return {
        "number": round.number,
        "first": round.first,
        "theta": to_bytes(round.theta),
        "info": json.dumps(round.info),
        "strategy": _text(round.strategy),
    }


def as_round(row: Sequence[Any], place: str) -> RoundRecord:
    """The round of a row.

    Raises:
        StorageError: Its parameters are damaged.
    """
    _, number, first, theta, info, strategy = row
    return RoundRecord(number, first, _array(theta, place), json.loads(info), strategy)


def is_large(result: Result, files: OutcomeFiles | None) -> bool:
    """Whether the outcome of a result is kept in a file."""
    return files is not None and result.outcome is not None and result.outcome.nbytes > LARGE


def result_values(result: Result, environment: int | None, files: OutcomeFiles | None, stem: str) -> dict[str, Any]:
    """The row of a result, but for its study and position; the file of a large outcome is written.

    Args:
        result: The result.
        environment: The id of its environment.
        files: Where large outcomes are kept, if not in the row.
        stem: What the name of the file begins with.

    Raises:
        OSError: The file cannot be written.
    """
    outcome, file, sha256 = result.outcome, None, None
    if outcome is not None and files is not None and is_large(result, files):
        file, sha256 = files.write(stem, outcome)
        outcome = None
    return {
        "trial": result.trial,
        "outcome": None if outcome is None else to_bytes(outcome),
        "file": file,
        "sha256": sha256,
        "error": None if result.error is None else _text(result.error),
        "started": result.started,
        "seconds": result.seconds,
        "host": result.host,
        "x": None if result.x is None else to_bytes(result.x),
        "seed": result.seed,
        "environment": environment,
    }


def as_result(row: Sequence[Any], environments: Mapping[int, str], files: OutcomeFiles | None, place: str) -> Result:
    """The result of a row; where the file of its outcome is lost or damaged it warns, and the trial counts as failed.

    Raises:
        StorageError: The row is damaged.
    """
    _, _, trial, outcome, file, sha256, error, started, seconds, host, x, seed, environment = row
    array = None if outcome is None else _array(outcome, place)
    if file is not None:
        try:
            if files is None:
                raise ValueError("the storage was opened without its folder of files")
            array = files.read(file, sha256)
        except (OSError, ValueError) as problem:
            error = f"The outcome was told, but its file {file} of {place} cannot be used: {problem}. Restore it."
            warnings.warn(f"Trial {trial} counts as failed. {error}", stacklevel=2)
    inputs = None if x is None else _array(x, place)
    made_in = None if environment is None else environments[environment]
    return Result(trial, array, error, started, seconds, host, inputs, seed, made_in)


def _array(data: bytes, place: str) -> Any:  # noqa: ANN401
    try:
        return from_bytes(data)
    except ValueError as error:
        raise StorageError(f"{place} holds a damaged array ({error}). Restore a copy of it.") from error


def _text(text: str) -> str:
    return text.replace("\0", "\\x00")  # PostgreSQL has no such character

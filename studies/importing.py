"""Import of past data into a study: trials that were run elsewhere, appended as one round that says so."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import ConflictError
from studies.executors.job import as_results, readable
from studies.spaces.base import Space
from studies.storage.base import Result, RoundRecord, Storage, conforming
from surrogates.simulator import as_inputs, as_outcome

__all__ = ["add_past"]

SECONDS = 60.0  # for which no worker may take the trials of an import that is being written


def add_past(
    storage: Storage,
    name: str,
    space: Space,
    theta: object,
    outcome: object,
    x: object = None,
    errors: Sequence[str | None] = (),
) -> tuple[int, ...]:
    """Appends trials that were run elsewhere as a round whose info says "imported"; rows not finite are failed trials.

    The same data are added once: a script that adds them and is started again finds them there, even if it was killed
    while it added them.

    Args:
        storage: Holds the study.
        name: The study's name in it.
        space: The study's space.
        theta: Parameters inside the space, shape [n, d].
        outcome: One row a trial, shape [n, ...].
        x: The simulator's random inputs, shape [n, k], for all trials of a study or for none.
        errors: Why trials failed, n texts, None where it is not known.

    Returns:
        The trials' numbers.

    Raises:
        ArgumentError: A shape is wrong, or theta is not inside the space.
        ArgumentTypeError: Theta, the outcome or x is no array of real numbers.
    """
    try:
        points = torch.as_tensor(theta).detach().to("cpu", torch.float64, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"`theta` must hold real numbers, shape [n, {space.dim}], got {error}.") from None
    if points.ndim != 2 or points.shape[1] != space.dim or not len(points):
        raise ArgumentError(f"`theta` must have shape [n, {space.dim}], n at least 1, got {list(points.shape)}.")
    if not (inside := points.isfinite().all(1) & space.contains(points)).all():
        outside = points[~inside][:3].tolist()
        raise ArgumentError(f"`theta` must lie in {space!r}, got {int((~inside).sum())} rows elsewhere: {outside}...")
    rows, inputs = as_outcome(outcome, len(points)), None if x is None else as_inputs(x, len(points))
    if errors and len(errors) != len(points):
        raise ArgumentError(f"`errors` must be {len(points)} texts, one a trial, got {len(errors)}.")
    digest = _digest(points.numpy(), rows, inputs)
    while True:
        rounds, results = storage.read(name)
        try:
            asked = next((round for round in rounds if round.info.get("imported") == digest), None)
            first = rounds[-1].trials.stop if rounds else 0
            round = asked or RoundRecord(len(rounds), first, points.numpy(), {"imported": digest}, "imported")
            told = {result.trial for result in results}
            new = [
                replace(result, error=readable(why)) if result.error and why else result
                for result, why in zip_longest(as_results(round.trials, rows, inputs), errors)
                if result.trial not in told
            ]
            _check(new, results)
            if asked is None:
                storage.add_round(name, round, f"import {secrets.token_hex(4)}", SECONDS)
            storage.add_results(name, new)
        except ConflictError:
            continue  # another process wrote meanwhile, perhaps the same data
        return tuple(round.trials)


def _check(new: list[Result], results: list[Result]) -> None:
    """Refuses outcomes that would count as failed because they are unlike those that the study has."""
    complete = [result for result in results if result.outcome is not None]
    first = min(complete, key=lambda result: result.trial, default=None)
    for result in new:
        if result.outcome is not None and (error := conforming(result, first).error):
            raise ArgumentError(error)


def _digest(*arrays: NDArray[np.floating] | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype.str}{array.shape}".encode())
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

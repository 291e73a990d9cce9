"""The head of a study's record: what was studied, with what, since when; compared when a study is resumed."""

import json
import platform
import re
import warnings
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from studies.errors import StudyError
from studies.spaces.base import Space
from studies.storage.base import StudyRecord
from studies.strategies.base import Strategy

__all__ = ["check_resumed", "make_record", "strategy_repr"]


def make_record(name: str, space: Space, strategy: Strategy, seed: int) -> StudyRecord:
    """The record of a study that begins now."""
    described = json.loads(json.dumps(space.describe()))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return StudyRecord(name, described, strategy_repr(strategy), seed, _versions(), created)


def check_resumed(stored: StudyRecord, now: StudyRecord) -> None:
    """Compares a study as stored with the one that resumes it; warns where only the strategy differs.

    Raises:
        StudyError: The space or the seed differs.
    """
    for what, old, new in (("space", stored.space, now.space), ("seed", stored.seed, now.seed)):
        if old != new:
            raise StudyError(
                f"The study {now.name!r} is stored with the {what} {old}, got {new}. Pass the same {what} to resume "
                "it, or another name to start a new study."
            )
    if stored.strategy != now.strategy:
        warnings.warn(
            f"The study {now.name!r} was made with the strategy {stored.strategy} and goes on with {now.strategy}; it "
            "will differ from an unbroken one.",
            stacklevel=3,
        )


def strategy_repr(strategy: Strategy) -> str:
    """The strategy's repr without memory addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(strategy))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("diffsim-studies", "torch", "botorch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions

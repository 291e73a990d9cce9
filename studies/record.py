"""The head of a study's record, compared when the study is resumed, and the environment that a trial ran in."""

import functools
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

__all__ = ["check_resumed", "environment", "make_record", "strategy_repr"]

PACKAGES = ("diffsim-studies", "torch", "botorch", "gpytorch", "torchdiffeq", "zuko", "numpy", "scipy", "sqlalchemy")


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
    return _without_addresses(repr(strategy))


@functools.lru_cache(64)
def environment(study: str) -> str:
    """What this process runs trials in: the text for `Result.environment`, the same for all trials that share it.

    Args:
        study: The study's repr.

    Returns:
        A JSON object with the keys study, python, platform and packages (their versions by name).
    """
    packages = {package: found for package in PACKAGES if (found := _version(package))}
    made_in = {
        "study": _without_addresses(study),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
    }
    return json.dumps(made_in)


def _versions() -> dict[str, str]:
    packages = {package: _version(package) or "not installed" for package in PACKAGES[:3]}
    return {"python": platform.python_version(), **packages, "numpy": _version("numpy") or "not installed"}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)

"""The exceptions of `studies`; bad arguments raise `diffsim.errors.ArgumentError` as everywhere."""

__all__ = ["CommandError", "ConflictError", "StorageError", "StudyError"]


class StudyError(RuntimeError):
    """A study cannot go on: its strategy, its simulator or its executor broke a rule."""


class StorageError(StudyError):
    """A storage cannot be opened, read or written."""


class ConflictError(StorageError):
    """A storage already holds what was to be appended: a trial told twice, or a round that another process asked."""


class CommandError(RuntimeError):
    """A program that was run for a trial failed, or its results cannot be read; the trial is recorded as failed."""

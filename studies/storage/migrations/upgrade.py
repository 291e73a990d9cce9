"""The upgrade of a database to the present layout, by Alembic's revisions; it runs in the caller's transaction."""

from pathlib import Path

import sqlalchemy as sa

from studies.errors import StorageError
from studies.storage.tables import LAYOUT, METADATA, REVISION, revision_of

__all__ = ["create_tables", "layout_of", "upgrade"]


def create_tables(connection: sa.Connection) -> None:
    """Makes the tables of the present layout."""
    METADATA.create_all(connection)
    connection.execute(REVISION.insert(), {"version_num": revision_of(LAYOUT)})


def layout_of(connection: sa.Connection) -> int | None:
    """The layout that a database says it has; None where it names no layout of ours."""
    if not sa.inspect(connection).has_table(REVISION.name):
        return None
    prefix, _, layout = (connection.execute(sa.select(REVISION.c.version_num)).scalar() or "").rpartition("_")
    return int(layout) if f"{prefix}_" == revision_of(0)[:-1] and layout.isdecimal() else None


def upgrade(connection: sa.Connection, layout: int) -> None:
    """Brings a database from an older layout to the present one, keeping all that it holds.

    Raises:
        StorageError: What it holds is damaged; the caller's transaction is to be undone.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).parent))
    context = MigrationContext.configure(connection)
    try:
        for step in reversed(list(scripts.iterate_revisions("head", revision_of(layout)))):
            step.module.upgrade(Operations(context))
            context.stamp(scripts, step.revision)
    except (ValueError, EOFError) as error:
        what = f"The database is damaged and cannot be upgraded from layout {layout} to {LAYOUT} ({error})."
        raise StorageError(f"{what} It was left as it is; restore a copy.") from error

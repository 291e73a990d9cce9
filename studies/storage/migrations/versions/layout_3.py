"""Layout 3: leases, results in a numbered order with their seed, environment and file, room for 64-bit seeds."""

import io

import numpy as np
import sqlalchemy as sa
from alembic.operations import Operations

__all__ = ["down_revision", "revision", "upgrade"]

revision = "studies_3"
down_revision = "studies_2"


def upgrade(op: Operations) -> None:
    """Adds what is new, numbers the results in the order in which they were told, and frees the trials not told."""
    with op.batch_alter_table("studies") as studies:
        studies.alter_column("seed", existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=False)
    op.create_table(
        "environments",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("text", sa.String, nullable=False),
    )
    op.rename_table("results", "old_results")
    results = op.create_table(
        "results",
        sa.Column("study", sa.Integer, sa.ForeignKey("studies.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("outcome", sa.LargeBinary),
        sa.Column("file", sa.String),
        sa.Column("sha256", sa.String(64)),
        sa.Column("error", sa.String),
        sa.Column("started", sa.Double),
        sa.Column("seconds", sa.Double),
        sa.Column("host", sa.String),
        sa.Column("x", sa.LargeBinary),
        sa.Column("seed", sa.BigInteger),
        sa.Column("environment", sa.Integer, sa.ForeignKey("environments.id")),
        sa.UniqueConstraint("study", "trial"),
    )
    kept = ("trial", "outcome", "error", "started", "seconds", "host", "x")
    old = sa.table("old_results", sa.column("id"), sa.column("study"), *map(sa.column, kept))
    position = sa.func.row_number().over(partition_by=old.c.study, order_by=old.c.id) - 1
    rows = sa.select(old.c.study, position, *(old.c[name] for name in kept))
    op.execute(results.insert().from_select(["study", "position", *kept], rows))
    op.drop_table("old_results")
    leases = op.create_table(
        "leases",
        sa.Column("study", sa.Integer, sa.ForeignKey("studies.id"), primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String),
        sa.Column("until", sa.Double, nullable=False),
        sa.Column("granted", sa.Integer, nullable=False),
    )
    connection = op.get_bind()
    told = {tuple(row) for row in connection.execute(sa.select(results.c.study, results.c.trial))}
    rounds = sa.table("rounds", sa.column("study"), sa.column("first"), sa.column("theta"))
    asked = [
        (study, first + row)
        for study, first, theta in connection.execute(sa.select(rounds.c.study, rounds.c.first, rounds.c.theta))
        for row in range(len(np.load(io.BytesIO(theta), allow_pickle=False)))
    ]
    free = [{"study": study, "trial": trial} for study, trial in asked if (study, trial) not in told]
    op.bulk_insert(leases, [{**row, "worker": None, "until": 0.0, "granted": 0} for row in free])

"""Layout 2, the first that is upgraded: studies, rounds, and results with the simulator's inputs."""

import sqlalchemy as sa
from alembic.operations import Operations

__all__ = ["down_revision", "revision", "upgrade"]

revision = "studies_2"
down_revision = None


def upgrade(op: Operations) -> None:
    """Makes the tables."""
    op.create_table(
        "studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("strategy", sa.String, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("versions", sa.String, nullable=False),
        sa.Column("created", sa.String, nullable=False),
    )
    op.create_table(
        "rounds",
        sa.Column("study", sa.Integer, sa.ForeignKey("studies.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("theta", sa.LargeBinary, nullable=False),
        sa.Column("info", sa.String, nullable=False),
        sa.Column("strategy", sa.String, nullable=False),
        sa.UniqueConstraint("study", "first"),
    )
    op.create_table(
        "results",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study", sa.Integer, sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("outcome", sa.LargeBinary),
        sa.Column("error", sa.String),
        sa.Column("started", sa.Float),
        sa.Column("seconds", sa.Float),
        sa.Column("host", sa.String),
        sa.Column("x", sa.LargeBinary),
        sa.UniqueConstraint("study", "trial"),
    )

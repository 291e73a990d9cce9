"""The tables of a database of studies, layout 3; older layouts are upgraded by `studies/storage/migrations`."""

import sqlalchemy as sa

__all__ = ["ENVIRONMENTS", "LAYOUT", "LEASES", "METADATA", "RESULTS", "REVISION", "ROUNDS", "STUDIES", "revision_of"]

LAYOUT = 3


def revision_of(layout: int) -> str:
    """The name of a layout's revision, as Alembic keeps it in the database."""
    return f"studies_{layout}"


METADATA = sa.MetaData()
REVISION = sa.Table("alembic_version", METADATA, sa.Column("version_num", sa.String(32), primary_key=True))
STUDIES = sa.Table(
    "studies",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("space", sa.String, nullable=False),
    sa.Column("strategy", sa.String, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("versions", sa.String, nullable=False),
    sa.Column("created", sa.String, nullable=False),
)
ROUNDS = sa.Table(
    "rounds",
    METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("first", sa.Integer, nullable=False),
    sa.Column("theta", sa.LargeBinary, nullable=False),
    sa.Column("info", sa.String, nullable=False),
    sa.Column("strategy", sa.String, nullable=False),
    sa.UniqueConstraint("study", "first"),
)
ENVIRONMENTS = sa.Table(
    "environments",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("text", sa.String, nullable=False),
)
RESULTS = sa.Table(
    "results",
    METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),  # the order in which they were told
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("outcome", sa.LargeBinary),  # a small one
    sa.Column("file", sa.String),  # of a large one
    sa.Column("sha256", sa.String(64)),  # of that file
    sa.Column("error", sa.String),
    sa.Column("started", sa.Double),
    sa.Column("seconds", sa.Double),
    sa.Column("host", sa.String),
    sa.Column("x", sa.LargeBinary),
    sa.Column("seed", sa.BigInteger),
    sa.Column("environment", sa.ForeignKey("environments.id")),
    sa.UniqueConstraint("study", "trial"),
)
# One row for each trial that is not told. `until` is in seconds of the database's clock; 0 was never leased.
LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("worker", sa.String),
    sa.Column("until", sa.Double, nullable=False),
    sa.Column("granted", sa.Integer, nullable=False),
)

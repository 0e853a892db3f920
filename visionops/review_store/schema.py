"""The schema of the database of review: made in an empty one, brought to the newest version on request.

A database without our tables gets them when it is first used. One of an earlier version is refused with the command
that migrates it, so that nobody changes a shared database by starting a program; one of a later version is refused.
"""

from __future__ import annotations

from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.orm import Session

from visionops.review.errors import OtherSchema
from visionops.review_store.database import Database
from visionops.review_store.likeness_models import EmbeddingRow
from visionops.review_store.models import ItemRow
from visionops.review_store.run_models import RunRow
from visionops.review_store.search_models import FindingRow
from visionops.review_store.tables import Base
from visionops.review_store.user_models import UserRow
from visionops.review_store.write_models import WriteRow

__all__ = ["VERSION_TABLE", "migrate", "prepare", "revisions", "upgrade"]

VERSION_TABLE = "review_schema"
"""A name of our own: MLflow, and others that use Alembic, may be in the same database."""
MODELS = (ItemRow, EmbeddingRow, WriteRow, RunRow, FindingRow, UserRow)
"""One of each module of models: importing them here makes all tables part of ``Base.metadata``."""
_LOCK = 0x56_4F_52_56
"""Of PostgreSQL, while tables are made: two programs that make them at once would fail."""


def revisions() -> list[str]:
    """Return the schema versions, oldest first."""
    return [script.revision for script in _scripts().walk_revisions()][::-1]


def prepare(database: Database) -> None:
    """Make the tables in an empty database, and check the schema of any other.

    Raises:
        OtherSchema: It is of an earlier or a later version.
        Unavailable: The database cannot be reached or written.
    """
    newest = revisions()[-1]
    present = database.read(lambda session: _present(session.connection()))
    if present == newest:
        return
    if present is None:
        migrate(database)
    elif present in revisions():
        raise OtherSchema(
            f"{database.place}: has the review schema {present}, this version needs {newest}; make a backup and run "
            "`visionops review migrate`"
        )
    else:
        raise _too_new(database, present)


def migrate(database: Database) -> tuple[str | None, str]:
    """Bring a database to the newest schema, in one transaction.

    Returns:
        The schema version before, None for an empty database, and the one now.

    Raises:
        OtherSchema: It is of a later version.
        Unavailable: The database cannot be reached or written.
    """
    newest = revisions()[-1]

    def work(session: Session) -> str | None:
        connection = session.connection()
        if database.is_postgres:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        present = _present(connection)
        if present is not None and present not in revisions():
            raise _too_new(database, present)
        if present != newest:
            upgrade(connection, newest)
        return present

    return database.write(work), newest


def upgrade(connection: Connection, revision: str) -> None:
    """Bring the schema to a version, inside the transaction of ``connection``."""
    scripts = _scripts()

    def steps(present: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs(revision, present)  # as Alembic's own command does

    with EnvironmentContext(scripts_config(), scripts, fn=steps, destination_rev=revision) as environment:
        environment.configure(
            connection=connection,
            target_metadata=Base.metadata,
            version_table=VERSION_TABLE,
            render_as_batch=True,
        )
        environment.run_migrations()


def scripts_config() -> Config:
    """Return what Alembic needs to find the migrations in the package."""
    config = Config()
    config.set_main_option("script_location", "visionops.review_store:migrations")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(scripts_config())


def _present(connection: Connection) -> str | None:
    """Return the schema version of a database; None where none of our tables is there."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _too_new(database: Database, present: str) -> OtherSchema:
    return OtherSchema(
        f"{database.place}: has the review schema {present}, which this version does not know; install the newer "
        "version of visionops that made it"
    )

"""Create and migrate the schema of the review database.

An empty database gets the tables on first use. A database with an earlier schema is refused, and the error names the
command that migrates it, so that starting a program never changes a shared database. A later schema is refused, too.
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
"""Own name of the version table: MLflow and other programs that use Alembic may share the database."""
MODELS = (ItemRow, EmbeddingRow, WriteRow, RunRow, FindingRow, UserRow)
"""One class of each module of models, imported so that all tables are part of ``Base.metadata``."""
_LOCK = 0x56_4F_52_56
"""PostgreSQL lock while tables are created, because two programs that create them at once would fail."""


def revisions() -> list[str]:
    """Return the schema versions, oldest first."""
    return [script.revision for script in _scripts().walk_revisions()][::-1]


def prepare(database: Database) -> None:
    """Create the tables in an empty database, and check the schema of any other.

    Raises:
        OtherSchema: The schema has an earlier or a later version.
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
    """Migrate a database to the newest schema, in one transaction.

    Returns:
        The schema version before, None for an empty database, and the new one.

    Raises:
        OtherSchema: The schema has a later version.
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
    """Migrate the schema to a version, inside the transaction of ``connection``."""
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
    """Return Alembic's configuration for the migrations in the package."""
    config = Config()
    config.set_main_option("script_location", "visionops.review_store:migrations")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(scripts_config())


def _present(connection: Connection) -> str | None:
    """Return the schema version of a database; None where it has none of our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _too_new(database: Database, present: str) -> OtherSchema:
    return OtherSchema(
        f"{database.place}: has the review schema {present}, which this version does not know; install the newer "
        "version of visionops that made it"
    )

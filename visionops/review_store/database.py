"""Connect to the review database: SQLite in a file by default, PostgreSQL by URL.

On SQLite a write transaction blocks every other one (``BEGIN IMMEDIATE``); on PostgreSQL it locks the rows that it
changes. Both are retried after a conflict with another transaction.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from visionops.addresses import check_store
from visionops.data.files import describe_os_error
from visionops.review.errors import Invalid, Unavailable

__all__ = ["Database"]

_T = TypeVar("_T")
_BUSY_SECONDS = 20.0
_CONNECT_SECONDS = 10
_STUCK_SECONDS = 30
_ATTEMPTS = 8
_RACES = {"40001", "40P01"}
"""PostgreSQL's codes for serialization failure and deadlock, after which the same transaction can be retried."""


class Database:
    """One database. Nothing connects to it before its first use.

    Args:
        place: Path of a file of SQLite, or ``postgresql://user@host/database``, whose password is in PGPASSWORD.

    Raises:
        Invalid: ``place`` is neither, or holds a password.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.is_postgres = "://" in place
        if self.is_postgres:
            try:
                check_store(place)
            except ValueError as error:
                raise Invalid(f"review database: {error}") from error
            if not urlsplit(place).scheme.startswith("postgres"):
                raise Invalid("review database: must be a path, or postgresql://user@host/database")
            self.engine = _postgres(place)
        else:
            self.engine = _sqlite(Path(place).expanduser().absolute())

    def read(self, work: Callable[[Session], _T]) -> _T:
        """Return what ``work`` reads, all from one consistent snapshot.

        Raises:
            Unavailable: The database cannot be reached or read.
        """
        with self._errors("read"), Session(self.engine) as session:
            if self.is_postgres:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            return work(session)

    def write(self, work: Callable[[Session], _T]) -> _T:
        """Return what ``work`` returns, after a commit. ``work`` may be called again from the start.

        Raises:
            Unavailable: The database cannot be reached or written. Either all of ``work`` was committed or nothing.
                Where the answer to a commit was lost, repeating the write with the same key returns the result.
        """
        with self._errors("written"):
            for attempt in range(_ATTEMPTS):
                try:
                    with Session(self.engine, expire_on_commit=False) as session, session.begin():
                        session.connection(execution_options={"writes": True})
                        return work(session)
                except DBAPIError as error:
                    if attempt == _ATTEMPTS - 1 or not _is_race(error):
                        raise
                # Each conflicting transaction waits for a different random time.
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311
        raise AssertionError  # the loop always returns or raises

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # other errors are bugs in the program
        except (DBAPIError, PoolTimeout) as error:
            if isinstance(error, DBAPIError) and not _is_outside(error):
                raise
            raise Unavailable(f"{self.place}: cannot be {done} ({_reason(error)}); {self._fix(error)}") from error
        except OSError as error:
            raise Unavailable(
                f"{self.place}: cannot be {done} ({describe_os_error(error)}); choose another place"
            ) from error

    def _fix(self, error: SQLAlchemyError) -> str:
        if self.is_postgres:
            return "check the address, PGPASSWORD and the rights"
        return "free some space" if "full" in str(error) else "check the file and its folder"


def _is_race(error: DBAPIError) -> bool:
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) in _RACES


def _is_outside(error: DBAPIError) -> bool:
    """Return whether the database itself failed, and not the statement."""
    code = getattr(error.orig, "sqlstate", None) or ""
    # SQLSTATE classes: resources (53), operator intervention (57), system (58), read-only server (25006), lock timeout.
    classes = ("08", "28", "3D", "53", "57", "58")
    return (
        isinstance(error, OperationalError)
        or error.connection_invalidated
        or code.startswith(classes)
        or code in {"25006", "55P03", "42501"}
        or "file is not a database" in str(error)
        or "malformed" in str(error)
    )


def _reason(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _sqlite(path: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Transactions are begun below, not by the driver.
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            _prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
    event.listen(engine, "begin", begin)
    return engine


def _prepare(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait for this lock by itself, and two processes may open a new file at once.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a loss of power, too
    connection.execute("PRAGMA foreign_keys = ON")


def _postgres(uri: str) -> Engine:
    def connect() -> Any:
        try:
            import psycopg
        except ImportError as error:
            raise Unavailable(f"{uri}: needs psycopg ({error}); pip install 'visionops[postgresql]'") from error
        return psycopg.connect(
            uri,
            connect_timeout=_CONNECT_SECONDS,
            tcp_user_timeout=_STUCK_SECONDS * 1000,
            keepalives_idle=_STUCK_SECONDS,
            options=f"-c lock_timeout={_STUCK_SECONDS}s",
        )

    # Replace a connection that the server has closed before it is used.
    return create_engine("postgresql+psycopg://", creator=connect, pool_pre_ping=True)

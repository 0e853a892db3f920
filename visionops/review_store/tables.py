"""Base class, column types and constraint names shared by all review tables."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, MetaData, String, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

__all__ = ["DIGEST", "ID", "JSON_TYPE", "NAMING", "Base", "Utc", "among"]

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Naming scheme of constraints, so that a migration can name them on both databases."""


class Utc(TypeDecorator[datetime]):
    """Time in UTC. SQLite stores no time zone, so it is removed on writing and added again on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value to store."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value for the program."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else value.replace(tzinfo=UTC)


JSON_TYPE = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
DIGEST = String(64)
"""Column type of a SHA-256 in lower-case hex."""
ID = String(32)
"""Column type of the id of an item, a run or a write's token."""


def among(column: str, values: type[StrEnum]) -> str:
    """Return the SQL condition that a column has one of the values."""
    return f"{column} IN ({', '.join(repr(one.value) for one in values)})"


class Base(DeclarativeBase):
    """Base class of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Utc, dict[str, Any]: JSON_TYPE, list[Any]: JSON_TYPE, str: Text}  # noqa: RUF012

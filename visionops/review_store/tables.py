"""What all tables of review share: the base of their models, the types of columns, and how constraints are named."""

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
"""Of constraints, so that a migration can name them on both databases."""


class Utc(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no zone, so one is taken off on the way in and put on again on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what the database keeps."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what a program reads."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else value.replace(tzinfo=UTC)


JSON_TYPE = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
DIGEST = String(64)
"""Of a SHA-256, lower-case hex."""
ID = String(32)
"""Of an item, a run or a write's token."""


def among(column: str, values: type[StrEnum]) -> str:
    """Return the condition that a column has one of the values."""
    return f"{column} IN ({', '.join(repr(one.value) for one in values)})"


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Utc, dict[str, Any]: JSON_TYPE, list[Any]: JSON_TYPE, str: Text}  # noqa: RUF012

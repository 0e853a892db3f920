"""The tables of review. `migrations/` makes them; a test holds both together.

Constraints say what must hold whatever a program does: one item for an image of a use case, one decision for a round of
an item, one opinion of a reviewer in a round, a decision in one data version at most, one audit row for a revision, and
in each state what belongs to it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from visionops.review.items import Origin
from visionops.review.states import State, Verdict

__all__ = [
    "ArrivalRow",
    "AuditEntry",
    "Base",
    "CursorRow",
    "DecisionRow",
    "EmbeddingRow",
    "ImageRow",
    "ItemRow",
    "LikenessRow",
    "MemberRow",
    "OpinionRow",
    "SeenRow",
    "SubmissionRow",
    "UseCaseRow",
    "Utc",
    "VersionRow",
    "WriteRow",
]

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


_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_DIGEST = String(64)
_ID = String(32)


def _among(column: str, values: type[State] | type[Origin] | type[Verdict]) -> str:
    return f"{column} IN ({', '.join(repr(one.value) for one in values)})"


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Utc, dict[str, Any]: _JSON, list[Any]: _JSON, str: Text}  # noqa: RUF012


class UseCaseRow(Base):
    """A use case."""

    __tablename__ = "review_use_cases"
    __table_args__ = (CheckConstraint("second_share >= 0 AND second_share <= 1", "second_share"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    task: Mapped[str]
    scheme: Mapped[dict[str, Any]]
    second_share: Mapped[float] = mapped_column(Float(53), server_default="0")


class ArrivalRow(Base):
    """An image that was announced and is not known to be durable yet."""

    __tablename__ = "review_arrivals"

    sha256: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    token: Mapped[str] = mapped_column(_ID)
    at: Mapped[datetime]


class CursorRow(Base):
    """How far the intake has read a segment of a log."""

    __tablename__ = "review_cursors"

    use_case: Mapped[str] = mapped_column(ForeignKey("review_use_cases.name"), primary_key=True)
    log: Mapped[str] = mapped_column(primary_key=True)
    segment: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int]
    is_finished: Mapped[bool]
    at: Mapped[datetime]


class ImageRow(Base):
    """A durable image. Such a row is never removed while its image is there."""

    __tablename__ = "review_images"
    __table_args__ = (CheckConstraint("length(sha256) = 64", "digest"),)

    sha256: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    num_bytes: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]


class ItemRow(Base):
    """An image of a use case, with the part of it that changes."""

    __tablename__ = "review_items"
    __table_args__ = (
        UniqueConstraint("use_case", "sha256"),
        ForeignKeyConstraint(["use_case", "version"], ["review_versions.use_case", "review_versions.number"]),
        CheckConstraint(_among("state", State), "state"),
        CheckConstraint(f"verdict IS NULL OR {_among('verdict', Verdict)}", "verdict"),
        CheckConstraint("(state = 'claimed') = (lease_until IS NOT NULL)", "lease"),
        CheckConstraint("(state = 'pending') = (holder IS NULL)", "holder"),
        CheckConstraint("(state IN ('decided', 'exported')) = (verdict IS NOT NULL)", "decided"),
        CheckConstraint("(state = 'exported') = (version IS NOT NULL)", "exported"),
        CheckConstraint("version IS NULL OR verdict <> 'reject'", "rejected"),
        CheckConstraint("holder <> first_reviewer", "not_first"),
        CheckConstraint("second_reviewer IS NULL OR second_reviewer <> first_reviewer", "two_reviewers"),
        CheckConstraint("second_reviewer IS NULL OR first_reviewer IS NOT NULL", "first_reviewer"),
        CheckConstraint("holder <> second_reviewer", "not_second"),
        Index(None, "use_case", "state", "priority", "added"),
        Index(None, "added", "id"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    use_case: Mapped[str] = mapped_column(ForeignKey("review_use_cases.name"))
    sha256: Mapped[str] = mapped_column(ForeignKey("review_images.sha256"))
    added: Mapped[datetime]
    priority: Mapped[float] = mapped_column(Float(53))
    state: Mapped[str]
    round: Mapped[int]
    revision: Mapped[int]
    holder: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    verdict: Mapped[str | None]
    version: Mapped[int | None]
    first_reviewer: Mapped[str | None]
    second_reviewer: Mapped[str | None]
    """Who has given an opinion in this round that decided nothing."""
    reasons: Mapped[list[Any] | None] = mapped_column(_JSON)
    """Since the item was prioritized; before, those of its first arrival count."""
    model: Mapped[str | None]
    model_version: Mapped[str | None]
    answer: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    """Of the model that it was prioritized with."""


class SubmissionRow(Base):
    """One arrival of an item's image; the lowest number is the first."""

    __tablename__ = "review_submissions"
    __table_args__ = (
        CheckConstraint(_among("origin", Origin), "origin"),
        Index(None, "item"),
        Index(None, "reference"),
        Index(
            "uq_review_submissions_first",
            "item",
            unique=True,
            sqlite_where=text("is_first"),
            postgresql_where=text("is_first"),
        ),
    )

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"))
    is_first: Mapped[bool]
    at: Mapped[datetime]
    actor: Mapped[str]
    origin: Mapped[str]
    reference: Mapped[str]
    name: Mapped[str]
    comment: Mapped[str]
    proposed: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    model: Mapped[str | None]
    model_version: Mapped[str | None]
    answer: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    reasons: Mapped[list[Any]]


class DecisionRow(Base):
    """A decision. Such a row is never changed or removed."""

    __tablename__ = "review_decisions"
    __table_args__ = (
        UniqueConstraint("item", "round"),
        CheckConstraint(_among("verdict", Verdict), "verdict"),
        CheckConstraint("(verdict = 'reject') = (label IS NULL)", "label"),
        Index(None, "reviewer"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"))
    round: Mapped[int]
    reviewer: Mapped[str]
    at: Mapped[datetime]
    verdict: Mapped[str]
    label: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    reason: Mapped[str]
    comment: Mapped[str]


class OpinionRow(Base):
    """An opinion on an item that needs more than one. Such a row is never changed or removed."""

    __tablename__ = "review_opinions"
    __table_args__ = (
        UniqueConstraint("item", "round", "reviewer"),
        CheckConstraint(_among("verdict", Verdict), "verdict"),
        CheckConstraint("(verdict = 'reject') = (label IS NULL)", "label"),
        CheckConstraint("number IN (1, 2, 3)", "number"),
        Index(None, "reviewer"),
    )

    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"), primary_key=True)
    round: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    reviewer: Mapped[str]
    at: Mapped[datetime]
    verdict: Mapped[str]
    label: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    reason: Mapped[str]
    comment: Mapped[str]


class VersionRow(Base):
    """A data version."""

    __tablename__ = "review_versions"

    use_case: Mapped[str] = mapped_column(ForeignKey("review_use_cases.name"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    num_items: Mapped[int]


class MemberRow(Base):
    """A decision in a data version: in one at most, whatever happens."""

    __tablename__ = "review_members"
    __table_args__ = (
        ForeignKeyConstraint(["use_case", "version"], ["review_versions.use_case", "review_versions.number"]),
        Index(None, "use_case", "version"),
    )

    decision: Mapped[str] = mapped_column(ForeignKey("review_decisions.id"), primary_key=True)
    use_case: Mapped[str]
    version: Mapped[int]


class EmbeddingRow(Base):
    """An embedding of an image. Such a row is never changed or removed: the indexes on disk are made of these."""

    __tablename__ = "review_embeddings"
    __table_args__ = (
        UniqueConstraint("use_case", "kind", "position"),
        CheckConstraint("position > 0", "position"),
    )

    use_case: Mapped[str] = mapped_column(ForeignKey("review_use_cases.name"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    position: Mapped[int]
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class SeenRow(Base):
    """An image of a use case's data set; it need not be in review."""

    __tablename__ = "review_seen"
    __table_args__ = (
        CheckConstraint("split IN ('train', 'val', 'test')", "split"),
        Index(None, "use_case", "revision"),
    )

    use_case: Mapped[str] = mapped_column(ForeignKey("review_use_cases.name"), primary_key=True)
    sha256: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    split: Mapped[str]
    name: Mapped[str]
    revision: Mapped[int]


class LikenessRow(Base):
    """What an item resembles."""

    __tablename__ = "review_likeness"
    __table_args__ = (
        CheckConstraint("(nearest IS NULL) = (distance IS NULL)", "nearest"),
        CheckConstraint("seen_in IN ('', 'train', 'val', 'test')", "seen_in"),
    )

    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"), primary_key=True)
    kind: Mapped[str]
    nearest: Mapped[str | None] = mapped_column(_DIGEST)
    name: Mapped[str]
    distance: Mapped[float | None] = mapped_column(Float(53))
    is_near: Mapped[bool]
    seen_in: Mapped[str]
    checked: Mapped[int]


class AuditEntry(Base):
    """One change of an item. Such a row is never changed or removed."""

    __tablename__ = "review_audit"

    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    details: Mapped[dict[str, Any]]


class WriteRow(Base):
    """The answer to a write, for when it comes again."""

    __tablename__ = "review_writes"

    id: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    content: Mapped[str] = mapped_column(_DIGEST)
    at: Mapped[datetime]
    item: Mapped[str | None] = mapped_column(ForeignKey("review_items.id"))
    answer: Mapped[dict[str, Any]]

"""Define the tables of use cases, images, items, opinions and decisions.

`migrations/` creates all tables of the review; a test checks that both agree.

Constraints enforce the invariants: one item for an image of a use case, one decision for a round of an item, one
opinion of a reviewer in a round, a decision in at most one data version, one audit row for a revision, and the columns
that belong to each state.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from visionops.review.items import Origin
from visionops.review.states import State, Verdict
from visionops.review_store.tables import DIGEST, ID, JSON_TYPE, Base, among

__all__ = [
    "AuditEntry",
    "DecisionRow",
    "ImageRow",
    "ItemRow",
    "MemberRow",
    "OpinionRow",
    "SubmissionRow",
    "UseCaseRow",
    "VersionRow",
]


class UseCaseRow(Base):
    """A use case."""

    __tablename__ = "review_use_cases"
    __table_args__ = (CheckConstraint("second_share >= 0 AND second_share <= 1", "second_share"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    task: Mapped[str]
    scheme: Mapped[dict[str, Any]]
    second_share: Mapped[float] = mapped_column(Float(53), server_default="0")


class ImageRow(Base):
    """A durable image. A row is never removed while its image exists."""

    __tablename__ = "review_images"
    __table_args__ = (CheckConstraint("length(sha256) = 64", "digest"),)

    sha256: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    num_bytes: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]


class ItemRow(Base):
    """An image of a use case, with the fields that change."""

    __tablename__ = "review_items"
    __table_args__ = (
        UniqueConstraint("use_case", "sha256"),
        ForeignKeyConstraint(["use_case", "version"], ["review_versions.use_case", "review_versions.number"]),
        CheckConstraint(among("state", State), "state"),
        CheckConstraint(f"verdict IS NULL OR {among('verdict', Verdict)}", "verdict"),
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
        Index(None, "use_case", "added", "id"),
        Index(None, "model_version"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
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
    """Reviewers who gave an opinion in this round without deciding it."""
    reasons: Mapped[list[Any] | None] = mapped_column(JSON_TYPE)
    """Reasons since the item was prioritized; before, those of its first arrival count."""
    model: Mapped[str | None]
    model_version: Mapped[str | None]
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON_TYPE)
    """Prediction of the model with which it was prioritized."""


class SubmissionRow(Base):
    """One arrival of an item's image; the lowest number is the first."""

    __tablename__ = "review_submissions"
    __table_args__ = (
        CheckConstraint(among("origin", Origin), "origin"),
        Index(None, "item"),
        Index(None, "reference"),
        Index(None, "origin", "item"),
        Index(None, "model_version", "item"),
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
    proposed: Mapped[dict[str, Any] | None] = mapped_column(JSON_TYPE)
    model: Mapped[str | None]
    model_version: Mapped[str | None]
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON_TYPE)
    reasons: Mapped[list[Any]]


class DecisionRow(Base):
    """A decision. Rows are never changed or removed."""

    __tablename__ = "review_decisions"
    __table_args__ = (
        UniqueConstraint("item", "round"),
        CheckConstraint(among("verdict", Verdict), "verdict"),
        CheckConstraint("(verdict = 'reject') = (label IS NULL)", "label"),
        Index(None, "reviewer"),
        Index(None, "verdict", "item"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"))
    round: Mapped[int]
    reviewer: Mapped[str]
    at: Mapped[datetime]
    verdict: Mapped[str]
    label: Mapped[dict[str, Any] | None] = mapped_column(JSON_TYPE)
    reason: Mapped[str]
    comment: Mapped[str]


class OpinionRow(Base):
    """An opinion on an item that needs more than one. Rows are never changed or removed."""

    __tablename__ = "review_opinions"
    __table_args__ = (
        UniqueConstraint("item", "round", "reviewer"),
        CheckConstraint(among("verdict", Verdict), "verdict"),
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
    label: Mapped[dict[str, Any] | None] = mapped_column(JSON_TYPE)
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
    """A decision in a data version; each decision is in at most one."""

    __tablename__ = "review_members"
    __table_args__ = (
        ForeignKeyConstraint(["use_case", "version"], ["review_versions.use_case", "review_versions.number"]),
        Index(None, "use_case", "version"),
    )

    decision: Mapped[str] = mapped_column(ForeignKey("review_decisions.id"), primary_key=True)
    use_case: Mapped[str]
    version: Mapped[int]


class AuditEntry(Base):
    """One change of an item. Rows are never changed or removed."""

    __tablename__ = "review_audit"

    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"), primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    details: Mapped[dict[str, Any]]

"""Define the tables of the search: the classes of each item, and saved filters."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Float, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from visionops.review_store.tables import Base

__all__ = ["LABEL", "MODEL", "FindingRow", "SavedSearchRow"]

MODEL, LABEL = "model", "label"


class FindingRow(Base):
    """A class in the current prediction for an item, or in the newest decision that counts."""

    __tablename__ = "review_findings"
    __table_args__ = (
        CheckConstraint(f"said_by IN ('{MODEL}', '{LABEL}')", "said_by"),
        # Copies of two constant columns of the item, so that one index finds a class, newest first.
        Index(None, "use_case", "name", "added", "item"),
        Index(None, "said_by", "confidence"),
    )

    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"), primary_key=True)
    said_by: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    """A class, or ``attribute=class``."""
    confidence: Mapped[float] = mapped_column(Float(53))
    """Highest confidence of the class; 1 for a label."""
    use_case: Mapped[str]
    added: Mapped[datetime]


class SavedSearchRow(Base):
    """A saved filter."""

    __tablename__ = "review_searches"

    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    query: Mapped[str]
    at: Mapped[datetime]

"""Define the tables of embeddings, images of data sets, and what items resemble."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Float, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from visionops.review_store.tables import DIGEST, Base

__all__ = ["EmbeddingRow", "LikenessRow", "SeenRow"]


class EmbeddingRow(Base):
    """An embedding of an image. Rows are never changed or removed, because the indexes on disk are built from them."""

    __tablename__ = "review_embeddings"
    __table_args__ = (
        UniqueConstraint("use_case", "kind", "position"),
        CheckConstraint("position > 0", "position"),
    )

    use_case: Mapped[str] = mapped_column(ForeignKey("review_use_cases.name"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(DIGEST, primary_key=True)
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
    sha256: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    split: Mapped[str]
    name: Mapped[str]
    revision: Mapped[int]


class LikenessRow(Base):
    """Likeness of an item to known images."""

    __tablename__ = "review_likeness"
    __table_args__ = (
        CheckConstraint("(nearest IS NULL) = (distance IS NULL)", "nearest"),
        CheckConstraint("seen_in IN ('', 'train', 'val', 'test')", "seen_in"),
    )

    item: Mapped[str] = mapped_column(ForeignKey("review_items.id"), primary_key=True)
    kind: Mapped[str]
    nearest: Mapped[str | None] = mapped_column(DIGEST)
    name: Mapped[str]
    distance: Mapped[float | None] = mapped_column(Float(53))
    is_near: Mapped[bool]
    seen_in: Mapped[str]
    checked: Mapped[int]

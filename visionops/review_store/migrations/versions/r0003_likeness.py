"""Add embeddings of images, the images of data sets by their splits, and what items resemble."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables. Existing items are compared before the next export."""
    op.create_table(
        "review_embeddings",
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("position > 0", name=op.f("ck_review_embeddings_position")),
        sa.ForeignKeyConstraint(["use_case"], ["review_use_cases.name"], name=op.f("fk_review_embeddings_use_case")),
        sa.PrimaryKeyConstraint("use_case", "kind", "sha256", name=op.f("pk_review_embeddings")),
        sa.UniqueConstraint("use_case", "kind", "position", name=op.f("uq_review_embeddings_use_case_kind_position")),
    )
    op.create_table(
        "review_seen",
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("split IN ('train', 'val', 'test')", name=op.f("ck_review_seen_split")),
        sa.ForeignKeyConstraint(["use_case"], ["review_use_cases.name"], name=op.f("fk_review_seen_use_case")),
        sa.PrimaryKeyConstraint("use_case", "sha256", name=op.f("pk_review_seen")),
    )
    op.create_index("ix_review_seen_use_case_revision", "review_seen", ["use_case", "revision"], unique=False)
    op.create_table(
        "review_likeness",
        sa.Column("item", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("nearest", sa.String(length=64), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("distance", sa.Float(precision=53), nullable=True),
        sa.Column("is_near", sa.Boolean(), nullable=False),
        sa.Column("seen_in", sa.Text(), nullable=False),
        sa.Column("checked", sa.Integer(), nullable=False),
        sa.CheckConstraint("(nearest IS NULL) = (distance IS NULL)", name=op.f("ck_review_likeness_nearest")),
        sa.CheckConstraint("seen_in IN ('', 'train', 'val', 'test')", name=op.f("ck_review_likeness_seen_in")),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_likeness_item")),
        sa.PrimaryKeyConstraint("item", name=op.f("pk_review_likeness")),
    )

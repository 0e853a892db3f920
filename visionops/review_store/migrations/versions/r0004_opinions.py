"""Add second opinions, and the share of items that need two."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
# Table, column, and the constraints that come with it. SQLite adds a constraint to an existing table only together with
# a column. Creating the table anew would drop a table that others refer to, and foreign keys cannot be disabled inside
# a transaction.
_COLUMNS = (
    (
        "review_use_cases",
        "second_share FLOAT DEFAULT '0' NOT NULL",
        {"second_share": "second_share >= 0 AND second_share <= 1"},
    ),
    ("review_items", "first_reviewer TEXT", {"not_first": "holder <> first_reviewer"}),
    (
        "review_items",
        "second_reviewer TEXT",
        {
            "two_reviewers": "second_reviewer IS NULL OR second_reviewer <> first_reviewer",
            "first_reviewer": "second_reviewer IS NULL OR first_reviewer IS NOT NULL",
            "not_second": "holder <> second_reviewer",
        },
    ),
)


def upgrade() -> None:
    """Add the table of opinions, and the columns of items and use cases that belong to it."""
    for table, column, rules in _COLUMNS:
        constraints = " ".join(f"CONSTRAINT ck_{table}_{name} CHECK ({rule})" for name, rule in rules.items())
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} {constraints}")
    op.create_table(
        "review_opinions",
        sa.Column("item", sa.String(length=32), nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("label", _JSON, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.CheckConstraint("(verdict = 'reject') = (label IS NULL)", name=op.f("ck_review_opinions_label")),
        sa.CheckConstraint("number IN (1, 2, 3)", name=op.f("ck_review_opinions_number")),
        sa.CheckConstraint("verdict IN ('confirm', 'correct', 'reject')", name=op.f("ck_review_opinions_verdict")),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_opinions_item")),
        sa.PrimaryKeyConstraint("item", "round", "number", name=op.f("pk_review_opinions")),
        sa.UniqueConstraint("item", "round", "reviewer", name=op.f("uq_review_opinions_item_round_reviewer")),
    )
    op.create_index("ix_review_opinions_reviewer", "review_opinions", ["reviewer"], unique=False)

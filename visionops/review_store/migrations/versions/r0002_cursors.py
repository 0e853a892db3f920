"""Add the read positions of the intake in the segments of the logs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of cursors."""
    op.create_table(
        "review_cursors",
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("is_finished", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["use_case"], ["review_use_cases.name"], name=op.f("fk_review_cursors_use_case")),
        sa.PrimaryKeyConstraint("use_case", "log", "segment", name=op.f("pk_review_cursors")),
    )

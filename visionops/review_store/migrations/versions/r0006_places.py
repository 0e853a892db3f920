"""Add the current place of an item in the queue: its reasons and its prediction by the current model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Add the columns. For an item that was never prioritized they are empty, and its first arrival counts."""
    # Not in a batch, for which SQLite would create the table anew and refuse to drop one that others refer to.
    op.add_column("review_items", sa.Column("reasons", _JSON, nullable=True))
    op.add_column("review_items", sa.Column("model", sa.Text(), nullable=True))
    op.add_column("review_items", sa.Column("model_version", sa.Text(), nullable=True))
    op.add_column("review_items", sa.Column("answer", _JSON, nullable=True))

"""Add the runs of the control service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Create the table of runs."""
    op.create_table(
        "control_runs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("override", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("queued", _TIME, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started", _TIME, nullable=True),
        sa.Column("ended", _TIME, nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.Column("cancelled_at", _TIME, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("summary", _JSON, nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'lost')",
            name=op.f("ck_control_runs_state"),
        ),
        sa.CheckConstraint("kind IN ('retrain', 'promote', 'rollback')", name=op.f("ck_control_runs_kind")),
        sa.CheckConstraint("(state = 'running') = (owner IS NOT NULL)", name=op.f("ck_control_runs_owner")),
        sa.CheckConstraint("(state IN ('queued', 'running')) = (ended IS NULL)", name=op.f("ck_control_runs_ended")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_control_runs")),
    )
    op.create_index("ix_control_runs_state_queued", "control_runs", ["state", "queued"], unique=False)
    op.create_index("ix_control_runs_use_case_queued", "control_runs", ["use_case", "queued"], unique=False)
    for name, condition in (
        ("running", "state = 'running'"),
        ("waiting", "state = 'queued' AND kind = 'retrain'"),
    ):
        op.create_index(
            f"uq_control_runs_{name}",
            "control_runs",
            ["use_case"],
            unique=True,
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )

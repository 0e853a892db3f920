"""Create the first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "review_arrivals",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_review_arrivals")),
    )
    op.create_table(
        "review_images",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("num_bytes", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_review_images_digest")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_review_images")),
    )
    op.create_table(
        "review_use_cases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("scheme", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_review_use_cases")),
    )
    op.create_table(
        "review_versions",
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("num_items", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["use_case"], ["review_use_cases.name"], name=op.f("fk_review_versions_use_case")),
        sa.PrimaryKeyConstraint("use_case", "number", name=op.f("pk_review_versions")),
    )
    op.create_table(
        "review_items",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("added", _TIME, nullable=False),
        sa.Column("priority", sa.Float(precision=53), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.CheckConstraint("(state = 'claimed') = (lease_until IS NOT NULL)", name=op.f("ck_review_items_lease")),
        sa.CheckConstraint("(state = 'exported') = (version IS NOT NULL)", name=op.f("ck_review_items_exported")),
        sa.CheckConstraint("(state = 'pending') = (holder IS NULL)", name=op.f("ck_review_items_holder")),
        sa.CheckConstraint(
            "(state IN ('decided', 'exported')) = (verdict IS NOT NULL)", name=op.f("ck_review_items_decided")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'claimed', 'decided', 'exported')", name=op.f("ck_review_items_state")
        ),
        sa.CheckConstraint(
            "verdict IS NULL OR verdict IN ('confirm', 'correct', 'reject')", name=op.f("ck_review_items_verdict")
        ),
        sa.CheckConstraint("version IS NULL OR verdict <> 'reject'", name=op.f("ck_review_items_rejected")),
        sa.ForeignKeyConstraint(["sha256"], ["review_images.sha256"], name=op.f("fk_review_items_sha256")),
        sa.ForeignKeyConstraint(
            ["use_case", "version"],
            ["review_versions.use_case", "review_versions.number"],
            name=op.f("fk_review_items_use_case_version"),
        ),
        sa.ForeignKeyConstraint(["use_case"], ["review_use_cases.name"], name=op.f("fk_review_items_use_case")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_items")),
        sa.UniqueConstraint("use_case", "sha256", name=op.f("uq_review_items_use_case_sha256")),
    )
    op.create_index("ix_review_items_added_id", "review_items", ["added", "id"], unique=False)
    op.create_index(
        "ix_review_items_use_case_state_priority_added",
        "review_items",
        ["use_case", "state", "priority", "added"],
        unique=False,
    )
    op.create_table(
        "review_audit",
        sa.Column("item", sa.String(length=32), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("details", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_audit_item")),
        sa.PrimaryKeyConstraint("item", "revision", name=op.f("pk_review_audit")),
    )
    op.create_table(
        "review_decisions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("item", sa.String(length=32), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("label", _JSON, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.CheckConstraint("(verdict = 'reject') = (label IS NULL)", name=op.f("ck_review_decisions_label")),
        sa.CheckConstraint("verdict IN ('confirm', 'correct', 'reject')", name=op.f("ck_review_decisions_verdict")),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_decisions_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_decisions")),
        sa.UniqueConstraint("item", "round", name=op.f("uq_review_decisions_item_round")),
    )
    op.create_index("ix_review_decisions_reviewer", "review_decisions", ["reviewer"], unique=False)
    op.create_table(
        "review_submissions",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("item", sa.String(length=32), nullable=False),
        sa.Column("is_first", sa.Boolean(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("proposed", _JSON, nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("answer", _JSON, nullable=True),
        sa.Column("reasons", _JSON, nullable=False),
        sa.CheckConstraint(
            "origin IN ('traffic', 'upload', 'batch', 'import')", name=op.f("ck_review_submissions_origin")
        ),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_submissions_item")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_review_submissions")),
    )
    op.create_index("ix_review_submissions_item", "review_submissions", ["item"], unique=False)
    op.create_index("ix_review_submissions_reference", "review_submissions", ["reference"], unique=False)
    op.create_index(
        "uq_review_submissions_first",
        "review_submissions",
        ["item"],
        unique=True,
        sqlite_where=sa.text("is_first"),
        postgresql_where=sa.text("is_first"),
    )
    op.create_table(
        "review_writes",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("item", sa.String(length=32), nullable=True),
        sa.Column("answer", _JSON, nullable=False),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_writes_item")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_writes")),
    )
    op.create_table(
        "review_members",
        sa.Column("decision", sa.String(length=32), nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["decision"], ["review_decisions.id"], name=op.f("fk_review_members_decision")),
        sa.ForeignKeyConstraint(
            ["use_case", "version"],
            ["review_versions.use_case", "review_versions.number"],
            name=op.f("fk_review_members_use_case_version"),
        ),
        sa.PrimaryKeyConstraint("decision", name=op.f("pk_review_members")),
    )
    op.create_index("ix_review_members_use_case_version", "review_members", ["use_case", "version"], unique=False)

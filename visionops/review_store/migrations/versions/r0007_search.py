"""Add the classes of each item for the search, its indexes, and saved filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_BLOCK = 1000
_INDEXES = (
    ("review_items", ("use_case", "added", "id")),
    ("review_items", ("model_version",)),
    ("review_submissions", ("origin", "item")),
    ("review_submissions", ("model_version", "item")),
    ("review_decisions", ("verdict", "item")),
)


def upgrade() -> None:
    """Create tables and indexes, and add the classes of existing items."""
    findings = op.create_table(
        "review_findings",
        sa.Column("item", sa.String(length=32), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(precision=53), nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("added", _TIME, nullable=False),
        sa.CheckConstraint("said_by IN ('model', 'label')", name=op.f("ck_review_findings_said_by")),
        sa.ForeignKeyConstraint(["item"], ["review_items.id"], name=op.f("fk_review_findings_item")),
        sa.PrimaryKeyConstraint("item", "said_by", "name", name=op.f("pk_review_findings")),
    )
    op.create_table(
        "review_searches",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", name=op.f("pk_review_searches")),
    )
    for table, columns in _INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns), unique=False)
    block: list[dict[str, Any]] = []
    for row in _findings():
        block.append(row)
        if len(block) == _BLOCK:
            op.bulk_insert(findings, block)
            block.clear()
    op.bulk_insert(findings, block)
    op.create_index(
        "ix_review_findings_use_case_name_added_item",
        "review_findings",
        ["use_case", "name", "added", "item"],
        unique=False,
    )
    op.create_index("ix_review_findings_said_by_confidence", "review_findings", ["said_by", "confidence"], unique=False)


def _findings() -> Iterator[dict[str, Any]]:
    """Yield the rows of existing classes: the current prediction of each item, and its newest decision."""
    items = sa.table(
        "review_items",
        sa.column("id", sa.String),
        sa.column("use_case", sa.Text),
        sa.column("added", _TIME),
        sa.column("answer", _JSON),
    )
    submissions = sa.table(
        "review_submissions",
        sa.column("item", sa.String),
        sa.column("is_first", sa.Boolean),
        sa.column("answer", _JSON),
    )
    decisions = sa.table(
        "review_decisions",
        sa.column("item", sa.String),
        sa.column("round", sa.Integer),
        sa.column("label", _JSON),
    )
    connection = op.get_bind()
    first = sa.and_(submissions.c.item == items.c.id, submissions.c.is_first)
    answers = sa.select(items.c.id, items.c.use_case, items.c.added, items.c.answer, submissions.c.answer)
    for item, use_case, added, placed, arrived in _rows(connection, answers.join(submissions, first), items.c.id):
        yield from _rows_of(item, use_case, added, "model", arrived if placed is None else placed)
    newer = decisions.alias()
    is_newest = ~sa.exists().where(newer.c.item == decisions.c.item, newer.c.round > decisions.c.round)
    labels = sa.select(items.c.id, items.c.use_case, items.c.added, decisions.c.label)
    labels = labels.join(decisions, decisions.c.item == items.c.id).where(is_newest)
    for item, use_case, added, label in _rows(connection, labels, items.c.id):
        yield from _rows_of(item, use_case, added, "label", label)


def _rows(connection: sa.Connection, query: Any, key: Any) -> Iterator[Any]:
    """Yield rows in blocks, so that a large database needs little memory."""
    last = ""
    while rows := connection.execute(query.where(key > last).order_by(key).limit(_BLOCK)).all():
        yield from rows
        last = rows[-1][0]


def _rows_of(item: str, use_case: str, added: Any, said_by: str, said: Any) -> Iterator[dict[str, Any]]:
    found: dict[str, float] = {}
    _walk(said, found)
    for name, confidence in found.items():
        yield {
            "item": item,
            "said_by": said_by,
            "name": name,
            "confidence": confidence,
            "use_case": use_case,
            "added": added,
        }


def _walk(value: Any, found: dict[str, float]) -> None:
    """Record each class with its highest confidence, as `findings_in` did in the version of this schema."""
    if isinstance(value, list):
        for one in value:
            _walk(one, found)
    elif isinstance(value, dict):
        if isinstance(name := value.get("class_name"), str):
            _keep(name, value, found)
        for key, one in value.items():
            if key != "attributes" or not isinstance(one, dict):
                _walk(one, found)
                continue
            for question, answer in one.items():
                if isinstance(answer, str):
                    _keep(f"{question}={answer}", {}, found)
                elif isinstance(answer, dict) and isinstance(name := answer.get("class_name"), str):
                    _keep(f"{question}={name}", answer, found)


def _keep(name: str, said: dict[str, Any], found: dict[str, float]) -> None:
    confidence = said.get("confidence", 1.0)
    confidence = float(confidence) if isinstance(confidence, int | float) else 1.0
    found[name] = max(confidence, found.get(name, confidence))

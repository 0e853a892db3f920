"""Define the table of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from visionops.review_store.tables import Base, among
from visionops.runs.states import Kind, RunState

__all__ = ["RunRow"]


class RunRow(Base):
    """A run and its audit: who requested it and why, who cancelled it, and how it ended."""

    __tablename__ = "control_runs"
    __table_args__ = (
        CheckConstraint(among("state", RunState), "state"),
        CheckConstraint(among("kind", Kind), "kind"),
        CheckConstraint("(state = 'running') = (owner IS NOT NULL)", "owner"),
        CheckConstraint("(state IN ('queued', 'running')) = (ended IS NULL)", "ended"),
        Index(None, "state", "queued"),
        Index(None, "use_case", "queued"),
        # At most one running run and one waiting training for a use case, enforced by the database.
        Index(
            "uq_control_runs_running",
            "use_case",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        Index(
            "uq_control_runs_waiting",
            "use_case",
            unique=True,
            sqlite_where=text("state = 'queued' AND kind = 'retrain'"),
            postgresql_where=text("state = 'queued' AND kind = 'retrain'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    content: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the request, which detects the reuse of a key for another one."""
    kind: Mapped[str]
    use_case: Mapped[str]
    reason: Mapped[str]
    version: Mapped[str]
    override: Mapped[bool]
    actor: Mapped[str]
    queued: Mapped[datetime]
    state: Mapped[str]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    place: Mapped[str | None]
    cancelled_by: Mapped[str | None]
    cancelled_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    message: Mapped[str]
    summary: Mapped[dict[str, Any] | None]

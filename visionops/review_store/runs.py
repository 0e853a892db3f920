"""`SqlRunStore`: queue of runs in the review database.

Two services on one database never start the same run: its row is locked while its state changes to running, and a
unique index allows one running run for a use case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.orm import Session

from visionops.review.checks import digest_of, in_utc
from visionops.review.errors import Conflict, Invalid, KeyReused, NotFound, WrongState
from visionops.review_store.database import Database
from visionops.review_store.run_models import RunRow
from visionops.review_store.schema import prepare
from visionops.review_store.writes import count_rows
from visionops.runs.states import ENDED, Kind, Run, RunRequest, RunState, advance, run_id

__all__ = ["MOST_LISTED", "SqlRunStore"]

MOST_LISTED = 500
"""Runs on a page."""
_MOST_QUEUED = 1000


class SqlRunStore:
    """Implements `visionops.runs.ports.RunStore`.

    Raises:
        OtherSchema: The database has the schema of another version.
        Unavailable: It cannot be reached or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        prepare(database)

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    def add(
        self, run_request: RunRequest, actor: str, key: str, now: datetime, check: Callable[[datetime | None], None]
    ) -> Run:
        """See `RunStore`."""
        run = Run(run_id(actor, key), run_request, actor, in_utc(now))
        content = digest_of(dataclasses.asdict(run_request))
        return self._database.write(lambda session: _add(session, run, content, check))

    def run(self, run: str) -> Run:
        """See `RunStore`."""
        return self._database.read(lambda session: _run_of(_found(session, run)))

    def runs(self, use_case: str | None = None, limit: int = 50, after: str | None = None) -> list[Run]:
        """See `RunStore`."""
        if not 1 <= limit <= MOST_LISTED:
            raise Invalid(f"limit: {limit} is not from 1 to {MOST_LISTED}")

        def work(session: Session) -> list[Run]:
            query = select(RunRow).order_by(RunRow.queued.desc(), RunRow.id.desc()).limit(limit)
            if use_case is not None:
                query = query.where(RunRow.use_case == use_case)
            if after is not None:
                last = _found(session, after)
                same = and_(RunRow.queued == last.queued, RunRow.id < last.id)
                query = query.where(or_(RunRow.queued < last.queued, same))
            return [_run_of(row) for row in session.scalars(query)]

        return self._database.read(work)

    def last_training(self, use_case: str) -> datetime | None:
        """See `RunStore`."""
        return self._database.read(lambda session: _last_training(session, use_case))

    def take(self, owner: str, place: str, now: datetime, until: datetime) -> Run | None:
        """See `RunStore`."""

        def work(session: Session) -> Run | None:
            busy = select(RunRow.use_case).where(RunRow.state == RunState.RUNNING.value)
            row = session.scalar(
                select(RunRow)
                .where(RunRow.state == RunState.QUEUED.value, RunRow.use_case.not_in(busy))
                .order_by(RunRow.queued, RunRow.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            if row is None:
                return None
            run = advance(_run_of(row), RunState.RUNNING, now, owner=owner, place=place, lease_until=in_utc(until))
            return _write(session, run, RunState.QUEUED)

        return self._database.write(work)

    def hold(self, owner: str, place: str, now: datetime, until: datetime) -> list[Run]:
        """See `RunStore`."""

        def work(session: Session) -> list[Run]:
            free = and_(RunRow.place == place, RunRow.lease_until <= in_utc(now))
            rows = session.scalars(
                select(RunRow)
                .where(RunRow.state == RunState.RUNNING.value, or_(RunRow.owner == owner, free))
                .order_by(RunRow.queued, RunRow.id)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                row.owner, row.lease_until = owner, in_utc(until)
            session.flush()
            return [_run_of(row) for row in rows]

        return self._database.write(work)

    def end(self, run: Run) -> bool:
        """See `RunStore`."""
        return self._database.write(lambda session: _write(session, run, RunState.RUNNING) is not None)

    def cancel(self, run: str, actor: str, now: datetime) -> Run:
        """See `RunStore`."""

        def work(session: Session) -> Run:
            row = session.get(RunRow, run, with_for_update=True)
            found = _run_of(row or _found(session, run))
            if found.cancelled_at is not None:
                return found
            if found.state in ENDED:
                raise WrongState(
                    f"run {run}: has already {found.state}"
                    if found.state is not RunState.LOST
                    else f"run {run}: is lost; there is nothing to cancel"
                )
            changes: dict[str, Any] = {"cancelled_by": actor, "cancelled_at": in_utc(now)}
            if found.state is RunState.RUNNING:
                return _write(session, dataclasses.replace(found, **changes), found.state) or found
            message = "cancelled before it began"
            after = advance(found, RunState.CANCELLED, now, message=message, **changes)
            return _write(session, after, found.state) or found

        return self._database.write(work)

    def waiting(self) -> tuple[int, int]:
        """See `RunStore`."""
        queued = select(func.count()).select_from(RunRow).where(RunRow.state == RunState.QUEUED.value)
        busy = select(RunRow.use_case).where(RunRow.state == RunState.RUNNING.value)

        def work(session: Session) -> tuple[int, int]:
            free = queued.where(RunRow.use_case.not_in(busy))
            return session.scalar(queued) or 0, session.scalar(free) or 0

        return self._database.read(work)

    def ping(self) -> None:
        """See `RunStore`."""
        self._database.read(lambda session: session.scalar(select(RunRow.id).limit(1)))


def _add(session: Session, run: Run, content: str, check: Callable[[datetime | None], None]) -> Run:
    row = session.get(RunRow, run.id)
    if row is not None:
        if row.content != content:
            raise KeyReused(f"key: {run.actor} used it for another run at {row.queued:%Y-%m-%d %H:%M:%S} UTC")
        return _run_of(row)
    if run.request.kind is Kind.RETRAIN:
        waiting = select(RunRow.id).where(
            RunRow.use_case == run.request.use_case,
            RunRow.kind == Kind.RETRAIN.value,
            RunRow.state == RunState.QUEUED.value,
        )
        if (other := session.scalar(waiting)) is not None:
            raise Conflict(f"{run.request.use_case}: training run {other} is already waiting; wait for it or cancel it")
        check(_last_training(session, run.request.use_case))
    queued = select(func.count()).select_from(RunRow).where(RunRow.state == RunState.QUEUED.value)
    if (session.scalar(queued) or 0) >= _MOST_QUEUED:
        raise Conflict(f"the queue has {_MOST_QUEUED} runs; cancel some")
    session.execute(insert(RunRow).values(id=run.id, content=content, **_columns(run)))
    return run


def _last_training(session: Session, use_case: str) -> datetime | None:
    """Return when the last training that was not cancelled or lost ended, or when the running one began."""
    counted = [RunState.RUNNING.value, RunState.SUCCEEDED.value, RunState.FAILED.value]
    found: datetime | None = session.scalar(
        select(func.max(func.coalesce(RunRow.ended, RunRow.started), type_=RunRow.queued.type)).where(
            RunRow.use_case == use_case, RunRow.kind == Kind.RETRAIN.value, RunRow.state.in_(counted)
        )
    )
    return found


def _found(session: Session, run: str) -> RunRow:
    row = session.get(RunRow, run)
    if row is None:
        raise NotFound(f"run {run}: does not exist; GET /runs lists all runs")
    return row


def _write(session: Session, run: Run, before: RunState) -> Run | None:
    same = and_(RunRow.id == run.id, RunRow.state == before.value)
    statement = update(RunRow).where(same).values(**_columns(run)).execution_options(synchronize_session=False)
    return run if count_rows(session, statement) == 1 else None


def _columns(run: Run) -> dict[str, Any]:
    run_request = run.request
    names = ("actor", "queued", "started", "ended", "owner", "lease_until", "place", "cancelled_by", "cancelled_at")
    return {
        "kind": run_request.kind.value,
        "use_case": run_request.use_case,
        "reason": run_request.reason,
        "version": run_request.version,
        "override": run_request.override,
        "state": run.state.value,
        "summary": None if run.summary is None else dict(run.summary),
        **{name: getattr(run, name) for name in (*names, "exit_code", "message")},
    }


def _run_of(row: RunRow) -> Run:
    return Run(
        id=row.id,
        request=RunRequest(Kind(row.kind), row.use_case, row.reason, row.version, row.override),
        actor=row.actor,
        queued=row.queued,
        state=RunState(row.state),
        started=row.started,
        ended=row.ended,
        owner=row.owner,
        lease_until=row.lease_until,
        place=row.place,
        cancelled_by=row.cancelled_by,
        cancelled_at=row.cancelled_at,
        exit_code=row.exit_code,
        message=row.message,
        summary=row.summary,
    )

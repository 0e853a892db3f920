"""Store embeddings, the images of data sets, and what items resemble, in the review database.

Positions of embeddings have no gaps and become visible in order, because an index reads only those behind its last one.
So only one transaction at a time adds embeddings to a use case; a unique key enforces it, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update
from sqlalchemy.orm import Session

from visionops.review.checks import digest_of
from visionops.review.likeness import Compared, ComparedWith, KnownImage, SeenImage, UncheckedItem
from visionops.review.states import State
from visionops.review_store.database import Database
from visionops.review_store.likeness_models import EmbeddingRow, LikenessRow, SeenRow
from visionops.review_store.models import ItemRow, SubmissionRow
from visionops.review_store.reading import labelled
from visionops.review_store.rows import likeness_columns, likeness_of
from visionops.similarity.growing import Stored

__all__ = ["SqlLikenessStore", "keep_likeness"]


class SqlLikenessStore:
    """Implements `visionops.review.likeness.LikenessStore`.

    Args:
        database: Database with the newest schema.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def digests(self, use_case: str, kind: str, last: int) -> Sequence[str]:
        """See `LikenessStore`."""
        query = (
            select(EmbeddingRow.sha256)
            .where(_of(use_case, kind), EmbeddingRow.position <= last)
            .order_by(EmbeddingRow.position)
        )
        return self._database.read(lambda session: session.scalars(query).all())

    def after(self, use_case: str, kind: str, position: int, limit: int) -> Sequence[Stored]:
        """See `LikenessStore`."""
        query = (
            select(EmbeddingRow.position, EmbeddingRow.sha256, EmbeddingRow.vector)
            .where(_of(use_case, kind), EmbeddingRow.position > position)
            .order_by(EmbeddingRow.position)
            .limit(limit)
        )
        return self._database.read(lambda session: [Stored(*row) for row in session.execute(query)])

    def revision(self, use_case: str) -> int:
        """See `LikenessStore`."""
        return self._database.read(lambda session: _revision(session, use_case))

    def seen(self, use_case: str, splits: Collection[str], kind: str) -> list[tuple[SeenImage, bytes]]:
        """See `LikenessStore`."""
        same = and_(EmbeddingRow.use_case == SeenRow.use_case, EmbeddingRow.sha256 == SeenRow.sha256)
        query = (
            select(SeenRow, EmbeddingRow.vector)
            .join(EmbeddingRow, and_(same, EmbeddingRow.kind == kind))
            .where(SeenRow.use_case == use_case, SeenRow.split.in_(sorted(splits)))
            .order_by(SeenRow.sha256)
        )
        return self._database.read(
            lambda session: [
                (SeenImage(row.sha256, row.split, row.name), vector) for row, vector in session.execute(query)
            ]
        )

    def known(self, use_case: str, digests: Sequence[str]) -> Mapping[str, KnownImage]:
        """See `LikenessStore`."""
        in_review = (
            select(ItemRow.sha256, ItemRow.id, ItemRow.state, SubmissionRow.name)
            .join(SubmissionRow, and_(SubmissionRow.item == ItemRow.id, SubmissionRow.is_first))
            .where(ItemRow.use_case == use_case, ItemRow.sha256.in_(digests))
        )
        in_data = select(SeenRow).where(SeenRow.use_case == use_case, SeenRow.sha256.in_(digests))

        def work(session: Session) -> dict[str, KnownImage]:
            found = {
                d: KnownImage(d, item, State(state), "", name) for d, item, state, name in session.execute(in_review)
            }
            for row in session.scalars(in_data):
                item = found.get(row.sha256, KnownImage(row.sha256))
                found[row.sha256] = KnownImage(row.sha256, item.item, item.state, row.split, row.name)
            return found

        return self._database.read(work)

    def at(self, use_case: str, kind: str, positions: Sequence[int]) -> Mapping[int, str]:
        """See `LikenessStore`."""
        query = select(EmbeddingRow.position, EmbeddingRow.sha256).where(
            _of(use_case, kind), EmbeddingRow.position.in_(positions)
        )
        return self._database.read(lambda session: dict(session.execute(query).tuples().all()))

    def without_vector(self, use_case: str, kind: str, digests: Sequence[str]) -> set[str]:
        """See `LikenessStore`."""
        query = select(EmbeddingRow.sha256).where(_of(use_case, kind), EmbeddingRow.sha256.in_(digests))
        return set(digests) - self._database.read(lambda session: set(session.scalars(query)))

    def know(self, use_case: str, kind: str, images: Iterable[tuple[SeenImage, bytes | None]]) -> int:
        """See `LikenessStore`."""
        rows = list(images)
        return self._database.write(lambda session: _know(session, use_case, kind, rows))

    def unchecked(
        self, use_case: str, compared: ComparedWith, limit: int, *, decided: bool = False
    ) -> list[UncheckedItem]:
        """See `LikenessStore`."""
        kind = compared.kind
        behind = or_(LikenessRow.item.is_(None), LikenessRow.kind != kind, LikenessRow.checked < compared.revision)
        wanted = labelled() if decided else ItemRow.state != State.EXPORTED.value
        same = and_(EmbeddingRow.use_case == ItemRow.use_case, EmbeddingRow.sha256 == ItemRow.sha256)
        query = (
            select(ItemRow.id, ItemRow.sha256, EmbeddingRow.vector, LikenessRow)
            .outerjoin(EmbeddingRow, and_(same, EmbeddingRow.kind == kind))
            .outerjoin(LikenessRow, LikenessRow.item == ItemRow.id)
            .where(ItemRow.use_case == use_case, wanted, behind)
            .order_by(ItemRow.id)
            .limit(limit)
        )
        return self._database.read(
            lambda session: [
                UncheckedItem(item, sha256, vector, None if row is None else likeness_of(row))
                for item, sha256, vector, row in session.execute(query).tuples()
            ]
        )

    def check(self, use_case: str, found: Mapping[str, tuple[str, Compared]]) -> None:
        """See `LikenessStore`."""

        def work(session: Session) -> None:
            for item, (_, compared) in sorted(found.items()):
                same = LikenessRow.item == item
                if session.scalar(select(LikenessRow.item).where(same)) is not None:
                    # Another process may have compared it with a later revision.
                    earlier = or_(
                        LikenessRow.kind != compared.likeness.kind, LikenessRow.checked < compared.likeness.checked
                    )
                    columns = likeness_columns(compared.likeness)
                    session.execute(update(LikenessRow).where(same, earlier).values(**columns))
            for item, (sha256, compared) in sorted(found.items()):
                keep_likeness(session, use_case, item, sha256, compared)

        self._database.write(work)


def keep_likeness(session: Session, use_case: str, item: str, sha256: str, compared: Compared) -> None:
    """Store what a new item resembles, and its embedding; existing rows stay unchanged."""
    if session.scalar(select(LikenessRow.item).where(LikenessRow.item == item)) is None:
        session.execute(insert(LikenessRow).values(item=item, **likeness_columns(compared.likeness)))
    if compared.vector:
        _keep_vectors(session, use_case, compared.likeness.kind, {sha256: compared.vector})


def _of(use_case: str, kind: str) -> ColumnElement[bool]:
    return and_(EmbeddingRow.use_case == use_case, EmbeddingRow.kind == kind)


def _revision(session: Session, use_case: str) -> int:
    return session.scalar(select(func.max(SeenRow.revision)).where(SeenRow.use_case == use_case)) or 0


def _hold(session: Session, use_case: str) -> None:
    """Block every other transaction from numbering embeddings and images of a use case until this one ends."""
    if session.get_bind().dialect.name == "postgresql":
        # SQLite allows only one writing transaction at a time anyway.
        session.execute(select(func.pg_advisory_xact_lock(int(digest_of("embeddings", use_case)[:15], 16))))


def _keep_vectors(session: Session, use_case: str, kind: str, vectors: Mapping[str, bytes]) -> None:
    query = select(EmbeddingRow.sha256).where(_of(use_case, kind), EmbeddingRow.sha256.in_(list(vectors)))
    if not vectors.keys() - set(session.scalars(query)):
        return
    _hold(session, use_case)
    present = set(session.scalars(query))
    last = session.scalar(select(func.max(EmbeddingRow.position)).where(_of(use_case, kind))) or 0
    new = [sha256 for sha256 in vectors if sha256 not in present]
    rows = [
        {"use_case": use_case, "kind": kind, "sha256": sha256, "position": last + number, "vector": vectors[sha256]}
        for number, sha256 in enumerate(new, 1)
    ]
    if rows:
        session.execute(insert(EmbeddingRow), rows)


def _know(session: Session, use_case: str, kind: str, images: Sequence[tuple[SeenImage, bytes | None]]) -> int:
    # Images of one revision become visible together, so whoever has read a revision has all of it.
    _hold(session, use_case)
    wanted = {seen.sha256: seen for seen, _ in images}
    query = select(SeenRow).where(SeenRow.use_case == use_case, SeenRow.sha256.in_(list(wanted)))
    known = {row.sha256: row for row in session.scalars(query)}
    vectors = {seen.sha256: vector for seen, vector in images if vector is not None}
    _keep_vectors(session, use_case, kind, vectors)
    revision = _revision(session, use_case) + 1
    changed = 0
    for sha256, seen in wanted.items():
        row = known.get(sha256)
        if row is None:
            session.execute(
                insert(SeenRow).values(
                    use_case=use_case, sha256=sha256, split=seen.split, name=seen.name, revision=revision
                )
            )
        elif row.split != seen.split:
            row.split, row.name, row.revision = seen.split, seen.name, revision
        else:
            continue
        changed += 1
    return changed

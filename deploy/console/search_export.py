"""Route `GET /api/search/export`: export the items that match a filter, as a table or as a data set with images."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from deploy.console.components.boxes import describe_prediction
from deploy.console.context import Console
from deploy.console.pages.search import resolved
from visionops.data.settings import Format
from visionops.review.errors import Invalid, NotFound
from visionops.review.exchange import EXPORTS, write_export
from visionops.review.items import ReviewItem
from visionops.review.searching import MOST_EXPORTED, Search

__all__ = ["export_router"]

_TABLE = "table"
_COLUMNS = ("item", "sha256", "name", "added", "source", "reference", "state", "verdict", "model", "version", "answer")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters with which a spreadsheet formula begins."""


def export_router(console: Console) -> APIRouter:
    """Return the export route over ``console``."""
    router = APIRouter(prefix="/api")

    @router.get("/search/export", response_class=Response)
    def export(request: Request) -> Response:
        """Return up to 10,000 items: all as a table with `format=table`, otherwise the decided ones as a ZIP."""
        pairs = list(request.query_params.multi_items())
        format_ = request.query_params.get("format", _TABLE)
        search = resolved(console, Search.from_query(pairs))
        if format_ == _TABLE:
            headers = {"Content-Disposition": 'attachment; filename="found.csv"'}
            return Response(_table(_found(console, search)), media_type="text/csv; charset=utf-8", headers=headers)
        if format_ not in {one.value for one in EXPORTS}:
            raise Invalid(f"format: {format_[:40]!r} is not one of {_TABLE}, {', '.join(EXPORTS)}")
        folder = Path(tempfile.mkdtemp(prefix="visionops-found-"))
        try:
            archive = _archive(console, search, Format(format_), folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        clean = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(archive, media_type="application/zip", filename=archive.name, background=clean)

    return router


def _found(console: Console, search: Search) -> Iterator[ReviewItem]:
    for item in console.review.store.search_ids(search):
        yield console.review.store.item(item)


def _archive(console: Console, search: Search, format_: Format, folder: Path) -> Path:
    """Write the decided items to a data set, and pack it.

    Raises:
        NotFound: No item has a label.
        Invalid: The format does not support the labels, or the filter has no use case.
    """
    if search.use_case is None:
        raise Invalid("use_case: is missing; labels are exported for one use case at a time")
    wanted = set(console.review.store.search_ids(search))
    decided = [
        (one.item, one.decision)
        for one in console.review.store.decided(search.use_case)
        if one.item.id in wanted and one.decision.label is not None
    ]
    if not decided:
        raise NotFound(f"export: none of the {len(wanted)} found images has a label; decide some, or export the table")
    write_export(console.review, search.use_case, decided, format_, folder / "found")
    left_out = len(wanted) - len(decided)
    note = f"{len(decided)} labelled images of {len(wanted)} found; {left_out} have no label and are left out"
    if len(wanted) == MOST_EXPORTED:
        note += f"; at most {MOST_EXPORTED} are exported"
    (folder / "found" / "README.txt").write_text(f"{note}.\nFilter: {search.query()}\n", encoding="utf-8")
    return Path(shutil.make_archive(str(folder / f"found-{format_.value}"), "zip", folder / "found"))


def _table(items: Iterator[ReviewItem]) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(_COLUMNS)
    for item in items:
        first, status, said = item.first, item.status, item.predicted
        row = (item.id, first.image.sha256, first.name, item.added.isoformat(), first.origin.value, first.reference)
        state = (status.state.value, status.verdict.value if status.verdict else "")
        model = (said.model, said.version, describe_prediction(said.answer)) if said else ("", "", "")
        rows.writerow([_cell(value) for value in (*row, *state, *model)])
    return text.getvalue()


def _cell(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value

"""Route `GET /api/data/{use_case}/{card}`: HTML reports of runs, shown in a frame without scripts."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from deploy.console.context import Console
from visionops.review.errors import NotFound

__all__ = ["CARDS", "cards_router"]

CARDS: Final = {"validation": "Data card", "labels": "Label audit"}
CARD_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of a report, which contains names and texts of a data set: no script, form or request."""


def cards_router(console: Console) -> APIRouter:
    """Return the route over ``console``."""
    router = APIRouter(prefix="/api")

    @router.get("/data/{use_case}/{card}", response_class=Response)
    def card(use_case: str, card: str, request: Request) -> Response:
        """Return a report on the data of a use case: ``validation`` or ``labels``."""
        if card not in CARDS:
            raise NotFound(f"{card[:40]}: unknown report; expected one of {', '.join(CARDS)}")
        console.use_cases.find(use_case)
        page = console.facts.get("data_card", name=use_case, card=card)
        if not page:
            raise NotFound(f"{use_case}: no run has stored a {CARDS[card].lower()}")
        request.state.content_policy = CARD_POLICY
        return Response(page, media_type="text/html; charset=utf-8")

    return router

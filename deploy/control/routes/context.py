"""Provide the services that all routes share, and the dependencies that read a request."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request
from pydantic import BaseModel, ValidationError

from deploy.control.metrics import ControlMetrics
from deploy.control.options import ControlOptions
from deploy.control.work import Work
from deploy.http.errors import BadRequest, UnsupportedMedia, first_problem
from deploy.http.keys import KeyRing, KeyRole
from deploy.http.uploads import read_body
from visionops.review.states import Actor

__all__ = [
    "UPLOAD_BODY",
    "ActorOf",
    "Control",
    "IdempotencyKey",
    "actor_of",
    "body_of",
    "json_request",
    "refusals",
    "searchable",
]

LOCAL = "local"
"""Name of a client on this machine that sends no key."""
_MOST_JSON = 2_500_000
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_Body = TypeVar("_Body", bound=BaseModel)
_WORDS = {
    400: "The request is not valid HTTP, or has an invalid header.",
    401: "The key is missing or wrong.",
    403: "The role of the key does not allow this.",
    404: "The object does not exist.",
    408: "The body did not arrive in time.",
    409: "The state of the object does not allow this.",
    413: "The body is too large.",
    415: "The content type is not supported.",
    422: "A parameter or the body is invalid.",
    429: "Too many requests.",
    503: "The database, the images or the registry cannot be reached.",
}
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}


@dataclasses.dataclass(frozen=True, slots=True)
class Control(Work):
    """Services, options, keys and metrics of one application."""

    options: ControlOptions
    keys: KeyRing
    metrics: ControlMetrics


async def actor_of(request: Request) -> Actor:
    """Return the sender of a request: the id of its key."""
    state = request.scope["state"]
    return Actor(str(state.get("key", LOCAL)), is_admin=state.get("role") is KeyRole.ADMIN)


async def _idempotency_key(
    given: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="A write that is repeated with the same key is done only once."),
    ] = None,
) -> str:
    if given is None:
        return uuid.uuid4().hex
    if not _KEY.fullmatch(given):
        raise BadRequest("Idempotency-Key: expected 1 to 200 visible ASCII characters without spaces", "bad_key")
    return given


ActorOf = Annotated[Actor, Depends(actor_of)]
IdempotencyKey = Annotated[str, Depends(_idempotency_key)]


def body_of(kind: type[_Body]) -> Callable[[Request], Awaitable[_Body]]:
    """Return a dependency that reads a JSON body within a limit; a missing body counts as an empty object."""

    async def read(request: Request) -> _Body:
        data = await read_body(request, _MOST_JSON)
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if data and media != "application/json":
            raise UnsupportedMedia(f"content type {media or 'none'!r}; send application/json")
        try:
            return kind.model_validate_json(data or b"{}")
        except ValidationError as error:
            raise BadRequest(first_problem(error.errors(include_url=False)), "bad_body") from error

    return read


def json_request(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the entry of a JSON body in `/openapi.json`."""
    schema = kind.model_json_schema()
    required = bool(schema.get("required"))
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of errors in `/openapi.json`: those of every route, and ``statuses``."""
    content = {"application/json": {"schema": _ERROR}}
    wanted = sorted({400, 401, 403, 422, 429, 503, *statuses})
    return {status: {"description": _WORDS[status], "content": content} for status in wanted}


def searchable(text: str | None) -> str | None:
    """Return a text that every database can search for; replace one that cannot be stored by one that never matches."""
    return text if text is None else text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()

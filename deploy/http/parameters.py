"""Refuse query parameters that a route does not have, on every route of an application.

>>> app = FastAPI(dependencies=[Depends(refuse_unknown_parameters)])
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection

from deploy.http.errors import BadRequest
from visionops.suggestions import suggest_name

__all__ = ["refuse_unknown_parameters"]

_LONGEST = 100
"""Characters of a name that a message repeats."""


async def refuse_unknown_parameters(connection: HTTPConnection) -> None:
    """Check the names in the query of a request against those that its route declares.

    Raises:
        BadRequest: A name is unknown; the message has the nearest known one, or lists them.
    """
    query: bytes = connection.scope["query_string"]
    if not query:
        return
    known = _declared(connection.scope["route"].dependant)
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace"):
        if name not in known:
            path = connection.scope["path"]
            advice = suggest_name(name, known) if known else "this path takes none"
            raise BadRequest(f"{path}: unknown query parameter {name[:_LONGEST]!r}; {advice}", "bad_parameter")


def _declared(dependant: Dependant) -> list[str]:
    """Return the names of the query parameters of a route and its dependencies, in order."""
    names = [field.alias for field in dependant.query_params]
    for below in dependant.dependencies:
        names += _declared(below)
    return names

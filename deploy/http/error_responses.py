"""Build the response to a refused request."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from deploy.http.errors import ApiError, status_and_code
from visionops.errors import VisionOpsError

__all__ = ["refusal", "refusal_of"]


def refusal(path: str, error: VisionOpsError) -> JSONResponse:
    """Return the response to a request for ``path`` that ended in ``error``."""
    status, code = status_and_code(error)
    headers = error.headers if isinstance(error, ApiError) else None
    return refusal_of(path, status, code, str(error), headers)


def refusal_of(
    path: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the response to a refused request for ``path``; the Open Inference Protocol has its own format."""
    body = (
        {"error": message}
        if path == "/v2" or path.startswith("/v2/")
        else {"error": {"code": code, "message": message}}
    )
    return JSONResponse(body, status_code=status, headers=headers)

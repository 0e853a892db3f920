"""Routes of the page Predict: send an image to the endpoint of a use case, or into review if the answer is wrong."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deploy.console.context import Console, Viewer, viewer_of
from deploy.http.errors import ApiError, BadRequest
from deploy.http.uploads import read_form, read_upload
from visionops.errors import VisionOpsError, one_line
from visionops.review.errors import Invalid, NotFound, Unavailable
from visionops.review.intake import FEEDBACK_PRIORITY
from visionops.review.items import Origin, Predicted, Reason, UseCase
from visionops.review.service import Arrival
from visionops.tasks.labelling import LabelScheme, Question

__all__ = ["API_KEY", "endpoint_of", "predictions_router", "start_command", "threshold_of"]

API_KEY: Final = "VISIONOPS_CONSOLE_ENDPOINT_KEY"
"""Variable with the API key for endpoints that require one, which is never sent to a page."""
_SECONDS = 60
_MOST_JSON = 1_000_000
_MODEL_FIELDS = frozenset({"model", "image", "timing_ms"})
"""Fields of an answer that are the same for every task."""
_OF_THE_IMAGE = frozenset({400, 413, 415, 422})
_REFERENCE = "console"
_LOWEST = "0.05"
"""Confidence threshold of requests to a detector; the page hides boxes below its slider."""


class EndpointFailed(ApiError):
    """The endpoint answers with an error, or requires a key."""

    status = 502
    code = "endpoint_failed"


class EndpointRefused(ApiError):
    """The endpoint refuses the image; the message has its reason."""

    status = 422
    code = "endpoint_refused"


def endpoint_of(console: Console, use_case: str, *, fresh: bool = False) -> Mapping[str, Any] | None:
    """Return the endpoint of a use case from the stack's deployer; None if there is none.

    Raises:
        Unavailable: ZenML does not answer.
    """
    found: Mapping[str, Any] = console.facts.get("endpoints", fresh=fresh)
    return next((one for one in found["endpoints"] if one["name"] == use_case and one["url"]), None)


def predictions_router(console: Console) -> APIRouter:
    """Return the routes over ``console``."""
    router = APIRouter(prefix="/api/predict")
    limit = console.options.max_upload_bytes

    @router.post("/{use_case}")
    async def predict(use_case: str, request: Request) -> Response:
        """Return the unchanged answer of the endpoint for an image."""
        data = await read_upload(request, limit)
        try:
            answer = await run_in_threadpool(_request, console, use_case, "/predict", data)
        except VisionOpsError:
            console.metrics.predicted(is_ok=False)
            raise
        console.metrics.predicted(is_ok=True)
        return Response(answer, media_type="application/json")

    @router.post("/{use_case}/explanation", response_class=Response)
    async def explanation(use_case: str, request: Request) -> Response:
        """Return a picture that explains the answer."""
        data = await read_upload(request, limit)
        picture = await run_in_threadpool(_request, console, use_case, "/explain", data, format="png")
        return Response(picture, media_type="image/png")

    @router.post("/{use_case}/wrong", status_code=201)
    async def wrong(use_case: str, request: Request) -> JSONResponse:
        """Put an image into review, with its answer and a comment: fields file, answer, comment."""
        form = await read_form(request, limit, _MOST_JSON)
        if form.file is None:
            raise BadRequest("the form has no file named 'file'", "missing_file")
        viewer = viewer_of(request)
        added = await run_in_threadpool(_send, console, viewer, use_case, form.file, form.name, form.texts)
        return JSONResponse(added, status_code=201)

    return router


def _request(console: Console, use_case: str, path: str, data: bytes, **options: str) -> bytes:
    """Send an image to the endpoint of a use case and return the answer.

    Raises:
        NotFound: The use case has no endpoint; the message has the command that starts one.
        EndpointRefused: The endpoint refuses the image.
        EndpointFailed: The endpoint answers with an error.
        Unavailable: The endpoint does not answer.
    """
    endpoint = endpoint_of(console, use_case)
    if endpoint is None:
        raise NotFound(f"{use_case}: no endpoint is running; start it with {start_command(console, use_case)}")
    url = endpoint["url"]
    if path == "/predict" and "thresholds" in _describe(url, use_case):
        # Includes boxes of low confidence, which the page's slider hides without another request.
        options["conf"] = _LOWEST
    answer = _call("POST", f"{url}{path}", use_case, params=options, content=data)
    return answer.content


def threshold_of(endpoint: Mapping[str, Any]) -> float:
    """Return the confidence threshold of an endpoint's model; 0 if it has none.

    Raises:
        Unavailable: The endpoint does not answer.
        EndpointFailed: The endpoint answers with an error.
    """
    thresholds = _describe(endpoint["url"], endpoint["name"]).get("thresholds") or {}
    return float(thresholds.get("confidence", 0))


def start_command(console: Console, use_case: str) -> str:
    """Return the command that serves the champion of a use case.

    Raises:
        NotFound: No file defines the use case.
    """
    return f"visionops deploy --config {console.use_cases.find(use_case).path}"


def _describe(url: str, use_case: str) -> dict[str, Any]:
    """Return an endpoint's description of its model."""
    try:
        found: dict[str, Any] = _call("GET", f"{url}/model", use_case).json()
    except ValueError as error:
        raise EndpointFailed(f"{use_case}: {_origin(url)} is not a VisionOps server; deploy the model again") from error
    return {name: value for name, value in found.items() if value is not None}


def _call(method: str, url: str, use_case: str, **options: Any) -> httpx.Response:
    headers = {"Content-Type": "application/octet-stream"}
    if key := os.environ.get(API_KEY, ""):
        headers["X-API-Key"] = key
    where = f"{use_case}: the endpoint {_origin(url)}"
    try:
        answer = httpx.request(method, url, headers=headers, timeout=_SECONDS, **options)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"{where} does not answer ({type(error).__name__}); start it with visionops deploy"
        ) from error
    if answer.status_code == 401:
        raise EndpointFailed(f"{where} requires a key; start the console with one in {API_KEY}")
    if answer.status_code in _OF_THE_IMAGE:
        raise EndpointRefused(f"{where} refuses the image: {_reason(answer)}")
    if answer.status_code != 200:
        raise EndpointFailed(f"{where} answers {answer.status_code}: {_reason(answer)}")
    return answer


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _reason(answer: httpx.Response) -> str:
    try:
        return one_line(str(answer.json()["error"]["message"]))[:500]
    except (ValueError, KeyError, TypeError):
        return one_line(answer.text)[:200] or "nothing"


def _send(
    console: Console, viewer: Viewer, use_case: str, data: bytes, name: str, texts: Mapping[str, str]
) -> dict[str, Any]:
    """Put an image into review.

    Raises:
        VisionOpsError: The image cannot be stored, or the use case is neither in review nor served.
    """
    predicted = _predicted(texts.get("answer", ""))
    _make_known(console, use_case)
    arrival = Arrival(
        Origin.UPLOAD,
        reference=_REFERENCE,
        name=name[-200:],
        comment=texts.get("comment", ""),
        predicted=predicted,
        reasons=(Reason("feedback", FEEDBACK_PRIORITY, f"{viewer.name} says that the answer is wrong"),),
    )
    # Pressing the button again for the same image and comment must not create another item.
    content = [use_case, hashlib.sha256(data).hexdigest(), name, texts.get("comment", ""), texts.get("answer", "")]
    key = "console wrong " + hashlib.sha256(json.dumps(content).encode()).hexdigest()
    added = console.review.add(use_case, data, arrival, viewer.actor, key=key, now=console.now())
    return {"item": added.item.id, "new": added.is_new}


def _predicted(text: str) -> Predicted | None:
    """Return the prediction in an endpoint's answer, which a page sends back.

    Raises:
        Invalid: The text is not an answer of an endpoint.
    """
    if not text:
        return None
    try:
        answer = json.loads(text)
        model = answer["model"]
        rest = {name: value for name, value in answer.items() if name not in _MODEL_FIELDS}
        return Predicted(str(model["name"]), str(model["version"]), rest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid("answer: is not an answer of an endpoint; predict the image again") from error


def _make_known(console: Console, use_case: str) -> None:
    """Register a use case in the review with the classes of its endpoint, unless it is registered."""
    try:
        console.review.store.use_case(use_case)
    except NotFound:
        endpoint = endpoint_of(console, use_case)
        if endpoint is None:
            raise
        card = _describe(endpoint["url"], use_case)
        heads = card.get("heads") or ()
        questions = tuple(Question(name=h["name"], class_names=tuple(h["class_names"])) for h in heads)
        scheme = LabelScheme(class_names=() if questions else tuple(card["classes"]), questions=questions)
        console.review.put_use_case(UseCase(use_case, card["task"], scheme))

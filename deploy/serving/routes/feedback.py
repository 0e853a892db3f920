"""Route `POST /feedback`: people's feedback on a prediction or an image."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from deploy.http.errors import BadRequest, UnsupportedMedia, first_problem
from deploy.http.uploads import Form, content_type, read_body, read_form
from deploy.serving.models.feedback import CheckedFeedback, StoredFeedback
from deploy.serving.routes.context import Serving
from deploy.serving.routes.openapi import FEEDBACK_BODY, FEEDBACK_RESPONSES
from deploy.serving.routes.schemas import FeedbackAnswer, FeedbackRequest, ModelName
from visionops.review.checks import MOST_COMMENT, check_json, check_name, check_text
from visionops.review.errors import Invalid

__all__ = ["feedback_router"]

_MOST_JSON = 1_000_000
"""Maximum bytes of a JSON body or a text field; enough for a label with thousands of boxes."""
_MOST_FILE_NAME = 500


def feedback_router(serving: Serving) -> APIRouter:
    """Return the feedback route over ``serving``."""
    router, keeper = APIRouter(), serving.feedback

    @router.post(
        "/feedback",
        status_code=202,
        response_model=FeedbackAnswer,
        responses=FEEDBACK_RESPONSES,
        openapi_extra=FEEDBACK_BODY,
    )
    async def feedback(request: Request, model: ModelName = "") -> FeedbackAnswer:
        """Store feedback for the review: on a logged prediction, by its request id, or on an uploaded image.

        Status 202 means that the feedback survives a crash. Repeated feedback is stored once: it is recognized by
        `Idempotency-Key`, or without one by its content. With a request id, `model` is ignored, because the log names
        the model.
        """
        keeper.check()
        form, wanted = await _read(request, serving, model)
        said = _said(request, form, wanted)
        if wanted.request_id is not None:
            kept = await keeper.run(keeper.of_request, said, serving.models, wanted.request_id)
        else:
            assert form.file is not None
            kept = await keeper.run(keeper.of_image, said, serving.models.get(model), form.file)
        request.state.log = _logged(kept)
        return FeedbackAnswer(item=kept.item, use_case=kept.use_case, sha256=kept.sha256, known=kept.known)

    return router


async def _read(request: Request, serving: Serving, model: str) -> tuple[Form, FeedbackRequest]:
    kind = content_type(request)
    if kind == "application/json":
        form, fields = Form({}), _json(await read_body(request, _MOST_JSON), "body")
    elif kind == "multipart/form-data":
        form = await read_form(request, serving.models.get(model).ref.max_upload_bytes, _MOST_JSON)
        fields = dict(form.texts)
        if "label" in fields:
            fields["label"] = _json(fields["label"].encode("utf-8", "replace"), "label")
    else:
        raise UnsupportedMedia(
            f"content type {kind or 'none'!r}; send JSON with a request_id, or a form: curl -F file=@part.jpg …"
        )
    try:
        wanted = FeedbackRequest.model_validate(fields)
    except ValidationError as error:
        raise BadRequest(first_problem(error.errors()), "bad_feedback") from error
    if (wanted.request_id is None) == (form.file is None):
        raise BadRequest("send either a request_id, or an image as the form field 'file'", "bad_feedback")
    return form, wanted


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else "is not JSON"
        raise BadRequest(f"{where}: {reason}", "bad_json") from error


def _said(request: Request, form: Form, wanted: FeedbackRequest) -> CheckedFeedback:
    """Return the feedback, with texts that every database can store."""
    key = request.headers.get("idempotency-key") or wanted.key
    try:
        if wanted.request_id is not None:
            check_name(wanted.request_id, "request_id")
        return CheckedFeedback(
            client=getattr(request.state, "key", ""),
            key=check_name(key, "key") if key else "",
            label=None if wanted.label is None else check_json(wanted.label, "label"),
            comment=check_text(wanted.comment, "comment", MOST_COMMENT),
            # The name is only shown, never opened, so an invalid one is dropped and the feedback stored.
            name="".join(c for c in form.name if c.isprintable())[-_MOST_FILE_NAME:],
        )
    except Invalid as error:
        raise BadRequest(str(error), "bad_feedback") from error


def _logged(kept: StoredFeedback) -> dict[str, object]:
    return {"model": kept.use_case, "item": kept.item, "known": kept.known}

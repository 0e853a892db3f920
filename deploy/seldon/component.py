"""`VisionOps`: the component that ``seldon-core-microservice deploy.seldon.component.VisionOps`` serves.

It serves over HTTP and gRPC. It has the settings of our own server: ``VISIONOPS_…`` variables, or parameters of the
graph with the same names in lower case (``bundle``, ``name``, ``version``, …), which take precedence. It returns the
same predictions as ``/predict``.

Seldon's wrapper calls `__init__` and `init_metadata` before it forks, `load` once in each worker process, and
`predict_raw` with the whole message. `predict_raw` is used for two reasons: only there is it known whether a message
came over gRPC, where an exception has no status of its own, and only its return value carries metrics for a refused
request.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

from flask import Blueprint, request
from google.protobuf.json_format import MessageToDict
from gunicorn.arbiter import Arbiter
from seldon_core.flask_utils import SeldonMicroserviceException
from seldon_core.proto import prediction_pb2
from seldon_core.utils import construct_response, construct_response_json, json_to_seldon_message
from werkzeug.exceptions import HTTPException

from deploy.http.errors import status_and_code
from deploy.seldon.messages import Request, largest_body, read_bytes, read_request
from deploy.serving.errors import ModelFailed
from deploy.serving.models.models import Loader, ServedModel
from deploy.serving.settings import Settings
from visionops.errors import ConfigError, VisionOpsError
from visionops.inference.bundle import ModelBundle
from visionops.inference.prediction import Prediction
from visionops.inference.server_options import ModelRef
from visionops.options import variable

__all__ = ["VisionOps"]

_log = logging.getLogger("visionops.seldon")
# The other settings of our server are for tasks that Seldon does itself: ports, keys, queues, several models.
_SETTINGS = (
    *("bundle", "name", "version", "alias", "engine", "confidence", "iou", "cache", "streams"),
    *("max_upload_bytes", "max_pixels", "max_memory_mb"),
)
_STAGES = ("decode", "preprocess", "postprocess")
_HttpAnswer = tuple[dict[str, Any], int]
_Message: TypeAlias = "dict[str, Any] | prediction_pb2.SeldonMessage"


class VisionOps:
    """Seldon component that serves one model.

    Args:
        parameters: Parameters of the graph; each takes precedence over the variable with its name.
    """

    def __init__(self, **parameters: object) -> None:
        try:
            self._settings = _read_settings(parameters, os.environ)
            assert self._settings.bundle is not None
            self._bundle = ModelBundle.load(self._settings.bundle)
        except VisionOpsError as error:
            _print(error)
            raise SystemExit(2) from None
        self._model: ServedModel | None = None
        self.model_error_handler = _http_rules(largest_body(self._settings.max_upload_bytes))

    def load(self) -> None:
        """Load the model and run a test prediction; end the process if either fails."""
        fields = set(ModelRef.model_fields)
        try:
            loader = Loader(self._settings)
            self._model = loader.load(ModelRef.model_validate(self._settings.model_dump(include=fields)))
            loader.ready()
        except VisionOpsError as error:
            _print(error)
            # With any other status, gunicorn would start new workers forever. `os._exit` skips the exit handlers that
            # the parent registered, which a fork must not run.
            os._exit(Arbiter.WORKER_BOOT_ERROR)

    def predict_raw(self, message: _Message) -> _Message:
        """Predict one image and return the answer of /predict as jsonData, or an error status, as over HTTP."""
        try:
            answer, metrics = self._predict(message)
        except VisionOpsError as error:
            return self._refusal(message, error)
        if isinstance(message, prediction_pb2.SeldonMessage):
            return construct_response(self, False, message, answer, MessageToDict(message.meta), metrics)
        return construct_response_json(self, False, message, answer, _meta(message), metrics)

    def tags(self) -> dict[str, str]:
        """Return the name and version of the model, which are part of every answer."""
        names = ("name", "version", "alias")
        return {name: str(getattr(self._settings, name)) for name in names} | {"digest": self._bundle.digest}

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of the process. The metrics of a request are part of its answer."""
        ready = {"type": "GAUGE", "key": "visionops_ready", "value": int(self._model is not None)}
        info = {"type": "GAUGE", "key": "visionops_model_info", "value": 1, "tags": self.tags() | {"role": "champion"}}
        return [ready, info]

    def init_metadata(self) -> dict[str, Any]:
        """Return the answer of /metadata."""
        card = self._bundle.card
        custom = {
            "task": card.task,
            "architecture": card.architecture,
            "classes": json.dumps(card.class_names),
            "engine": self._settings.engine.value,
            "precision": card.precision.value,
            "data_fingerprint": card.data_fingerprint,
            "digest": self._bundle.digest,
        }
        return {
            "name": self._settings.name,
            "versions": [self._settings.version],
            "platform": "visionops",
            "inputs": [{"messagetype": "binData"}, {"messagetype": "strData"}, {"messagetype": "jsonData"}],
            "outputs": [{"messagetype": "jsonData"}],
            "custom": custom,
        }

    def health_status(self) -> dict[str, Any]:
        """Check that this process can answer.

        Raises:
            SeldonMicroserviceException: The model is not loaded, 503.
        """
        if self._model is None:
            raise SeldonMicroserviceException("the model is not loaded", status_code=503, reason="no_model")
        return {"status": "ready", "model": self.tags()}

    def _predict(self, message: _Message) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        start, timing = time.perf_counter(), dict[str, float]()
        parsed = _read(message, self._settings.max_upload_bytes)
        if self._model is None:
            raise ModelFailed("the model is not loaded")
        prediction = self._model.predict(parsed.image, parsed.options, timing=timing, where="image")
        timing["total"] = (time.perf_counter() - start) * 1000
        return self._model.answer(prediction, timing), self._counted(prediction, timing)

    def _refusal(self, message: _Message, error: VisionOpsError) -> _Message:
        status, code = status_and_code(error)
        _log.info("refused: %s: %s", code, error)
        counted = [_counter("visionops_rejected", 1, reason=code)]
        if isinstance(error, ModelFailed):
            counted.append(self._image("failed"))
        meta = {"tags": self.tags(), "metrics": counted}
        answer = _status(status, code, str(error)) | {"meta": meta}
        if isinstance(message, prediction_pb2.SeldonMessage):
            if message.meta.puid:
                meta["puid"] = message.meta.puid
            return json_to_seldon_message(answer)
        return answer

    def _counted(self, prediction: Prediction, timing: Mapping[str, float]) -> list[dict[str, Any]]:
        name = self._settings.name
        found = Counter(class_name for class_name, _ in prediction.labels())
        return [
            self._image("answered"),
            *(_counter("visionops_predictions", n, **{"model": name, "class": c}) for c, n in sorted(found.items())),
            _timer("visionops_inference_duration_seconds", timing["inference"], model=name),
            *(_timer("visionops_stage_duration_seconds", timing[stage], stage=stage) for stage in _STAGES),
        ]

    def _image(self, outcome: str) -> dict[str, Any]:
        which = {"name": self._settings.name, "version": self._settings.version}
        return _counter("visionops_model_images", 1, **which, outcome=outcome)


def _read_settings(parameters: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    if unknown := sorted(set(parameters) - set(_SETTINGS)):
        raise ConfigError(f"parameter {unknown[0]}: unknown; expected one of {', '.join(_SETTINGS)}")
    variables = {variable(name) for name in _SETTINGS}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in parameters.items()]
    # A Seldon process handles one image at a time by default, so there is no mode to choose.
    known = {variable("streams"): "1"} | {name: value for name, value in environment.items() if name in variables}
    settings = Settings.parse(arguments, known)
    if settings.bundle is None:
        raise ConfigError(f"{variable('bundle')}: is not set; give the folder of a model bundle")
    return settings


def _read(message: _Message, limit: int) -> Request:
    if not isinstance(message, prediction_pb2.SeldonMessage):
        return read_request(message, limit)
    if message.WhichOneof("data_oneof") == "binData":
        return read_bytes(message.binData, limit)
    return read_request(MessageToDict(message), limit)


def _meta(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the meta of a request, which Seldon's wrapper extends without checking it."""
    meta = message.get("meta")
    return dict(meta) if isinstance(meta, Mapping) else {}


def _counter(key: str, value: int, **labels: str) -> dict[str, Any]:
    return {"type": "COUNTER", "key": key, "value": value, "tags": labels}


def _timer(key: str, milliseconds: float, **labels: str) -> dict[str, Any]:
    return {"type": "TIMER", "key": key, "value": milliseconds, "tags": labels}


def _http_rules(largest: int) -> Blueprint:
    """Return what Seldon's HTTP server lacks: a body limit, and error statuses for mistakes of the client."""
    rules = Blueprint("visionops", __name__)

    @rules.before_app_request
    def limit() -> _HttpAnswer | None:
        if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
            return _http_refusal(411, "length_required", "send a Content-Length, not chunks")
        if (request.content_length or 0) > largest:
            message = f"the body exceeds {largest} bytes; send less or raise max_upload_bytes"
            return _http_refusal(413, "upload_too_large", message)
        return None

    # Seldon's own handler would return 500 for each of these.
    @rules.app_errorhandler(HTTPException)
    def http_error(error: HTTPException) -> _HttpAnswer:
        return _http_refusal(error.code or 500, (error.name or "error").lower().replace(" ", "_"), str(error))

    @rules.app_errorhandler(json.JSONDecodeError)
    @rules.app_errorhandler(UnicodeDecodeError)
    def malformed(error: ValueError) -> _HttpAnswer:
        message = f"malformed ({error}); send the image as the file binData: curl -F binData=@part.jpg …"
        return _http_refusal(422, "bad_form", message)

    return rules


def _http_refusal(status: int, code: str, message: str) -> _HttpAnswer:
    return _status(status, code, message), status


def _status(status: int, code: str, message: str) -> dict[str, Any]:
    return {"status": {"code": status, "info": message, "reason": code, "status": "FAILURE"}}


def _print(error: VisionOpsError) -> None:
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()

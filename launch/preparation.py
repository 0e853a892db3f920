"""Turn a request into a pipeline with its inputs, and check its requirements before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.requests import (
    BatchRequest,
    DeployRequest,
    DrillRequest,
    MonitorRequest,
    QuantizeRequest,
    Request,
    TrainRequest,
    TuneRequest,
    ValidateRequest,
)
from visionops.config import Config
from visionops.errors import ConfigError

__all__ = ["PipelineCall", "check_request", "prepare_call"]


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineCall:
    """A pipeline with its arguments besides the use case."""

    pipeline: Any
    """ZenML's pipeline object."""
    inputs: dict[str, Any]


def check_request(request: Request, config: Config) -> None:
    """Check a request as far as possible without a run.

    Raises:
        ConfigError: The use case has nothing to tune.
    """
    if isinstance(request, TuneRequest):
        from visionops.tuning.search import require_search

        require_search(config)


def prepare_call(request: Request, config: Config) -> PipelineCall:
    """Check the pipeline's requirements on the active stack and collect its inputs.

    Raises:
        VisionOpsError: The data, the champion or the endpoint is missing, or traffic is not logged.
    """
    return _PREPARED[type(request)](request, config)


def _train(_request: TrainRequest, config: Config) -> PipelineCall:
    from pipelines.training import training

    return PipelineCall(training, _fingerprint(config))


def _validate(_request: ValidateRequest, config: Config) -> PipelineCall:
    from pipelines.validation import validation

    return PipelineCall(validation, _fingerprint(config))


def _tune(_request: TuneRequest, config: Config) -> PipelineCall:
    from pipelines.tuning import tuning

    return PipelineCall(tuning, _fingerprint(config))


def _predict_batch(request: BatchRequest, config: Config) -> PipelineCall:
    from pipelines.batch_inference import batch_inference
    from steps.context import active_registry, shared_place
    from visionops.batch.images import batch_places, list_images
    from visionops.data.output import open_output
    from visionops.data.remote import is_uri, list_remote

    champion = active_registry().champion(config.name)
    label = _batch_label(request.input)
    folder, output = batch_places((request.input, request.output), f"{config.name}/{label}", shared_place())
    fingerprint = {"source_fingerprint": ""}
    if not folder:
        fingerprint = _fingerprint(config)
    elif is_uri(folder):
        list_remote(folder)
    else:
        list_images(Path(folder), config.name)
    open_output(output).names("")  # fail now, not after hours, if the output cannot be read
    inputs = {"folder": folder, "output": output, "champion": champion, "shards": request.shards}
    return PipelineCall(batch_inference, fingerprint | inputs)


def _batch_label(folder: str | None) -> str:
    from visionops.data.remote import is_uri, mirror_name

    if not folder:
        return "unlabelled"
    if is_uri(folder):
        return mirror_name(folder)
    path = str(Path(folder).absolute())
    return f"{Path(path).name}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"


def _monitor(request: MonitorRequest, config: Config) -> PipelineCall:
    from pipelines.monitoring import monitoring

    if not config.serving.prediction_log:
        raise ConfigError(
            "serving.prediction_log: false, so traffic is not logged; set it to true and run --pipeline deployment"
        )
    _require_champion(config)
    return PipelineCall(monitoring, {"is_requested": request.retrain, "tells": not request.decide_only})


def _drill(request: DrillRequest, config: Config) -> PipelineCall:
    from pipelines.drift_drill import drift_drill
    from steps.context import live_endpoint

    live_endpoint(config.name)  # fail before anything is read if it is missing
    return PipelineCall(drift_drill, _fingerprint(config) | {"drill": request.drill()})


def _quantize(_request: QuantizeRequest, config: Config) -> PipelineCall:
    from pipelines.quantize import quantize

    _require_champion(config)
    return PipelineCall(quantize, _fingerprint(config))


def _deploy(request: DeployRequest, _config: Config) -> PipelineCall:
    from pipelines.deployment import deployment

    return PipelineCall(deployment, {"rollback": request.rollback})


_PREPARED: dict[type[Request], Callable[[Any, Config], PipelineCall]] = {
    TrainRequest: _train,
    ValidateRequest: _validate,
    TuneRequest: _tune,
    BatchRequest: _predict_batch,
    MonitorRequest: _monitor,
    DrillRequest: _drill,
    QuantizeRequest: _quantize,
    DeployRequest: _deploy,
}


def _require_champion(config: Config) -> None:
    """Check, before anything is read, that the use case has a champion."""
    from steps.context import active_registry

    active_registry().champion(config.name)


def _fingerprint(config: Config) -> dict[str, Any]:
    from visionops.data.sources import data_fingerprint

    return {"source_fingerprint": data_fingerprint(config.data)}

"""Turn a request into a pipeline with its inputs, and check its requirements before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.environment import quieten_libraries
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
from visionops.errors import ConfigError, DataError
from visionops.tasks.spec import task_for

__all__ = ["PipelineCall", "check_plan", "check_request", "prepare_call"]


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineCall:
    """A pipeline with its arguments besides the use case."""

    pipeline: Any
    """ZenML's pipeline object."""
    inputs: dict[str, Any]


def check_request(request: Request, config: Config) -> None:
    """Refuse what is known at once: nothing is fetched, and no server is asked.

    Raises:
        ConfigError: There is nothing to tune, or nothing to monitor.
        StackError: The stack is not known, or a variable of its file is not set.
        DataError: The data is not where the use case says, or the images to predict are not there.
    """
    if isinstance(request, TuneRequest):
        from visionops.tuning.search import require_search

        require_search(config)
    if isinstance(request, MonitorRequest):
        _require_log(config)
    if request.stack:
        _check_stack(request.stack)
    images = request.input if isinstance(request, BatchRequest) else None
    if images:
        _check_images(images)
    elif not isinstance(request, MonitorRequest | DeployRequest):
        from visionops.data.sources import check_sources

        check_sources(config.data)


def check_plan(request: Request, config: Config) -> str:
    """Refuse what takes a few seconds to know, beside what `check_request` refuses; for a dry run.

    Returns:
        The name of the stack.

    Raises:
        StackError: As `check_request`, also of the active stack; or ZenML's server does not answer.
        TrainingError: There is no model of this name.
    """
    check_request(request, config)
    if isinstance(request, TrainRequest | TuneRequest):
        task_for(config.task).check_model(config.training)
    return request.stack or _active_stack()


def _check_stack(name: str) -> None:
    from stacks.spec import known_stacks, load_stack, unknown_stack
    from stacks.zenml_server import has_store

    if name in known_stacks():
        load_stack(name)
    elif not has_store():
        raise unknown_stack(name)
    else:
        quieten_libraries()
        from stacks.active import viewed_stack

        with viewed_stack(name):
            pass


def _active_stack() -> str:
    """Return the name of the active stack, after its check; `local` before the first run."""
    from stacks.spec import known_stacks, load_stack
    from stacks.zenml_server import has_store

    if not has_store():
        return "local"
    quieten_libraries()
    from stacks.first_use import opened_in_turn
    from stacks.zenml_server import active_stack_name, require_zenml_server

    with opened_in_turn():
        require_zenml_server()
        name = active_stack_name()
    if name in known_stacks():
        load_stack(name)
    return name


def _check_images(images: str) -> None:
    from visionops.data.remote import is_uri

    if not is_uri(images) and not Path(images).is_dir():
        what = "is a file" if Path(images).exists() else "no such folder"
        raise DataError(f"--input {images}: {what}; give a folder of images, or s3://bucket/prefix")


def prepare_call(request: Request, config: Config) -> PipelineCall:
    """Check the pipeline's requirements on the active stack and collect its inputs.

    Raises:
        VisionOpsError: The data, the champion or the endpoint is missing, or traffic is not logged.
    """
    return _PREPARED[type(request)](request, config)


def _train(_request: TrainRequest, config: Config) -> PipelineCall:
    from pipelines.training import training

    _require_port(config)
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

    _require_log(config)
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
    _require_port(config)
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


def _require_log(config: Config) -> None:
    if not config.serving.prediction_log:
        raise ConfigError(
            "serving.prediction_log: is false, so no traffic is known; set it to true and run --pipeline deployment"
        )


def _require_champion(config: Config) -> None:
    """Check, before anything is read, that the use case has a champion."""
    from steps.context import active_registry

    active_registry().champion(config.name)


def _require_port(config: Config) -> None:
    """Check, before hours of training, that the endpoint can listen on its port, if it runs on this machine."""
    from stacks.deployers.host_deployer import MachineDeployer
    from stacks.session import steps_run_here
    from steps.context import active_deployer

    port = config.serving.port
    if port and steps_run_here() and isinstance(deployer := active_deployer(), MachineDeployer):
        deployer.check_port(config.name, port)


def _fingerprint(config: Config) -> dict[str, Any]:
    from visionops.data.sources import data_fingerprint

    return {"source_fingerprint": data_fingerprint(config.data)}

"""Build the command line of the server in a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stacks.deployers.manifests.identity import PORT, PodModel, log_store
from visionops.inference.server_options import ModelRef, ServerOptions

__all__ = ["CACHE", "CANDIDATE", "LOG", "MODEL", "SMOKE", "server_arguments"]

MODEL = "/models/bundle"
SMOKE = "/models/smoke"
CANDIDATE = "/models/candidate"
CACHE = "/cache"
LOG = "/prediction-log"

_ORDER = (
    *("bundle", "name", "version", "alias", "engine", "confidence", "iou", "max_upload_bytes"),
    *("host", "port", "cache", "open_metrics", "open_ready", "smoke_images"),
    *("prediction_log", "prediction_log_store", "prediction_log_images"),
    *("candidate", "candidate_version", "release"),
)
"""Order of the arguments. It is part of a pod's revision: a change would replace the pods of every endpoint."""


def server_arguments(served: PodModel) -> list[str]:
    """Return the arguments of ``python -m deploy.serving``, without unset options."""
    model = ModelRef.from_serving(
        served.serving, bundle=Path(MODEL), name=served.name, version=served.version, alias=served.alias
    )
    options: dict[str, Any] = {
        "host": "0.0.0.0",  # noqa: S104 - inside the pod
        "port": PORT,
        "cache": CACHE,
        "open_metrics": True,
        "open_ready": True,
    }
    if served.smoke_images:
        options["smoke_images"] = SMOKE
    if store := log_store(served):
        options |= {
            "prediction_log": LOG,
            "prediction_log_store": store,
            "prediction_log_images": served.serving.prediction_log_images,
        }
    if served.candidate:
        options |= {
            "candidate": CANDIDATE,
            "candidate_version": served.candidate.version,
            "release": served.serving.release,
        }
    return ServerOptions.model_validate(model.model_dump(exclude_unset=True) | options).to_arguments(
        joined=True, order=_ORDER
    )

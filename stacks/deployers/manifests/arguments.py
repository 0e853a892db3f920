"""The command line of the server in a pod."""

from __future__ import annotations

from typing import Any

from stacks.deployers.manifests.identity import PORT, Served, log_store

__all__ = ["CACHE", "LOG", "MODEL", "SMOKE", "server_arguments"]

MODEL = "/models/bundle"
SMOKE = "/models/smoke"
CACHE = "/cache"
LOG = "/prediction-log"


def server_arguments(served: Served) -> list[str]:
    """Return the arguments of ``python -m deploy.serving``; what is not set is left out."""
    told: dict[str, Any] = {
        "bundle": MODEL,
        "name": served.name,
        "version": served.version,
        "alias": served.alias,
        **served.serving.model_dump(mode="json", include={"engine", "confidence", "iou", "max_upload_bytes"}),
        "host": "0.0.0.0",  # noqa: S104 - of the pod
        "port": PORT,
        "cache": CACHE,
        "open_metrics": "true",
        "open_ready": "true",
    }
    if served.smoke_images:
        told["smoke_images"] = SMOKE
    if store := log_store(served):
        told |= {
            "prediction_log": LOG,
            "prediction_log_store": store,
            "prediction_log_images": served.serving.prediction_log_images,
        }
    return [f"--{key.replace('_', '-')}={value}" for key, value in told.items() if value not in (None, "")]

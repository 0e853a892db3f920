"""Build the request and the error for a candidate next to a local server's champion."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from visionops.inference.release_settings import ReleaseConfig, Strategy
from visionops.inference.server_options import ModelRef

__all__ = ["CANDIDATE_ALIAS", "candidate_order", "rejection"]

CANDIDATE_ALIAS = "challenger"
_BOUNDS = {"max_error_rate", "max_latency_ratio", "min_agreement", "min_requests", "split_by"}


def candidate_order(model: ModelRef, release: ReleaseConfig, smoke_images: Sequence[bytes]) -> dict[str, Any]:
    """Return the body of /reload that adds ``model`` next to the champion, as ``release`` says."""
    order: dict[str, Any] = {"role": release.strategy.value, "share": release.share}
    if release.strategy is Strategy.CANARY:
        order |= release.model_dump(mode="json", include=_BOUNDS)
    smoke = [base64.b64encode(image).decode() for image in smoke_images]
    return model.model_dump(mode="json") | order | {"smoke": smoke}


def rejection(name: str, candidate: str, champion: str, why: str) -> str:
    """Return the error message for a candidate that does not answer.

    Args:
        candidate: Version of the candidate.
        champion: Version that answers all requests.
    """
    return f"{name} version {candidate}: refused, version {champion} answers all requests: {why}"

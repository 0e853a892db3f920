"""Provide the services that the routes of one application share."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime

from deploy.http.keys import KeyRing
from deploy.serving.metrics import Metrics
from deploy.serving.models.dispatcher import Dispatcher
from deploy.serving.models.feedback import Feedback
from deploy.serving.models.models import Loader
from deploy.serving.models.recording import Recorder
from deploy.serving.models.registry import Models
from deploy.serving.models.service import PredictionService
from deploy.serving.routes.explaining import Explainer
from deploy.serving.settings import Settings

__all__ = ["Serving"]


@dataclasses.dataclass(frozen=True, slots=True)
class Serving:
    """Settings, models and services of one application."""

    settings: Settings
    models: Models
    loader: Loader
    metrics: Metrics
    dispatcher: Dispatcher
    explainer: Explainer
    keys: KeyRing
    recorder: Recorder
    predictions: PredictionService
    feedback: Feedback
    started: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    changing: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Lock of model changes: one change at a time."""

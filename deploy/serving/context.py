"""What the routes of one application share."""

from __future__ import annotations

import asyncio
import dataclasses

from deploy.serving.dispatcher import Dispatcher
from deploy.serving.explaining import Explainer
from deploy.serving.keys import KeyRing
from deploy.serving.metrics import Metrics
from deploy.serving.models import Loader
from deploy.serving.recording import Recorder
from deploy.serving.registry import Models
from deploy.serving.service import PredictionService
from deploy.serving.settings import Settings

__all__ = ["Serving"]


@dataclasses.dataclass(frozen=True, slots=True)
class Serving:
    """Settings, models, and what does the work."""

    settings: Settings
    models: Models
    loader: Loader
    metrics: Metrics
    dispatcher: Dispatcher
    explainer: Explainer
    keys: KeyRing
    recorder: Recorder
    predictions: PredictionService
    changing: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Held while models change: one change at a time."""

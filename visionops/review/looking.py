"""Run models on images in review: their answers, embeddings and agreement with a shadow model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.errors import ImageError
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import available_cpus
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Load, Predictor
from visionops.monitoring.features import descriptor
from visionops.review.errors import NotFound
from visionops.review.items import Predicted, ReviewItem
from visionops.review.ports import ImageStore
from visionops.review.selection.candidates import Candidate, answers_of
from visionops.tasks.spec import TaskSpec, task_for

__all__ = ["ItemPrediction", "Model", "predict_items"]


@dataclasses.dataclass(frozen=True)
class Model:
    """A registered model."""

    name: str
    version: str
    bundle: ModelBundle


@dataclasses.dataclass(frozen=True)
class ItemPrediction:
    """Result of running a model on one item's image."""

    candidate: Candidate
    predicted: Predicted | None
    """Prediction for the image; None where the image cannot be used."""
    problem: str = ""
    """Reason why the image cannot be used."""


def predict_items(
    items: Sequence[ReviewItem],
    images: ImageStore,
    model: Model,
    shadow: Model | None = None,
    progress: Callable[[int], object] = lambda _done: None,
) -> list[ItemPrediction]:
    """Run a model on the image of each item, in their order.

    Args:
        shadow: Model of the same task; its agreement with the model becomes `Candidate.agreement`.
        progress: Called with the number of images processed so far.

    Raises:
        Unavailable: An image cannot be reached.
    """
    if not items:
        return []
    looker = _Looker(images, model, shadow)
    found = []
    with ThreadPoolExecutor(2 * available_cpus()) as pool:
        for look in pool.map(looker.look, items):
            found.append(look)
            progress(len(found))
    return found


class _Looker:
    def __init__(self, images: ImageStore, model: Model, shadow: Model | None) -> None:
        self._images, self._model = images, model
        load, streams = Load(images=1), available_cpus()
        self._predictor = Predictor(model.bundle, streams=streams, load=load)
        self._shadow = Predictor(shadow.bundle, streams=streams, load=load) if shadow else None
        self._task: TaskSpec[Any] = task_for(model.bundle.card.task)
        heads = self._task.questions(model.bundle.card)
        self._heads = [(head.name, head.class_names, head.positive, head.threshold) for head in heads]

    def look(self, item: ReviewItem) -> ItemPrediction:
        try:
            # Decoded once for both models.
            rgb = self._predictor.pixels(self._images.read(item.image.sha256), item.id)
            prediction = self._predictor.predict(rgb, where=item.id)
            agreement = prediction.agreement(self._shadow.predict(rgb, where=item.id)) if self._shadow else None
        except (ImageError, NotFound) as error:
            return ItemPrediction(Candidate(item.id, is_predicted=False), None, str(error))
        answer = self._task.answer.model_validate(prediction.to_dict()).model_dump(mode="json")
        predicted = Predicted(self._model.name, self._model.version, answer)
        return ItemPrediction(self._candidate(item.id, rgb, prediction, agreement), predicted)

    def _candidate(
        self, item: str, rgb: npt.NDArray[np.uint8], prediction: Prediction, agreement: float | None
    ) -> Candidate:
        probabilities = prediction.record().get("probabilities", []) if self._heads else []
        own = prediction.embedding
        return Candidate(
            id=item,
            labels=tuple(prediction.labels()),
            answered=answers_of(self._heads, probabilities) if isinstance(probabilities, list) else (),
            threshold=self._model.bundle.card.thresholds.confidence,
            embedding=own if own.size else descriptor(rgb),
            agreement=agreement,
        )

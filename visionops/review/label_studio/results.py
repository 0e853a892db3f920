"""Convert between labels and Label Studio's results. Boxes are x, y, width, height in percent of the upright image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from visionops.errors import LabelError
from visionops.review.checks import digest_of
from visionops.review.errors import Invalid
from visionops.review.items import ReviewItem, UseCase
from visionops.review.label_studio.config import BOXES, IMAGE, REASON, REJECT, question_tags
from visionops.tasks.classification.labelling import AttributeLabels, ClassLabel
from visionops.tasks.detection.labelling import BoxLabels
from visionops.tasks.spec import task_for

__all__ = ["check_form", "label_from", "prediction_of", "rejection_from", "results_of"]

_PROPOSED = "proposed"
"""Model version of a label that came with the image."""


def check_form(use_case: UseCase) -> None:
    """Check that Label Studio can hold the labels of a use case.

    Raises:
        Invalid: They are neither boxes nor classes of whole images.
    """
    form = task_for(use_case.task).label_form
    if form is None or not issubclass(form, BoxLabels | ClassLabel | AttributeLabels):
        raise Invalid(
            f"task {use_case.task}: Label Studio shows boxes and classes of images alone; use visionops_review"
        )


def results_of(
    label: Mapping[str, Any], use_case: UseCase, width: int, height: int, scores: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """Return a label as regions and choices.

    Args:
        label: In the task's form.
        use_case: Use case that defines the tags.
        width: Pixels of the image after EXIF rotation.
        height: Pixels of the image after EXIF rotation.
        scores: A confidence for each box; empty for labels without boxes.
    """
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    shared = {"to_name": IMAGE, **size}
    if "boxes" in label:
        found = []
        for number, one in enumerate(label["boxes"]):
            value = {**_percent(one["box"], width, height), "rotation": 0, "rectanglelabels": [one["class_name"]]}
            region = {"from_name": BOXES, "type": "rectanglelabels", "value": value, **shared}
            region["id"] = digest_of("region", number, one["class_name"], one["box"])[:10]
            found.append(region if not scores else {**region, "score": scores[number]})
        return found
    answers = _answers(label, use_case)
    return [
        {
            "id": digest_of("choice", tag)[:10],
            "from_name": tag,
            "type": "choices",
            "value": {"choices": [answers[name]]},
            **shared,
        }
        for tag, name in question_tags(use_case.scheme).items()
        if answers.get(name) is not None
    ]


def prediction_of(item: ReviewItem, use_case: UseCase) -> dict[str, Any] | None:
    """Return the pre-annotation of an item: a model's answer, or else the label that came with the image."""
    image, predicted = item.image, item.predicted
    if predicted is None:
        if item.first.proposed is None:
            return None
        return {
            "model_version": _PROPOSED,
            "result": results_of(item.first.proposed, use_case, image.width, image.height),
        }
    label = task_for(use_case.task).label_of(predicted.answer)
    scores = _confidences(predicted.answer)
    return {
        "model_version": f"{predicted.model} {predicted.version}",
        "score": min(scores, default=0.0),
        "result": results_of(label, use_case, image.width, image.height, scores if "boxes" in label else ()),
    }


def label_from(results: Sequence[Mapping[str, Any]], use_case: UseCase, width: int, height: int) -> dict[str, Any]:
    """Return the label of an annotation, in the task's form.

    Raises:
        LabelError: A box is rotated or lacks exactly one class, the image was rotated, or the only question is
            unanswered.
    """
    if any(result.get("image_rotation") for result in results):
        raise LabelError("the image was rotated in Label Studio; rotate it back and draw the boxes again")
    if use_case.scheme.class_names:
        regions = [result for result in results if result.get("from_name") == BOXES]
        return {"boxes": [_box(region, number, width, height) for number, region in enumerate(regions, 1)]}
    tags = question_tags(use_case.scheme)
    answers: dict[str, str | None] = dict.fromkeys(tags.values())
    for result in results:
        if (name := tags.get(str(result.get("from_name")))) is not None:
            chosen = _value(result).get("choices")
            if not isinstance(chosen, list) or len(chosen) != 1:
                raise LabelError(f"{name}: expected at most one answer; choose one class, or none")
            answers[name] = str(chosen[0])
    if task_for(use_case.task).label_form is not ClassLabel:
        return {"attributes": answers}
    ((name, answer),) = answers.items()
    if answer is None:
        raise LabelError(f"{name}: is not answered; choose a class, or reject the image")
    return {"class_name": answer}


def rejection_from(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the reason for which an annotation rejects the image; "" where it does not."""
    if not any(result.get("from_name") == REJECT and _value(result).get("choices") for result in results):
        return ""
    texts = [_value(result).get("text") for result in results if result.get("from_name") == REASON]
    said = [str(part) for text in texts if text for part in (text if isinstance(text, list) else [text])]
    return " ".join(" ".join(said).split()) or "rejected in Label Studio"


def _percent(box: Sequence[float], width: int, height: int) -> dict[str, float]:
    x1, y1, x2, y2 = box
    sx, sy = 100 / width, 100 / height
    return {"x": x1 * sx, "y": y1 * sy, "width": (x2 - x1) * sx, "height": (y2 - y1) * sy}


def _box(region: Mapping[str, Any], number: int, width: int, height: int) -> dict[str, Any]:
    value = _value(region)
    place = f"box {number}"
    if value.get("rotation"):
        raise LabelError(f"{place}: is rotated by {value['rotation']} degrees; draw it upright")
    names = value.get("rectanglelabels")
    if not isinstance(names, list) or len(names) != 1:
        raise LabelError(f"{place}: expected exactly one class; choose one")
    try:
        x, y, w, h = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError) as error:
        raise LabelError(f"{place}: is malformed; draw it again") from error
    box = [x * width, y * height, (x + w) * width, (y + h) * height]
    if not all(map(math.isfinite, box)):
        raise LabelError(f"{place}: is malformed; draw it again")
    return {"class_name": str(names[0]), "box": box}


def _value(result: Mapping[str, Any]) -> Mapping[str, Any]:
    value = result.get("value")
    return value if isinstance(value, Mapping) else {}


def _answers(label: Mapping[str, Any], use_case: UseCase) -> Mapping[str, str | None]:
    if "attributes" in label:
        answers: Mapping[str, str | None] = label["attributes"]
        return answers
    return {use_case.scheme.questions[0].name: label["class_name"]}


def _confidences(answer: Mapping[str, Any]) -> list[float]:
    if "detections" in answer:
        return [float(one["confidence"]) for one in answer["detections"]]
    found = answer["attributes"].values() if "attributes" in answer else [answer["classification"]]
    return [float(one["confidence"]) for one in found]

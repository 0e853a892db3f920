"""Queue the labels of a data set that are probably wrong, so that people correct them for the next data version."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from visionops.data.dataset import Dataset
from visionops.data.files import describe_os_error
from visionops.errors import VisionOpsError
from visionops.review.checks import digest_of
from visionops.review.errors import Unavailable
from visionops.review.items import Origin, Predicted, Reason
from visionops.review.opinions import LABEL_ERROR
from visionops.review.ports import ItemFilter
from visionops.review.service import Arrival, Review
from visionops.review.states import Actor, State
from visionops.tasks.spec import task_for

__all__ = ["Audited", "Model", "audit_labels"]

_MOST_TEXT = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """Model that predicts the images."""

    name: str
    version: str
    predict: Callable[[bytes, str], Mapping[str, Any]]
    """Function that returns the task's part of an answer for an encoded image and its name for errors."""


@dataclasses.dataclass(frozen=True, slots=True)
class Audited:
    """Result of auditing the labels of a data set."""

    labelled: int
    """Images that have a label and can be read."""
    suspects: int
    """Images whose label is probably wrong."""
    new: int
    """Images queued by this audit."""
    known: int
    """Images that were in review before; they get one more arrival, with the reason."""
    decided: int
    """Images that were skipped because people already decided them."""
    refused: tuple[str, ...]
    """A line for each image that cannot be read, or whose label does not fit."""


def audit_labels(
    review: Review,
    use_case: str,
    dataset: Dataset,
    model: Model,
    actor: Actor,
    now: datetime,
    *,
    limit: int,
    progress: Callable[[int], None] | None = None,
) -> Audited:
    """Queue the images whose labels a model contradicts most. Running it again with the same model changes nothing.

    Each becomes an item of origin import with its present label as proposal, the model's answer, and the reason
    ``label_error``, whose value is 1 minus the quality of the label.

    Args:
        dataset: Data set whose images are on this machine.
        limit: Maximum number of queued images, worst first.
        progress: Called with the number of images processed so far.

    Raises:
        ReviewError: The use case is unknown, or database or images cannot be reached.
        TaskError: The task's labels cannot be audited.
    """
    known = review.store.use_case(use_case)
    task = task_for(known.task)
    rows, labels, answers, refused = [], [], [], []
    keys, paths, all_labels = dataset.column("key"), dataset.paths(), task.labels_in(dataset)
    for row, label in enumerate(all_labels):
        if label is not None:
            try:
                answers.append(model.predict(paths[row].read_bytes(), keys[row]))
            except (VisionOpsError, OSError) as error:
                refused.append(_refusal(keys[row], error))
            else:
                rows.append(row)
                labels.append(label)
        if progress:
            progress(row + 1)
    found = task.suspects(labels, answers, known.scheme) if labels else {}
    counts = {"new": 0, "known": 0, "decided": 0}
    for place in sorted(found, key=lambda place: (found[place].quality, place)):
        if counts["new"] + counts["known"] >= limit:
            break
        key, suspicion = keys[rows[place]], found[place]
        reason = Reason(LABEL_ERROR, 1 - suspicion.quality, suspicion.text[:_MOST_TEXT])
        arrival = Arrival(
            Origin.IMPORT,
            name=key[-200:],
            label=labels[place],
            predicted=Predicted(model.name, model.version, answers[place]),
            reasons=(reason,),
        )
        write = digest_of("audit", use_case, key, labels[place], model.name, model.version)
        try:
            data = paths[rows[place]].read_bytes()
            if _is_decided(review, use_case, data):
                counts["decided"] += 1
                continue
            is_new = review.add(use_case, data, arrival, actor, key=write, now=now).is_new
        except Unavailable:
            raise
        except (VisionOpsError, OSError) as error:
            refused.append(_refusal(key, error))
        else:
            counts["new" if is_new else "known"] += 1
    return Audited(len(labels), len(found), **counts, refused=tuple(refused))


def _is_decided(review: Review, use_case: str, data: bytes) -> bool:
    """Return whether people already decided what the image shows, whatever its file's label says."""
    items = review.store.items(ItemFilter(use_case, sha256=hashlib.sha256(data).hexdigest(), limit=1))
    return any(item.status.state in {State.DECIDED, State.EXPORTED} for item in items)


def _refusal(key: str, error: VisionOpsError | OSError) -> str:
    if isinstance(error, OSError):
        return f"{key}: cannot be read ({describe_os_error(error)})"
    text = str(error)
    return text if text.startswith(f"{key}: ") else f"{key}: {text}"

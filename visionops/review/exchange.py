"""Import a data set into a review, and export decided labels as a data set."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from visionops.data.dataset import Dataset
from visionops.data.files import atomic_folder, describe_os_error
from visionops.data.formats.yolo_export import write_yolo
from visionops.data.settings import Format
from visionops.errors import DataError, VisionOpsError
from visionops.review.checks import digest_of
from visionops.review.errors import Invalid, Unavailable
from visionops.review.fiftyone import fiftyone_labels
from visionops.review.image_cache import file_name
from visionops.review.items import Decision, Origin, ReviewItem
from visionops.review.service import Answer, Arrival, Review
from visionops.review.states import Actor, State, Verdict
from visionops.tasks.labelling import LabelScheme, Question
from visionops.tasks.spec import task_for

__all__ = ["EXPORTS", "ImportResult", "check_export", "dataset_of", "import_images", "scheme_of", "write_export"]

EXPORTS = (Format.COCO, Format.YOLO, Format.CSV, Format.FIFTYONE)
"""Formats for exporting decided labels. A table of classes of whole images is CSV, too."""
_IMAGES = "images"
_FIFTYONE_IMAGES = "data"


@dataclasses.dataclass(frozen=True, slots=True)
class ImportResult:
    """Result of importing the images of a data set."""

    new: int
    known: int
    """Images that were in review before."""
    decided: int
    """Decided images among them, without those that wait for a second opinion."""
    refused: tuple[str, ...]
    """A line for each image that could not be imported."""


def scheme_of(dataset: Dataset) -> LabelScheme:
    """Return the label scheme for the images of a data set."""
    questions = tuple(Question(name=a.name, class_names=a.class_names) for a in dataset.attributes)
    return LabelScheme(class_names=() if questions else dataset.class_names, questions=questions)


def import_images(
    review: Review,
    use_case: str,
    dataset: Dataset,
    actor: Actor,
    now: datetime,
    *,
    labelled: bool,
    decided: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImportResult:
    """Import the images of a data set. Importing them again changes nothing.

    Args:
        labelled: Import the labels together with the images.
        decided: Count the labels as the actor's decisions. Items claimed or decided by others stay unchanged.
        progress: Called with the number of images processed so far.

    Raises:
        ReviewError: The use case is unknown, or database or images cannot be reached.
    """
    task = task_for(review.store.use_case(use_case).task)
    labels = task.labels_in(dataset) if labelled else [None] * dataset.num_images
    counts, refused = dict.fromkeys(("new", "known", "decided"), 0), []
    for row, (key, path) in enumerate(zip(dataset.column("key"), dataset.paths(), strict=True)):
        try:
            data = path.read_bytes()
            arrival = Arrival(Origin.IMPORT, name=key[-200:], label=labels[row])
            # The key includes the content: another folder may have a different image of the same name.
            write = digest_of("import", use_case, key, hashlib.sha256(data).hexdigest(), labels[row])
            added = review.add(use_case, data, arrival, actor, key=f"{write} add", now=now)
            counts["new" if added.is_new else "known"] += 1
            if decided and labels[row] is not None and added.item.status.state is State.PENDING:
                review.claim(added.item.id, actor, key=f"{write} claim", now=now)
                answer = Answer(Verdict.CORRECT, label=labels[row])
                after = review.decide(added.item.id, answer, actor, key=f"{write} decide", now=now)
                counts["decided"] += after.status.state is State.DECIDED
        except Unavailable:
            raise
        except VisionOpsError as error:
            refused.append(f"{key}: {error}")
        except OSError as error:
            refused.append(f"{key}: cannot be read ({describe_os_error(error)})")
        if progress:
            progress(row + 1)
    return ImportResult(**counts, refused=tuple(refused))


def dataset_of(
    use_case: str, task: str, scheme: LabelScheme, found: Sequence[tuple[ReviewItem, Decision]], folder: Path
) -> Dataset:
    """Return decided labels as a data set. Its images are named by their hashes in ``folder``."""
    names = [file_name(item.image) for item, _ in found]
    labels = [decision.label or {} for _, decision in found]
    images = {
        "key": names,
        "path": [str(folder / name) for name in names],
        "sha256": [item.image.sha256 for item, _ in found],
        "num_bytes": [item.image.num_bytes for item, _ in found],
        "width": [item.image.width for item, _ in found],
        "height": [item.image.height for item, _ in found],
    }
    dataset = Dataset.from_columns(use_case, scheme.class_names, images, {})
    spec = task_for(task)
    return dataset.with_layer(spec.layer, spec.layer_of(labels, scheme))


def check_export(review: Review, use_case: str, format_: Format, folder: Path) -> None:
    """Check that a data version can be written, before one is made.

    Raises:
        DataError: The folder already exists.
        Invalid: The format cannot hold the labels of the task.
        NotFound: The use case is unknown.
    """
    if folder.exists():
        raise DataError(f"{folder}: is there; choose another folder")
    case = review.store.use_case(use_case)
    fitting: tuple[Format, ...] = EXPORTS
    if not case.scheme.class_names:
        # These formats hold exactly one class for each image.
        fitting = (Format.CSV, Format.FIFTYONE) if len(case.scheme.questions) == 1 else (Format.CSV,)
    if format_ not in fitting:
        raise Invalid(f"format: {case.task} is written as {', '.join(fitting)}, not {format_.value}")


def write_export(
    review: Review, use_case: str, found: Sequence[tuple[ReviewItem, Decision]], format_: Format, folder: Path
) -> None:
    """Write images and labels of a data version. ``folder`` is complete afterwards, or does not exist.

    Args:
        found: Data version, as `ReviewStore.version` returns it.
        format_: One of `EXPORTS`.

    Raises:
        DataError: The folder already exists, or cannot be written.
        Invalid: The format cannot hold the labels of the task.
    """
    check_export(review, use_case, format_, folder)
    case = review.store.use_case(use_case)
    has_boxes = bool(case.scheme.class_names)
    with atomic_folder(folder.absolute(), replace=False) as temporary:
        images = temporary / (_FIFTYONE_IMAGES if format_ is Format.FIFTYONE else _IMAGES)
        images.mkdir()
        for item, _ in found:
            (images / file_name(item.image)).write_bytes(review.images.read(item.image.sha256))
        dataset = dataset_of(use_case, case.task, case.scheme, found, images)
        if format_ is Format.YOLO:
            _write_yolo(dataset, images, temporary)
        elif format_ is Format.FIFTYONE:
            (temporary / "labels.json").write_text(fiftyone_labels(case.scheme, found), encoding="utf-8")
        elif format_ is Format.COCO:
            (temporary / "annotations.json").write_text(_coco(dataset, found), encoding="utf-8")
        else:
            labels = [decision.label or {} for _, decision in found]
            table = _boxes_csv(dataset, labels) if has_boxes else _labels_csv(dataset, case.scheme, labels)
            (temporary / "labels.csv").write_text(table, encoding="utf-8", newline="")


def _write_yolo(dataset: Dataset, images: Path, folder: Path) -> None:
    """Write YOLO files directly into ``folder``, with copies of the images instead of links."""
    layout = folder / "yolo"
    write_yolo(dataset, layout)
    for path in sorted(layout.rglob("*")):
        if path.is_symlink():
            path.resolve().replace(path)
    shutil.rmtree(images)
    for path in sorted(layout.iterdir()):
        path.replace(folder / path.name)
    layout.rmdir()


def _coco(dataset: Dataset, found: Sequence[tuple[ReviewItem, Decision]]) -> str:
    images = [
        {
            "id": row,
            "file_name": f"{_IMAGES}/{file_name(item.image)}",
            "width": item.image.width,
            "height": item.image.height,
        }
        for row, (item, _) in enumerate(found, 1)
    ]
    annotations: list[dict[str, Any]] = []
    for row, boxes in enumerate(dataset.boxes_by_image(), 1):
        for class_id, (x1, y1, x2, y2) in zip(boxes.class_ids.tolist(), boxes.xyxy.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": row,
                    "category_id": class_id + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(dataset.class_names, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}, ensure_ascii=False)


def _boxes_csv(dataset: Dataset, labels: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[Any]] = [["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]]
    sizes = zip(dataset.column("key"), dataset.column("width"), dataset.column("height"), strict=True)
    for (key, width, height), label in zip(sizes, labels, strict=True):
        start = [f"{_IMAGES}/{key}", width, height]
        rows += [[*start, one["class_name"], *one["box"]] for one in label["boxes"]] or [[*start, *[""] * 5]]
    return _csv(rows)


def _labels_csv(dataset: Dataset, scheme: LabelScheme, labels: Sequence[Mapping[str, Any]]) -> str:
    names = [question.name for question in scheme.questions]
    rows: list[list[Any]] = [["filename", *names]]
    for key, label in zip(dataset.column("key"), labels, strict=True):
        answers = label.get("attributes") or {names[0]: label.get("class_name")}
        rows.append([f"{_IMAGES}/{key}", *(answers[name] or "" for name in names)])
    return _csv(rows)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()

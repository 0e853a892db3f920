"""Task of object detection. Importable without Ultralytics and torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from visionops.errors import DataError, LabelError
from visionops.inference.bundle import BundleCard, Decode, Thresholds
from visionops.inference.task import PartTable, RecordColumn, TensorSpec
from visionops.tasks.detection.labelling import BoxLabels, box_layer, boxes_in, check_boxes
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.spec import Known, LabelComparison, Metric, Suspicion, TaskSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from visionops.data.dataset import Dataset
    from visionops.data.layers import BoxLayer
    from visionops.data.settings import Format
    from visionops.evaluation.result import Evaluation
    from visionops.evaluation.settings import EvaluationPlan
    from visionops.inference.bundle import ModelBundle
    from visionops.tasks.base import TrainingLog
    from visionops.tasks.conversion_plan import ConversionPlan
    from visionops.tasks.converted import ConvertedDataset, Progress
    from visionops.tasks.detection.decoder import BoxDecoder
    from visionops.tasks.detection.prediction import BoxPrediction
    from visionops.tasks.labelling import LabelScheme
    from visionops.tasks.settings import TrainingPlan
    from visionops.tasks.training_settings import TrainingBase

__all__ = ["DETECTION", "Detection", "DetectionAnswer", "DetectionTask"]

_DEFAULT_SIDE = 640
_STRIDE = 32


class Detection(BaseModel):
    """A detected object."""

    class_id: int
    class_name: str
    confidence: float
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels of the image")


class DetectionAnswer(BaseModel):
    """Answer of a detector."""

    detections: list[Detection]


class DetectionTask(TaskSpec["BoxPrediction"]):
    """Detect objects as boxes with classes."""

    name = "detection"
    options: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "confidence": "For a detector: lowest score of a box.",
            "iou": "For a detector: overlap above which the weaker of two boxes of a class is dropped.",
        }
    )
    record_columns: ClassVar[tuple[RecordColumn, ...]] = (
        RecordColumn("areas", is_list=True, title="mean area of an image's boxes"),
        RecordColumn("centres_x", is_list=True, title="mean place of boxes across"),
        RecordColumn("centres_y", is_list=True, title="mean place of boxes down"),
    )
    answer = DetectionAnswer
    example: Mapping[str, Any] = MappingProxyType(
        {
            "detections": [
                {"class_id": 2, "class_name": "scratches", "confidence": 0.91, "box": [12.0, 40.5, 180.2, 66.0]}
            ]
        }
    )
    settings = DetectionTraining
    metrics = (*map(Metric, ("map50", "map50_95", "precision", "recall")), Metric("f1", is_on_val=False))
    layer = "boxes"
    label_form = BoxLabels

    def check_card(self, card: BundleCard) -> None:
        """See `ServedTask`."""
        if card.decode not in {Decode.YOLO, Decode.YOLO_END2END}:
            raise ValueError(f"task {self.name} does not decode {card.decode}")
        if card.heads:
            raise ValueError("a detector has no heads")

    def decoder(self, card: BundleCard, thresholds: Thresholds) -> BoxDecoder:
        """See `ServedTask`."""
        from visionops.tasks.detection.decoder import BoxDecoder

        return BoxDecoder(card, thresholds)

    def answers_by_card(self, card: BundleCard, thresholds: Thresholds, options: Mapping[str, float]) -> bool:
        """See `ServedTask`."""
        return thresholds.model_copy(update=dict(options)) == card.thresholds

    def describe(self, card: BundleCard, thresholds: Thresholds) -> dict[str, Any]:  # noqa: ARG002
        """See `ServedTask`."""
        return {"thresholds": thresholds.model_dump()}

    def tensor_specs(self, card: BundleCard) -> list[TensorSpec]:  # noqa: ARG002
        """See `ServedTask`."""
        return [
            TensorSpec(name="boxes", datatype="FP32", shape=[-1, 4]),
            TensorSpec(name="scores", datatype="FP32", shape=[-1]),
            TensorSpec(name="class_ids", datatype="INT32", shape=[-1]),
            TensorSpec(name="class_names", datatype="BYTES", shape=[-1]),
            TensorSpec(name="counts", datatype="INT32", shape=[-1]),
        ]

    def tensors(self, card: BundleCard, predictions: Sequence[BoxPrediction]) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG002
        """Return the boxes of all images, one image after the other, and the number of boxes of each.

        Returns:
            ``boxes`` float32 (M, 4), xyxy, pixels of the original image after EXIF rotation; ``scores`` float32 (M,),
            descending within an image; ``class_ids`` int32 (M,); ``class_names`` (M,); ``counts`` int32 (N,), of sum M.
        """
        import numpy as np

        names = [one.class_names[c] for one in predictions for c in one.class_ids]
        return {
            "boxes": np.concatenate([one.boxes for one in predictions]).astype(np.float32, copy=False),
            "scores": np.concatenate([one.scores for one in predictions]).astype(np.float32, copy=False),
            "class_ids": np.concatenate([one.class_ids for one in predictions]).astype(np.int32, copy=False),
            "class_names": np.array(names, dtype=object),
            "counts": np.array([len(one.boxes) for one in predictions], dtype=np.int32),
        }

    def labels(self, answer: Mapping[str, Any]) -> list[tuple[str, float]]:
        """See `ServedTask`."""
        return [(one["class_name"], one["confidence"]) for one in answer["detections"]]

    def table(self, card: BundleCard, answers: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, pa.Array]]:  # noqa: ARG002
        """See `ServedTask`: ``detections``, their number."""
        import pyarrow as pa

        found = [None if answer is None else len(answer["detections"]) for answer in answers]
        return [("detections", pa.array(found, pa.int32()))]

    def part_tables(
        self,
        card: BundleCard,  # noqa: ARG002
        answers: Sequence[Mapping[str, Any] | None],
    ) -> dict[str, PartTable]:
        """See `ServedTask`: ``detections``, a row for each box, best first within an image."""
        import pyarrow as pa

        found = [
            (row, box) for row, answer in enumerate(answers) for box in (answer or {"detections": ()})["detections"]
        ]
        columns = {
            "class_id": pa.array([box["class_id"] for _, box in found], pa.int32()),
            "class_name": pa.array([box["class_name"] for _, box in found], pa.string()),
            "confidence": pa.array([box["confidence"] for _, box in found], pa.float32()),
        }
        for at, name in enumerate(("x1", "y1", "x2", "y2")):
            columns[name] = pa.array([box["box"][at] for _, box in found], pa.float32())
        return {"detections": PartTable(pa.array([row for row, _ in found], pa.int64()), columns)}

    def fit_dataset(self, dataset: Dataset, format_: Format) -> Dataset:
        """See `TaskSpec`."""
        if dataset.attributes:
            raise DataError(
                f"task: {self.name} does not fit {format_.value} data with classes of whole images; set task: "
                "classification or attributes"
            )
        return dataset

    def suits(self, dataset: Dataset) -> bool:
        """See `TaskSpec`."""
        return not dataset.attributes

    def starting_settings(self, dataset: Dataset) -> dict[str, Any]:
        """See `TaskSpec`: small images need not be enlarged; the network needs a multiple of 32."""
        import numpy as np

        sides = np.maximum(dataset.column("width"), dataset.column("height"))
        known = sides[sides > 0]
        if not known.size or np.median(known) > _DEFAULT_SIDE - _STRIDE:
            return {}
        return {"image_size": max(2 * _STRIDE, int(-(-float(np.median(known)) // _STRIDE) * _STRIDE))}

    def check_model(self, training: TrainingBase) -> None:
        """See `TaskSpec`."""
        model = getattr(training, "model", "")
        if model != self.settings.model_fields["model"].default:  # that one is there
            from visionops.tasks.detection.models import check_detector

            check_detector(model)

    def conversion_settings(self, training: TrainingBase) -> frozenset[str]:
        """See `TaskSpec`: tiles, and the seed that samples empty ones. The trainer resizes images as it reads them."""
        return frozenset({"tiles", "seed"} if getattr(training, "tiles", None) else ())

    def convert(self, dataset: Dataset, plan: ConversionPlan, folder: Path, progress: Progress) -> ConvertedDataset:
        """See `visionops.tasks.detection.conversion.convert_boxes`."""
        from visionops.tasks.detection.conversion import convert_boxes

        return convert_boxes(dataset, plan, folder, progress)

    def train(self, converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        """See `visionops.tasks.detection.training.train_detector`."""
        from visionops.tasks.detection.library import prepare_library

        prepare_library()
        from visionops.tasks.detection.training import train_detector

        return train_detector(converted, plan, work, log)

    def evaluate(
        self, bundle: ModelBundle, dataset: Dataset, scoring: EvaluationPlan, folder: Path | None
    ) -> Evaluation:
        """See `visionops.tasks.detection.evaluation.evaluate`."""
        from visionops.tasks.detection.evaluation import evaluate

        return evaluate(bundle, dataset, scoring, folder)

    def check_scheme(self, scheme: LabelScheme) -> None:
        """See `TaskSpec`."""
        if not scheme.class_names or scheme.questions:
            raise LabelError(f"task {self.name}: boxes have classes and no questions; add the classes")

    def check_label(self, label: Mapping[str, Any], scheme: LabelScheme, width: int, height: int) -> dict[str, Any]:
        """See `TaskSpec`: ``{"boxes": [{"class_name", "box": [x1, y1, x2, y2]}]}``."""
        return check_boxes(label, scheme, width, height)

    def label_of(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskSpec`."""
        found = answer["detections"]
        return {"boxes": [{"class_name": one["class_name"], "box": list(one["box"])} for one in found]}

    def labels_in(self, dataset: Dataset) -> list[dict[str, Any] | None]:
        """See `TaskSpec`."""
        return boxes_in(dataset)

    def layer_of(self, labels: Sequence[Mapping[str, Any]], scheme: LabelScheme) -> BoxLayer:
        """See `TaskSpec`."""
        return box_layer(labels, scheme)

    def agree(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """See `TaskSpec`: every box of each has a box of its class in the other, at an IoU of 0.5 or more."""
        from visionops.tasks.detection.agreeing import count_shared

        return all(shared == ours == theirs for shared, ours, theirs in count_shared(first, second).values())

    def compare(self, first: Mapping[str, Any], second: Mapping[str, Any], scheme: LabelScheme) -> LabelComparison:
        """See `TaskSpec`: the boxes of a class that match, and whether an image has the class at all."""
        from visionops.tasks.detection.agreeing import compare_boxes

        return compare_boxes(first, second, scheme)

    def suspects(
        self,
        labels: Sequence[Mapping[str, Any]],
        answers: Sequence[Mapping[str, Any]],
        scheme: LabelScheme,  # noqa: ARG002
    ) -> dict[int, Suspicion]:
        """See `visionops.tasks.detection.suspecting.suspect_boxes`."""
        from visionops.tasks.detection.suspecting import suspect_boxes

        return suspect_boxes(labels, answers)

    def known_to(self, test: Dataset, cards: Sequence[BundleCard]) -> Known:
        """See `visionops.tasks.detection.known.known_boxes`."""
        from visionops.tasks.detection.known import known_boxes

        return known_boxes(test, cards)


DETECTION = DetectionTask()

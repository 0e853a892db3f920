"""Tasks of labelling whole images: one class, or a class for each attribute. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from visionops.errors import DataError, LabelError
from visionops.inference.bundle import BundleCard, Decode, Head, Thresholds
from visionops.inference.task import RecordColumn, TensorSpec
from visionops.tasks.classification.labelling import (
    AttributeLabels,
    ClassLabel,
    check_attributes,
    check_class,
    compare_answers,
    label_layer,
    labels_in,
)
from visionops.tasks.classification.settings import LabelTraining, Learning
from visionops.tasks.spec import Known, LabelComparison, Metric, Suspicion, TaskSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from visionops.data.dataset import Dataset
    from visionops.data.layers import LabelLayer
    from visionops.data.settings import DataConfig, Format
    from visionops.evaluation.result import Evaluation
    from visionops.evaluation.settings import EvaluationPlan
    from visionops.inference.bundle import ModelBundle
    from visionops.tasks.base import TrainingLog
    from visionops.tasks.classification.decoder import LabelDecoder
    from visionops.tasks.classification.prediction import LabelPrediction
    from visionops.tasks.conversion_plan import ConversionPlan
    from visionops.tasks.converted import ConvertedDataset, Progress
    from visionops.tasks.labelling import LabelScheme
    from visionops.tasks.settings import TrainingPlan
    from visionops.tasks.training_settings import TrainingBase

__all__ = [
    "ATTRIBUTES",
    "CLASSIFICATION",
    "AttributesAnswer",
    "AttributesTask",
    "ClassificationAnswer",
    "ClassificationTask",
    "Label",
    "LabelTask",
]

_LABEL = {"class_id": 1, "class_name": "defective", "confidence": 0.97}
_LABEL |= {"probabilities": {"ok": 0.03, "defective": 0.97}}
_FEATURE_SETTINGS = frozenset(
    {"learning", "model", "weights", "image_size", "resize", "crop", "views", "device", "workers"}
)


class Label(BaseModel):
    """Answer to one question about the image."""

    class_id: int
    class_name: str
    confidence: float = Field(description="probability of the class answered")
    probabilities: dict[str, float]


class ClassificationAnswer(BaseModel):
    """Answer of a classifier."""

    classification: Label


class AttributesAnswer(BaseModel):
    """Answer of a model with several attributes."""

    attributes: dict[str, Label]


class LabelTask(TaskSpec["LabelPrediction"]):
    """A class for each question about an image; base of the two tasks."""

    record_columns: ClassVar[tuple[RecordColumn, ...]] = (RecordColumn("probabilities", is_list=True),)
    settings = LabelTraining
    layer = "labels"
    is_single: ClassVar[bool]
    """Whether there is a single question, whose answer has no name."""

    def check_model(self, training: TrainingBase) -> None:
        """See `TaskSpec`."""
        from visionops.tasks.classification.backbones import check_backbone

        check_backbone(getattr(training, "model", ""))

    def check_card(self, card: BundleCard) -> None:
        """See `ServedTask`."""
        if card.decode != Decode.LOGITS:
            raise ValueError(f"task {self.name} does not decode {card.decode}")
        if not card.heads or (self.is_single and len(card.heads) != 1):
            raise ValueError(f"task {self.name} has {len(card.heads)} heads")
        if sum(len(head.class_names) for head in card.heads) != len(card.class_names):
            raise ValueError("class_names and the classes of heads differ in number")
        if card.preprocessing.tiles:
            raise ValueError(f"task {self.name} answers for whole images; only detectors have tiles")

    def decoder(self, card: BundleCard, thresholds: Thresholds) -> LabelDecoder:  # noqa: ARG002
        """See `ServedTask`; thresholds of labels are in the card's heads."""
        from visionops.tasks.classification.decoder import LabelDecoder

        return LabelDecoder(card, is_single=self.is_single)

    def describe(self, card: BundleCard, thresholds: Thresholds) -> dict[str, Any]:  # noqa: ARG002
        """See `ServedTask`."""
        return {"heads": [head.model_dump() for head in card.heads]}

    def tensor_specs(self, card: BundleCard) -> list[TensorSpec]:
        """See `ServedTask`."""
        return [
            spec
            for head in card.heads
            for prefix in [self._prefix(head)]
            for spec in (
                TensorSpec(name=f"{prefix}class_ids", datatype="INT32", shape=[-1]),
                TensorSpec(name=f"{prefix}class_names", datatype="BYTES", shape=[-1]),
                TensorSpec(name=f"{prefix}probabilities", datatype="FP32", shape=[-1, len(head.class_names)]),
            )
        ]

    def tensors(self, card: BundleCard, predictions: Sequence[LabelPrediction]) -> dict[str, npt.NDArray[Any]]:
        """Return for each head ``class_ids`` int32 (N,), ``class_names`` (N,), ``probabilities`` float32 (N, C)."""
        import numpy as np

        tensors: dict[str, npt.NDArray[Any]] = {}
        for number, head in enumerate(card.heads):
            answers, prefix = [one.answers[number] for one in predictions], self._prefix(head)
            tensors[f"{prefix}class_ids"] = np.array([answer.class_id for answer in answers], dtype=np.int32)
            tensors[f"{prefix}class_names"] = np.array([answer.class_name for answer in answers], dtype=object)
            tensors[f"{prefix}probabilities"] = np.stack([answer.probabilities for answer in answers])
        return tensors

    def _prefix(self, head: Head) -> str:
        return "" if self.is_single else f"{head.name}."

    def labels(self, answer: Mapping[str, Any]) -> list[tuple[str, float]]:
        """See `ServedTask`."""
        if self.is_single:
            return [(answer["classification"]["class_name"], answer["classification"]["confidence"])]
        return [(f"{name}={a['class_name']}", a["confidence"]) for name, a in answer["attributes"].items()]

    def table(self, card: BundleCard, answers: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, pa.Array]]:
        """See `ServedTask`: for each head A with a class C ``A``, ``A_confidence`` and ``A_p_C``."""
        import pyarrow as pa

        columns = []
        for head in card.heads:
            found = [None if answer is None else self._of_head(answer, head) for answer in answers]
            columns.append((head.name, pa.array([a and a["class_name"] for a in found], pa.string())))
            columns.append((f"{head.name}_confidence", pa.array([a and a["confidence"] for a in found], pa.float32())))
            for c in head.class_names:
                shares = pa.array([a and a["probabilities"][c] for a in found], pa.float32())
                columns.append((f"{head.name}_p_{c}", shares))
        return columns

    def derived_columns(self, card: BundleCard, records: pa.Table) -> dict[str, pa.Array]:
        """See `visionops.tasks.classification.drifting.probability_columns`."""
        from visionops.tasks.classification.drifting import probability_columns

        return probability_columns(card.heads, records, is_single=self.is_single)

    def _of_head(self, answer: Mapping[str, Any], head: Head) -> dict[str, Any]:
        found: dict[str, Any] = answer["classification"] if self.is_single else answer["attributes"][head.name]
        return found

    def fit_dataset(self, dataset: Dataset, format_: Format) -> Dataset:
        """See `TaskSpec`."""
        if not dataset.attributes:
            raise DataError(f"task: {self.name} does not fit {format_.value} data with boxes; set task: detection")
        return dataset

    def conversion_settings(self, training: TrainingBase) -> frozenset[str]:
        """See `TaskSpec`: settings on which features and their computation depend; none for training from scratch."""
        if training.model_dump(include={"learning"})["learning"] == Learning.SCRATCH:
            return frozenset({"learning"})
        return _FEATURE_SETTINGS

    def convert(self, dataset: Dataset, plan: ConversionPlan, folder: Path, progress: Progress) -> ConvertedDataset:
        """See `visionops.tasks.classification.conversion.convert_labels`."""
        from visionops.tasks.classification.conversion import convert_labels

        return convert_labels(dataset, plan, folder, progress)

    def questions(self, card: BundleCard) -> Sequence[Head]:
        """See `TaskSpec`."""
        return card.heads

    def train(self, converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        """See `visionops.tasks.classification.training.train_labels`."""
        from visionops.tasks.classification.training import train_labels

        return train_labels(converted, plan, work, log)

    def evaluate(
        self, bundle: ModelBundle, dataset: Dataset, scoring: EvaluationPlan, folder: Path | None
    ) -> Evaluation:
        """See `visionops.tasks.classification.evaluation.evaluate_labels`."""
        from visionops.tasks.classification.evaluation import evaluate_labels

        return evaluate_labels(bundle, dataset, scoring, folder)

    def check_scheme(self, scheme: LabelScheme) -> None:
        """See `TaskSpec`."""
        if scheme.class_names or not scheme.questions or (self.is_single and len(scheme.questions) > 1):
            wanted = "one question" if self.is_single else "questions"
            raise LabelError(f"task {self.name}: labels answer {wanted}, each with its classes; add the classes")

    def suspects(
        self, labels: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]], scheme: LabelScheme
    ) -> dict[int, Suspicion]:
        """See `visionops.tasks.classification.suspecting.suspect_answers`."""
        from visionops.tasks.classification.suspecting import suspect_answers

        if not self.is_single:
            return suspect_answers([one["attributes"] for one in labels], [one["attributes"] for one in answers])
        name = scheme.questions[0].name
        given = [{name: one["class_name"]} for one in labels]
        return suspect_answers(given, [{name: one["classification"]} for one in answers])

    def known_to(self, test: Dataset, cards: Sequence[BundleCard]) -> Known:
        """See `visionops.tasks.classification.known.known_labels`."""
        from visionops.tasks.classification.known import known_labels

        return known_labels(test, cards)

    def dataset_for(self, test: Dataset, card: BundleCard) -> Dataset:
        """See `visionops.tasks.classification.known.with_unknown_heads`."""
        from visionops.tasks.classification.known import with_unknown_heads

        return with_unknown_heads(test, card)


class ClassificationTask(LabelTask):
    """Classify an image into one of several classes."""

    name = "classification"
    is_single = True
    answer = ClassificationAnswer
    example: Mapping[str, Any] = MappingProxyType({"classification": _LABEL})
    metrics = tuple(map(Metric, ("balanced_accuracy", "accuracy", "f1", "roc_auc", "pr_auc")))
    label_form = ClassLabel

    def check_data(self, data: DataConfig) -> None:
        """See `TaskSpec`."""
        if len(data.labels) > 1:
            names = ", ".join(data.labels)
            raise ValueError(f"data.labels: classification takes one, got {names}; keep one, or set task: attributes")

    def fit_dataset(self, dataset: Dataset, format_: Format) -> Dataset:
        """See `TaskSpec`."""
        fitting = super().fit_dataset(dataset, format_)
        if len(fitting.attributes) != 1:
            names = ", ".join(attribute.name for attribute in fitting.attributes)
            raise DataError(
                f"data.labels: classification takes one, but the table has {names}; name one, or set task: attributes"
            )
        return fitting

    def suits(self, dataset: Dataset) -> bool:
        """See `TaskSpec`."""
        return len(dataset.attributes) == 1

    def check_label(
        self,
        label: Mapping[str, Any],
        scheme: LabelScheme,
        width: int,  # noqa: ARG002
        height: int,  # noqa: ARG002
    ) -> dict[str, Any]:
        """See `TaskSpec`: ``{"class_name": …}``."""
        return check_class(label, scheme)

    def label_of(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskSpec`."""
        return {"class_name": answer["classification"]["class_name"]}

    def labels_in(self, dataset: Dataset) -> list[dict[str, Any] | None]:
        """See `TaskSpec`."""
        found = [next(iter(answers.values())) for answers in labels_in(dataset)]
        return [None if name is None else {"class_name": name} for name in found]

    def layer_of(self, labels: Sequence[Mapping[str, Any]], scheme: LabelScheme) -> LabelLayer:
        """See `TaskSpec`."""
        (question,) = scheme.questions
        return label_layer([{question.name: label["class_name"]} for label in labels], scheme.questions)

    def compare(self, first: Mapping[str, Any], second: Mapping[str, Any], scheme: LabelScheme) -> LabelComparison:
        """See `TaskSpec`: the classes."""
        (question,) = scheme.questions
        return compare_answers({question.name: first["class_name"]}, {question.name: second["class_name"]})


class AttributesTask(LabelTask):
    """Answer several questions about an image, each with its own classes."""

    name = "attributes"
    is_single = False
    answer = AttributesAnswer
    example: Mapping[str, Any] = MappingProxyType({"attributes": {"surface": _LABEL}})
    metrics = tuple(map(Metric, ("accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc")))
    label_form = AttributeLabels

    def suits(self, dataset: Dataset) -> bool:
        """See `TaskSpec`."""
        return len(dataset.attributes) > 1

    def check_label(
        self,
        label: Mapping[str, Any],
        scheme: LabelScheme,
        width: int,  # noqa: ARG002
        height: int,  # noqa: ARG002
    ) -> dict[str, Any]:
        """See `TaskSpec`: ``{"attributes": {name: class or None}}``."""
        return check_attributes(label, scheme)

    def label_of(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskSpec`."""
        return {"attributes": {name: one["class_name"] for name, one in answer["attributes"].items()}}

    def labels_in(self, dataset: Dataset) -> list[dict[str, Any] | None]:
        """See `TaskSpec`."""
        return [{"attributes": answers} if any(answers.values()) else None for answers in labels_in(dataset)]

    def layer_of(self, labels: Sequence[Mapping[str, Any]], scheme: LabelScheme) -> LabelLayer:
        """See `TaskSpec`."""
        return label_layer([label["attributes"] for label in labels], scheme.questions)

    def compare(self, first: Mapping[str, Any], second: Mapping[str, Any], scheme: LabelScheme) -> LabelComparison:  # noqa: ARG002
        """See `TaskSpec`: the class of each attribute."""
        return compare_answers(first["attributes"], second["attributes"])


CLASSIFICATION = ClassificationTask()
ATTRIBUTES = AttributesTask()

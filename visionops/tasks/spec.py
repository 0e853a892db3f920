"""`TaskSpec`: all that a task is, from the settings of its training to the tables of its answers.

One object a task, in one module. What is heavy is imported by the methods that need it: a server imports the module,
too. A package of the same shape brings a task of its own; `visionops.inference.task_registry` says how it is found.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel

from visionops.errors import TaskError
from visionops.inference.task import P, ServedTask
from visionops.inference.task_registry import served_task

if TYPE_CHECKING:
    from visionops.data.dataset import Dataset
    from visionops.data.layers import Layer
    from visionops.data.settings import DataConfig, Format
    from visionops.evaluation.result import Evaluation
    from visionops.evaluation.settings import Scoring
    from visionops.inference.bundle import BundleCard, Head, ModelBundle
    from visionops.tasks.base import TrainingLog
    from visionops.tasks.conversion_plan import ConversionPlan
    from visionops.tasks.converted import ConvertedDataset, Progress
    from visionops.tasks.labelling import LabelScheme
    from visionops.tasks.settings import TrainingPlan
    from visionops.tasks.training_settings import TrainingBase

__all__ = ["Known", "LabelComparison", "Metric", "Suspicion", "TaskSpec", "task_for"]


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """A figure that a task is judged by, as `Evaluation.metrics` and a bundle's card name it."""

    name: str
    higher_is_better: bool = True
    is_share: bool = True
    """Lies from 0 to 1, so that `gate.minimum` and `gate.margin` mean something."""
    is_on_val: bool = True
    """A training measures it on val, so that a search can maximize it."""

    @property
    def can_gate(self) -> bool:
        """Whether a gate can judge by it."""
        return self.higher_is_better and self.is_share


@dataclasses.dataclass(frozen=True, slots=True)
class LabelComparison:
    """What two labels of one image have in common."""

    answers: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """To each question both answers, for Cohen's kappa: of classes of images the classes, of boxes for each class
    whether there is any."""
    parts: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    """Of each class: how often both have it in the same place, and how often the first and the second have it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a label is probably wrong."""

    quality: float
    """Of the label, from 0 (surely wrong) to 1."""
    text: str
    """For people: what the label says, and what the model says."""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """What models can be compared on."""

    test: Dataset
    """Test images with the annotations that every model knows."""
    new: tuple[str, ...] = ()
    """Classes, or attributes, that a model does not know, as `Evaluation.per_class` names them."""
    left_out: tuple[str, ...] = ()
    """What is missing from ``test``, in words: "14 boxes of crack"."""


class TaskSpec(ServedTask[P]):
    """One kind of learning problem.

    Attributes:
        settings: What ``training`` holds; its ``task`` is a `Literal` of the task's name.
        metrics: What the task can be judged by, on test (the gate) and most on val (tuning); the first is the default.
        layer: Name of the annotations that it learns from (`Dataset`).
        label_form: What a person answers for one image, for OpenAPI; None for a task whose labels are not reviewed.
    """

    settings: type[TrainingBase]
    metrics: tuple[Metric, ...]
    layer: str
    label_form: type[BaseModel] | None = None

    @property
    def gate_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that a gate can judge by; the first is its default."""
        return tuple(metric.name for metric in self.metrics if metric.can_gate)

    @property
    def tuning_metrics(self) -> tuple[str, ...]:
        """Names of the metrics that a search can look for."""
        return tuple(metric.name for metric in self.metrics if metric.is_on_val)

    def metric(self, name: str) -> Metric:
        """Return one of ``metrics``.

        Raises:
            KeyError: The task has no such metric.
        """
        return {metric.name: metric for metric in self.metrics}[name]

    def check_data(self, data: DataConfig) -> None:
        """Check that the settings of the data fit the task.

        Raises:
            ValueError: They do not; the message begins with the setting to correct.
        """

    def check_model(self, training: TrainingBase) -> None:
        """Check that ``training.model`` names a model that can be trained; it may take seconds.

        Raises:
            TrainingError: It does not; the message has the nearest names.
        """

    def fit_dataset(self, dataset: Dataset, format_: Format) -> Dataset:  # noqa: ARG002
        """Check that what a reader gave is what the task learns from; a task may add annotations of its own.

        Args:
            format_: What the data set was read as, for messages.

        Raises:
            DataError: It is not.
        """
        return dataset

    def suits(self, dataset: Dataset) -> bool:  # noqa: ARG002
        """Return whether a use case for this data set, of which nothing else is known, should have this task."""
        return False

    def starting_settings(self, dataset: Dataset) -> dict[str, Any]:  # noqa: ARG002
        """Return the training settings that a data set decides by itself, for a new use case."""
        return {}

    def conversion_settings(self, training: TrainingBase) -> frozenset[str]:  # noqa: ARG002
        """Return the names of the training settings that `convert` depends on, for settings as these: none by default.

        With them at these values and all others at their defaults, the settings must be valid.
        """
        return frozenset()

    def convert(
        self,
        dataset: Dataset,
        plan: ConversionPlan,
        folder: Path,
        progress: Progress,  # noqa: ARG002
    ) -> ConvertedDataset:
        """Write what the trainer reads into ``folder``: by default, links to the images, a folder for each split.

        Args:
            dataset: Clean and split; the images of train and val are on this machine.
            plan: Holds no setting that `conversion_settings` does not name.
            folder: Empty, and moved once this returns: nothing in it may hold its name.
        """
        from visionops.tasks.converted import link_splits

        return link_splits(dataset, plan, folder)

    def questions(self, card: BundleCard) -> Sequence[Head]:  # noqa: ARG002
        """Return the questions whose class probabilities are ``probabilities`` in the prediction log, in that order.

        Of these, performance is estimated without labels; of a task without any, as by default, it is not.
        """
        return ()

    @abc.abstractmethod
    def train(self, converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        """Train on the train split, select on the val split, export.

        Args:
            converted: What `convert` made of a data set, by ``plan.conversion``. Not to be written into: other
                trainings read it, too.
            work: A folder of this training alone. What an interrupted call left there is resumed.

        Returns:
            A sealed bundle in ``work / "bundle"``; its card has the task's metrics of the val split.
        """

    @abc.abstractmethod
    def evaluate(self, bundle: ModelBundle, dataset: Dataset, scoring: Scoring, folder: Path | None) -> Evaluation:
        """Score the bundle on the test split of ``dataset``; with a folder, write pictures and report into it."""

    def check_scheme(self, scheme: LabelScheme) -> None:
        """Check that labels of this task can be given by ``scheme``.

        Raises:
            LabelError: They cannot.
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(scheme)

    def check_label(self, label: Mapping[str, Any], scheme: LabelScheme, width: int, height: int) -> dict[str, Any]:
        """Return a label that a person gives, by `label_form`, as it is kept.

        Args:
            width: Pixels of the image after EXIF rotation.
            height: Pixels of the image after EXIF rotation.

        Raises:
            LabelError: It is not of this form, or contradicts the scheme or the image.
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(label, scheme, width, height)

    def label_of(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the label that says what a model's answer says, to be confirmed.

        Args:
            answer: What `Prediction.to_dict` gave.

        Raises:
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(answer)

    def labels_in(self, dataset: Dataset) -> list[dict[str, Any] | None]:
        """Return the label of each image of a data set; None for an image without one.

        Raises:
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(dataset)

    def layer_of(self, labels: Sequence[Mapping[str, Any]], scheme: LabelScheme) -> Layer:
        """Return labels by `check_label`, one an image, as the layer that the task learns from.

        Raises:
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(labels, scheme)

    def agree(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Return whether two labels by `check_label`, given by two people for one image, say the same.

        By default, whether they are equal.
        """
        return first == second

    def compare(self, first: Mapping[str, Any], second: Mapping[str, Any], scheme: LabelScheme) -> LabelComparison:  # noqa: ARG002
        """Return what two labels of one image have in common, for figures of agreement; nothing by default."""
        return LabelComparison()

    def suspects(
        self, labels: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]], scheme: LabelScheme
    ) -> dict[int, Suspicion]:
        """Return the labels of a data set that are probably wrong, by row.

        Args:
            labels: By `check_label`, one an image.
            answers: Of a model about the same images, as `Prediction.to_dict` gives them.

        Raises:
            TaskError: The task cannot say.
        """
        self._not_audited(labels, answers, scheme)

    def _not_reviewed(self, *_: object) -> NoReturn:
        raise TaskError(f"task {self.name!r}: its labels cannot be reviewed; give its TaskSpec a label_form")

    def _not_audited(self, *_: object) -> NoReturn:
        raise TaskError(f"task {self.name!r}: its labels cannot be audited; give its TaskSpec a method suspects")

    def known_to(self, test: Dataset, cards: Sequence[BundleCard]) -> Known:  # noqa: ARG002
        """Leave out of a test split what a model cannot be asked: all of it may be asked, by default.

        Args:
            test: At least one image.
            cards: Of the models; of this task.
        """
        return Known(test)

    def dataset_for(self, test: Dataset, card: BundleCard) -> Dataset:  # noqa: ARG002
        """Return the comparison's images as the model of ``card`` is scored on them."""
        return test


def task_for(name: str) -> TaskSpec[Any]:
    """Return a task that can be learned.

    Raises:
        TaskError: No task of that name is registered, its package cannot be imported, or it is only served.
    """
    task = served_task(name)
    if not isinstance(task, TaskSpec):
        raise TaskError(f"task {name!r}: can be served, not trained; set another task")
    return task

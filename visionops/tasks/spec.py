"""`TaskSpec`: interface of a task, from the settings of its training to the tables of its answers.

Each task is one object in one module. Heavy libraries are imported by the methods that need them, because a server
imports the module, too. A package with the same structure can add a task; `visionops.inference.task_registry` describes
how it is found.
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
    from visionops.evaluation.settings import EvaluationPlan
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
    """A metric of a task, named as in `Evaluation.metrics` and in a bundle's card."""

    name: str
    higher_is_better: bool = True
    is_share: bool = True
    """Whether it lies from 0 to 1, as `gate.minimum` and `gate.margin` require."""
    is_on_val: bool = True
    """Whether training measures it on val, so that a search can maximize it."""

    @property
    def can_gate(self) -> bool:
        """Return whether a gate can use it."""
        return self.higher_is_better and self.is_share


@dataclasses.dataclass(frozen=True, slots=True)
class LabelComparison:
    """Comparison of two labels of one image."""

    answers: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Both answers to each question, for Cohen's kappa: classes for labels of images; for boxes, whether there is any
    box of a class."""
    parts: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    """For each class, how often both have it in the same place, and how often the first and the second have it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Suspicion:
    """Reason why a label is probably wrong."""

    quality: float
    """Quality of the label, from 0 (certainly wrong) to 1."""
    text: str
    """Text for people with the label and the model's answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """Test data on which models can be compared."""

    test: Dataset
    """Test images with the annotations that every model knows."""
    new: tuple[str, ...] = ()
    """Classes, or attributes, that a model does not know, named as in `Evaluation.per_class`."""
    left_out: tuple[str, ...] = ()
    """Description of what is missing from ``test``, such as "14 boxes of crack"."""


class TaskSpec(ServedTask[P]):
    """A kind of learning problem.

    Attributes:
        settings: Class of the settings in ``training``; its ``task`` is a `Literal` of the task's name.
        metrics: Metrics of the task on test (the gate), most of them on val, too (tuning); the first is the default.
        layer: Name of the annotations used for training (`Dataset`).
        label_form: Form of a person's answer for one image, for OpenAPI; None for a task whose labels are not reviewed.
    """

    settings: type[TrainingBase]
    metrics: tuple[Metric, ...]
    layer: str
    label_form: type[BaseModel] | None = None

    @property
    def gate_metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics that a gate can use; the first is its default."""
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
            ValueError: They do not fit; the message starts with the setting to correct.
        """

    def check_model(self, training: TrainingBase) -> None:
        """Check that ``training.model`` names a model that can be trained; it may take seconds.

        Raises:
            TrainingError: It does not; the message has the nearest names.
        """

    def fit_dataset(self, dataset: Dataset, format_: Format) -> Dataset:  # noqa: ARG002
        """Check that the data from a reader can be used for training; a task may add annotations of its own.

        Args:
            format_: Format that the data set was read as, for messages.

        Raises:
            DataError: The data does not fit the task.
        """
        return dataset

    def suits(self, dataset: Dataset) -> bool:  # noqa: ARG002
        """Return whether a new use case for this data set should have this task by default."""
        return False

    def starting_settings(self, dataset: Dataset) -> dict[str, Any]:  # noqa: ARG002
        """Return training settings derived from a data set, for a new use case."""
        return {}

    def conversion_settings(self, training: TrainingBase) -> frozenset[str]:  # noqa: ARG002
        """Return the names of the training settings that `convert` depends on, given these settings; none by default.

        With these names at their values and all others at their defaults, the settings must be valid.
        """
        return frozenset()

    def convert(
        self,
        dataset: Dataset,
        plan: ConversionPlan,
        folder: Path,
        progress: Progress,  # noqa: ARG002
    ) -> ConvertedDataset:
        """Write the trainer's input into ``folder``: by default, links to the images, a folder for each split.

        Args:
            dataset: Clean and split data; the images of train and val are on this machine.
            plan: Plan with only the settings that `conversion_settings` names.
            folder: Empty folder, moved after this returns, so nothing in it may contain its path.
        """
        from visionops.tasks.converted import link_splits

        return link_splits(dataset, plan, folder)

    def questions(self, card: BundleCard) -> Sequence[Head]:  # noqa: ARG002
        """Return the questions whose class probabilities are ``probabilities`` in the prediction log, in that order.

        Performance is estimated without labels for these; by default there are none, and nothing is estimated.
        """
        return ()

    @abc.abstractmethod
    def train(self, converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        """Train on the train split, select on the val split, export.

        Args:
            converted: Output of `convert` for ``plan.conversion``. Read-only, because other trainings use it, too.
            work: Folder of this training only. An interrupted training in it is resumed.

        Returns:
            A sealed bundle in ``work / "bundle"``; its card has the task's metrics of the val split.
        """

    @abc.abstractmethod
    def evaluate(
        self, bundle: ModelBundle, dataset: Dataset, scoring: EvaluationPlan, folder: Path | None
    ) -> Evaluation:
        """Score the bundle on the test split of ``dataset``; with a folder, write pictures and report into it."""

    def check_scheme(self, scheme: LabelScheme) -> None:
        """Check that ``scheme`` fits the labels of this task.

        Raises:
            LabelError: It does not fit.
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(scheme)

    def check_label(self, label: Mapping[str, Any], scheme: LabelScheme, width: int, height: int) -> dict[str, Any]:
        """Check a person's label by `label_form`; return it in its stored form.

        Args:
            width: Pixels of the image after EXIF rotation.
            height: Pixels of the image after EXIF rotation.

        Raises:
            LabelError: It does not have this form, or contradicts the scheme or the image.
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(label, scheme, width, height)

    def label_of(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's answer as a label, to be confirmed.

        Args:
            answer: Answer from `Prediction.to_dict`.

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
        """Return labels from `check_label`, one for each image, as the layer that the task learns from.

        Raises:
            TaskError: The task has no `label_form`.
        """
        self._not_reviewed(labels, scheme)

    def agree(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Return whether two labels from `check_label`, given by two people for one image, agree.

        By default, they must be equal.
        """
        return first == second

    def compare(self, first: Mapping[str, Any], second: Mapping[str, Any], scheme: LabelScheme) -> LabelComparison:  # noqa: ARG002
        """Return the comparison of two labels of one image, for measures of agreement; empty by default."""
        return LabelComparison()

    def suspects(
        self, labels: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]], scheme: LabelScheme
    ) -> dict[int, Suspicion]:
        """Return the labels of a data set that are probably wrong, by row.

        Args:
            labels: Labels from `check_label`, one for each image.
            answers: A model's answers for the same images, as from `Prediction.to_dict`.

        Raises:
            TaskError: The task does not support this.
        """
        self._not_audited(labels, answers, scheme)

    def _not_reviewed(self, *_: object) -> NoReturn:
        raise TaskError(f"task {self.name!r}: its labels cannot be reviewed; give its TaskSpec a label_form")

    def _not_audited(self, *_: object) -> NoReturn:
        raise TaskError(f"task {self.name!r}: its labels cannot be audited; give its TaskSpec a method suspects")

    def known_to(self, test: Dataset, cards: Sequence[BundleCard]) -> Known:  # noqa: ARG002
        """Remove from a test split what a model does not answer; by default nothing.

        Args:
            test: At least one image.
            cards: Cards of the models, all of this task.
        """
        return Known(test)

    def dataset_for(self, test: Dataset, card: BundleCard) -> Dataset:  # noqa: ARG002
        """Return the comparison's images in the form in which the model of ``card`` is scored on them."""
        return test


def task_for(name: str) -> TaskSpec[Any]:
    """Return a task that can be trained.

    Raises:
        TaskError: No task of that name is registered, its package cannot be imported, or it can only be served.
    """
    task = served_task(name)
    if not isinstance(task, TaskSpec):
        raise TaskError(f"task {name!r}: can be served, not trained; set another task")
    return task

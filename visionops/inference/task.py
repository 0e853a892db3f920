"""`ServedTask`: interface of a task for the server, batch inference and the prediction log.

This is the part of a task that needs no training framework; `visionops.tasks.spec.TaskSpec` adds training and
evaluation. Tasks are looked up by name (`visionops.inference.task_registry`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel

from visionops.inference.prediction import Prediction

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from visionops.inference.bundle import BundleCard, Thresholds
    from visionops.inference.decoders import Decoder

__all__ = [
    "ENTROPY_PREFIX",
    "PROBABILITY_PREFIX",
    "P",
    "PartTable",
    "RecordColumn",
    "ServedTask",
    "TensorSpec",
]

P = TypeVar("P", bound=Prediction)
"""Prediction type of a task."""

PROBABILITY_PREFIX = "probability:"
"""Prefix of a derived column with the probability of a class."""
ENTROPY_PREFIX = "entropy:"
"""Prefix of a derived column with the entropy of a question's answer."""


class TensorSpec(BaseModel):
    """A tensor of a model: its name, type and shape, -1 where it depends on the request."""

    name: str
    datatype: Literal["BYTES", "UINT8", "INT32", "FP32"]
    shape: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class RecordColumn:
    """A column that a task adds to the prediction log; see `visionops.monitoring.record`."""

    name: str
    is_list: bool = False
    """Whether it has several numbers for each image, which drift compares by their mean, or at most one."""
    title: str = ""
    """Title of the column in drift reports; "" for a column that drift does not compare."""


@dataclasses.dataclass(frozen=True, slots=True)
class PartTable:
    """A table of batch inference with a row for each part of an image, such as a box."""

    rows: pa.Array
    """int64: for each row, the index of its image among the answers."""
    columns: Mapping[str, pa.Array]


class ServedTask(abc.ABC, Generic[P]):
    """One kind of answer. Holds no state: one object serves every model of its task.

    Attributes:
        name: Name in bundles and configurations.
        options: Options of a request, each a number from 0 to 1, with their descriptions.
        record_columns: The task's own columns of the prediction log; `Prediction.record` returns their values.
        answer: Fields of `Prediction.to_dict`, for OpenAPI and MLflow; its docstring is shown to clients.
        example: An answer of this task, in the form of `answer`.
    """

    name: str
    options: ClassVar[Mapping[str, str]] = MappingProxyType({})
    record_columns: ClassVar[tuple[RecordColumn, ...]] = ()
    answer: type[BaseModel]
    example: Mapping[str, Any]

    def check_card(self, card: BundleCard) -> None:
        """Check the task's own fields of a card.

        Raises:
            ValueError: They contradict each other.
        """

    @abc.abstractmethod
    def decoder(self, card: BundleCard, thresholds: Thresholds) -> Decoder[P]:
        """Return the decoder of the graph's outputs.

        Args:
            thresholds: Thresholds of this process, where the task has any; those of the card when None.
        """

    def answers_by_card(self, card: BundleCard, thresholds: Thresholds, options: Mapping[str, float]) -> bool:  # noqa: ARG002
        """Return whether an answer under these thresholds and options equals that at the card's own."""
        return not options

    def describe(self, card: BundleCard, thresholds: Thresholds) -> dict[str, Any]:  # noqa: ARG002
        """Return the thresholds of an answer, for `/model`."""
        return {}

    @abc.abstractmethod
    def tensor_specs(self, card: BundleCard) -> list[TensorSpec]:
        """Return the outputs of a model in the Open Inference Protocol."""

    @abc.abstractmethod
    def tensors(self, card: BundleCard, predictions: Sequence[P]) -> dict[str, npt.NDArray[Any]]:
        """Return the predictions for N images as the arrays that `tensor_specs` names; text as dtype object."""

    def derived_columns(self, card: BundleCard, records: pa.Table) -> dict[str, pa.Array]:  # noqa: ARG002
        """Return additional columns for drift: float32 (rows,) by name, null where missing.

        Names begin with `PROBABILITY_PREFIX` or `ENTROPY_PREFIX`. They are computed when tables are compared, so the
        log and the reference store nothing twice, and the columns exist for older ones, too.

        Args:
            records: Records with the schema `visionops.monitoring.record.record_schema`, of the model of ``card``.
        """
        return {}

    @abc.abstractmethod
    def labels(self, answer: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Return `Prediction.labels` from the result of `Prediction.to_dict`."""

    @abc.abstractmethod
    def table(self, card: BundleCard, answers: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, pa.Array]]:
        """Return the task's columns of the table of predictions by name, a row for each image; names may repeat.

        Args:
            answers: `Prediction.to_dict` of each image; None for an image without an answer.
        """

    def part_tables(
        self,
        card: BundleCard,  # noqa: ARG002
        answers: Sequence[Mapping[str, Any] | None],  # noqa: ARG002
    ) -> dict[str, PartTable]:
        """Return tables of the parts of images, keyed by file name."""
        return {}

"""`ServedTask`: what a server, batch inference and the prediction log need of a task.

It is the half of a task that needs no training framework; `visionops.tasks.spec.TaskSpec` adds how the task is learned
and judged. A task is found by its name (`visionops.inference.task_registry`).
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
"""The prediction type of a task."""

PROBABILITY_PREFIX = "probability:"
"""Before a class, in the name of a derived column that holds its probability."""
ENTROPY_PREFIX = "entropy:"
"""Before a question, in the name of a derived column that says how undecided its answer is."""


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
    """Several numbers an image, which drift compares by their mean; else one number or none."""
    title: str = ""
    """Names the column in drift reports; "" for a column that drift does not compare."""


@dataclasses.dataclass(frozen=True, slots=True)
class PartTable:
    """A table of batch inference with a row for each of several things in an image, as a box."""

    rows: pa.Array
    """int64: for each row the index of its image among the answers."""
    columns: Mapping[str, pa.Array]


class ServedTask(abc.ABC, Generic[P]):
    """One kind of answer, served. Holds no state: one object serves every model of its task.

    Attributes:
        name: As bundles and configurations write it.
        options: What a request may set for itself, each a number from 0 to 1, and what it means.
        record_columns: Columns of the prediction log that are the task's own; `Prediction.record` gives their values.
        answer: Fields of `Prediction.to_dict`, for OpenAPI and MLflow; its docstring is shown to clients.
        example: An answer of this task, by `answer`.
    """

    name: str
    options: ClassVar[Mapping[str, str]] = MappingProxyType({})
    record_columns: ClassVar[tuple[RecordColumn, ...]] = ()
    answer: type[BaseModel]
    example: Mapping[str, Any]

    def check_card(self, card: BundleCard) -> None:
        """Check what the task's own fields of a card say.

        Raises:
            ValueError: They contradict each other.
        """

    @abc.abstractmethod
    def decoder(self, card: BundleCard, thresholds: Thresholds) -> Decoder[P]:
        """Return what makes predictions of the graph's outputs.

        Args:
            thresholds: Of this process, where the task has any; those of the card otherwise.
        """

    def answers_by_card(self, card: BundleCard, thresholds: Thresholds, options: Mapping[str, float]) -> bool:  # noqa: ARG002
        """Return whether an answer under these thresholds and options is the one that the card's own would give."""
        return not options

    def describe(self, card: BundleCard, thresholds: Thresholds) -> dict[str, Any]:  # noqa: ARG002
        """Return what decides an answer, as `/model` shows it."""
        return {}

    @abc.abstractmethod
    def tensor_specs(self, card: BundleCard) -> list[TensorSpec]:
        """Return the outputs of a model by the Open Inference Protocol."""

    @abc.abstractmethod
    def tensors(self, card: BundleCard, predictions: Sequence[P]) -> dict[str, npt.NDArray[Any]]:
        """Return the predictions for N images as the arrays that `tensor_specs` names; text as dtype object."""

    def derived_columns(self, card: BundleCard, records: pa.Table) -> dict[str, pa.Array]:  # noqa: ARG002
        """Return what drift compares beside the records' own columns: float32 (rows,) by name, null where missing.

        Names begin with `PROBABILITY_PREFIX` or `ENTROPY_PREFIX`. Computed when tables are compared: the log and the
        reference hold nothing twice, and older ones have it.

        Args:
            records: By `visionops.monitoring.record.record_schema`, of the model of ``card``.
        """
        return {}

    @abc.abstractmethod
    def labels(self, answer: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Return `Prediction.labels` of what `Prediction.to_dict` gave."""

    @abc.abstractmethod
    def table(self, card: BundleCard, answers: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, pa.Array]]:
        """Return the task's columns of the table of predictions by name, a row an image; a name may come twice.

        Args:
            answers: Of each image what `Prediction.to_dict` gave; None for an image without an answer.
        """

    def part_tables(
        self,
        card: BundleCard,  # noqa: ARG002
        answers: Sequence[Mapping[str, Any] | None],  # noqa: ARG002
    ) -> dict[str, PartTable]:
        """Return tables of what an image has several of, by the name of their files."""
        return {}

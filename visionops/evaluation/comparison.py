"""The test images that models are compared on: what every one of them can be asked, and what was left out for it.

A class that came with new labels is unknown to the champion. It must not keep the two from being compared: they are
compared on the classes that both know, and the new class is reported apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.data.dataset import Attribute, Dataset
from visionops.data.findings import counted
from visionops.errors import MetricError
from visionops.evaluation.measuring import select_test
from visionops.inference.bundle import BundleCard
from visionops.inference.settings import Task as TaskKind

__all__ = ["Comparison", "comparison_set"]


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What models are compared on."""

    test: Dataset
    """Images of the test split with the labels that every model knows; at least one image."""
    total: int
    """Images of the whole test split."""
    new: tuple[str, ...] = ()
    """Classes, or attributes, that a model does not know, as `Evaluation.per_class` names them."""
    left_out: tuple[str, ...] = ()
    """What is missing from ``test``, in words: "14 boxes of crack"."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the test split as it stands."""
        return not self.new and not self.left_out

    def explain(self) -> str:
        """Return one clause: on how many images, without what. "" for the whole test split."""
        if self.is_whole:
            return ""
        without = ", ".join(self.left_out) or f"the classes {', '.join(self.new)}"
        return f"on {self.test.num_images} of {counted(self.total, 'test image')}, without {without}"

    def dataset_for(self, card: BundleCard) -> Dataset:
        """Return ``test`` as the model of ``card`` is scored on it.

        What the model answers beyond the comparison stands there as a question without a known answer, which counts for
        nothing.
        """
        if card.task is TaskKind.DETECTION or len(card.heads) == len(self.test.attributes) == 1:
            return self.test
        asked = {attribute.name for attribute in self.test.attributes}
        extra = [Attribute(head.name, head.class_names, head.positive) for head in card.heads if head.name not in asked]
        if not extra:
            return self.test
        unknown = pa.nulls(self.test.num_images, pa.int32())
        columns = {name: self.test.labels.column(name) for name in self.test.labels.column_names}
        return dataclasses.replace(
            self.test,
            attributes=(*self.test.attributes, *extra),
            labels=pa.table(columns | {attribute.name: unknown for attribute in extra}),
        )


def comparison_set(
    dataset: Dataset, cards: Sequence[BundleCard], usable: npt.NDArray[np.bool_] | None = None
) -> Comparison:
    """Return the test images and labels that every model can be judged by.

    Boxes of a class that a model does not know are dropped; their images stay. An attribute that a model does not
    answer is dropped, and so are images that have no label left.

    Args:
        dataset: Its test split is taken.
        cards: Of the models to beat; of one task.
        usable: Bool (test images,): False where a model was trained or selected on the image. All when absent.

    Raises:
        DataError: The test split is empty.
        MetricError: Nothing is left of it.
    """
    test = select_test(dataset)
    total, left_out = test.num_images, []
    if usable is not None and not usable.all():
        count = int((~usable).sum())
        which = "is or looks like one" if count == 1 else "are or look like some"
        left_out.append(f"{counted(count, 'image')} that {which} a model was trained or selected on")
        test = test.take(np.flatnonzero(usable))
    if cards[0].task is TaskKind.DETECTION:
        test, new, gone = _known_boxes(test, cards)
    else:
        test, new, gone = _known_labels(test, cards)
    found = Comparison(test, total, new, (*left_out, *gone))
    if not test.num_images:
        raise MetricError(f"{test.name}: no test image is left, without {', '.join(found.left_out)}")
    return found


def _known_boxes(test: Dataset, cards: Sequence[BundleCard]) -> tuple[Dataset, tuple[str, ...], list[str]]:
    known = set.intersection(*(set(card.class_names) for card in cards))
    new = tuple(name for name in test.class_names if name not in known)
    if not new:
        return test, (), []
    names = tuple(name for name in test.class_names if name in known)
    class_ids = test.boxes.column("class_id").to_numpy()
    new_id = np.array([names.index(name) if name in known else -1 for name in test.class_names])[class_ids]
    gone = [
        f"{counted(int((class_ids == test.class_names.index(name)).sum()), 'box', 'boxes')} of {name}" for name in new
    ]
    boxes = test.boxes.set_column(
        test.boxes.schema.get_field_index("class_id"), "class_id", pa.array(new_id.astype(np.int32))
    ).filter(pa.array(new_id >= 0))
    return dataclasses.replace(test, class_names=names, boxes=boxes), new, gone


def _known_labels(test: Dataset, cards: Sequence[BundleCard]) -> tuple[Dataset, tuple[str, ...], list[str]]:
    new: list[str] = []
    gone: list[str] = []
    attributes, columns = [], {}
    for attribute in test.attributes:
        known = _known_classes(attribute, test, cards)
        if known is None:
            new.append(attribute.name)
            gone.append(f"the attribute {attribute.name}")
            continue
        names = tuple(name for name in attribute.class_names if name in known)
        unknown = [name for name in attribute.class_names if name not in known]
        labels = test.labels.column(attribute.name).to_pylist()
        for name in unknown:
            count = labels.count(attribute.class_names.index(name))
            of_class = name if len(test.attributes) == 1 else f"{attribute.name}={name}"
            new.append(of_class)
            gone.append(f"{counted(count, 'label')} of {of_class}")
        new_id = {i: names.index(name) for i, name in enumerate(attribute.class_names) if name in known}
        columns[attribute.name] = [None if i is None else new_id.get(i) for i in labels]
        attributes.append(Attribute(attribute.name, names, attribute.positive if attribute.positive in known else None))
    if not new:
        return test, (), []
    was_known = (test.label_array() >= 0).any(axis=1)
    table = pa.table({name: pa.array(column, pa.int32()) for name, column in columns.items()})
    reduced = dataclasses.replace(test, attributes=tuple(attributes), labels=table)
    is_known = (reduced.label_array() >= 0).any(axis=1)
    return reduced.take(np.flatnonzero(is_known | ~was_known)), tuple(new), gone


def _known_classes(attribute: Attribute, test: Dataset, cards: Sequence[BundleCard]) -> set[str] | None:
    """The classes that every model answers this attribute with; None where one does not answer it.

    Where there is one question on both sides, it is the same whatever its name.
    """
    known = set(attribute.class_names)
    for card in cards:
        if len(card.heads) == len(test.attributes) == 1:
            head = card.heads[0]
        else:
            found = [head for head in card.heads if head.name == attribute.name]
            if not found:
                return None
            head = found[0]
        known &= set(head.class_names)
    return known

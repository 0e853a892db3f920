"""Reduce a test split to the labels that every one of several classifiers answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from visionops.data.dataset import Dataset
from visionops.data.findings import counted
from visionops.data.layers import Attribute
from visionops.inference.bundle import BundleCard
from visionops.tasks.spec import Known

__all__ = ["known_labels", "with_unknown_heads"]


def known_labels(test: Dataset, cards: Sequence[BundleCard]) -> Known:
    """Drop classes and attributes that a model does not answer, and then images without any label left."""
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
        return Known(test)
    was_known = (test.label_array() >= 0).any(axis=1)
    table = pa.table({name: pa.array(column, pa.int32()) for name, column in columns.items()})
    reduced = test.with_labels(attributes, table)
    is_known = (reduced.label_array() >= 0).any(axis=1)
    return Known(reduced.take(np.flatnonzero(is_known | ~was_known)), tuple(new), tuple(gone))


def with_unknown_heads(test: Dataset, card: BundleCard) -> Dataset:
    """Add the model's heads that ``test`` does not have, as questions without known answers, which are not scored."""
    if len(card.heads) == len(test.attributes) == 1:
        return test
    known = {attribute.name for attribute in test.attributes}
    extra = [Attribute(head.name, head.class_names, head.positive) for head in card.heads if head.name not in known]
    if not extra:
        return test
    unknown = pa.nulls(test.num_images, pa.int32())
    columns = {name: test.labels.column(name) for name in test.labels.column_names}
    table = pa.table(columns | {attribute.name: unknown for attribute in extra})
    return test.with_labels((*test.attributes, *extra), table)


def _known_classes(attribute: Attribute, test: Dataset, cards: Sequence[BundleCard]) -> set[str] | None:
    """Return the classes with which every model answers this attribute; None where a model does not answer it.

    Where both sides have a single question, they match whatever their names.
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

"""Labels of whole images: their forms, their checks, and their conversion to and from a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visionops.errors import LabelError
from visionops.tasks.labelling import LabelForm, LabelScheme, Question, class_among, read_form
from visionops.tasks.spec import LabelComparison

if TYPE_CHECKING:
    from visionops.data.dataset import Dataset
    from visionops.data.layers import LabelLayer

__all__ = [
    "AttributeLabels",
    "ClassLabel",
    "check_attributes",
    "check_class",
    "compare_answers",
    "label_layer",
    "labels_in",
]


_UNKNOWN = "cannot be said"


class ClassLabel(LabelForm):
    """The class of an image."""

    class_name: str


class AttributeLabels(LabelForm):
    """Class of an image for each attribute; null or missing where it is unknown."""

    attributes: dict[str, str | None]


def check_class(label: Mapping[str, Any], scheme: LabelScheme) -> dict[str, Any]:
    """Return a label with one class.

    Raises:
        LabelError: It does not have the form `ClassLabel`, or the class is unknown.
    """
    (question,) = scheme.questions
    name = read_form(ClassLabel, label).class_name
    return {"class_name": class_among(name, question.class_names, question.name)}


def check_attributes(label: Mapping[str, Any], scheme: LabelScheme) -> dict[str, Any]:
    """Return a label that has every attribute, in the order of the scheme.

    Raises:
        LabelError: It does not have the form `AttributeLabels`, is empty, or has an unknown attribute or class.
    """
    given = read_form(AttributeLabels, label).attributes
    known = {question.name: question for question in scheme.questions}
    for name in given:
        if name not in known:
            raise LabelError(f"label: unknown attribute {name[:100]!r}; expected one of {', '.join(known)}")
    answers = {name: given.get(name) for name in known}
    if not any(answers.values()):
        raise LabelError("label: attributes: is empty; set a class for at least one")
    for name, answer in answers.items():
        if answer is not None:
            class_among(answer, known[name].class_names, name)
    return {"attributes": answers}


def compare_answers(first: Mapping[str, str | None], second: Mapping[str, str | None]) -> LabelComparison:
    """Return the shared parts of two labels: the classes of each question, and for each class how many have it.

    An unknown answer counts as an answer, too. With several questions the classes are ``question=class``.
    """
    answers = {name: (first.get(name) or _UNKNOWN, second.get(name) or _UNKNOWN) for name in {**first, **second}}
    parts = {}
    for name, pair in answers.items():
        for one in sorted(set(pair) - {_UNKNOWN}):
            ours, theirs = (int(given == one) for given in pair)
            parts[one if len(answers) == 1 else f"{name}={one}"] = (ours * theirs, ours, theirs)
    return LabelComparison(answers, parts)


def label_layer(answers: Sequence[Mapping[str, str | None]], questions: Sequence[Question]) -> LabelLayer:
    """Return checked answers, attribute to class and one for each image, as a layer of a data set."""
    from visionops.data.layers import Attribute, label_layer_from

    columns = {
        question.name: [
            None if one[question.name] is None else question.class_names.index(str(one[question.name]))
            for one in answers
        ]
        for question in questions
    }
    return label_layer_from([Attribute(question.name, question.class_names) for question in questions], columns)


def labels_in(dataset: Dataset) -> list[dict[str, str | None]]:
    """Return the class of each attribute of each image; None where unknown."""
    columns = [
        [None if class_id < 0 else attribute.class_names[class_id] for class_id in column]
        for attribute, column in zip(dataset.attributes, dataset.label_array().T.tolist(), strict=True)
    ]
    names = [attribute.name for attribute in dataset.attributes]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

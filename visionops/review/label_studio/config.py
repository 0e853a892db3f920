"""Build the labelling configuration of a use case: boxes or questions, and a way to reject an image."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from visionops.review.errors import Invalid
from visionops.review.items import UseCase
from visionops.tasks.labelling import LabelScheme

__all__ = ["BOXES", "IMAGE", "REASON", "REJECT", "covers", "labelling_config", "question_tags"]

IMAGE = "image"
"""Name of the image tag, and its key in the data of a task."""
BOXES = "label"
REJECT = "visionops_reject"
REASON = "visionops_reason"
_REJECTED = "no training data"
_PLAIN = re.compile("[A-Za-z][A-Za-z0-9_]*")
_OURS = {IMAGE, REJECT, REASON}


def question_tags(scheme: LabelScheme) -> dict[str, str]:
    """Return the tag name of each question: the question's own name where Label Studio accepts it."""
    return {
        (q.name if _PLAIN.fullmatch(q.name) and q.name not in _OURS else f"question {number}"): q.name
        for number, q in enumerate(scheme.questions, 1)
    }


def labelling_config(use_case: UseCase) -> str:
    """Return the XML configuration with which Label Studio shows tasks of a use case.

    Raises:
        Invalid: A class begins with ``$``, which Label Studio replaces by data of the task.
    """
    scheme = use_case.scheme
    _check_names(scheme)
    view = ET.Element("View")
    ET.SubElement(view, "Header", value="$name")
    ET.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoomControl="true")
    if scheme.class_names:
        # A label cannot hold rotated boxes.
        boxes = ET.SubElement(view, "RectangleLabels", name=BOXES, toName=IMAGE, canRotate="false")
        for name in scheme.class_names:
            ET.SubElement(boxes, "Label", value=name)
    for (tag, name), question in zip(question_tags(scheme).items(), scheme.questions, strict=True):
        ET.SubElement(view, "Header", value=name)
        _choices(view, tag, question.class_names)
    ET.SubElement(view, "Header", value="Not to be learned from?")
    _choices(view, REJECT, (_REJECTED,))
    ET.SubElement(view, "TextArea", name=REASON, toName=IMAGE, maxSubmissions="1", placeholder="why")
    return ET.tostring(view, encoding="unicode")


def covers(present: str, wanted: str) -> bool:
    """Return whether a configuration has every tag and value of ``wanted``. It may also have colours and hotkeys."""
    try:
        return _names(ET.fromstring(wanted)) <= _names(ET.fromstring(present))  # noqa: S314 - expat 2.6 limits entities
    except ET.ParseError:
        return False


def _choices(view: ET.Element, tag: str, names: tuple[str, ...]) -> None:
    choices = ET.SubElement(view, "Choices", name=tag, toName=IMAGE, choice="single", required="false")
    for name in names:
        ET.SubElement(choices, "Choice", value=name)


def _names(view: ET.Element) -> set[tuple[str, str, str]]:
    return {(tag.tag, tag.get("name", ""), one.get("value", "")) for tag in view.iter() for one in (tag, *tag)}


def _check_names(scheme: LabelScheme) -> None:
    names = [*scheme.class_names, *(name for question in scheme.questions for name in question.class_names)]
    names += [question.name for question in scheme.questions]
    for name in names:
        if name.startswith("$") or name != name.strip():
            raise Invalid(f"class {name!r}: Label Studio does not keep a name that begins with $ or a space; rename it")

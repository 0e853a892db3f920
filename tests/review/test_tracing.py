"""Models that were trained on an image, with the label that they used."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.helpers.review import BOX, NOW, STEEL, png
from visionops.inference.image import read_header
from visionops.review.items import Decision, ImageFacts, Origin, ReviewItem, Submission, decision_id
from visionops.review.outcomes import ItemTrace
from visionops.review.states import Status, Verdict
from visionops.review.tracing import TrainedModel, image_history


def traced(*decided: tuple[bool, int | None]) -> ItemTrace:
    """Return an item whose round N was decided N hours in: with a label or not, in a data version or not."""
    header = read_header(png(1))
    image = ImageFacts("a" * 64, 100, header.width, header.height, header.format)
    item = ReviewItem("b" * 32, Submission("steel", image, Origin.UPLOAD), NOW, Status())
    decisions = []
    for round_, (has_label, version) in enumerate(decided, 1):
        verdict, label = (Verdict.CORRECT, BOX) if has_label else (Verdict.REJECT, None)
        at, reason = NOW + timedelta(hours=round_), "" if has_label else "blurred"
        made = Decision(decision_id(item.id, round_), item.id, round_, "anna", at, verdict, label, reason)
        decisions.append((made, version))
    return ItemTrace(item, (), (), tuple(decisions))


class OneItem:
    """A store of one item."""

    def __init__(self, found: ItemTrace) -> None:
        self.found = found

    def trace(self, item: str) -> ItemTrace:
        assert item == self.found.item.id
        return self.found


def model(version: str, data_version: int, hours: float) -> TrainedModel:
    return TrainedModel(STEEL.name, version, data_version, NOW + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("decided", "learned"),
    [
        ((), {}),
        (((True, None),), {}),  # decided, in no version yet
        (((True, 1),), {"1": 1, "2": 1, "3": 1}),
        (((True, 2),), {"2": 1, "3": 1}),
        (((True, 1), (True, 3)), {"1": 1, "2": 1, "3": 2}),
        (((False, None), (True, 2)), {"2": 2, "3": 2}),
        (((True, 1), (False, None)), {"1": 1}),  # rejected before the second model was trained
        (((True, 1), (False, None), (True, 3)), {"1": 1, "3": 3}),
    ],
)
def test_a_model_learned_the_newest_label_of_its_data_versions(decided, learned):
    models = [model("1", 1, 1.5), model("2", 2, 2.5), model("3", 3, 9)]
    found = image_history(OneItem(traced(*decided)), "b" * 32, models)
    assert {one.version: round_ for one, round_ in found.models} == learned

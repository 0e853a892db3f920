"""The champion orders the queue, with real bundles and a real database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.bundles import encode, filled, make_bundle, make_label_bundle, picture
from tests.helpers.review import ANNA, NOW
from visionops.review.errors import Invalid
from visionops.review.items import Origin, Reason, UseCase
from visionops.review.looking import Model
from visionops.review.ports import ItemFilter, Prioritized
from visionops.review.prioritizing import Outcome, prioritize
from visionops.review.service import Answer, Arrival, Review
from visionops.review.settings import ReviewConfig, SelectionWeights
from visionops.review.states import Verdict
from visionops.review_store.opening import open_review
from visionops.tasks.labelling import LabelScheme, Question

COLOURS = ("red", "green", "blue")
CELLS = UseCase("cells", "detection", LabelScheme(class_names=COLOURS))
PARTS = UseCase("parts", "classification", LabelScheme(questions=(Question(name="colour", class_names=COLOURS),)))
NO_SHARE = ReviewConfig(random_share=0)


@pytest.fixture
def review(tmp_path: Path) -> Iterator[Review]:
    with open_review(str(tmp_path / "review.db"), str(tmp_path / "images")) as opened:
        opened.put_use_case(CELLS)
        opened.put_use_case(PARTS)
        yield opened


@pytest.fixture
def classifier(tmp_path: Path) -> Model:
    return Model("parts", "4", make_label_bundle(tmp_path / "parts"))


def add(review: Review, use_case: str, pixels: np.ndarray, **columns: object) -> str:
    arrival = Arrival(Origin.UPLOAD, **columns)  # type: ignore[arg-type]
    data = encode(pixels)
    return review.add(use_case, data, arrival, ANNA, key=str(hash(data)), now=NOW).item.id


def order(review: Review, use_case: str, model: Model, config: ReviewConfig, key: str = "k", **more: object) -> Outcome:
    return prioritize(review, use_case, model, config, ANNA, key=key, now=NOW, **more)  # type: ignore[arg-type]


def test_uploads_get_an_answer_to_confirm_and_the_undecided_come_first(review: Review, classifier: Model):
    sure, unsure = add(review, "parts", filled((255, 0, 0))), add(review, "parts", filled((200, 190, 0)))
    assert order(review, "parts", classifier, NO_SHARE).stored == Prioritized(2, 0, 0)
    item = review.store.item(unsure)
    assert item.priority > review.store.item(sure).priority
    assert {reason.kind for reason in item.reasons} <= {"uncertainty", "diversity"}
    (text,) = [reason.text for reason in item.reasons if reason.kind == "uncertainty"]
    assert text.startswith("probability of red 0.")
    assert item.predicted is not None
    assert (item.predicted.model, item.predicted.version) == ("parts", "4")
    taken = review.claim_next("parts", ANNA, key="c", now=NOW)
    assert taken is not None
    assert taken.id == unsure
    review.decide(unsure, Answer(Verdict.CONFIRM), ANNA, key="d", now=NOW)
    assert review.store.decisions(unsure)[0].label == {"class_name": "red"}


def test_the_same_order_again_changes_nothing(review: Review, classifier: Model):
    for number in range(8):
        add(review, "parts", filled((30 * number, 255 - 30 * number, 40)))
    assert order(review, "parts", classifier, ReviewConfig(random_share=0.5), "a").stored.changed == 8
    again = order(review, "parts", classifier, ReviewConfig(random_share=0.5), "b")
    assert again.stored == Prioritized(0, 8, 0)
    assert all(len(review.store.history(item.id)) == 2 for item in review.store.items(ItemFilter("parts")))


def test_boxes_near_the_threshold_come_before_sure_ones_and_empty_images_are_drawn_too(review: Review, tmp_path: Path):
    model = Model("cells", "1", make_bundle(tmp_path / "cells"))
    sure = picture([("red", 2, 1)])
    unsure = (sure.astype(np.float64) * 0.7).astype(np.uint8)
    empty = picture([])
    ids = [add(review, "cells", pixels) for pixels in (sure, unsure, empty)]
    alone = ReviewConfig(random_share=0, selection=SelectionWeights(disagreement=0, diversity=0))
    order(review, "cells", model, alone)
    kinds = [[reason.kind for reason in review.store.item(one).reasons] for one in ids]
    assert kinds[1:] == [["uncertainty"], []]
    assert review.store.item(ids[1]).priority > review.store.item(ids[0]).priority
    assert order(review, "cells", model, ReviewConfig(random_share=1), "all").random == 3
    assert [reason.kind for reason in review.store.item(ids[2]).reasons] == ["random"]


def test_reasons_of_others_stay_and_who_complained_is_not_drawn(review: Review, classifier: Model):
    complaint = Reason("feedback", 1.0, "anna: bent")
    item = add(review, "parts", filled((255, 0, 0)), reasons=(complaint,))
    add(review, "parts", filled((0, 255, 0)))
    found = order(review, "parts", classifier, ReviewConfig(random_share=1))
    assert found.random == 1
    kinds = [reason.kind for reason in review.store.item(item).reasons]
    assert kinds[0] == "feedback"
    assert "random" not in kinds
    assert review.claim_next("parts", ANNA, key="c", now=NOW).id == item  # type: ignore[union-attr]


def test_who_is_drawn_once_stays_drawn_whatever_the_share_is_later(review: Review, classifier: Model):
    item = add(review, "parts", filled((255, 0, 0)), reasons=(Reason("random", 0.5, "by the intake"),))
    order(review, "parts", classifier, NO_SHARE)
    assert [reason.kind for reason in review.store.item(item).reasons] == ["random"]


def test_where_the_shadow_answers_otherwise_is_a_reason(review: Review, classifier: Model, tmp_path: Path):
    other = Model("parts", "5", make_label_bundle(tmp_path / "other", gain=-10.0))
    item = add(review, "parts", filled((255, 0, 0)))
    order(review, "parts", classifier, NO_SHARE, shadow=other)
    texts = {reason.kind: reason.text for reason in review.store.item(item).reasons}
    assert texts["disagreement"] == "the shadow model agrees by 0%"


def test_copies_of_what_is_labelled_come_last(review: Review, classifier: Model):
    labelled = add(review, "parts", filled((250, 0, 0)))
    review.claim(labelled, ANNA, key="c", now=NOW)
    copy, other = add(review, "parts", filled((251, 0, 0))), add(review, "parts", filled((0, 0, 250)))
    alone = ReviewConfig(random_share=0, selection=SelectionWeights(uncertainty=0, disagreement=0))
    order(review, "parts", classifier, alone)
    assert review.store.item(other).priority > review.store.item(copy).priority
    assert review.store.item(labelled).reasons == ()


def test_an_image_that_the_model_cannot_use_is_named_and_waits_all_the_same(review: Review, classifier: Model):
    whole = encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    half = whole[: len(whole) // 2]  # its header is valid, and the intake reads no more
    item = review.add("parts", half, Arrival(Origin.UPLOAD), ANNA, key="half", now=NOW).item.id
    add(review, "parts", filled((255, 0, 0)))
    found = order(review, "parts", classifier, NO_SHARE)
    assert len(found.problems) == 1
    assert item in found.problems[0]
    assert review.store.item(item).predicted is None
    assert found.stored.changed == 1


def test_a_model_of_another_task_is_refused(review: Review, classifier: Model):
    with pytest.raises(Invalid, match="parts version 4: is of task classification, cells of detection"):
        order(review, "cells", classifier, NO_SHARE)
    assert order(review, "parts", classifier, NO_SHARE).stored == Prioritized(0, 0, 0)
    with pytest.raises(Invalid, match="is of task classification"):
        order(review, "cells", dataclasses.replace(classifier, version="5"), NO_SHARE, "l")

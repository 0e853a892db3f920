"""Decided labels as training data: each label that counts exactly once, with its image and origin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.review import ANNA, BEA, BOX, CASTING, CHEN, NOW, PREDICTED, STEEL, png
from visionops.review.errors import NotFound
from visionops.review.image_cache import cache_images, file_name
from visionops.review.items import RANDOM, Origin, Reason
from visionops.review.service import Answer, Arrival, Review
from visionops.review.states import Actor, Verdict
from visionops.review.versions import read_labels, read_version
from visionops.tasks.spec import task_for

DENT, NOTHING = BOX, {"boxes": []}


class Reviewing:
    """Review that adds and decides, a minute each time."""

    def __init__(self, review: Review) -> None:
        self.review, self.minutes = review, 0

    @property
    def now(self):
        self.minutes += 1
        return NOW + timedelta(minutes=self.minutes)

    def key(self) -> str:
        self.minutes += 1
        return f"k{self.minutes}"

    def add(self, number: int, *reasons: str, case: str = "steel") -> str:
        arrival = Arrival(Origin.TRAFFIC, predicted=PREDICTED, reasons=tuple(Reason(kind) for kind in reasons))
        arrival = arrival if case == "steel" else Arrival(Origin.UPLOAD)
        return self.review.add(case, png(number), arrival, ANNA, key=self.key(), now=self.now).item.id

    def decide(self, item: str, label, actor: Actor = ANNA) -> None:
        self.review.claim(item, actor, key=self.key(), now=self.now)
        answer = Answer(Verdict.REJECT, reason="blurred") if label is None else Answer(Verdict.CORRECT, label=label)
        self.review.decide(item, answer, actor, key=self.key(), now=self.now)

    def confirm(self, item: str, actor: Actor = ANNA) -> None:
        self.review.claim(item, actor, key=self.key(), now=self.now)
        self.review.decide(item, Answer(Verdict.CONFIRM), actor, key=self.key(), now=self.now)

    def reopen(self, item: str) -> None:
        self.review.reopen(item, "wrong class", CHEN, key=self.key(), now=self.now)

    def export(self, case: str = "steel") -> int | None:
        made = self.review.export(case, ANNA, key=self.key(), now=self.now)
        return made and made.number

    def labels(self, cache: Path, number: int | None = None, **options) -> dict[str, list[str]]:
        """Return the classes of the boxes of a data version, by SHA-256."""
        found = read_version(self.review, STEEL, "steel", cache, number=number, **options)
        labels = task_for("detection").labels_in(found.dataset)
        digests = found.dataset.column("sha256")
        return {d: [box["class_name"] for box in label["boxes"]] for d, label in zip(digests, labels, strict=True)}


@pytest.fixture
def steel(review: Review) -> Reviewing:
    return Reviewing(review)


def digest(steel: Reviewing, item: str) -> str:
    return steel.review.store.item(item).image.sha256


def test_the_newest_label_counts_and_a_named_version_stays_what_it_was(steel: Reviewing, tmp_path: Path):
    first, second, third = (steel.add(number) for number in range(3))
    steel.decide(first, NOTHING)
    steel.decide(second, DENT)
    assert steel.labels(tmp_path) == {}
    assert steel.export() == 1
    before = {digest(steel, first): [], digest(steel, second): ["dent"]}
    assert steel.labels(tmp_path) == before
    steel.reopen(first)
    steel.reopen(second)
    assert steel.labels(tmp_path) == before  # until they are decided again
    steel.decide(first, DENT, BEA)
    steel.decide(second, None, BEA)
    steel.decide(third, DENT)
    assert steel.labels(tmp_path) == {digest(steel, first): []}  # a rejection counts at once, a label with its version
    assert steel.export() == 2
    assert steel.labels(tmp_path) == {digest(steel, first): ["dent"], digest(steel, third): ["dent"]}
    assert steel.labels(tmp_path, 1) == before
    with pytest.raises(NotFound, match="use case steel: has no data version 3"):
        steel.labels(tmp_path, 3)
    assert steel.export() is None


def test_a_version_says_who_decided_what_and_on_whose_predictions(steel: Reviewing, tmp_path: Path):
    items = [steel.add(number) for number in range(4)]
    steel.confirm(items[0])
    steel.decide(items[1], DENT, BEA)
    steel.decide(items[2], None, BEA)
    steel.export()
    version = read_version(steel.review, STEEL, "steel", tmp_path).version
    assert (version.number, version.images, version.kept_out) == (1, 2, 0)
    assert version.reviewers == {"anna": 1, "bea": 1}
    assert version.verdicts == {"confirm": 1, "correct": 1}
    assert version.models == {"steel 3": 2}
    assert version.rejected == (digest(steel, items[2]),)
    assert NOW < version.since < version.until
    assert version.explain() == "review of steel: data version 1, 2 images (decided by anna 1, bea 1)"
    again = read_version(steel.review, STEEL, "steel", tmp_path).version
    assert again == version
    assert "rejected" not in version.lineage


def test_items_that_must_not_be_trained_on_are_left_out_and_counted(steel: Reviewing, tmp_path: Path):
    items = [steel.add(number, RANDOM) for number in range(3)]
    for item in items:
        steel.decide(item, DENT)
    steel.export()
    found = read_version(steel.review, STEEL, "steel", tmp_path, keeps_out=lambda one: one.item.id == items[0])
    assert (found.version.images, found.version.kept_out) == (2, 1)
    assert digest(steel, items[0]) not in found.dataset.column("sha256")
    assert found.version.explain().endswith("; 1 image kept out")
    labels = read_labels(steel.review, STEEL, tmp_path, keeps_out=lambda one: one.item.id == items[0])
    assert (labels.decided, labels.unused(0)) == (3, 2)
    assert labels.drawn.num_images == 3  # it was not trained on, so it may be used for evaluation


def test_labels_count_until_a_model_is_trained_on_their_version(steel: Reviewing, tmp_path: Path):
    first, second, third = (steel.add(number, *reasons) for number, reasons in enumerate([[RANDOM], ["novelty"], []]))
    steel.decide(first, DENT)
    steel.decide(second, DENT)
    steel.export()
    steel.decide(third, None)
    labels = read_labels(steel.review, STEEL, tmp_path)
    assert [labels.unused(trained) for trained in (0, 1)] == [2, 0]
    steel.reopen(first)
    steel.decide(first, NOTHING)
    labels = read_labels(steel.review, STEEL, tmp_path)
    assert [labels.unused(trained) for trained in (0, 1)] == [2, 1]
    # Only the random draw measures a model's quality.
    assert labels.drawn.column("sha256") == [digest(steel, first)]
    assert [path.is_file() for path in labels.drawn.paths()] == [True]
    assert labels.drawn.num_boxes == 0
    # A selected image that is also drawn later counts.
    steel.review.add(
        "steel", png(1), Arrival(Origin.BATCH, reasons=(Reason(RANDOM),)), BEA, key=steel.key(), now=steel.now
    )
    assert len(read_labels(steel.review, STEEL, tmp_path).drawn.paths()) == 2


def test_another_use_case_is_another_review(steel: Reviewing, tmp_path: Path):
    item = steel.add(1, case="casting")
    steel.decide(item, {"class_name": "ok"})
    steel.export("casting")
    assert steel.labels(tmp_path) == {}
    found = read_version(steel.review, CASTING, "casting", tmp_path)
    assert found.dataset.attributes[0].class_names == ("ok", "defective")
    assert found.dataset.label_array().tolist() == [[0]]
    with pytest.raises(NotFound, match="use case castings: is not in review"):
        Reviewing(steel.review).review.store.decided("castings")


def test_what_is_not_in_review_has_no_version_yet(steel: Reviewing, tmp_path: Path):
    found = read_version(steel.review, None, "glass", tmp_path)
    assert (found.version.number, found.dataset.num_images) == (0, 0)
    assert found.version.explain() == "review of glass: no data version yet"


def test_images_are_fetched_once(opened: Callable[[str, str], Review], place: str, image_place: str, tmp_path: Path):
    steel = Reviewing(opened(place, image_place))
    items = [steel.add(number) for number in range(3)]
    for item in items:
        steel.decide(item, DENT)
    steel.export()
    cache = tmp_path / "cache"
    assert read_version(steel.review, STEEL, "steel", cache).fetched == 3
    found = read_version(steel.review, STEEL, "steel", cache)
    assert found.fetched == 0
    assert [path.read_bytes() for path in found.dataset.paths()] == [
        steel.review.images.read(digest) for digest in found.dataset.column("sha256")
    ]
    image = steel.review.store.item(items[0]).image
    source, file = steel.review.images.path(image.sha256), cache / file_name(image)
    if source is not None:
        assert source.samefile(file)
    file.unlink()
    file.write_bytes(b"half")
    assert cache_images(steel.review.images, [image], cache) == 1
    assert file.read_bytes() == png(0)
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_one_query_has_all_that_is_known_of_an_image(steel: Reviewing):
    item = steel.add(1, RANDOM)
    steel.review.add("steel", png(1), Arrival(Origin.BATCH, "lot 7"), BEA, key=steel.key(), now=steel.now)
    steel.confirm(item)
    steel.export()
    steel.reopen(item)
    steel.decide(item, DENT, BEA)
    traced = steel.review.store.trace(item)
    assert [(one.by, one.submission.origin.value) for one in traced.arrivals] == [("anna", "traffic"), ("bea", "batch")]
    assert traced.arrivals[0].at < traced.arrivals[1].at
    assert [(one.reviewer, one.verdict.value, version) for one, version in traced.decisions] == [
        ("anna", "confirm", 1),
        ("bea", "correct", None),
    ]
    assert [row.action for row in traced.changes] == ["add", "claim", "decide", "export", "reopen", "claim", "decide"]
    with pytest.raises(NotFound):
        steel.review.store.trace("0" * 32)


STEPS = st.lists(
    st.tuples(st.sampled_from(["label", "reject", "reopen", "export"]), st.integers(0, 2)), min_size=1, max_size=14
)


@given(steps=STEPS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_a_named_version_is_the_same_for_ever(opened, tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("history")
    steel = Reviewing(opened(str(folder / "review.db"), str(folder / "images")))
    items = [steel.add(number) for number in range(3)]
    state, seen = dict.fromkeys(items, "pending"), {}
    for what, number in steps:
        item = items[number]
        if what in {"label", "reject"} and state[item] == "pending":
            steel.decide(item, {"label": DENT, "reject": None}[what])
            state[item] = what
        elif what == "reopen" and state[item] != "pending":
            steel.reopen(item)
            state[item] = "pending"
        elif what == "export" and (made := steel.export()):
            seen[made] = steel.labels(folder / "cache", made)
            rejected = {digest(steel, one) for one in items if state[one] == "reject"}
            assert rejected.isdisjoint(seen[made])
    for number, labels in seen.items():
        assert steel.labels(folder / "cache", number) == labels

"""Known images: the nearest image, the content of the data set, and images kept out of training."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.pictures import copies, encode, picture
from tests.helpers.review import ANNA, BEA, BOX, CHEN, NOW, STEEL, UPLOAD, png
from visionops.errors import ImageError
from visionops.review.items import item_id
from visionops.review.likeness import SeenImage
from visionops.review.ports import ItemFilter, SubmissionResult, Write
from visionops.review.service import Answer, Review
from visionops.review.similar import Similar
from visionops.review.states import State, Verdict
from visionops.review_store.database import Database
from visionops.review_store.images import open_images
from visionops.review_store.likeness import SqlLikenessStore
from visionops.review_store.store import SqlReviewStore
from visionops.similarity.embedding import ShapeEmbedder

SHAPE = ShapeEmbedder()


@pytest.fixture
def opener(place: str, folder: str, tmp_path: Path) -> Iterator[object]:
    """Return a function that opens reviews of the same database, each like another process."""
    opened: list[Database] = []

    def one(*, compares: bool = True) -> Review:
        opened.append(Database(place))
        store, images = SqlReviewStore(opened[-1]), open_images(folder)
        store.put_use_case(STEEL)
        similar = Similar(SqlLikenessStore(opened[-1]), images, SHAPE, tmp_path / "index", place)
        return Review(store, images, similar if compares else None)

    yield one
    for database in opened:
        database.close()


@pytest.fixture
def review(opener) -> Review:
    """Return a review that compares arriving images."""
    return opener()


def add(review: Review, data: bytes, key: str) -> SubmissionResult:
    return review.add("steel", data, UPLOAD, ANNA, key=key, now=NOW)


def decide(review: Review, item: str) -> None:
    review.claim(item, BEA, key=f"c {item}", now=NOW)
    review.decide(item, Answer(Verdict.CORRECT, BOX), BEA, key=f"d {item}", now=NOW)


def make_known(review: Review, tmp_path: Path, **splits: str) -> tuple[int, list[str]]:
    """Register pictures ``p1``, ``p2``, … of the data set with their splits."""
    import hashlib

    images = []
    for name, split in splits.items():
        data, path = encode(picture(int(name[1:]))), tmp_path / f"{name}.png"
        path.write_bytes(data)
        images.append((SeenImage(hashlib.sha256(data).hexdigest(), split, path.name), path))
    assert review.similar is not None
    return review.similar.index("steel", images)


def test_the_answer_and_the_item_say_what_is_nearest(review: Review):
    first = add(review, encode(picture(1)), "1").item
    assert first.likeness is not None
    assert (first.likeness.nearest, first.likeness.distance, first.likeness.is_near) == (None, None, False)
    copy = add(review, copies(picture(1))["re-encoded"], "2").item
    other = add(review, encode(picture(2)), "3").item
    assert copy.likeness is not None
    assert other.likeness is not None
    assert (copy.likeness.nearest, copy.likeness.name) == (first.image.sha256, first.id)
    assert copy.likeness.distance == pytest.approx(0, abs=0.01)
    assert copy.likeness.is_near
    assert not other.likeness.is_near
    assert other.likeness.nearest in {first.image.sha256, copy.image.sha256}
    for item in (first, copy, other):
        assert review.store.item(item.id) == item
        assert not item.is_held_out
    # For the same write again, and for the same file by another writer, the first comparison result stays.
    assert add(review, copies(picture(1))["re-encoded"], "2").item == copy
    again = add(review, copies(picture(1))["re-encoded"], "4")
    assert (again.is_new, again.item) == (False, copy)


def test_what_resembles_the_test_split_is_kept_out_of_training(review: Review, tmp_path: Path):
    assert make_known(review, tmp_path, p1="test", p2="val", p3="train") == (3, [])
    assert make_known(review, tmp_path, p1="test", p2="val", p3="train") == (0, [])
    found = {}
    for number, split in ((1, "test"), (2, "val"), (3, "train"), (4, "")):
        for name in ("smaller", "brighter"):
            item = add(review, copies(picture(number))[name], f"{number} {name}").item
            assert item.likeness is not None
            assert item.likeness.seen_in == split
            assert item.is_held_out == (split == "test")
            decide(review, item.id)
            found[item.id] = split
    stats = review.store.stats("steel")
    assert (stats.unused, stats.held_out) == (6, 2)
    version = review.export("steel", CHEN, key="e", now=NOW)
    assert version is not None
    assert version.num_items == 6
    states = {item.id: item.status.state for item in review.store.items(ItemFilter("steel"))}
    assert {item for item, state in states.items() if state is State.DECIDED} == {
        item for item, split in found.items() if split == "test"
    }
    assert review.export("steel", CHEN, key="f", now=NOW) is None
    stats = review.store.stats("steel")
    assert (stats.unused, stats.held_out) == (0, 2)


def test_the_very_file_of_a_split_is_known_even_where_it_shows_nothing(review: Review, tmp_path: Path):
    import hashlib

    assert review.similar is not None
    blank = png(7)
    (tmp_path / "blank.png").write_bytes(blank)
    seen = SeenImage(hashlib.sha256(blank).hexdigest(), "test", "blank.png")
    assert review.similar.index("steel", [(seen, tmp_path / "blank.png")]) == (1, [])
    item, other = add(review, blank, "1").item, add(review, png(8), "2").item
    assert item.likeness is not None
    assert other.likeness is not None
    assert (item.likeness.name, item.likeness.distance, item.likeness.seen_in) == ("blank.png", 0, "test")
    # A corrected label of an image of the data set is used, because the image stays in its split.
    assert not item.is_held_out
    decide(review, item.id)
    version = review.export("steel", CHEN, key="e", now=NOW)
    assert version is not None
    assert version.num_items == 1
    assert (other.likeness.nearest, other.likeness.seen_in) == (None, "")
    (only,) = review.similar.find("steel", blank)
    assert (only.known.split, only.known.item, only.distance) == ("test", item.id, 0)


def test_items_that_came_before_the_data_set_was_known_are_compared_before_an_export(
    opener, review: Review, tmp_path: Path
):
    early = add(opener(compares=False), copies(picture(1))["larger"], "1").item
    compared = add(review, copies(picture(1))["smaller"], "2").item
    other = add(review, encode(picture(5)), "3").item
    assert early.likeness is None
    for item in (early, compared, other):
        decide(review, item.id)
    make_known(review, tmp_path, p1="test")
    version = review.export("steel", CHEN, key="e", now=NOW)
    assert version is not None
    assert [item.id for item, _ in review.store.version("steel", 1)] == [other.id]
    for item in (early, compared):
        assert review.store.item(item.id).is_held_out
    assert review.similar is not None
    assert review.similar.recheck("steel") == 0
    # After the data set changes the splits, the images are no longer held out.
    assert make_known(review, tmp_path, p1="train") == (1, [])
    assert review.similar.recheck("steel") == 2
    assert review.store.stats("steel").unused == 2


def test_many_copies_in_review_do_not_hide_the_test_split(review: Review, tmp_path: Path):
    make_known(review, tmp_path, p1="test")
    for number in range(30):
        item = add(review, encode(picture(1), "JPEG", quality=60 + number), str(number)).item
        assert item.likeness is not None
        assert item.is_held_out


def test_copies_in_review_do_not_hide_the_training_image(review: Review, tmp_path: Path):
    make_known(review, tmp_path, p1="train")
    for name in ("smaller", "brighter", "re-encoded"):
        item = add(review, copies(picture(1))[name], name).item
        assert item.likeness is not None
        assert (item.likeness.seen_in, item.is_held_out) == ("train", False)


def test_any_image_can_be_searched_for(review: Review, tmp_path: Path):
    assert review.similar is not None
    assert review.similar.find("steel", encode(picture(1))) == []
    make_known(review, tmp_path, p1="test", p2="train")
    item = add(review, encode(picture(3)), "1").item
    found = review.similar.find("steel", copies(picture(1))["turned"], 2)
    assert found[0].known.name == "p1.png"
    assert [neighbour.is_near for neighbour in found] == [True, False]
    assert found[0].distance < found[1].distance
    (best, *_) = review.similar.find("steel", encode(picture(3)))
    assert (best.known.item, best.known.state, best.distance) == (item.id, State.PENDING, 0)
    with pytest.raises(ImageError):
        review.similar.find("steel", b"no image")


def test_use_cases_and_kinds_are_never_compared(review: Review, opened, place: str, folder: str, tmp_path: Path):
    add(review, encode(picture(1)), "1")
    assert review.similar is not None
    assert review.similar.find("casting", encode(picture(1))) == []

    class Other(ShapeEmbedder):
        kind = "another model"

    database = Database(place)
    other = Similar(SqlLikenessStore(database), open_images(folder), Other(), tmp_path / "index", place)
    assert [n.known.item is not None for n in other.find("steel", encode(picture(2)))] == []
    assert other.recheck("steel") == 1
    assert len(other.find("steel", encode(picture(2)))) == 1
    database.close()


def test_a_file_that_is_no_image_is_refused_and_the_others_are_known(review: Review, tmp_path: Path):
    assert review.similar is not None
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = [
        (SeenImage("0" * 64, "test", "bad.png"), tmp_path / "bad.png"),
        (SeenImage("1" * 64, "test", "none.png"), tmp_path / "none.png"),
    ]
    changed, refused = review.similar.index("steel", bad)
    assert changed == 0
    assert [line.partition(":")[0] for line in refused] == ["bad.png", "none.png"]
    assert all("\n" not in line for line in refused)


def test_positions_have_no_gap_however_many_write(opener, tmp_path: Path):
    reviews, start = [opener() for _ in range(4)], threading.Barrier(4)

    def work(number: int) -> list[str]:
        start.wait()
        # Both write the same images, to provoke conflicts.
        return [
            add(reviews[number], encode(picture(100 * (number // 2) + n, 32)), f"{number} {n}").item.id
            for n in range(12)
        ]

    with ThreadPoolExecutor(4) as pool:
        items = {item for some in pool.map(work, range(4)) for item in some}
    assert len(items) == 24
    store = SqlLikenessStore(reviews[0].store._database)
    rows = store.after("steel", SHAPE.kind, 0, 100)
    assert [row.position for row in rows] == [*range(1, 25)]
    assert {item_id("steel", row.sha256) for row in rows} == items
    assert store.digests("steel", SHAPE.kind, 100) == [row.sha256 for row in rows]
    for review in reviews:
        for row in rows:
            vector = np.frombuffer(row.vector, "<f4")
            assert review.similar._nearest("steel", vector, 1).keys() == {row.sha256}


def test_an_export_compares_what_it_takes_and_nothing_else(review: Review, opener, tmp_path: Path):
    decided, rejected, waiting = (add(opener(compares=False), encode(picture(n)), str(n)).item for n in (1, 2, 3))
    decide(review, decided.id)
    review.claim(rejected.id, CHEN, key="claim", now=NOW)
    review.decide(rejected.id, Answer(Verdict.REJECT, reason="blurred"), CHEN, key="reject", now=NOW)
    make_known(review, tmp_path, p9="test")
    version = review.export("steel", CHEN, key="e", now=NOW)
    assert version is not None
    assert version.num_items == 1
    assert [review.store.item(one.id).likeness is None for one in (decided, rejected, waiting)] == [False, True, True]
    assert review.similar is not None
    assert review.similar.recheck("steel") == 2


def test_what_is_decided_while_an_export_compares_is_for_the_next(review: Review, opener, tmp_path: Path):
    late = add(opener(compares=False), encode(picture(1)), "1").item
    make_known(review, tmp_path, p9="test")
    assert review.similar is not None
    compared = review.similar.check_decided("steel")
    decide(review, late.id)
    assert review.store.export("steel", Write.of("e1", CHEN, NOW), compared) is None
    version = review.export("steel", CHEN, key="e2", now=NOW)
    assert version is not None
    assert version.num_items == 1

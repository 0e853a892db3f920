"""The data set of a training is registered with the review: once, with its splits, and only new images are fetched."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from pathlib import Path

import pytest

from tests.helpers.pictures import copies, encode, picture
from tests.helpers.review import ANNA, NOW, UPLOAD
from visionops.data.dataset import ADDED, Dataset
from visionops.data.history import SplitHistory
from visionops.data.settings import ReviewSource
from visionops.data.shards import StoredDataset
from visionops.inference.settings import UseCase
from visionops.registry import RegisteredVersion
from visionops.review.ports import ItemFilter
from visionops.review_store.opening import open_review

WHEN = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
VERSION = RegisteredVersion(name="parts", version="3", digest="d", aliases=(), tags={}, created=WHEN)
CASE = UseCase(name="parts", task="detection")


@dataclasses.dataclass
class Store:
    """A remote data set, which records the fetched images."""

    folder: Path
    fetched: list[str] = dataclasses.field(default_factory=list)

    def dataset(self, **splits: str) -> Dataset:
        """Return pictures ``p1``, ``p2``, … with their splits."""
        rows = []
        for name, split in splits.items():
            data = encode(picture(int(name[1:])))
            (self.folder / f"{name}.png").write_bytes(data)
            rows.append((f"{ADDED if name == 'p9' else ''}{name}.png", split, hashlib.sha256(data).hexdigest()))
        keys, found, digests = map(list, zip(*rows, strict=True))
        columns = {"key": keys, "split": found, "sha256": digests, "path": [""] * len(rows)}
        return Dataset.from_columns("parts", ("dent",), columns, {})

    def stored(self, **splits: str) -> StoredDataset:
        return StoredDataset(self.dataset(**splits), self._fetch)

    def _fetch(self, images: Dataset) -> Dataset:
        names = [key.removeprefix(ADDED) for key in images.column("key")]
        self.fetched += names
        return images.replace_column("path", [str(self.folder / name) for name in names])


def index(store: Store, history: SplitHistory, **splits: str) -> None:
    from steps.review import index_images

    prepared = store.stored(**splits)
    merged = history.merged(SplitHistory.of(prepared.tables))
    index_images.entrypoint(VERSION, prepared, merged, ReviewSource(kind="review"), CASE)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the message of the step."""
    lines: list[str] = []
    monkeypatch.setattr("steps.review.log_metadata", lambda _: None)  # no step is running
    monkeypatch.setattr("steps.review.announce", lines.append)
    return lines


def test_what_a_training_had_is_known_to_the_review_by_itself(
    place: str, bucket: str, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", place)
    monkeypatch.setenv("VISIONOPS_REVIEW_IMAGES", bucket)
    monkeypatch.setenv("VISIONOPS_REVIEW_INDEX", str(tmp_path / "index"))
    store = Store(tmp_path)
    gone = SplitHistory.of(store.dataset(p4="test"))
    index(store, gone, p1="test", p2="val", p3="train", p9="train")
    # The files of p4, which an earlier version had, and of p9, which came from review, are not read.
    (line,) = said
    assert line == (
        "3 images of the data set known to the review, 5 new or in another split; 0 items compared with them, "
        "0 decided ones kept out of training"
    )
    with open_review() as review:
        assert review.store.use_case("parts").scheme.class_names == ("dent",)
        for number, split in ((1, "test"), (2, "val"), (3, "train"), (5, "")):
            data = copies(picture(number))["smaller"]
            item = review.add("parts", data, UPLOAD, ANNA, key=f"{number}", now=NOW).item
            assert item.likeness is not None
            assert (item.likeness.seen_in, item.is_held_out) == (split, split == "test"), number
    store.fetched.clear()
    index(store, gone, p1="test", p2="val", p3="train", p5="test", p9="train")
    assert store.fetched == ["p5.png"]
    assert said[-1].startswith("4 images of the data set known to the review, 1 new or in another split; 4 items")
    with open_review() as review:
        items = review.store.items(ItemFilter("parts"))
        assert sorted(item.likeness.seen_in for item in items if item.is_held_out) == ["test", "test"]


def test_a_review_that_is_gone_by_then_costs_the_index_and_not_the_training(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", "postgresql://nobody@127.0.0.1:9/review")
    index(Store(tmp_path), SplitHistory.empty(), p1="test")
    (line,) = said
    assert line.startswith("the images of version 3 are not indexed in the review: ")

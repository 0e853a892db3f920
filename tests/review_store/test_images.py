"""Images in a folder and in an object store: stored atomically, under their hashes only."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.helpers.disks import mounted
from tests.helpers.review import ANNA, NOW, UPLOAD, png
from tests.monitoring.test_stores import NOWHERE
from visionops.review.errors import Invalid, NotFound, Unavailable
from visionops.review.service import Review
from visionops.review.sweep import sweep
from visionops.review_store import images as images_module
from visionops.review_store.images import FolderImages, open_images

DATA = png(1)
DIGEST = hashlib.sha256(DATA).hexdigest()
SOON = datetime.now(UTC) + timedelta(days=2)
TRICKS = [
    "../../etc/passwd",
    "",
    "a" * 63,
    "A" * 64,
    "/" + "a" * 63,
    "a" * 64 + "\n",
    "é" * 64,
    f"{'a' * 31}/{'a' * 32}",
]


def test_an_image_is_put_read_listed_and_removed(image_place: str):
    images = open_images(image_place)
    assert list(images.digests()) == []
    with pytest.raises(NotFound, match=f"image {DIGEST}: is not in"):
        images.read(DIGEST)
    for _ in range(2):
        images.put(DIGEST, DATA)
        assert images.read(DIGEST) == DATA
        ((name, when),) = images.digests()
        assert name == DIGEST
        assert abs(datetime.now(UTC) - when) < timedelta(hours=1)
    assert images.tidy(SOON) == 0
    for _ in range(2):
        images.remove(DIGEST)
    assert list(images.digests()) == []


@pytest.mark.parametrize("name", TRICKS)
def test_nothing_but_a_hash_becomes_a_path(tmp_path: Path, name: str):
    images = open_images(str(tmp_path / "images"))
    for call in (lambda: images.put(name, DATA), lambda: images.read(name), lambda: images.remove(name)):
        with pytest.raises(Invalid, match="is not a SHA-256 in lower-case hex"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_image_is_not_given_out(tmp_path: Path):
    images = FolderImages(tmp_path)
    images.put(DIGEST, DATA)
    (tmp_path / DIGEST[:2] / DIGEST).write_bytes(DATA[:-1])
    with pytest.raises(Unavailable, match="is damaged in"):
        images.read(DIGEST)
    images.put(DIGEST, DATA)  # of another length, so it is replaced
    assert images.read(DIGEST) == DATA


def test_a_file_has_its_name_only_when_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced, named = [], tmp_path / DIGEST[:2] / DIGEST
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), named.exists()))
        real(descriptor)

    monkeypatch.setattr(images_module.os, "fsync", fsync)
    FolderImages(tmp_path).put(DIGEST, DATA)
    (new_folder, _), (draft, was_named), (folder, is_named) = synced
    assert (new_folder, folder) == (tmp_path, named.parent)
    assert draft.name.startswith(f".{DIGEST}.")
    assert (was_named, is_named) == (False, True)


def test_drafts_of_crashes_are_tidied_up_and_are_no_images(tmp_path: Path):
    images = FolderImages(tmp_path)
    images.put(DIGEST, DATA)
    (tmp_path / DIGEST[:2] / f".{DIGEST}.0123abcd").write_bytes(DATA[:9])
    (tmp_path / DIGEST[:2] / "notes.txt").write_text("of somebody")
    (tmp_path / "other").mkdir()
    assert [name for name, _ in images.digests()] == [DIGEST]
    assert images.tidy(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert images.tidy(SOON) == 1
    assert sorted(path.name for path in (tmp_path / DIGEST[:2]).iterdir()) == sorted([DIGEST, "notes.txt"])


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path):
    with mounted(tmp_path / "small", "size=64k") as disk:
        images = FolderImages(disk / "images")
        large = os.urandom(200_000)
        with pytest.raises(Unavailable, match=r"cannot be written .no space left on device.; free some space"):
            images.put(hashlib.sha256(large).hexdigest(), large)
        assert [path for path in disk.rglob("*") if path.is_file()] == []
        images.put(DIGEST, DATA)
        assert images.read(DIGEST) == DATA


def test_what_cannot_be_reached_is_one_line(s3: str, bucket: str, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    for place, words in (
        (str(tmp_path / "file"), "check the folder and its rights"),
        (bucket.replace("s3://review", "s3://nowhere"), "check the name, AWS_ENDPOINT_URL and the credentials"),
    ):
        with pytest.raises(Unavailable, match=words) as caught:
            open_images(place).put(DIGEST, DATA)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [NOWHERE, "https://example.org/x", "s3://", "s3://key:secret@bucket/x"])
def test_what_names_no_place_is_refused(place: str):
    with pytest.raises(Invalid, match="review images: ") as caught:
        open_images(place)
    assert "secret" not in str(caught.value)


class Crash(BaseException):
    """Crash of the process in the middle of a call."""


@pytest.mark.parametrize("last", ["reserve", "put"])
def test_a_sweep_removes_what_an_intake_that_died_has_left(review: Review, monkeypatch: pytest.MonkeyPatch, last: str):
    def die(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(*((review.images, "put") if last == "reserve" else (review.store, "add")), die)
        with pytest.raises(Crash):
            # Its age is that of its file, which no test can set.
            review.add("steel", DATA, UPLOAD, ANNA, key="a", now=datetime.now(UTC))
    there = [DIGEST] if last == "put" else []
    assert [name for name, _ in review.images.digests()] == there
    found = sweep(review.store, review.images, datetime.now(UTC))  # it may still be running
    assert (found.removed, [name for name, _ in review.images.digests()]) == (0, there)
    found = sweep(review.store, review.images, SOON, dry_run=True)
    assert (found.orphans, found.removed) == (tuple(there), 0)
    found = sweep(review.store, review.images, SOON)
    assert (found.images, found.orphans, found.removed) == (len(there), tuple(there), len(there))
    assert list(review.images.digests()) == []
    assert review.store.unfinished(SOON) == []
    added = review.add("steel", DATA, UPLOAD, ANNA, key="a", now=NOW)  # the client sends it again
    assert added.is_new
    assert review.images.read(DIGEST) == DATA
    assert sweep(review.store, review.images, SOON).orphans == ()


def test_an_image_without_any_announcement_is_swept_when_it_is_old(review: Review):
    review.add("steel", DATA, UPLOAD, ANNA, key="a", now=NOW)
    other = hashlib.sha256(png(2)).hexdigest()
    review.images.put(other, png(2))
    assert sweep(review.store, review.images, datetime.now(UTC)).orphans == ()
    assert sweep(review.store, review.images, SOON).removed == 1
    assert [name for name, _ in review.images.digests()] == [DIGEST]


def test_a_sweep_in_the_middle_of_an_intake_costs_it_a_second_try(review: Review, monkeypatch: pytest.MonkeyPatch):
    real, calls = review.images.put, []

    def put(sha256: str, data: bytes) -> None:
        real(sha256, data)
        calls.append(sha256)
        if len(calls) == 1:  # the intake was so slow that it counts as dead
            assert sweep(review.store, review.images, SOON).removed == 1

    monkeypatch.setattr(review.images, "put", put)
    added = review.add("steel", DATA, UPLOAD, ANNA, key="a", now=NOW)
    assert len(calls) == 2
    assert review.images.read(added.item.image.sha256) == DATA


def test_an_intake_does_not_trust_the_reservation_of_another_after_a_sweep(
    review: Review, monkeypatch: pytest.MonkeyPatch
):
    real, calls = review.images.put, []

    def put(sha256: str, data: bytes) -> None:
        real(sha256, data)
        calls.append(sha256)
        if len(calls) == 1:
            assert sweep(review.store, review.images, SOON).removed == 1
            assert review.store.reserve(sha256, NOW)  # of another intake, which has not stored it yet

    monkeypatch.setattr(review.images, "put", put)
    review.add("steel", DATA, UPLOAD, ANNA, key="a", now=NOW)
    assert len(calls) == 2
    assert review.images.read(DIGEST) == DATA

"""Sampled images: unchanged bytes, limited in size, and safe for any request id."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.helpers.disks import mounted
from tests.monitoring.test_log import until
from visionops.monitoring.images import IMAGE_OUTCOMES, ImageSamples, is_sampled

NOW = datetime.now(UTC)
PNG = b"\x89PNG and so on"


@pytest.fixture
def outcomes() -> Counter[str]:
    """Count the outcomes of the images."""
    return Counter()


@pytest.fixture
def samples(tmp_path: Path, outcomes: Counter[str]) -> Iterator[ImageSamples]:
    """Return samples of all images, in `tmp_path / "log"`."""
    made = ImageSamples(tmp_path / "log", 1.0, on_outcome=lambda outcome: outcomes.update([outcome]))
    yield made
    made.close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_image_lies_where_its_record_says(samples: ImageSamples, tmp_path: Path, outcomes: Counter[str]):
    name = samples.keep(PNG, "part-17", datetime(2026, 3, 2, 6, 14, 9, 123456, tzinfo=UTC))
    assert name == "images/2026-03-02/061409123456-part-17.png"
    jpeg = samples.keep(b"\xff\xd8\xff", "many/2", NOW)
    samples.close()
    assert files(tmp_path / "log") == {name: PNG, jpeg: b"\xff\xd8\xff"}
    assert jpeg.endswith("-many_2.jpg")
    assert outcomes == {"written": 2}
    assert samples.keep(PNG, "late", NOW) is None
    assert set(outcomes) <= set(IMAGE_OUTCOMES)


@pytest.mark.parametrize("request_id", ["..", "../../etc/passwd", "/etc/passwd", "a\0b", "é\n", "x" * 500, ""])
def test_no_request_id_leads_elsewhere(samples: ImageSamples, tmp_path: Path, request_id: str):
    name = samples.keep(PNG, request_id, NOW)
    samples.close()
    assert files(tmp_path) == {f"log/{name}": PNG}
    assert (tmp_path / "log" / name).resolve().is_relative_to(tmp_path / "log" / "images" / f"{NOW:%Y-%m-%d}")


def test_one_id_twice_is_two_images(samples: ImageSamples, tmp_path: Path):
    names = {samples.keep(PNG, "same", NOW + timedelta(microseconds=n)) for n in range(3)}
    samples.close()
    assert set(files(tmp_path / "log")) == names
    assert len(names) == 3


def test_the_share_is_kept_and_the_same_ids_each_time():
    ids = [f"request-{n}" for n in range(4000)]
    chosen = [name for name in ids if is_sampled(name, 0.25)]
    assert 900 < len(chosen) < 1100
    assert chosen == [name for name in ids if is_sampled(name, 0.25)]
    assert set(chosen) < {name for name in ids if is_sampled(name, 0.5)}
    assert all(is_sampled(name, 1.0) and not is_sampled(name, 0.0) for name in ids)


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path):
    samples = ImageSamples(tmp_path, 1.0, max_bytes=10_000)
    names = [samples.keep(PNG + bytes(87), str(n), NOW + timedelta(microseconds=n)) for n in range(300)]
    samples.close()
    left = sorted(files(tmp_path))
    assert 5_000 < sum(map(len, files(tmp_path).values())) <= 10_000
    assert left == names[-len(left) :]


def test_old_images_and_what_a_killed_process_left_go(tmp_path: Path):
    old, new = (tmp_path / "images" / f"{NOW - timedelta(days=days):%Y-%m-%d}" for days in (12, 9))
    for day in (old, new):
        day.mkdir(parents=True)
        (day / "061409123456-a.png").write_bytes(PNG)
    draft = tmp_path / "images" / ".1.part"
    draft.write_bytes(PNG)
    os.utime(draft, (0, 0))
    other = tmp_path / "images" / "mine.txt"
    other.write_text("stays")
    ImageSamples(tmp_path, 1.0, max_age_days=10).close()
    assert sorted((tmp_path / "images").iterdir()) == sorted([new, other])


def test_what_cannot_be_written_is_counted_and_reported(tmp_path: Path, outcomes: Counter[str]):
    folder = tmp_path / "log"
    folder.write_text("a file in the way")
    samples = ImageSamples(folder, 1.0, on_outcome=lambda outcome: outcomes.update([outcome]))
    samples.keep(PNG, "a", NOW)
    until(lambda: outcomes == {"unwritable": 1})
    assert "log/images: images cannot be kept (not a directory); make it writable" in samples.problem
    folder.unlink()
    samples.keep(PNG, "b", NOW)
    until(lambda: outcomes == {"unwritable": 1, "written": 1})
    assert samples.problem == ""
    samples.close()


def test_the_last_of_a_disk_is_for_the_records(tmp_path: Path, outcomes: Counter[str]):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        samples = ImageSamples(disk, 1.0, on_outcome=lambda outcome: outcomes.update([outcome]))
        samples.keep(PNG, "a", NOW)
        samples.close()
        assert outcomes == {"disk_full": 1}
        assert "free some space" in samples.problem
        assert files(disk) == {}


def test_too_many_at_once_are_dropped(tmp_path: Path, outcomes: Counter[str]):
    samples = ImageSamples(tmp_path, 1.0, capacity=10, on_outcome=lambda outcome: outcomes.update([outcome]))
    assert samples.keep(bytes(11), "large", NOW) is None
    assert outcomes == {"overflow": 1}
    assert samples.keep(bytes(10), "small", NOW) is not None
    samples.close()
    assert len(files(tmp_path)) == 1

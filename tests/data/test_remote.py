"""Images below a prefix of an object store, with a real S3 server on this machine."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pyarrow.fs
import pytest
from pydantic import ValidationError

from tests.helpers.disks import mounted
from tests.helpers.s3 import s3_bucket, s3_server
from visionops.data.remote import fetch_images, is_uri, list_remote, mirror_name
from visionops.data.settings import S3Source
from visionops.data.sources import fetch, source_fingerprint
from visionops.errors import DataError


@pytest.fixture(scope="module")
def server():
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server):
    """Return an empty bucket."""
    with s3_bucket(server, "parts") as uri:
        yield pyarrow.fs.FileSystem.from_uri(uri)[0]


def put(store: pyarrow.fs.S3FileSystem, **objects: bytes) -> None:
    for name, data in objects.items():
        with store.open_output_stream(f"parts/lots/{name.replace('__', '/').replace('_png', '.png')}") as stream:
            stream.write(data)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_are_fetched_by_name_and_only_what_changed_again(bucket, tmp_path):
    put(bucket, s1__a_png=b"one", s1__b_png=b"two", s1__d_png=b"four", s2__notes=b"no image")
    uri, steps = "s3://parts/lots", []
    assert list_remote(uri) == ["s1/a.png", "s1/b.png", "s1/d.png"]
    wanted = ["s1/a.png", "s1/b.png", "s1/gone.png"]
    fetch_images(uri, wanted, tmp_path / "m", lambda done, total: steps.append((done, total)))
    assert files(tmp_path / "m") == {"s1/a.png": b"one", "s1/b.png": b"two"}
    assert steps == [(0, 2), (1, 2), (2, 2)]

    kept = (tmp_path / "m" / "s1" / "a.png").stat().st_ino
    put(bucket, s1__b_png=b"another")
    steps.clear()
    fetch_images(uri, wanted, tmp_path / "m", lambda done, total: steps.append((done, total)))
    assert files(tmp_path / "m") == {"s1/a.png": b"one", "s1/b.png": b"another"}
    assert steps == [(1, 2), (2, 2)]
    assert (tmp_path / "m" / "s1" / "a.png").stat().st_ino == kept


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://nowhere/lots", "s3://nowhere/lots: cannot be listed .*bucket.*AWS_ENDPOINT_URL"),
        ("s3://parts/none", "s3://parts/none: holds nothing; check the prefix"),
        ("s3://", "expected a folder, s3://bucket/prefix"),
        ("az://parts/lots", "expected a folder, s3://bucket/prefix or gs://bucket/prefix"),
        ("s3://parts/lots?colour=red", "not a URI of an object store"),
    ],
)
def test_a_prefix_that_cannot_be_listed_is_one_line(bucket, uri, words):
    put(bucket, a_png=b"one")
    with pytest.raises(DataError, match=words) as caught:
        list_remote(uri)
    assert "\n" not in str(caught.value)


def test_a_prefix_without_images_and_a_name_that_leaves_the_folder_are_refused(bucket, tmp_path):
    put(bucket, notes=b"no image")
    with pytest.raises(DataError, match="holds no images"):
        list_remote("s3://parts/lots")
    with bucket.open_output_stream("parts/lots/a\\b.png") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match="cannot be a file name"):
        list_remote("s3://parts/lots")


def test_a_folder_that_cannot_be_written_is_named(bucket, tmp_path):
    put(bucket, a_png=b"one")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file/m: cannot be written"):
        fetch_images("s3://parts/lots", ["a.png"], tmp_path / "file" / "m")


def source(uri: str = "s3://parts/lots") -> S3Source:
    return S3Source(kind="s3", uri=uri)


def test_a_source_is_fetched_once_with_its_labels_and_a_change_moves_only_what_changed(bucket, tmp_path, caplog):
    put(bucket, s1__a_png=b"one", s1__b_png=b"two", annotations=b"{}")
    first, before = fetch(source(), tmp_path), source_fingerprint(source())
    assert files(first) == {"s1/a.png": b"one", "s1/b.png": b"two", "annotations": b"{}"}
    assert fetch(source("s3://parts/lots/"), tmp_path) == first

    bucket.delete_file("parts/lots/s1/b.png")
    put(bucket, s1__c_png=b"three")
    caplog.set_level("INFO")
    caplog.clear()
    second = fetch(source(), tmp_path)
    assert re.findall(r"GET /parts/(\S+)", caplog.text) == ["lots/s1/c.png"]
    assert files(second) == {"s1/a.png": b"one", "s1/c.png": b"three", "annotations": b"{}"}
    assert (second / "s1/a.png").stat().st_ino == (first / "s1/a.png").stat().st_ino
    assert files(first)["s1/b.png"] == b"two"  # for runs that still read the old state
    assert source_fingerprint(source()) != before


def test_an_interrupted_source_is_resumed(bucket, tmp_path):
    put(bucket, a_png=b"one", b_png=b"two", c_png=b"three")

    class Killed(BaseException):
        pass

    def die(done: int, _: int) -> None:
        if done:
            raise Killed

    with pytest.raises(Killed):
        fetch(source(), tmp_path, die)
    reported: list[tuple[int, int]] = []
    fetch(source(), tmp_path, lambda done, total: reported.append((done, total)))
    assert reported[0][0] > 0
    assert reported[-1] == (3, 3)


def test_a_damaged_transfer_is_refused(bucket, tmp_path, monkeypatch):
    from moto.s3.models import FakeKey

    put(bucket, a_png=b"one")
    kept = FakeKey.value.fget
    noise = itertools.count()
    monkeypatch.setattr(FakeKey, "value", property(lambda key: bytes([next(noise) % 256]) + kept(key)[1:]))
    with pytest.raises(DataError, match=r"a\.png: the download does not match the store; try again"):
        fetch(source(), tmp_path)
    assert not list(tmp_path.rglob("*.p*"))


def test_an_object_that_is_a_folder_too_is_named(bucket, tmp_path):
    put(bucket, s1=b"file", s1__a_png=b"one")
    with pytest.raises(DataError, match="s1 is both an object and a folder of objects; rename one"):
        fetch(source(), tmp_path)


def test_a_full_disk_keeps_received_files(bucket, tmp_path):
    put(bucket, a_png=b"one", b_png=bytes(300_000))
    with mounted(tmp_path / "disk", "size=128k") as disk:
        with pytest.raises(
            DataError, match=r"cannot be written \(no space left on device\); free it or choose another"
        ):
            fetch(source(), disk)
        assert {path.name for path in disk.rglob("*") if path.is_file()} <= {"a.png"}


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("gs://parts/lots", r"must be s3://bucket/prefix \["),
        ("postgresql://me@host/base", "must be s3://bucket/prefix"),
        ("s3://me:secret@parts/lots", "holds a password; remove it"),
        ("s3:///lots", "must be s3://bucket/prefix"),
    ],
)
def test_a_source_that_names_no_prefix_is_refused(uri, words):
    with pytest.raises(ValidationError, match=words):
        source(uri)


def test_names():
    assert is_uri("s3://parts/lots")
    assert not is_uri("/data/lots")
    assert mirror_name("s3://parts/lots/").startswith("lots-")
    assert mirror_name("s3://parts/lots") != mirror_name("s3://other/lots")

"""Data below a prefix of Google Cloud Storage, against an emulator of it on this machine."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pyarrow.fs
import pytest
import requests
from pydantic import ValidationError

from tests.helpers.google import google_bucket, google_server
from tests.helpers.programs import free_port
from visionops import object_store
from visionops.data.output import open_output
from visionops.data.remote import fetch_images, list_remote
from visionops.data.settings import GoogleSource
from visionops.data.sources import fetch, source_fingerprint
from visionops.errors import DataError

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server():
    with google_server() as address:
        yield address


@pytest.fixture
def bucket(server):
    """Return the name of an empty bucket, and a file system that writes into it."""
    name = f"parts-{next(_NUMBERS)}"
    return name, google_bucket(server, name)


def put(bucket: tuple[str, pyarrow.fs.GcsFileSystem], objects: dict[str, bytes]) -> None:
    name, store = bucket
    for key, data in objects.items():
        with store.open_output_stream(f"{name}/{key}") as stream:
            stream.write(data)


def source(bucket, prefix: str = "lots") -> GoogleSource:
    return GoogleSource(kind="gs", uri=f"gs://{bucket[0]}/{prefix}")


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_source_is_fetched_once_and_a_change_moves_only_what_changed(bucket, tmp_path):
    put(
        bucket, {"lots/s1/ä 1.png": b"one", "lots/s1/b.png": b"two", "lots/annotations.json": b"{}", "other/c.png": b""}
    )
    reported: list[tuple[int, int]] = []
    first, before = fetch(source(bucket), tmp_path), source_fingerprint(source(bucket))
    assert held(first) == {"s1/ä 1.png": b"one", "s1/b.png": b"two", "annotations.json": b"{}"}
    assert fetch(source(bucket, "lots/"), tmp_path, lambda done, total: reported.append((done, total))) == first
    assert reported == [(3, 3)]

    put(bucket, {"lots/s1/b.png": b"another"})
    reported.clear()
    second = fetch(source(bucket), tmp_path, lambda done, total: reported.append((done, total)))
    assert reported[0] == (2, 3)
    assert held(second)["s1/b.png"] == b"another"
    assert held(first)["s1/b.png"] == b"two"
    assert (second / "annotations.json").stat().st_ino == (first / "annotations.json").stat().st_ino
    assert source_fingerprint(source(bucket)) != before


def test_batch_inference_reads_and_writes_it(bucket, tmp_path):
    put(bucket, {"lots/a.png": b"one", "lots/notes.txt": b"no image"})
    uri = source(bucket).uri
    assert list_remote(uri) == ["a.png"]
    fetch_images(uri, ["a.png"], tmp_path / "images")
    assert held(tmp_path / "images") == {"a.png": b"one"}
    output = open_output(f"gs://{bucket[0]}/answers")
    assert output.names("") == []
    output.write("part-0.parquet", b"answers")
    assert (output.names(""), output.read("part-0.parquet")) == (["part-0.parquet"], b"answers")
    with pytest.raises(DataError, match=r"gs://none/answers: cannot be read \(.*\); check --output, GOOGLE_APPL"):
        open_output("gs://none/answers").names("")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (
            "gs://nowhere/lots",
            r"^gs://nowhere/lots: cannot be listed \(Not Found\); check the name, GOOGLE_APPLICATION_",
        ),
        ("gs://{bucket}/none", r"/none: holds nothing; check the prefix$"),
        ("gs://", "expected a folder, s3://bucket/prefix or gs://bucket/prefix"),
        ("gs://{bucket}/lots?retry=1", "expected gs://bucket/prefix"),
        ("gs://somebody@{bucket}/lots", r"or gs://anonymous@bucket/prefix for a public bucket"),
    ],
)
def test_a_prefix_that_cannot_be_listed_is_one_line(bucket, uri, words):
    put(bucket, {"lots/a.png": b"one"})
    with pytest.raises(DataError, match=words) as caught:
        list_remote(uri.format(bucket=bucket[0]))
    assert "\n" not in str(caught.value)


def test_a_public_bucket_needs_no_credentials(bucket, tmp_path):
    put(bucket, {"lots/a.png": b"one"})
    public = GoogleSource(kind="gs", uri=f"gs://anonymous@{bucket[0]}/lots")
    assert held(fetch(public, tmp_path)) == {"a.png": b"one"}


def test_a_damaged_transfer_is_refused(bucket, server, tmp_path):
    """The MD5 in the server's metadata differs from that of its bytes."""
    put(bucket, {"lots/a.png": b"one"})
    changed = {"md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}
    answer = requests.patch(f"{server}/storage/v1/b/{bucket[0]}/o/lots%2Fa.png", json=changed, timeout=20)
    if answer.json().get("md5Hash") != changed["md5Hash"]:
        pytest.skip("this server does not let itself be lied to")
    with pytest.raises(DataError, match=r"a\.png: the download does not match the store|cannot be fetched"):
        fetch(source(bucket), tmp_path)


def test_credentials_that_are_missing_are_one_line(monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(
        DataError, match=r"cannot be listed \(Cannot open credentials file .*none\.json\); check the name, GOOGLE_APPL"
    ) as caught:
        list_remote("gs://parts/lots")
    assert "error_info" not in str(caught.value)


def test_a_store_that_does_not_answer_times_out(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(object_store, "_GOOGLE_PATIENCE", 1.0)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"cannot be listed \(PerformWork\(\) - CURL error .*Could not connect"):
        list_remote("gs://parts/lots")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://parts/lots", r"must be gs://bucket/prefix, or gs://anonymous@bucket/prefix for a public bucket"),
        ("gs:///lots", "must be gs://bucket/prefix"),
        ("gs://me:secret@parts/lots", "holds a password"),
        ("gs://me@parts/lots", "must be gs://bucket/prefix"),
    ],
)
def test_a_source_that_names_no_prefix_is_refused(uri, words):
    with pytest.raises(ValidationError, match=words):
        GoogleSource(kind="gs", uri=uri)

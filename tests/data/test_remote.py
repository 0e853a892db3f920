"""Images below a prefix of an object store, against a real S3 server on this machine."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs
import pytest

from tests.helpers.s3 import s3_bucket, s3_server
from visionops.data.remote import is_uri, list_remote, mirror_images, mirror_name
from visionops.errors import DataError


@pytest.fixture(scope="module")
def server():
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(server):
    """An empty bucket."""
    with s3_bucket(server, "parts") as uri:
        yield pyarrow.fs.FileSystem.from_uri(uri)[0]


def put(store: pyarrow.fs.S3FileSystem, **objects: bytes) -> None:
    for name, data in objects.items():
        with store.open_output_stream(f"parts/lots/{name.replace('__', '/').replace('_png', '.png')}") as stream:
            stream.write(data)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_prefix_is_mirrored_and_only_what_changed_is_fetched_again(bucket, tmp_path):
    put(bucket, s1__a_png=b"one", s1__b_png=b"two", s2__notes=b"no image")
    uri, steps = "s3://parts/lots", []
    assert list_remote(uri) == ["s1/a.png", "s1/b.png"]
    mirror_images(uri, tmp_path / "m", lambda done, total: steps.append((done, total)))
    assert files(tmp_path / "m") == {"s1/a.png": b"one", "s1/b.png": b"two"}
    assert steps == [(0, 2), (1, 2), (2, 2)]

    kept = (tmp_path / "m" / "s1" / "a.png").stat().st_ino
    put(bucket, s1__c_png=b"three")
    bucket.delete_file("parts/lots/s1/b.png")
    steps.clear()
    mirror_images(uri, tmp_path / "m", lambda done, total: steps.append((done, total)))
    assert files(tmp_path / "m") == {"s1/a.png": b"one", "s1/c.png": b"three"}
    assert steps == [(1, 2), (2, 2)]
    assert (tmp_path / "m" / "s1" / "a.png").stat().st_ino == kept


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://nowhere/lots", "s3://nowhere/lots: cannot be listed .*bucket.*AWS_ENDPOINT_URL"),
        ("s3://parts/none", "s3://parts/none: holds nothing; check the prefix"),
        ("s3://", "name a folder, or a bucket and prefix"),
        ("gs://parts/lots", "name a folder, or a bucket and prefix"),
        ("s3://parts/lots?colour=red", "is no URI of an object store"),
    ],
)
def test_what_cannot_be_listed_is_one_line(bucket, uri, words):
    put(bucket, a_png=b"one")
    with pytest.raises(DataError, match=words) as caught:
        list_remote(uri)
    assert "\n" not in str(caught.value)


def test_a_prefix_without_images_and_a_name_that_leaves_the_folder_are_refused(bucket, tmp_path):
    put(bucket, notes=b"no image")
    with pytest.raises(DataError, match="holds no images"):
        mirror_images("s3://parts/lots", tmp_path / "m")
    with bucket.open_output_stream("parts/lots/a\\b.png") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match="has no name that a folder can hold"):
        mirror_images("s3://parts/lots", tmp_path / "m")


def test_a_folder_that_cannot_be_written_is_ours_to_name(bucket, tmp_path):
    put(bucket, a_png=b"one")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file/m: cannot be written"):
        mirror_images("s3://parts/lots", tmp_path / "file" / "m")


def test_names():
    assert is_uri("s3://parts/lots")
    assert not is_uri("/data/lots")
    assert mirror_name("s3://parts/lots/").startswith("lots-")
    assert mirror_name("s3://parts/lots") != mirror_name("s3://other/lots")

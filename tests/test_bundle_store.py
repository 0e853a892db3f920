"""Bundles in a store: sent once, fetched completely or not at all, and never confused with another bundle."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pyarrow.fs
import pytest

from deploy.serving.fetch import main
from tests.conftest import ROOT
from tests.helpers.bundles import make_bundle
from tests.helpers.s3 import s3_bucket, s3_server
from visionops.bundle_store import bundle_uri, fetch_bundle, fetch_images, send_bundle, send_images
from visionops.errors import BundleError, DataError
from visionops.inference.bundle import ModelBundle


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def store(s3: str) -> Iterator[str]:
    """Return the URI of an empty prefix."""
    with s3_bucket(s3, "bundles") as uri:
        yield f"{uri}/served"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "cells")


def objects(uri: str) -> dict[str, pyarrow.fs.FileInfo]:
    filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    return {info.base_name: info for info in found if info.is_file}


def write(uri: str, data: bytes) -> None:
    filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


def test_a_fetched_bundle_equals_the_sent_one(store, bundle, tmp_path):
    uri = send_bundle(bundle, store)
    assert uri == f"{store}/{bundle.digest}"
    fetched = fetch_bundle(uri, tmp_path / "a" / "model", bundle.digest)
    assert fetched.card == bundle.card
    assert {p.name for p in (tmp_path / "a").rglob("*") if p.is_file()} == {"bundle.json", *bundle.card.files}
    assert bundle_uri("s3://b/p/?endpoint_override=x", "d") == "s3://b/p/d?endpoint_override=x"


def test_existing_files_are_not_sent_again_and_missing_ones_are(store, bundle, tmp_path):
    uri = send_bundle(bundle, store)
    before = {name: info.mtime_ns for name, info in objects(uri).items()}
    send_bundle(bundle, store)
    assert {name: info.mtime_ns for name, info in objects(uri).items()} == before
    write(f"{uri}/model.onnx", b"half")  # as after a killed upload
    send_bundle(bundle, store)
    assert fetch_bundle(uri, tmp_path / "model", bundle.digest).digest == bundle.digest


def test_an_existing_bundle_is_not_fetched_again(bundle, tmp_path):
    """A pod's container restarts while the store is unreachable."""
    assert fetch_bundle("s3://nowhere/x", bundle.folder, bundle.digest).folder == bundle.folder


def test_a_damaged_or_foreign_bundle_is_refused_and_the_old_one_stays(store, bundle, tmp_path):
    old = make_bundle(tmp_path / "model", gain=1.5)
    uri = send_bundle(bundle, store)
    size = (bundle.folder / "model.onnx").stat().st_size
    write(f"{uri}/model.onnx", b"x" * size)
    with pytest.raises(BundleError, match=rf"^{uri}/model.onnx: sha256 differs .* deploy again$"):
        fetch_bundle(uri, old.folder, bundle.digest)
    with pytest.raises(BundleError, match=r"expected bundle .*, got "):
        fetch_bundle(uri, old.folder, "0" * 64)
    write(f"{uri}/bundle.json", b"{}")
    with pytest.raises(BundleError, match=r"bundle.json: not a card of this version"):
        fetch_bundle(uri, old.folder, bundle.digest)
    assert ModelBundle.load(old.folder).digest == old.digest
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_card_that_names_files_elsewhere_is_refused(store, bundle, tmp_path):
    card = bundle.card.model_copy(update={"files": bundle.card.files | {"../x": "0" * 64}})
    evil = ModelBundle(bundle.folder, card)
    uri = bundle_uri(store, evil.digest)
    write(f"{uri}/bundle.json", card.model_dump_json().encode())
    write(f"{uri}/model.onnx", (bundle.folder / "model.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"'\.\./x' points outside the bundle"):
        fetch_bundle(uri, tmp_path / "model", evil.digest)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_used_is_named(store, bundle, tmp_path, capsys, monkeypatch):
    arguments = [f"{store}/none", str(tmp_path / "model"), "--digest", bundle.digest]
    assert main(arguments) == 2
    assert "missing; deploy the model again" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"s3://absent/x/.*cannot be written \(.*\); check the name"):
        send_bundle(bundle, "s3://absent/x")
    (tmp_path / "file").write_text("")
    uri = send_bundle(bundle, store)
    with pytest.raises(DataError, match="cannot be written"):
        fetch_bundle(uri, tmp_path / "file" / "model", bundle.digest)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert main([uri, *arguments[1:]]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_smoke_images_match_their_names(store, tmp_path):
    uris = send_images([b"one", b"two", b"one"], store)
    assert send_images([b"two", b"one"], store) == uris[::-1]
    fetch_images(uris, tmp_path / "smoke")
    assert sorted(path.read_bytes() for path in (tmp_path / "smoke").iterdir()) == [b"one", b"two"]
    write(uris[0], b"eno")
    with pytest.raises(DataError, match=rf"{uris[0]}: is damaged"):
        fetch_images(uris, tmp_path / "again")


def test_the_command_of_an_init_container(store, bundle, tmp_path):
    uri, (image,) = send_bundle(bundle, store), send_images([b"one"], store)
    command = [sys.executable, "-m", "deploy.serving.fetch", uri, str(tmp_path / "model"), "--digest", bundle.digest]
    command += ["--smoke-images", str(tmp_path / "smoke"), "--image", image]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ModelBundle.load(tmp_path / "model").digest == bundle.digest
    assert [path.read_bytes() for path in (tmp_path / "smoke").iterdir()] == [b"one"]

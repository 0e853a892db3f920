"""Folders that DVC tracks: repositories in the form of DVC 3, pulled by a real DVC if it is installed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.fs
import pytest
import yaml

from tests.helpers.s3 import s3_bucket, s3_server
from visionops.data.dvc import pull, tracked_digest
from visionops.data.dvc_tracking import require_repository, track
from visionops.data.files import walk_files
from visionops.data.settings import DvcSource
from visionops.data.sources import fetch, source_fingerprint
from visionops.errors import DataError

PLANTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "plants"
HAS_DVC = shutil.which("dvc") or Path(sys.executable).with_name("dvc").is_file()
needs_dvc = pytest.mark.skipif(not HAS_DVC, reason="DVC is not installed: pip install 'dvc[s3]'")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def contents() -> dict[str, bytes]:
    """Return four real images if there are any, else made-up ones."""
    if not PLANTS.is_dir():
        return {f"{c}/{i}.jpg": f"{c} {i}".encode() for c in ("dandelion", "grass") for i in range(2)}
    paths = [path for c in ("dandelion", "grass") for path in sorted((PLANTS / c).iterdir())[:2]]
    return {path.relative_to(PLANTS).as_posix(): path.read_bytes() for path in paths}


def objects(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the objects of a tracked folder in a cache or remote: the list, named by its MD5, and the files."""
    listed = json.dumps([{"md5": md5(data), "relpath": name} for name, data in sorted(files.items())]).encode()
    found = {f"{md5(listed)}.dir": listed} | {md5(data): data for data in files.values()}
    return {f"files/md5/{name[:2]}/{name[2:]}": data for name, data in found.items()}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


class Repository:
    """A repository that tracks ``data/plants``, complete in the cache and the workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, contents()
        self.path = folder / "data" / "plants"
        stored = objects(self.files)
        digest = next(name for name in stored if name.endswith(".dir")).removeprefix("files/md5/").replace("/", "")
        outs = [{"md5": digest, "nfiles": 4, "hash": "md5", "path": "plants"}]
        write(
            folder,
            {".dvc/config": b"[core]\n    no_scm = true\n", "data/plants.dvc": yaml.dump({"outs": outs}).encode()},
        )
        write(folder / ".dvc" / "cache", stored)
        write(self.path, self.files)

    def remote(self, url: str, *options: str) -> None:
        """Configure a remote, and remove the contents of the cache and the workspace."""
        lines = ["[core]", "no_scm = true", "remote = there", "['remote \"there\"']", f"url = {url}", *options]
        (self.folder / ".dvc" / "config").write_text("\n".join(lines))
        shutil.rmtree(self.folder / ".dvc" / "cache")
        shutil.rmtree(self.path)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repo")


@pytest.fixture
def no_dvc(monkeypatch):
    """Make any call of DVC raise an error."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


def test_existing_files_are_checked_and_not_pulled(repository, no_dvc):
    assert pull(repository.path, None) == repository.path
    assert pull(repository.path / "grass", None) == repository.path / "grass"
    assert fetch(DvcSource(kind="dvc", path=repository.path), Path("/nowhere")) == repository.path


def test_the_fingerprint_is_that_of_the_repository_and_reads_no_image(repository, no_dvc):
    source = DvcSource(kind="dvc", path=repository.path)
    before = source_fingerprint(source)
    shutil.rmtree(repository.path)
    assert source_fingerprint(source) == before
    record = repository.folder / "data" / "plants.dvc"
    record.write_text(yaml.dump({"outs": [{"md5": f"{'f' * 32}.dir", "path": "plants"}]}))
    assert source_fingerprint(source) != before


def test_an_output_of_a_stage_is_found_in_the_lock(repository, no_dvc):
    record = yaml.safe_load((repository.folder / "data" / "plants.dvc").read_text())["outs"]
    (repository.folder / "data" / "plants.dvc").unlink()
    stages = {"make": {"wdir": "data", "cmd": "true", "outs": ["plants"]}}
    lock = {"schema": "2.0", "stages": {"other": {"outs": []}, "make": {"cmd": "true", "outs": record}}}
    (repository.folder / "dvc.yaml").write_text(yaml.dump({"stages": stages}))
    (repository.folder / "dvc.lock").write_text(yaml.dump(lock))
    assert pull(repository.path, None) == repository.path


@pytest.mark.parametrize("damage", ["changed", "missing", "untracked"])
def test_missing_files_without_dvc_name_how_to_install_it(repository, no_dvc, damage):
    image = next(iter(repository.path.rglob("*.jpg")))
    if damage == "changed":
        image.write_bytes(b"other")
    elif damage == "missing":
        image.unlink()
    else:
        (repository.path / "new.jpg").write_bytes(b"new")
    with pytest.raises(DataError, match=r"DVC is not installed; pip install 'dvc\[s3\]'"):
        pull(repository.path, None)


def test_a_damaged_list_is_one_line(repository):
    (listed,) = (repository.folder / ".dvc" / "cache").rglob("*.dir")
    listed.write_bytes(b"[]")
    with pytest.raises(DataError, match=r"\.dir: is damaged; remove it and run again"):
        pull(repository.path, None)


def test_an_untracked_folder_is_one_line(repository, tmp_path):
    with pytest.raises(
        DataError, match=r"not in a DVC repository; set data.source.path, or data.source.kind to folder"
    ):
        tracked_digest(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"other: not tracked by DVC in .*repo; track it with dvc add"):
        tracked_digest(repository.folder / "other")
    with pytest.raises(DataError, match=r"plants.dvc tracks no file in it; fix data.source.path"):
        pull(repository.path / "trees", None)
    record = repository.folder / "data" / "plants.dvc"
    record.write_text(yaml.dump({"outs": [{"md5": "0" * 32, "path": "plants"}]}))
    with pytest.raises(DataError, match=r"tracked by .*plants.dvc as a file; track the folder"):
        tracked_digest(repository.path)
    for text, words in (
        ("outs: [", "not valid YAML"),
        ("- 1", "not a DVC file"),
        ("outs: [{md5: x}]", "not a DVC file"),
    ):
        record.write_text(text)
        with pytest.raises(DataError, match=rf"plants\.dvc: {words}"):
            tracked_digest(repository.path)


@needs_dvc
def test_a_real_dvc_pulls_from_a_bucket_and_every_file_is_checked(repository):
    with s3_server() as address, s3_bucket(address, "data") as uri:
        store, _ = pyarrow.fs.FileSystem.from_uri(uri)
        for name, data in objects(repository.files).items():
            with store.open_output_stream(f"data/dvc/{name}") as stream:
                stream.write(data)
        repository.remote("s3://data/dvc", f"endpointurl = {address}")
        assert pull(repository.path, None) == repository.path
        assert {
            f.name: (repository.path / f.name).read_bytes() for f in walk_files(repository.path)
        } == repository.files
        next(iter(repository.path.rglob("*.jpg"))).write_bytes(b"other")
        with pytest.raises(
            DataError, match=r"\.jpg has MD5 .*, plants.dvc says .*; dvc checkout --force .*, or dvc add"
        ):
            pull(repository.path, None)
        store.delete_dir_contents("data")


@needs_dvc
def test_a_missing_remote_is_one_line(repository, tmp_path):
    repository.remote(str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"plants: dvc pull failed .*; check the remote with dvc remote list") as caught:
        pull(repository.path, None)
    assert "\n" not in str(caught.value)


def tool(folder: Path, *arguments: str) -> None:
    program = shutil.which("dvc") or str(Path(sys.executable).with_name("dvc"))
    subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Return a repository of a real DVC, without Git, whose remote is a folder."""
    folder = tmp_path / "repo"
    folder.mkdir()
    tool(folder, "init", "--no-scm")
    tool(folder, "remote", "add", "--default", "there", str(tmp_path / "remote"))
    return folder


def test_a_folder_outside_of_a_repository_is_not_tracked(tmp_path):
    with pytest.raises(DataError, match=r"v1: not in a DVC repository; choose a folder below one, or run dvc init"):
        require_repository(tmp_path / "v1")


def test_tracking_without_dvc_names_how_to_install_it(repository, no_dvc):
    with pytest.raises(DataError, match=r"^--dvc: DVC is not installed; pip install 'dvc\[s3\]'"):
        require_repository(repository.folder / "v1")


def test_an_already_tracked_folder_is_unchanged(repository):
    shutil.rmtree(repository.path)
    with pytest.raises(DataError, match=r"plants\.dvc: exists, so the folder is already tracked"):
        require_repository(repository.path)


@needs_dvc
def test_a_real_dvc_tracks_and_pushes_a_folder_that_another_machine_pulls(empty, tmp_path):
    write(empty / "data" / "v1", contents())
    tracked = track(empty / "data" / "v1", push=True)
    assert tracked == empty / "data" / "v1.dvc"
    other = tmp_path / "other"
    shutil.copytree(empty, other, ignore=shutil.ignore_patterns("v1", "cache"))
    assert pull(other / "data" / "v1", None) == other / "data" / "v1"
    found = {file.name: (other / "data" / "v1" / file.name).read_bytes() for file in walk_files(other / "data" / "v1")}
    assert found == contents()


@needs_dvc
def test_a_failed_push_is_one_line_and_leaves_nothing_half_done(empty, tmp_path):
    (empty / "data").mkdir()
    (empty / "data" / ".gitignore").write_text("/other\n")
    (tmp_path / "remote").write_text("in the way")
    write(empty / "data" / "v1", contents())
    with pytest.raises(
        DataError, match=r"v1: dvc push failed \(.*\), so it is not tracked; check the remote"
    ) as caught:
        track(empty / "data" / "v1", push=True)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (empty / "data").iterdir()] == [".gitignore"]
    assert (empty / "data" / ".gitignore").read_text() == "/other\n"
    (tmp_path / "remote").unlink()
    write(empty / "data" / "v1", contents())
    assert track(empty / "data" / "v1", push=True, remote="there").is_file()

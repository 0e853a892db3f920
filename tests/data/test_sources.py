from __future__ import annotations

import errno
import io
import os
import random
import stat
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tests.helpers.datasets import write_vision
from visionops.data import sources
from visionops.data.archives import sink, tar_files
from visionops.data.files import atomic_folder, walk_files
from visionops.data.settings import ArchiveSource, FolderSource, SampleSource
from visionops.data.sources import fetch, source_fingerprint
from visionops.errors import DataError


def folder(path: Path) -> FolderSource:
    return FolderSource(kind="folder", path=path)


def archive(path: Path) -> ArchiveSource:
    return ArchiveSource(kind="archive", path=path)


def names(root: Path) -> list[str]:
    return sorted(f.name for f in walk_files(root))


def make_tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def make_zip(path: Path, members: dict[str, bytes], kind: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = kind << 16
            file.writestr(info, data)
    return path


def test_a_folder_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert fetch(folder(Path("data")), tmp_path / "cache") == tmp_path / "data"
    assert not (tmp_path / "cache").exists()


def test_missing_sources(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for source, message in (
        (folder(tmp_path / "absent"), f"{tmp_path}/absent: no such folder; set data.source.path"),
        (folder(file), "set data.source.kind to archive"),
        (archive(tmp_path / "absent"), "no such archive"),
        (archive(tmp_path), "set data.source.kind to folder"),
    ):
        for call in (lambda s: fetch(s, tmp_path / "cache"), source_fingerprint):
            with pytest.raises(DataError) as error:
                call(source)
            assert message in str(error.value)


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_archives_are_unpacked_once(tmp_path, suffix, monkeypatch):
    data = write_vision(tmp_path / "in", ("Cable", "Wood"))
    path = tmp_path / f"data.{suffix}"
    if suffix == "zip":
        make_zip(path, {n: (data / n).read_bytes() for n in names(data)} | {"Cable/": b""})
    else:
        with tarfile.open(path, f"w:{suffix.partition('.')[2]}") as tar:
            tar.add(data, ".")
    root = fetch(archive(path), tmp_path / "cache")
    assert {n: (root / n).read_bytes() for n in names(root)} == {n: (data / n).read_bytes() for n in names(data)}
    monkeypatch.setattr(sources, "unpack", None)
    assert fetch(archive(path), tmp_path / "cache") == root
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [root.name]


def test_a_wrapping_folder_is_descended_into_but_no_layout_folder(tmp_path):
    wrapped = make_zip(tmp_path / "a.zip", {"data/x.json": b"{}", ".DS_Store": b""})
    assert names(fetch(archive(wrapped), tmp_path / "cache")) == ["x.json"]
    layout = make_zip(tmp_path / "b.zip", {"train/_annotations.coco.json": b"{}"})
    assert names(fetch(archive(layout), tmp_path / "cache")) == ["train/_annotations.coco.json"]


def test_links_within_an_archive_work(tmp_path):
    path = make_tar(
        tmp_path / "a.tar",
        ("images/a.jpg", b"a"),
        special("images/hard.jpg", tarfile.LNKTYPE, "images/a.jpg"),
        special("other/soft.jpg", tarfile.SYMTYPE, "../images/a.jpg"),
    )
    root = fetch(archive(path), tmp_path / "cache")
    assert (root / "images/hard.jpg").read_bytes() == (root / "other/soft.jpg").read_bytes() == b"a"
    zipped = make_zip(tmp_path / "a.zip", {"soft.jpg": b"b.jpg"}, stat.S_IFLNK | 0o777)
    with zipfile.ZipFile(zipped, "a") as file:
        file.writestr("b.jpg", b"b")
    assert (fetch(archive(zipped), tmp_path / "cache") / "soft.jpg").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../x", b"")], "not a plain path"),
        ([("/etc/x", b"")], "not a plain path"),
        ([("a/../../x", b"")], "not a plain path"),
        ([special("x", tarfile.SYMTYPE, "../../etc/passwd")], "a link to a place outside"),
        ([special("x", tarfile.SYMTYPE, "/etc/passwd")], "a link to a place outside"),
        ([special("x", tarfile.LNKTYPE, "/etc/passwd")], "a link to a place outside"),
        ([special("x", tarfile.LNKTYPE, "absent")], "is not in the archive"),
        ([special("x", tarfile.SYMTYPE, "x")], "is not in the archive"),
        ([special("k", tarfile.SYMTYPE, "."), special("k/s", tarfile.SYMTYPE, "z")], "a link below a link"),
        ([special("p", tarfile.SYMTYPE, "q/.."), special("p/s/t", tarfile.SYMTYPE, "z")], "a link below a link"),
        ([special("x", tarfile.CHRTYPE)], "a device or pipe"),
        ([special("x", tarfile.FIFOTYPE)], "a device or pipe"),
    ],
)
def test_unsafe_tars_are_refused(tmp_path, members, message):
    path = make_tar(tmp_path / "a.tar", ("good.jpg", b"x"), *members)
    with pytest.raises(DataError) as error:
        fetch(archive(path), tmp_path / "cache")
    assert message in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("members", "kind", "message"),
    [
        ({"../x": b""}, 0, "not a plain path"),
        ({"C:\\x": b""}, 0, "not a plain path"),
        ({"x": b"../../etc/passwd"}, stat.S_IFLNK, "a link to a place outside"),
        ({"x": b"y" * 5000}, stat.S_IFLNK, "link that is too long"),
        ({"x": b""}, stat.S_IFIFO, "a device or pipe"),
        ({"x": b"\xff"}, stat.S_IFLNK, "not a usable"),
    ],
)
def test_unsafe_zips_are_refused(tmp_path, members, kind, message):
    with pytest.raises(DataError) as error:
        fetch(archive(make_zip(tmp_path / "a.zip", members, kind)), tmp_path / "cache")
    assert message in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_bombs_are_refused(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"x": b"\0" * 5_000_000, "y": b""})
    monkeypatch.setattr(sink, "FREE_EXPANSION", 1_000_000)
    monkeypatch.setattr(sink, "MAX_EXPANSION", 2)
    with pytest.raises(DataError, match="decompression bomb"):
        fetch(archive(path), tmp_path / "cache")
    monkeypatch.undo()
    monkeypatch.setattr(sink, "MAX_MEMBERS", 1)
    with pytest.raises(DataError, match="more than 1 files"):
        fetch(archive(path), tmp_path / "cache")


def test_encrypted_zips_are_refused(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        fetch(archive(path), tmp_path / "cache")


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_damaged_archives(tmp_path, suffix, damage):
    noise = random.Random(0).randbytes(50_000)
    path = tmp_path / f"a.{suffix}"
    if suffix == "zip":
        make_zip(path, {"a.jpg": noise, "b.jpg": noise})
    else:
        make_tar(path, ("a.jpg", noise), ("b.jpg", noise), mode=f"w:{suffix.partition('.')[2]}")
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        if suffix == "tar":
            pytest.skip("a plain tar has checksums for its headers only")
        data[len(data) // 3] ^= 255
    path.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "text": b"no archive"}[damage])
    with pytest.raises(DataError, match="not a whole zip, tar or 7z archive"):
        fetch(archive(path), tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("*"))


def test_an_archive_with_data_after_its_end(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "a.tar", ("a", b"x"))
    path.write_bytes(path.read_bytes() + b"\0" * 100_000)
    monkeypatch.setattr(tar_files, "FREE_EXPANSION", 50_000)
    with pytest.raises(DataError, match="after its end"):
        fetch(archive(path), tmp_path / "cache")


def test_an_archive_whose_files_contradict(tmp_path):
    path = make_tar(tmp_path / "a.tar", ("a", b"x"), ("a/b", b"x"))
    with pytest.raises(DataError, match="cannot be written"):
        fetch(archive(path), tmp_path / "cache")


def test_a_sample_is_rendered_once(tmp_path, monkeypatch):
    calls = []

    def render(source: SampleSource, target: Path) -> None:
        calls.append(source)
        target.mkdir(exist_ok=True)
        (target / "a.jpg").touch()

    monkeypatch.setattr(sources, "render_sample", render)
    roots = [fetch(SampleSource(kind="sample", seed=s), tmp_path) for s in (0, 0, 1)]
    assert roots[0] == roots[1] != roots[2]
    assert len(calls) == 2
    assert (roots[0] / "a.jpg").is_file()


def test_a_failed_rendering_leaves_nothing(tmp_path, monkeypatch):
    def render(source: SampleSource, target: Path) -> None:
        (target / "half.jpg").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "render_sample", render)
    with pytest.raises(DataError, match=r"no space left on device.*; free some space"):
        fetch(SampleSource(kind="sample"), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fingerprints_change_with_names_sizes_and_times(tmp_path):
    root = tmp_path / "d"
    root.mkdir()
    (root / "a").write_text("1")
    (root / "b").write_text("2")
    seen = {source_fingerprint(folder(root))}
    assert source_fingerprint(folder(root)) in seen
    (root / "a").write_text("11")
    seen.add(source_fingerprint(folder(root)))
    os.utime(root / "a", ns=(1, 1))
    seen.add(source_fingerprint(folder(root)))
    (root / "b").rename(root / "c")
    seen.add(source_fingerprint(folder(root)))
    path = make_zip(tmp_path / "a.zip", {"x": b"x"})
    seen.add(source_fingerprint(archive(path)))
    os.utime(path, ns=(1, 1))
    seen.add(source_fingerprint(archive(path)))
    for seed in (0, 1):
        seen.add(source_fingerprint(SampleSource(kind="sample", seed=seed)))
    assert len(seen) == 8


def test_links_in_a_loop_are_listed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "dead").symlink_to(tmp_path / "absent")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert names(tmp_path) == ["a/x"]
    with pytest.raises(DataError, match="cannot be listed"):
        names(tmp_path / "absent")


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path):
    for name, age in (("old", 2), ("new", 0)):
        (tmp_path / f".out.{name}.tmp").mkdir()
        os.utime(tmp_path / f".out.{name}.tmp", times=(time.time() - age * 86_400,) * 2)
    with atomic_folder(tmp_path / "out", replace=False):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.new.tmp", "out"]


def test_the_faster_of_two_processes_wins(tmp_path):
    with atomic_folder(tmp_path / "out", replace=False) as mine:
        (mine / "mine").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/theirs").touch()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["theirs"]
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), atomic_folder(tmp_path / "file", replace=False):
        pass

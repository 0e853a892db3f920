"""Archives as common tools write them, and as an attacker could."""

from __future__ import annotations

import io
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import py7zr
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.datasets import read_as
from visionops.data.archives import sink
from visionops.data.archives.unpacking import unpack
from visionops.data.archives.wrapping import unwrap
from visionops.data.files import walk_files
from visionops.data.settings import ArchiveSource
from visionops.data.sources import fetch
from visionops.errors import DataError

PICTURES = {f"{label}/{i}.jpg": f"{label}{i}".encode() for label in ("ok", "defective") for i in range(3)}


def write(kind: str, path: Path, members: Mapping[str, bytes]) -> Path:
    """Write an archive with the names unchanged, however invalid."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)
    elif kind == "7z":
        with py7zr.SevenZipFile(path, "w") as archive:
            for number, (name, data) in enumerate(members.items()):
                archive.writestr(data, f"{number}")
                archive.files[number].file_properties()["filename"] = name
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}".removesuffix("zst")) as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        if kind == "tar.zst":
            path.write_bytes(zstd.compress(path.read_bytes()))
    return path


def write_raw_zip(path: Path, names: list[bytes], flag: int = 0, extra: bytes = b"") -> Path:
    """Write a zip of empty files with these bytes as names."""
    body, central = bytearray(), bytearray()
    for name in names:
        fields = struct.pack("<HHHHHIIIHH", 20, flag, 0, 0, 33, 0, 0, 0, len(name), len(extra))
        central += b"PK\1\2\x14\0" + fields + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name + extra
        body += b"PK\3\4" + fields + name + extra
    end = struct.pack("<HHHHIIH", 0, 0, len(names) & 65535, len(names) & 65535, len(central), len(body), 0)
    path.write_bytes(body + central + b"PK\5\6" + end)
    return path


def unpacked(path: Path) -> dict[str, bytes]:
    root = fetch(ArchiveSource(kind="archive", path=path), path.parent / "cache")
    return {f.name: (root / f.name).read_bytes() for f in walk_files(root)}


def refusal(path: Path) -> str:
    cache = path.parent / "cache"
    with pytest.raises(DataError) as error:
        fetch(ArchiveSource(kind="archive", path=path), cache)
    assert not any(cache.iterdir())
    assert "\n" not in str(error.value)
    return str(error.value)


KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "7z"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "members",
    [
        PICTURES,
        {f"castings/{name}": data for name, data in PICTURES.items()},
        {f"castings/castings/{name}": data for name, data in PICTURES.items()} | {"castings/.DS_Store": b"x"},
        {f"castings/{name}": data for name, data in PICTURES.items()}
        | {f"__MACOSX/castings/{name.replace('/', '/._')}": b"\0\5\x16\7" for name in PICTURES}
        | {"__MACOSX/._castings": b"\0\5\x16\7", "._castings": b"\0\5\x16\7", "Thumbs.db": b"x"},
        {f"a/b/{name}": data for name, data in PICTURES.items()} | {"a/__MACOSX/b/._ok": b"", "a/b/ok/._0.jpg": b"x"},
    ],
    ids=["bare", "wrapped", "wrapped twice", "Finder", "Finder below"],
)
def test_the_data_of_an_archive_is_found_below_wrapper_folders(tmp_path, kind, members):
    path = write(kind, tmp_path / "no-suffix", members)
    assert unpacked(path) == PICTURES


@pytest.mark.parametrize(
    ("members", "names"),
    [
        (["data/train/a.jpg"], ["train/a.jpg"]),
        (["train/a/b.jpg"], ["train/a/b.jpg"]),
        (["data/ok/0.jpg", "data/ok/1.jpg"], ["ok/0.jpg", "ok/1.jpg"]),
        (["data/flat/0.jpg", "data/flat/0.txt"], ["0.jpg", "0.txt"]),
        (["data/readme.md", "data/in/ok/0.jpg"], ["in/ok/0.jpg", "readme.md"]),
        (["vision/Cable/train/_annotations.coco.json"], ["Cable/train/_annotations.coco.json"]),
    ],
)
def test_a_folder_that_readers_know_is_not_a_wrapper(tmp_path, members, names):
    assert sorted(unpacked(write("zip", tmp_path / "a.zip", dict.fromkeys(members, b"")))) == names


@pytest.mark.parametrize("case", ["mac_zip", "windows_zip"])
@pytest.mark.real_data
def test_the_shared_cases(tmp_path, case):
    path = Path(__file__).parents[3] / "shared" / "cases" / case / "castings.zip"
    if not path.is_file():
        pytest.skip(f"no {path}")
    root = fetch(ArchiveSource(kind="archive", path=path), tmp_path)
    dataset = read_as(root, "folders", case)
    assert dataset.attributes[0].class_names == ("defective", "ok")
    assert dataset.num_images == 12


@pytest.mark.parametrize("kind", ["zip", "7z"])
def test_backslashes_separate_folders_in_zip_and_7z(tmp_path, kind):
    path = write(
        kind, tmp_path / "a", {f"castings\\{name}".replace("/", "\\"): data for name, data in PICTURES.items()}
    )
    assert unpacked(path) == PICTURES


def test_folders_written_with_backslashes(tmp_path):
    path = write("zip", tmp_path / "a", {"castings\\": b"", "castings\\ok\\": b"", "castings\\ok\\é.jpg": b"x"})
    assert unpacked(path) == {"ok/é.jpg": b"x"}


def test_zip64(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in PICTURES.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                file.write(data)
    assert unpacked(path) == PICTURES


def test_zip64_by_version_of_members(tmp_path):
    path = write_raw_zip(tmp_path / "a.zip", [b"__MACOSX/%d" % i for i in range(66_000)] + [b"c/a.jpg"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("c/b.txt", b"")
    assert b"PK\6\6" in path.read_bytes()  # the end record of zip64
    assert sorted(unpacked(path)) == ["a.jpg", "b.txt"]


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("utf-8", ["naïve/größe.jpg", "plain.jpg"]),
        ("utf-8", ["不良/正常.jpg", "かな.jpg"]),
        ("cp932", ["不良/0.jpg", "正常/0.jpg", "plain.jpg"]),
        ("cp932", ["欠陥なし/表.jpg"]),
        ("cp437", ["naïve/größe.jpg", "Ärger/ñandú.jpg", "âge.jpg"]),
    ],
)
def test_names_that_declare_no_encoding(tmp_path, encoding, names):
    path = write_raw_zip(tmp_path / "a.zip", [b"c/" + n.encode(encoding) for n in ["x.txt", *names]])
    assert sorted(unpacked(path)) == sorted(["x.txt", *names])


def test_names_with_the_flag_or_the_field_for_utf8(tmp_path):
    name = "größe/不良.jpg"
    flagged = write_raw_zip(tmp_path / "a.zip", [f"c/{name}".encode(), b"c/x.txt"], flag=0x800)
    assert sorted(unpacked(flagged)) == [name, "x.txt"]
    stored = b"c/gr?e.jpg"
    field = b"\1" + struct.pack("<I", zlib.crc32(stored)) + f"c/{name}".encode()
    path = write_raw_zip(tmp_path / "b.zip", [stored], extra=struct.pack("<HH", 0x7075, len(field)) + field)
    assert list(unpacked(path)) == [name]
    stale = write_raw_zip(tmp_path / "c.zip", [b"c/other.txt"], extra=struct.pack("<HH", 0x7075, len(field)) + field)
    assert list(unpacked(stale)) == ["other.txt"]


@pytest.mark.parametrize("kind", ["zip", "tar", "7z"])
@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "C:/x", "c:x", "//server/share/x", "..", "a/..", "x\ny", "x\x07"]
)
def test_names_outside_are_refused(tmp_path, kind, name):
    path = write(kind, tmp_path / "a", {"good.jpg": b"x", name: b"x"})
    assert "is not a plain path inside the archive" in refusal(path)


@pytest.mark.parametrize("kind", ["zip", "7z"])
@pytest.mark.parametrize("name", ["..\\x", "a\\..\\..\\x", "C:\\x", "\\\\server\\share\\x", "\\x"])
def test_names_outside_by_backslash_are_refused(tmp_path, kind, name):
    assert "is not a plain path inside" in refusal(write(kind, tmp_path / "a", {"good.jpg": b"x", name: b"x"}))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["zip", "tar", "7z"]),
    names=st.lists(
        st.lists(st.sampled_from(["..", ".", "", "a", "b", "C:", "~", "\\", "c\\.."]), min_size=1, max_size=4).map(
            "/".join
        ),
        min_size=1,
        max_size=3,
        unique=True,
    ),
)
def test_nothing_is_ever_written_outside(tmp_path_factory, kind, names):
    folder = tmp_path_factory.mktemp("a")
    names = [name for name in names if name]
    path = write(kind, folder / "archive", dict.fromkeys(names, b"x"))
    (folder / "out").mkdir()
    try:
        unpack(path, folder / "out")
    except (DataError, OSError) as error:
        assert not isinstance(error, OSError) or error.errno  # noqa: PT017
    assert sorted(p.name for p in folder.iterdir()) == ["archive", "out"]


@pytest.mark.parametrize("kind", ["tar", "7z"])
def test_two_members_of_one_name_are_refused(tmp_path, kind):
    members = {"a/x.jpg": b"1", "a//x.jpg" if kind == "7z" else "a/./x.jpg": b"2"}
    assert "'a/" in (text := refusal(write(kind, tmp_path / "a", members)))
    assert "twice" in text


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_zip_members_of_one_name_are_refused(tmp_path):
    assert "'a/x.jpg' occurs twice" in refusal(write("zip", tmp_path / "a", {"a/x.jpg": b"1", "a\\x.jpg": b"2"}))
    assert "'a' is both a file and a folder" in refusal(write("zip", tmp_path / "b", {"a/x.jpg": b"1", "a": b"2"}))


def test_two_names_of_one_file_on_this_disk_are_both_named(tmp_path, monkeypatch):
    path = write("zip", tmp_path / "a", {"a/x.jpg": b"1", "a/X.jpg": b"2"})
    assert len(unpacked(path)) == 2  # this disk distinguishes them
    plain, plain_lstat = Path.open, Path.lstat
    fold = {"X.jpg": "x.jpg"}

    def folded(call):
        return lambda p, *args, **kwargs: call(p.with_name(fold.get(p.name, p.name)), *args, **kwargs)

    monkeypatch.setattr(Path, "open", folded(plain))
    monkeypatch.setattr(Path, "lstat", folded(plain_lstat))
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"'a/X\.jpg' is the same file as 'a/x\.jpg' on this disk"):
        unpack(path, tmp_path / "out")


def test_a_file_named_twice_on_the_command_line_of_tar(tmp_path):
    path = write("tar", tmp_path / "a.tar", {"x.jpg": b"1"})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("x.jpg")
        info.type, info.linkname = tarfile.LNKTYPE, "x.jpg"
        archive.addfile(info)
    assert unpacked(path) == {"x.jpg": b"1"}


def write_7z_link(path: Path, name: str, target: str, mode: int = stat.S_IFLNK) -> Path:
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.writestr(b"x", "images/a.jpg")
        archive.writestr(target.encode(), name)
        archive.files[1].file_properties()["attributes"] = 0x8000 | (mode | 0o777) << 16
    return path


def test_links_in_7z(tmp_path):
    path = write_7z_link(tmp_path / "a.7z", "other/soft.jpg", "..\\images/a.jpg")
    assert unpacked(path) == {"images/a.jpg": b"x", "other/soft.jpg": b"x"}


@pytest.mark.parametrize(
    ("name", "target", "mode", "words"),
    [
        ("x", "../../etc/passwd", stat.S_IFLNK, "a link to a place outside"),
        ("x", "/etc/passwd", stat.S_IFLNK, "a link to a place outside"),
        ("x", "C:\\x", stat.S_IFLNK, "a link to a place outside"),
        ("x", "absent", stat.S_IFLNK, "is not in the archive"),
        ("x", "y" * 5000, stat.S_IFLNK, "link that is too long"),
        ("images/a.jpg/b", "x", stat.S_IFLNK, "cannot be written"),
        ("x", "", stat.S_IFIFO, "a device or pipe"),
        ("x", "y", stat.S_IFCHR, "a device or pipe"),
        ("x", "y", stat.S_IFSOCK, "a device or pipe"),
    ],
)
def test_unsafe_7z_archives_are_refused(tmp_path, name, target, mode, words):
    assert words in refusal(write_7z_link(tmp_path / "a.7z", name, target, mode))


@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_refused(tmp_path, kind, monkeypatch):
    path = write(kind, tmp_path / "a", {"x": b"\0" * 5_000_000, "y": b""})
    monkeypatch.setattr(sink, "FREE_EXPANSION", 1_000_000)
    monkeypatch.setattr(sink, "MAX_EXPANSION", 0)
    assert "decompression bomb" in refusal(path)
    monkeypatch.undo()
    monkeypatch.setattr(sink, "MAX_MEMBERS", 1)
    assert "more than 1 files" in refusal(path)


def test_a_7z_that_declares_less_than_it_holds(tmp_path, monkeypatch):
    path = write("7z", tmp_path / "a.7z", {"__MACOSX/x": b"\0" * 3_000_000, "y": b"\0" * 3_000_000})
    monkeypatch.setattr(sink, "FREE_EXPANSION", 1_000_000)
    monkeypatch.setattr(sink, "MAX_EXPANSION", 0)
    honest = py7zr.SevenZipFile.__init__

    def lying(self, *args, **kwargs):
        honest(self, *args, **kwargs)
        for member in self.files:
            monkeypatch.setitem(member._file_info, "uncompressed", _Small(member.uncompressed))

    class _Small(int):
        """Behaves as its own size for py7zr, which compares it, and as zero for our code, which adds it."""

        def __radd__(self, other):
            return other

    monkeypatch.setattr(py7zr.SevenZipFile, "__init__", lying)
    assert "decompression bomb" in refusal(path)


def test_a_tar_header_of_any_length_is_not_read(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    header = info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "a.tar"
    path.write_bytes(header + b"\0" * 1024)
    assert "a header of 8589934592 bytes" in refusal(path)


@pytest.mark.timeout(20)
def test_a_tar_member_of_negative_length_does_not_hang(tmp_path):
    info = tarfile.TarInfo("x")
    info.type = b"Z"  # tarfile skips the data after such a header
    info.size = -1024
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + tarfile.TarInfo("y").tobuf() + b"\0" * 1024)
    refusal(path)


@pytest.mark.parametrize("is_header_encrypted", [False, True])
def test_encrypted_7z_are_refused(tmp_path, is_header_encrypted):
    path = tmp_path / "a.7z"
    with py7zr.SevenZipFile(path, "w", password="x", header_encryption=is_header_encrypted) as archive:
        archive.writestr(b"x", "x")
    assert refusal(path) == f"{path}: its content is encrypted; pack it again without a password"


@pytest.mark.parametrize(
    ("method", "number"),
    [
        ({"id": py7zr.FILTER_PPMD, "order": 6, "mem": 20}, "030401"),
        ({"id": py7zr.FILTER_BROTLI, "level": 1}, "04f71102"),
    ],
)
def test_methods_of_7z_that_are_not_read(tmp_path, method, number):
    path = tmp_path / "a.7z"
    with py7zr.SevenZipFile(path, "w", filters=[method]) as archive:
        archive.writestr(b"x", "x")
    assert f"method {number}, which is not read" in refusal(path)


@pytest.mark.parametrize("method", [py7zr.FILTER_COPY, py7zr.FILTER_BZIP2, py7zr.FILTER_DEFLATE, py7zr.FILTER_ZSTD])
def test_methods_of_7z_that_are_read(tmp_path, method):
    path = tmp_path / "a.7z"
    with py7zr.SevenZipFile(path, "w", filters=[{"id": method}]) as archive:
        archive.writestr(noise := random.Random(0).randbytes(300_000), "a/x")
        archive.writestr(b"\0" * 3_000_000, "a/y")
    assert unpacked(path) == {"x": noise, "y": b"\0" * 3_000_000}


def test_other_kinds_are_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"Rar!\x1a\x07\x01\x00" + b"x" * 100)
    assert "is a RAR archive, which is not read" in refusal(tmp_path / "a.zip")
    path = write("zip", tmp_path / "b.zip", {"x": b"x"})
    data = path.read_bytes().replace(b"PK\1\2\x14\x03\x14\0\0\0\0\0", b"PK\1\2\x14\x03\x14\0\0\0\x09\0")
    path.write_bytes(data.replace(b"PK\3\4\x14\0\0\0\0\0", b"PK\3\4\x14\0\0\0\x09\0"))
    assert "by a method that is not read" in refusal(path)


def test_a_zip_inside_a_tar_stays_a_file(tmp_path):
    inner = write("zip", tmp_path / "inner.zip", {"inner.jpg": b"x"}).read_bytes()
    path = write("tar", tmp_path / "a.tar", {"a.jpg": b"x", "z.zip": inner})
    assert zipfile.is_zipfile(path)  # so a check of the end alone would be wrong
    assert sorted(unpacked(path)) == ["a.jpg", "z.zip"]


def test_a_self_extracting_archive(tmp_path):
    inner = write("zip", tmp_path / "inner.zip", {"a.jpg": b"x"}).read_bytes()
    (tmp_path / "setup.exe").write_bytes(b"MZ" + b"\x90" * 3000 + inner)
    assert unpacked(tmp_path / "setup.exe") == {"a.jpg": b"x"}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_one_line(tmp_path, kind):
    source = random.Random(kind)
    whole = write(kind, tmp_path / "a", {"a.jpg": source.randbytes(400) + b"a" * 900, "b.jpg": b"b"}).read_bytes()
    path = tmp_path / "b"
    for number in range(120):
        data = bytearray(whole)
        for _ in range(source.choice((1, 1, 3))):
            place = min(len(data) - 1, source.choice((source.randrange(len(data)), source.randrange(40))))
            data[place] = source.randrange(256)
        if source.random() < 0.2:
            del data[source.randrange(len(data)) :]
        path.write_bytes(data)
        out = tmp_path / f"out{number}"
        out.mkdir()
        try:
            unpack(path, out)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_an_empty_archive_has_no_wrapping_folder(tmp_path):
    path = write("zip", tmp_path / "a.zip", {})
    (tmp_path / "out").mkdir()
    unpack(path, tmp_path / "out")
    assert unwrap(tmp_path / "out") == tmp_path / "out"

"""From where a configuration says the data lies to a folder of this machine."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from visionops.config import (
    ArchiveSource,
    DataConfig,
    DvcSource,
    FolderSource,
    PackageSource,
    S3Source,
    SampleSource,
    Source,
)
from visionops.data.dvc import pull, tracked_digest
from visionops.data.files import FileInfo, atomic_folder, describe_os_error, safe_name, walk_files
from visionops.data.remote import list_files, mirror_files, mirror_name
from visionops.data.sample import RENDERER_VERSION, render_sample
from visionops.errors import DataError, VisionOpsError

__all__ = ["MAX_ARCHIVE_MEMBERS", "MAX_EXPANSION", "data_fingerprint", "fetch", "of_additions", "source_fingerprint"]

MAX_ARCHIVE_MEMBERS = 5_000_000
MAX_EXPANSION = 200
"""How many times its own size an archive may unpack to; a GiB it may in any case. Images hardly shrink."""
_FREE_EXPANSION = 1 << 30
_CHUNK = 1 << 20
_MAX_LINK_BYTES = 4096

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError)

# Folders that mean something to a reader: an archive with one of them at its top is not wrapped in a folder.
_LAYOUT_FOLDERS = frozenset(
    {"train", "val", "valid", "test", "inference", "images", "labels", "annotations", "jpegimages", "imagesets"}
)


def fetch(source: Source, cache: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Path:
    """Make the data available as a folder of this machine.

    Args:
        cache: Where archives are unpacked, samples rendered and objects fetched, once: folders named by their content.
        progress: Called with the files done and their number, where they come from elsewhere.

    Returns:
        The absolute path of the data set's root.

    Raises:
        DataError: The source is not there, is not what it should be, or the cache cannot be written.
    """
    match source:
        case FolderSource():
            return _folder(source)
        case ArchiveSource():
            return _unpack(source, cache)
        case PackageSource():
            return _package(source)
        case SampleSource():
            target = cache.absolute() / f"sample-{source_fingerprint(source)[:16]}"
            if not target.is_dir():
                with atomic_folder(target, replace=False) as temporary:
                    render_sample(source, temporary)
            return target
        case S3Source():
            return _mirror(source, cache.absolute(), progress)
        case DvcSource():
            return pull(source.path, source.remote)


@contextlib.contextmanager
def of_additions() -> Iterator[None]:
    """What goes wrong in the block is told of ``data.additions``.

    Raises:
        DataError: In place of any error of ours.
    """
    try:
        yield
    except VisionOpsError as error:
        raise DataError(f"data.additions: {str(error).replace('data.source', 'data.additions')}") from error


def data_fingerprint(data: DataConfig) -> str:
    """As `source_fingerprint`, of the source and what is added to it."""
    base = source_fingerprint(data.source)
    if data.additions is None:
        return base
    with of_additions():
        added = source_fingerprint(data.additions)
    return hashlib.sha256(f"{base} {added}".encode()).hexdigest()


def source_fingerprint(source: Source) -> str:
    """A cheap identity of what `fetch` would give: names, sizes and times of files, no content.

    Returns:
        SHA-256, lower-case hex.

    Raises:
        DataError: The source is not there.
    """
    digest = hashlib.sha256()
    match source:
        case FolderSource():
            digest.update(_told(sorted(walk_files(_folder(source)))))
        case ArchiveSource():
            status = _archive(source).stat()
            digest.update(f"{status.st_size}\0{status.st_mtime_ns}".encode())
        case PackageSource():
            _package(source)
            digest.update(f"{version(source.package)}\0{source.model_dump_json()}".encode())
        case SampleSource():
            digest.update(f"{RENDERER_VERSION}\0{source.model_dump_json()}".encode())
        case S3Source():
            digest.update(_told(list_files(source.uri)))
        case DvcSource():
            digest.update(tracked_digest(source.path).encode())
    return digest.hexdigest()


def _told(files: Sequence[FileInfo]) -> bytes:
    return "\n".join(f"{f.name}\0{f.num_bytes}\0{f.mtime_ns}" for f in files).encode(errors="replace")


def _mirror(source: S3Source, cache: Path, progress: Callable[[int, int], None]) -> Path:
    """A folder a state of the prefix: another run may still read the one before, whose files are the same files."""
    files, name = list_files(source.uri), mirror_name(source.uri)
    target = cache / f"s3-{name}-{hashlib.sha256(_told(files)).hexdigest()[:16]}"
    others = sorted(cache.glob(f"s3-{glob.escape(name)}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    mirror_files(source.uri, files, target, [other for other in others if other != target], progress)
    return target


def _folder(source: FolderSource) -> Path:
    path = source.path.expanduser().absolute()
    if not path.is_dir():
        what = "is a file; for an archive set data.source.kind to archive" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}; set data.source.path, or --set data.source.path=FOLDER")
    return path


def _package(source: PackageSource) -> Path:
    try:
        path = Path(str(distribution(source.package).locate_file(source.folder)))
    except (PackageNotFoundError, ValueError) as error:
        raise DataError(
            f"{source.package}: is not installed; pip install {source.package}, or mend data.source.package"
        ) from error
    if not path.is_dir():
        raise DataError(f"{path}: no such folder in {source.package}; mend data.source.folder")
    return path.absolute()


def _archive(source: ArchiveSource) -> Path:
    path = source.path.expanduser().absolute()
    if not path.is_file():
        what = "is a folder; set data.source.kind to folder" if path.exists() else "no such archive"
        raise DataError(f"{path}: {what}; set data.source.path, or --set data.source.path=ARCHIVE")
    return path


def _unpack(source: ArchiveSource, cache: Path) -> Path:
    path = _archive(source)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe_os_error(error)}); check its permissions") from error
    target = cache.absolute() / f"archive-{digest[:16]}"
    if not target.is_dir():
        with atomic_folder(target, replace=False) as temporary, _readable(path) as members:
            _extract(members, temporary, path)
    return _descend(target)


def _descend(folder: Path) -> Path:
    """The only folder of an archive that wraps its content in one; else the folder itself."""
    children = [p for p in folder.iterdir() if not p.name.startswith(".")]
    if len(children) == 1 and children[0].is_dir() and children[0].name.casefold() not in _LAYOUT_FOLDERS:
        return children[0]
    return folder


class _Member(NamedTuple):
    name: str
    open: Callable[[], IO[bytes]] | None
    """None for a link."""
    link: str = ""
    """What a link points at; relative to its folder if it is symbolic, to the archive's top if it is hard."""
    is_hard: bool = False


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[Iterator[_Member]]:
    """The files and links of an archive, its folders left out."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _zip_members(archive, path)
        else:
            with tarfile.open(path) as archive:
                yield _tar_members(archive, path)
    except _BROKEN as error:
        text = str(error) or type(error).__name__
        raise DataError(f"{path}: not a whole zip or tar archive ({text}); fetch or pack it again") from error
    except OSError as error:
        if error.errno is not None:  # the disk, not the archive
            raise
        raise DataError(f"{path}: not a whole zip or tar archive ({error}); fetch or pack it again") from error
    except (ValueError, UnicodeError, RuntimeError) as error:
        raise DataError(f"{path}: not a usable zip or tar archive ({error}); pack it again") from error


def _zip_members(archive: zipfile.ZipFile, path: Path) -> Iterator[_Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            raise DataError(f"{path}: {info.filename} is encrypted; pack it again without a password")
        if kind == stat.S_IFLNK:
            if info.file_size > _MAX_LINK_BYTES:
                _refuse(path, info.filename, "is a link of unlikely length")
            yield _Member(info.filename, None, archive.read(info).decode())
        elif kind in (0, stat.S_IFREG):
            yield _Member(info.filename, functools.partial(archive.open, info))
        else:
            _refuse(path, info.filename, "is a device or pipe")


def _tar_members(archive: tarfile.TarFile, path: Path) -> Iterator[_Member]:
    for info in archive:
        if info.isdir():
            continue
        if info.isreg():
            yield _Member(info.name, functools.partial(_open_tar_member, archive, info))
        elif info.issym() or info.islnk():
            yield _Member(info.name, None, info.linkname, info.islnk())
        else:
            _refuse(path, info.name, "is a device or pipe")
    # The checksum of gzip stands behind the end of the tar: unread, a flipped bit would go unseen.
    rest = 0
    while archive.fileobj and (chunk := archive.fileobj.read(_CHUNK)):
        rest += len(chunk)
        if rest > _FREE_EXPANSION:
            raise DataError(f"{path}: goes on for more than {_FREE_EXPANSION} bytes behind its end; pack it again")


def _open_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    data = archive.extractfile(info)
    assert data is not None  # only folders and devices have none
    return data


def _refuse(path: Path, name: str, why: str) -> NoReturn:
    raise DataError(f"{path}: {name!r} {why}; nothing was unpacked; pack the folder again")


def _extract(members: Iterator[_Member], folder: Path, path: Path) -> None:
    limit = max(_FREE_EXPANSION, path.stat().st_size * MAX_EXPANSION)
    links: list[tuple[str, _Member]] = []
    total = 0
    for count, member in enumerate(members, start=1):
        name = safe_name(member.name)
        if name is None:
            _refuse(path, member.name, "is not a plain path below the archive")
        if count > MAX_ARCHIVE_MEMBERS:
            raise DataError(f"{path}: holds more than {MAX_ARCHIVE_MEMBERS} files; split it")
        if member.open is None:
            links.append((name, member))
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as data, target.open("wb") as file:
            # Counted as it comes: what a header declares is not what is in there.
            while chunk := data.read(_CHUNK):
                total += len(chunk)
                if total > limit:
                    raise DataError(f"{path}: unpacks to more than {limit} bytes; refused as a decompression bomb")
                file.write(chunk)
    _make_links(folder, links, path)


def _make_links(folder: Path, links: list[tuple[str, _Member]], path: Path) -> None:
    """Last of all, so that no file is written through a link; then each must end at a file below ``folder``."""
    top = folder.resolve()
    for name, member in links:
        origin = "" if member.is_hard else posixpath.dirname(name)
        destination = posixpath.normpath(posixpath.join(origin, member.link))
        if posixpath.isabs(destination) or destination.split("/")[0] == "..":
            _refuse(path, name, "is a link out of the archive")
        target = folder / name
        if target.parent.resolve() != top / posixpath.dirname(name):
            _refuse(path, name, "is a link below a link")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(posixpath.relpath(destination, posixpath.dirname(name) or "."))
    for name, _ in links:
        try:
            real = (folder / name).resolve(strict=True)
        except (OSError, RuntimeError):
            _refuse(path, name, "is a link to what the archive does not hold")
        if not real.is_relative_to(top):
            _refuse(path, name, "is a link out of the archive")

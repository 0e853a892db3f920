"""Fetch data from its configured source into a folder on this machine."""

from __future__ import annotations

import contextlib
import glob
import hashlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from visionops.data.archives.unpacking import unpack
from visionops.data.archives.wrapping import unwrap
from visionops.data.download import download, one_at_a_time, shown_url
from visionops.data.dvc import pull, tracked_digest
from visionops.data.files import FileInfo, atomic_folder, describe_os_error, walk_files
from visionops.data.remote import list_files, mirror_files, mirror_name
from visionops.data.sample.folder import RENDERER_VERSION, render_sample
from visionops.data.settings import (
    ArchiveSource,
    DataConfig,
    DvcSource,
    FolderSource,
    GoogleSource,
    PackageSource,
    ReviewSource,
    S3Source,
    SampleSource,
    Source,
    UrlSource,
)
from visionops.errors import DataError, VisionOpsError

__all__ = ["check_sources", "data_fingerprint", "fetch", "of_additions", "source_fingerprint"]

_UNPACKING = 2
"""Version of the unpacking code. Increase it with each change, so that folders of older versions are ignored."""


def fetch(  # noqa: PLR0911 - one return per kind
    source: Source, cache: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Path:
    """Fetch the data into a folder on this machine.

    Args:
        cache: Folder for unpacked archives, rendered samples and downloaded files, in subfolders named by content.
        progress: Called with the number of downloaded files and their total; for a URL, with megabytes.

    Returns:
        The absolute path of the data set's root.

    Raises:
        DataError: The source is missing or invalid, or the cache cannot be written.
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
        case UrlSource():
            return _download(source, cache.absolute(), progress)
        case S3Source() | GoogleSource():
            return _mirror(source, cache.absolute(), progress)
        case DvcSource():
            return pull(source.path, source.remote)


@contextlib.contextmanager
def of_additions() -> Iterator[None]:
    """Make errors that are raised in the ``with`` block name ``data.additions`` instead of ``data.source``.

    Raises:
        DataError: The block raised a `VisionOpsError`.
    """
    try:
        yield
    except VisionOpsError as error:
        raise DataError(f"data.additions: {str(error).replace('data.source', 'data.additions')}") from error


def check_sources(data: DataConfig) -> None:
    """Check that the sources exist, as far as this is possible without network access and without reading files.

    Raises:
        DataError: The folder, archive or package is missing, the source's folder is empty, or DVC does not track it.
    """
    _check(data.source)
    if isinstance(data.source, FolderSource) and next(walk_files(_folder(data.source)), None) is None:
        raise DataError(f"{_folder(data.source)}: holds no file; put the images there, or set data.source.path")
    if data.additions is not None and not isinstance(data.additions, ReviewSource):
        with of_additions():
            _check(data.additions)


def _check(source: Source) -> None:
    match source:
        case FolderSource():
            _folder(source)
        case ArchiveSource():
            _archive(source)
        case PackageSource():
            _package(source)
        case DvcSource():
            tracked_digest(source.path)


def data_fingerprint(data: DataConfig) -> str:
    """Return the fingerprint of source and additions. Reviews are left out, because a separate step reads them."""
    base = source_fingerprint(data.source)
    if data.additions is None or isinstance(data.additions, ReviewSource):
        return base
    with of_additions():
        added = source_fingerprint(data.additions)
    return hashlib.sha256(f"{base} {added}".encode()).hexdigest()


def source_fingerprint(source: Source) -> str:
    """Return a hash that changes when `fetch` would return other data.

    It is quick, because it uses names, sizes and modification times of files, versions and checksums, and reads no
    images.

    Returns:
        SHA-256, lower-case hex.

    Raises:
        DataError: The source is missing.
    """
    digest = hashlib.sha256()
    match source:
        case FolderSource():
            digest.update(_file_states(sorted(walk_files(_folder(source)))))
        case ArchiveSource():
            status = _archive(source).stat()
            digest.update(f"{status.st_size}\0{status.st_mtime_ns}".encode())
        case PackageSource():
            _package(source)
            digest.update(f"{version(source.package)}\0{source.model_dump_json()}".encode())
        case SampleSource():
            digest.update(f"{RENDERER_VERSION}\0{source.model_dump_json()}".encode())
        case UrlSource():
            digest.update(source.sha256.encode())
        case S3Source() | GoogleSource():
            digest.update(_file_states(list_files(source.uri)))
        case DvcSource():
            digest.update(tracked_digest(source.path).encode())
    return digest.hexdigest()


def _file_states(files: Sequence[FileInfo]) -> bytes:
    return "\n".join(f"{f.name}\0{f.num_bytes}\0{f.mtime_ns}" for f in files).encode(errors="replace")


def _mirror(source: S3Source | GoogleSource, cache: Path, progress: Callable[[int, int], None]) -> Path:
    """Copy the files below the prefix into a new folder, because another run may still read the previous copy."""
    files, name = list_files(source.uri), mirror_name(source.uri)
    target = cache / f"{source.kind}-{name}-{hashlib.sha256(_file_states(files)).hexdigest()[:16]}"
    others = sorted(
        cache.glob(f"{source.kind}-{glob.escape(name)}-*"), key=lambda path: path.stat().st_mtime, reverse=True
    )
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
            f"{source.package}: not installed; pip install {source.package}, or fix data.source.package"
        ) from error
    if not path.is_dir():
        raise DataError(f"{path}: no such folder in {source.package}; fix data.source.folder")
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
    target = _unpacked(cache.absolute(), digest)
    if not target.is_dir():
        with atomic_folder(target, replace=False) as temporary:
            unpack(path, temporary)
    return unwrap(target)


def _unpacked(cache: Path, digest: str) -> Path:
    return cache / f"archive-{_UNPACKING}-{digest[:16]}"


def _download(source: UrlSource, cache: Path, progress: Callable[[int, int], None]) -> Path:
    """Return the folder of the unpacked archive. One with this checksum from another address is reused."""
    target = _unpacked(cache, source.sha256)
    if not target.is_dir():
        with one_at_a_time(source.sha256, cache):
            if not target.is_dir():  # another process may have created it meanwhile
                path = download(source.url, source.sha256, cache, progress)
                with atomic_folder(target, replace=False) as temporary:
                    try:
                        unpack(path, temporary)
                    except DataError as error:
                        path.unlink()
                        raise DataError(str(error).replace(str(path), shown_url(source.url))) from error
                path.unlink()
    return unwrap(target)

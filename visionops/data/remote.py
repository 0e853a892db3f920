"""List and mirror images of an object store, so that all later steps read files.

Credentials and the endpoint are read from the environment, as in `visionops.object_store`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from visionops.data.files import FileInfo, describe_os_error, safe_name
from visionops.errors import DataError
from visionops.object_store import access_hint, first_line, open_prefix

__all__ = [
    "fetch_images",
    "is_uri",
    "list_files",
    "list_remote",
    "mirror_files",
    "mirror_name",
]

_CONNECTIONS = 8
_READ_BYTES = 4 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")


def is_uri(source: str) -> bool:
    """Return whether ``source`` is the URI of an object store rather than a folder."""
    return "://" in source


def mirror_name(uri: str) -> str:
    """Return a unique folder name for a prefix."""
    return f"{uri.partition('?')[0].rstrip('/').rpartition('/')[2]}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def list_remote(uri: str) -> list[str]:
    """Return the names of images below ``s3://bucket/prefix`` or ``gs://bucket/prefix``, relative to it, sorted.

    Raises:
        DataError: The URI is invalid, cannot be reached, or holds no image.
    """
    return [image.name for image in _images(*open_prefix(uri), uri)]


def list_files(uri: str) -> list[FileInfo]:
    """Return all files below ``s3://bucket/prefix`` or ``gs://bucket/prefix`` except hidden ones, sorted by name.

    Raises:
        DataError: The URI is invalid, cannot be reached, or holds no file.
    """
    files = _list(*open_prefix(uri), uri)
    folders = {file.name.rpartition("/")[0] for file in files}
    if clash := next((file.name for file in files if file.name in folders), None):
        raise DataError(f"{uri}: {clash} is both an object and a folder of objects; rename one")
    return files


def fetch_images(
    uri: str, names: Collection[str], folder: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> None:
    """Fetch these images below ``uri``, named as in `list_remote`, into ``folder``; leave other files there.

    Images that are already there are not fetched again; images that no longer exist in the store are left out.

    Args:
        progress: Called from this thread with the images done and their total.

    Raises:
        DataError: As in `list_remote`; or ``folder`` cannot be written. Fetched files stay for the next attempt.
    """
    store, prefix = open_prefix(uri)
    wanted = set(names)
    images = [image for image in _images(store, prefix, uri) if image.name in wanted]
    _mirror(store, prefix, images, folder, progress)


def mirror_files(
    uri: str,
    files: Sequence[FileInfo],
    folder: Path,
    others: Sequence[Path] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Fetch the files that `list_files` found below ``uri`` into ``folder``.

    Args:
        others: Folders with earlier states of these files: unchanged files are linked, not fetched.
        progress: Called from this thread with the files done and their total.

    Raises:
        DataError: As in `fetch_images`; or fetched bytes do not match the store's ETag.
    """
    store, prefix = open_prefix(uri)
    with _writing(folder):
        for file in files:
            if not _has(folder, file) and (other := next((o for o in others if _has(o, file)), None)):
                _link(other / file.name, folder / file.name)
    _mirror(store, prefix, files, folder, progress)


def _mirror(
    store: Any, prefix: str, files: Sequence[FileInfo], folder: Path, progress: Callable[[int, int], None]
) -> None:
    def fetch(file: FileInfo) -> None:
        _fetch(store, f"{prefix}/{file.name}", file, folder / file.name)

    with _writing(folder):
        todo = [file for file in files if not _has(folder, file)]
        progress(len(files) - len(todo), len(files))
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            try:
                for done, _ in enumerate(pool.map(fetch, todo), start=1):
                    progress(len(files) - len(todo) + done, len(files))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({describe_os_error(error)}); free it or choose another"
        ) from error


def _images(store: Any, prefix: str, uri: str) -> list[FileInfo]:
    images = [file for file in _list(store, prefix, uri) if file.is_image]
    if not images:
        raise DataError(f"{uri}: holds no images")
    return images


def _list(store: Any, prefix: str, uri: str) -> list[FileInfo]:
    try:
        found = store.get_file_info(pyarrow.fs.FileSelector(prefix, recursive=True))
    except (pa.ArrowException, OSError) as error:
        # Google's client reports a missing bucket as "not a file", and an empty prefix only in words.
        is_empty = isinstance(error, FileNotFoundError)
        if uri.startswith("gs://"):
            is_empty = not is_empty and str(error).startswith("No such file")
        if is_empty:
            raise DataError(f"{uri}: holds nothing; check the prefix") from error
        raise DataError(f"{uri}: cannot be listed ({first_line(error)}); check the name, {access_hint(uri)}") from error
    files = []
    for info in found:
        file = FileInfo(info.path.removeprefix(f"{prefix}/"), info.size or 0, info.mtime_ns or 0)
        if info.type != pyarrow.fs.FileType.File or any(part.startswith(".") for part in file.name.split("/")):
            continue
        if safe_name(file.name) != file.name:
            raise DataError(f"{uri}: object {file.name!r} cannot be a file name; rename it")
        files.append(file)
    if not files:
        raise DataError(f"{uri}: holds nothing; check the prefix")
    return sorted(files)


def _has(folder: Path, image: FileInfo) -> bool:
    try:
        status = (folder / image.name).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (image.num_bytes, image.mtime_ns)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # the file system does not support links
        shutil.copy2(source, target)


def _fetch(store: Any, path: str, file: FileInfo, target: Path) -> None:
    """Fetch one object completely or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".{uuid.uuid4().hex}.part"
    try:
        etag, digest = _copy(store, path, draft)
        # The ETag of some encrypted objects is not a digest; a second download then has the same bytes, unless cut.
        if not _agree(etag, digest) and _copy(store, path, draft) != (etag, digest):
            raise DataError(f"{path}: the download does not match the store; try again")
        if draft.stat().st_size != file.num_bytes:
            raise DataError(f"{path}: changed while it was fetched; try again")
        os.utime(draft, ns=(file.mtime_ns, file.mtime_ns))
        draft.replace(target)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the local disk: errors of the store have no number
        raise DataError(f"{path}: cannot be fetched ({first_line(error)}); try again") from error
    finally:
        draft.unlink(missing_ok=True)


def _copy(store: Any, path: str, draft: Path) -> tuple[str, bytes]:
    """Return the object's ETag, in S3's form, and the MD5 of the received bytes."""
    md5 = hashlib.md5(usedforsecurity=False)
    with store.open_input_stream(path) as source, draft.open("wb") as sink:
        etag = _etag(source.metadata() or {})
        while data := source.read(_READ_BYTES):
            md5.update(data)
            sink.write(data)
    return etag, md5.digest()


def _etag(metadata: Mapping[str, bytes]) -> str:
    """Return S3's ETag, or Google's MD5, which composed objects lack: Google's ETag does not describe the bytes."""
    if md5 := metadata.get("md5Hash"):
        return base64.b64decode(md5).hex()
    return metadata.get("ETag", b"").decode().strip('"')


def _agree(etag: str, digest: bytes) -> bool:
    """Return whether an ETag can belong to bytes with this MD5.

    For an object sent in one part it is the MD5, or the MD5 of that; for several parts it depends on their sizes.
    """
    if etag.endswith("-1"):
        return etag == f"{hashlib.md5(digest, usedforsecurity=False).hexdigest()}-1"
    return etag == digest.hex() if _MD5.fullmatch(etag) else True

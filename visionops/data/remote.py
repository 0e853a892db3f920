"""Images in an object store: listed and mirrored, so that all that follows reads files.

Credentials and the endpoint are those of the environment, as `visionops.object_store` reads it.
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
    """Whether ``source`` names an object store and not a folder."""
    return "://" in source


def mirror_name(uri: str) -> str:
    """A folder name of its own for each prefix."""
    return f"{uri.partition('?')[0].rstrip('/').rpartition('/')[2]}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def list_remote(uri: str) -> list[str]:
    """The images below ``s3://bucket/prefix`` or ``gs://bucket/prefix``, by their names below it, sorted.

    Raises:
        DataError: It is no such URI, cannot be reached, or holds no image.
    """
    return [image.name for image in _images(*open_prefix(uri), uri)]


def list_files(uri: str) -> list[FileInfo]:
    """All files below ``s3://bucket/prefix`` or ``gs://bucket/prefix`` but hidden ones, by their names, sorted.

    Raises:
        DataError: It is no such URI, cannot be reached, or holds no file.
    """
    files = _list(*open_prefix(uri), uri)
    folders = {file.name.rpartition("/")[0] for file in files}
    if clash := next((file.name for file in files if file.name in folders), None):
        raise DataError(f"{uri}: {clash} is both an object and a folder of objects; rename one")
    return files


def fetch_images(
    uri: str, names: Collection[str], folder: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> None:
    """Make ``folder`` hold these images below ``uri``, as `list_remote` named them; others in it stay.

    What it has already is not fetched again; one that is no longer there is left out.

    Args:
        progress: Called from this thread with the images done and their number.

    Raises:
        DataError: As `list_remote`; or ``folder`` cannot be written. What was fetched stays for the next try.
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
    """Make ``folder`` hold the files that `list_files` found below ``uri``.

    Args:
        others: Folders that held them at other times: what has not changed since is linked, not fetched.
        progress: Called from this thread with the files done and their number.

    Raises:
        DataError: As `fetch_images`; or what arrived is not what the store's ETag says.
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
        # Google's client says of a missing bucket that it is no file, and of an empty prefix only the words.
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
            raise DataError(f"{uri}: object {file.name!r} has no name that a folder can hold; rename it")
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
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _fetch(store: Any, path: str, file: FileInfo, target: Path) -> None:
    """Whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".{uuid.uuid4().hex}.part"
    try:
        etag, digest = _copy(store, path, draft)
        # Of some encrypted objects the ETag is no digest; they arrive twice as the same. What was cut does not.
        if not _agree(etag, digest) and _copy(store, path, draft) != (etag, digest):
            raise DataError(f"{path}: did not arrive as the store has it; try again")
        if draft.stat().st_size != file.num_bytes:
            raise DataError(f"{path}: changed while it was fetched; try again")
        os.utime(draft, ns=(file.mtime_ns, file.mtime_ns))
        draft.replace(target)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of our disk: the store's errors have no number
        raise DataError(f"{path}: cannot be fetched ({first_line(error)}); try again") from error
    finally:
        draft.unlink(missing_ok=True)


def _copy(store: Any, path: str, draft: Path) -> tuple[str, bytes]:
    """The object's ETag, as S3 writes it, and the MD5 of what arrived."""
    md5 = hashlib.md5(usedforsecurity=False)
    with store.open_input_stream(path) as source, draft.open("wb") as sink:
        etag = _etag(source.metadata() or {})
        while data := source.read(_READ_BYTES):
            md5.update(data)
            sink.write(data)
    return etag, md5.digest()


def _etag(metadata: Mapping[str, bytes]) -> str:
    """The ETag of S3, or the MD5 that Google keeps of all but joined objects: its ETag says nothing of the bytes."""
    if md5 := metadata.get("md5Hash"):
        return base64.b64decode(md5).hex()
    return metadata.get("ETag", b"").decode().strip('"')


def _agree(etag: str, digest: bytes) -> bool:
    """Whether an ETag can be that of bytes with this MD5.

    Of an object sent in one part it is the MD5, or the MD5 of that; sent in several it depends on where they were cut.
    """
    if etag.endswith("-1"):
        return etag == f"{hashlib.md5(digest, usedforsecurity=False).hexdigest()}-1"
    return etag == digest.hex() if _MD5.fullmatch(etag) else True

"""Store review images by their SHA-256: files in a folder, or objects below a prefix of an object store.

FOLDER/3f/3fd1…          an image; its name is the hash of its bytes, never a text from a user
s3://bucket/prefix/3f/3fd1…
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionops.addresses import check_prefix
from visionops.data.files import describe_os_error
from visionops.errors import DataError
from visionops.review.errors import Invalid, NotFound, Unavailable

# Imported here, so that image folders do not wait for pyarrow.
if TYPE_CHECKING:
    from visionops.review.ports import ImageStore

__all__ = ["FolderImages", "S3Images", "open_images"]

_NAME = re.compile("[0-9a-f]{64}")
_DRAFT = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{8}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_STALLED_SECONDS = 20.0


def open_images(place: str) -> ImageStore:
    """Return the images in a folder, which may be missing, or below ``s3://bucket/prefix``.

    Raises:
        Invalid: It is a URI of an unknown store, or holds a password.
    """
    if "://" not in place:
        return FolderImages(Path(place).expanduser().absolute())
    try:
        return S3Images(check_prefix(place))
    except ValueError as error:
        raise Invalid(f"review images: {error}") from error


class FolderImages:
    """Store images as files that are synced to the disk before they get their names. Implements `ImageStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, sha256: str, data: bytes) -> None:
        """See `ImageStore`."""
        target = self._path(sha256)
        with self._errors("written"):
            self._make(target.parent)
            if target.is_file() and target.stat().st_size == len(data):
                _flush(target)  # the process that wrote it may not have synced it yet
                _flush(target.parent)
                return
            draft = target.with_name(f".{sha256}.{uuid.uuid4().hex[:8]}")
            try:
                with draft.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(target)
            finally:
                with contextlib.suppress(OSError):
                    draft.unlink(missing_ok=True)
            _flush(target.parent)

    def read(self, sha256: str) -> bytes:
        """See `ImageStore`."""
        with self._errors("read"):
            try:
                data = self._path(sha256).read_bytes()
            except FileNotFoundError:
                raise NotFound(f"image {sha256}: is not in {self._folder}") from None
        return _checked(sha256, data, str(self._folder))

    def path(self, sha256: str) -> Path | None:
        """See `ImageStore`."""
        return self._path(sha256)

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """See `ImageStore`."""
        for path in self._files():
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    yield path.name, _written(path)

    def remove(self, sha256: str) -> None:
        """See `ImageStore`."""
        with self._errors("written"):
            self._path(sha256).unlink(missing_ok=True)

    def tidy(self, before: datetime) -> int:
        """See `ImageStore`."""
        removed = 0
        for path in self._files():
            with self._errors("written"), contextlib.suppress(FileNotFoundError):
                if _DRAFT.fullmatch(path.name) and _written(path) < before:
                    path.unlink()
                    removed += 1
        return removed

    def _files(self) -> Iterator[Path]:
        with self._errors("read"):
            if not self._folder.is_dir():
                return
            folders = sorted(path for path in self._folder.iterdir() if path.is_dir() and len(path.name) == 2)
        for folder in folders:
            with self._errors("read"):
                files = sorted(folder.iterdir())
            yield from files

    def _path(self, sha256: str) -> Path:
        return self._folder / _key(sha256)

    def _make(self, folder: Path) -> None:
        """Make a folder whose name survives a crash."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush(folder.parent)

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            fix = "free some space" if error.errno in _FULL else "check the folder and its rights"
            raise Unavailable(f"{self._folder}: cannot be {done} ({describe_os_error(error)}); {fix}") from error


class S3Images:
    """Store images as objects, each put in one request or completed at its end. Implements `ImageStore`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: tuple[Any, str] | None = None

    def put(self, sha256: str, data: bytes) -> None:
        """See `ImageStore`."""
        with self._store("written") as (store, prefix):
            path = f"{prefix}/{_key(sha256)}"
            if store.get_file_info(path).size == len(data):
                return
            # Not in a `with`, which would complete the object even after an error.
            stream = store.open_output_stream(path)
            stream.write(data)
            stream.close()

    def read(self, sha256: str) -> bytes:
        """See `ImageStore`."""
        with self._store("read") as (store, prefix):
            try:
                with store.open_input_stream(f"{prefix}/{_key(sha256)}") as stream:
                    data = bytes(stream.read())
            except FileNotFoundError:
                raise NotFound(f"image {sha256}: is not in {self._uri}") from None
        return _checked(sha256, data, self._uri)

    def path(self, sha256: str) -> Path | None:  # noqa: ARG002
        """Return None, because an object has no path; see `ImageStore`."""
        return None

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """See `ImageStore`."""
        for first in range(256):
            yield from self._listed(f"{first:02x}")

    def remove(self, sha256: str) -> None:
        """See `ImageStore`."""
        with self._store("written") as (store, prefix), contextlib.suppress(FileNotFoundError):
            store.delete_file(f"{prefix}/{_key(sha256)}")

    def tidy(self, before: datetime) -> int:  # noqa: ARG002
        """Do nothing, because an object store has no drafts; see `ImageStore`."""
        return 0

    def _listed(self, folder: str) -> list[tuple[str, datetime]]:
        from pyarrow import fs

        with self._store("read") as (store, prefix):
            found = store.get_file_info(fs.FileSelector(f"{prefix}/{folder}", allow_not_found=True))
        return sorted((info.base_name, info.mtime) for info in found if _NAME.fullmatch(info.base_name))

    @contextlib.contextmanager
    def _store(self, done: str) -> Iterator[tuple[Any, str]]:
        """Return the store, opened on first use."""
        import pyarrow as pa

        from visionops.object_store import first_line, open_prefix

        try:
            if self._opened is None:
                self._opened = open_prefix(self._uri, _STALLED_SECONDS)
            yield self._opened
        except DataError as error:
            raise Unavailable(str(error)) from error
        except (pa.ArrowException, OSError) as error:
            raise Unavailable(
                f"{self._uri}: cannot be {done} ({first_line(error)}); check the name, AWS_ENDPOINT_URL and the "
                "credentials"
            ) from error


def _key(sha256: str) -> str:
    """Return the relative path of an image.

    Raises:
        Invalid: It is not a SHA-256; nothing else may become part of a path.
    """
    if not _NAME.fullmatch(sha256):
        raise Invalid(f"image {sha256[:80]!r}: is not a SHA-256 in lower-case hex")
    return f"{sha256[:2]}/{sha256}"


def _checked(sha256: str, data: bytes, place: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Unavailable(f"image {sha256}: is damaged in {place}; restore it from a backup")
    return data


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)

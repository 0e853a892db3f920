"""Write files into a folder, or below a prefix of an object store. Each file is written completely or not at all.

>>> output = open_output("s3://bucket/answers")
>>> output.write("summary.json", b"{}")
>>> output.uri("summary.json")
's3://bucket/answers/summary.json'
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.fs

from visionops.data.files import describe_os_error
from visionops.data.remote import is_uri
from visionops.errors import DataError
from visionops.object_store import access_hint, first_line, open_prefix

__all__ = ["Output", "open_output"]

_STALLED_SECONDS = 20.0


class Output(Protocol):
    """Named files below one place. All methods raise `DataError` with one line if the place fails."""

    place: str
    """Absolute path or URI."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files directly below ``folder``, sorted, without drafts; empty if it is missing."""

    def read(self, name: str) -> bytes:
        """Return the content of a file."""

    def uri(self, name: str) -> str:
        """Return the absolute path or URI of a file."""

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""

    def writing(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Yield a binary stream that becomes the file if the block succeeds."""


def open_output(place: str) -> Output:
    """Return the folder or prefix with that name, which need not exist.

    Raises:
        DataError: It is the URI of an unknown store.
    """
    return _Bucket(place) if is_uri(place) else _Folder(Path(place).absolute())


class _Folder:
    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self._folder = folder

    def names(self, folder: str) -> list[str]:
        with self._errors("read"):
            path = self._folder / folder
            found = path.iterdir() if path.is_dir() else ()
            return sorted(file.name for file in found if not file.name.startswith("."))

    def read(self, name: str) -> bytes:
        with self._errors("read"):
            return (self._folder / name).read_bytes()

    def uri(self, name: str) -> str:
        return f"{self.place}/{name}"

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as stream:
            stream.write(data)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        target = self._folder / name
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            with self._errors("written"):
                target.parent.mkdir(parents=True, exist_ok=True)
                with draft.open("wb") as stream:
                    yield stream
                draft.replace(target)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.place}: cannot be {done} ({describe_os_error(error)}); choose another --output"
            ) from error


class _Bucket:
    def __init__(self, uri: str) -> None:
        self._store, self._prefix = open_prefix(uri, _STALLED_SECONDS)
        place, mark, query = uri.partition("?")
        self.place = place.rstrip("/")
        self._query = mark + query

    def names(self, folder: str) -> list[str]:
        with self._errors("read"):
            selector = pyarrow.fs.FileSelector(f"{self._prefix}/{folder}".rstrip("/"), allow_not_found=True)
            found = self._store.get_file_info(selector)
            bucket = self._prefix.partition("/")[0]
            if not found and self._store.get_file_info(bucket).type is pyarrow.fs.FileType.NotFound:
                raise FileNotFoundError("no such bucket")
            return sorted(info.base_name for info in found if info.type is pyarrow.fs.FileType.File)

    def read(self, name: str) -> bytes:
        with self._errors("read"), self._store.open_input_stream(f"{self._prefix}/{name}") as stream:
            return bytes(stream.read())

    def uri(self, name: str) -> str:
        return f"{self.place}/{name}{self._query}"

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as stream:
            stream.write(data)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        with self._errors("written"):
            # No `with` block: it would complete the object even after an error.
            stream = self._store.open_output_stream(f"{self._prefix}/{name}")
            yield stream
            stream.close()

    @contextlib.contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.place}: cannot be {done} ({first_line(error)}); check --output, {access_hint(self.place)}"
            ) from error

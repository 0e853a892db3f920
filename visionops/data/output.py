"""Where tables go: a folder of this machine, or a prefix of an object store. A file is there whole or not at all.

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
    """Files by their names below one place. All of it raises `DataError`, in one line, where the place is at fault."""

    place: str
    """Absolute path or URI."""

    def names(self, folder: str) -> list[str]:
        """Of the files right below ``folder``, sorted; none where it is not there. Drafts are left out."""

    def read(self, name: str) -> bytes:
        """All of a file."""

    def uri(self, name: str) -> str:
        """Absolute path or URI of a file."""

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""

    def writing(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """A binary stream that becomes the file when the block ends well."""


def open_output(place: str) -> Output:
    """The folder or prefix of that name, which need not be there.

    Raises:
        DataError: It is a URI of no store that is known.
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
                raise FileNotFoundError("there is no such bucket")
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
            # Not in a `with`: that would complete the object even after an error.
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

"""Images in an object store: listed and mirrored, so that all that follows reads files.

Credentials and the endpoint are those of the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_ENDPOINT_URL`` for MinIO and others, ``AWS_DEFAULT_REGION``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs

from visionops.data.files import FileInfo, describe_os_error, safe_name
from visionops.errors import DataError

__all__ = ["fetch_images", "is_uri", "list_remote", "mirror_images", "mirror_name", "open_prefix"]

_CONNECTIONS = 8


def is_uri(source: str) -> bool:
    """Whether ``source`` names an object store and not a folder."""
    return "://" in source


def mirror_name(uri: str) -> str:
    """A folder name of its own for each prefix."""
    return f"{uri.partition('?')[0].rstrip('/').rpartition('/')[2]}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def list_remote(uri: str) -> list[str]:
    """The images below ``s3://bucket/prefix``, by their names below it, sorted.

    Raises:
        DataError: It is no such URI, cannot be reached, or holds no image.
    """
    return [image.name for image in _list(*open_prefix(uri), uri)]


def mirror_images(uri: str, folder: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
    """Make ``folder`` hold the images below ``uri`` and no others; what it has already is not fetched again.

    Args:
        progress: Called from this thread with the images done and their number.

    Raises:
        DataError: As `list_remote`; or ``folder`` cannot be written. What was fetched stays for the next try.
    """
    store, prefix = open_prefix(uri)
    images = _list(store, prefix, uri)
    with _writing(folder):
        _remove_others(folder, images)
    _mirror(store, prefix, images, folder, progress)


def fetch_images(
    uri: str, names: Collection[str], folder: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> None:
    """Make ``folder`` hold these images below ``uri``, as `list_remote` named them; others in it stay.

    One that is no longer there is left out.

    Args:
        progress: As of `mirror_images`.

    Raises:
        DataError: As `mirror_images`.
    """
    store, prefix = open_prefix(uri)
    wanted = set(names)
    images = [image for image in _list(store, prefix, uri) if image.name in wanted]
    _mirror(store, prefix, images, folder, progress)


def _mirror(
    store: Any, prefix: str, images: Sequence[FileInfo], folder: Path, progress: Callable[[int, int], None]
) -> None:
    def fetch(image: FileInfo) -> None:
        _fetch(store, f"{prefix}/{image.name}", image, folder / image.name)

    with _writing(folder):
        todo = [image for image in images if not _has(folder, image)]
        progress(len(images) - len(todo), len(images))
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            try:
                for done, _ in enumerate(pool.map(fetch, todo), start=1):
                    progress(len(images) - len(todo) + done, len(images))
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


def open_prefix(uri: str, patience: float | None = None) -> tuple[Any, str]:
    """The file system of Arrow that has ``s3://bucket/prefix``, and the path in it.

    Args:
        patience: Seconds after which a request that stands still is given up; by default a store that hangs is waited
            for through minutes.

    Raises:
        DataError: It is no such URI, or its store cannot be reached.
    """
    if not uri.startswith("s3://") or not uri.removeprefix("s3://").split("?")[0].strip("/"):
        raise DataError(f"{uri}: name a folder, or a bucket and prefix as s3://bucket/prefix")
    try:
        store, path = pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{uri}: is no URI of an object store ({_first_line(error)})") from error
    return (store if patience is None else _bounded(store, uri, patience)), path.rstrip("/")


def _bounded(store: Any, uri: str, patience: float) -> Any:
    options = dict(parse_qsl(urlsplit(uri).query))
    return pyarrow.fs.S3FileSystem(
        region=store.region,
        endpoint_override=options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL"),
        scheme=options.get("scheme"),
        connect_timeout=patience / 2,
        request_timeout=patience,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=2),
    )


def _list(store: Any, prefix: str, uri: str) -> list[FileInfo]:
    try:
        found = store.get_file_info(pyarrow.fs.FileSelector(prefix, recursive=True))
    except FileNotFoundError as error:
        raise DataError(f"{uri}: holds nothing; check the prefix") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{uri}: cannot be listed ({_first_line(error)}); check the name, AWS_ENDPOINT_URL and the credentials"
        ) from error
    images = []
    for info in found:
        image = FileInfo(info.path.removeprefix(f"{prefix}/"), info.size or 0, info.mtime_ns or 0)
        hidden = any(part.startswith(".") for part in image.name.split("/"))
        if info.type == pyarrow.fs.FileType.File and image.is_image and not hidden:
            if safe_name(image.name) != image.name:
                raise DataError(f"{uri}: object {image.name!r} has no name that a folder can hold; rename it")
            images.append(image)
    if not images:
        raise DataError(f"{uri}: holds no images")
    return sorted(images)


def _has(folder: Path, image: FileInfo) -> bool:
    try:
        status = (folder / image.name).stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (image.num_bytes, image.mtime_ns)


def _fetch(store: Any, path: str, image: FileInfo, target: Path) -> None:
    """Whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".{uuid.uuid4().hex}.part"
    try:
        with store.open_input_stream(path) as source, draft.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        os.utime(draft, ns=(image.mtime_ns, image.mtime_ns))
        draft.replace(target)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of our disk: the store's errors have no number
        raise DataError(f"{path}: cannot be fetched ({_first_line(error)}); try again") from error
    finally:
        draft.unlink(missing_ok=True)


def _remove_others(folder: Path, images: Sequence[FileInfo]) -> None:
    names = {image.name for image in images}
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" (Request ID")[0]

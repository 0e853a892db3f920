"""Download a file from a web server, check its SHA-256, and resume an interrupted download.

Received bytes are in a hidden file named by the checksum, so that a later run resumes after a crash, also from another
address of the same file. A file assembled from several responses may mix two versions on the server: if its checksum is
wrong, it is downloaded once more from the beginning before it is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from visionops.data.files import describe_os_error
from visionops.errors import DataError

if TYPE_CHECKING:
    import requests

__all__ = ["download", "one_at_a_time", "shown_url"]

_TRIES = 4
"""Number of consecutive attempts without a new byte after which the download fails."""
_TIMEOUT_SECONDS = (10.0, 60.0)
"""Seconds to connect, and seconds between two chunks."""
_CHUNK = 1 << 20
_MEGABYTE = 1_000_000
_COME_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

_pause = time.sleep

Progress = Callable[[int, int], None]


class _Interrupted(Exception):
    """A failure that is worth another attempt."""


@contextlib.contextmanager
def one_at_a_time(sha256: str, cache: Path) -> Iterator[None]:
    """Let one process at a time download this file into ``cache``, which is created; others wait.

    Raises:
        DataError: The folder cannot be written.
    """
    from filelock import FileLock

    with _writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_part(sha256, cache).with_suffix(".lock"))
        lock.acquire()  # the kernel releases it however this process ends
    try:
        yield
    finally:
        lock.release()


def download(url: str, sha256: str, cache: Path, progress: Progress) -> Path:
    """Return the file in ``cache``, where it stays until the caller removes it; hold `one_at_a_time` meanwhile.

    Args:
        sha256: Expected SHA-256, lower-case hex.
        cache: Folder for received bytes, including those of earlier attempts.
        progress: Called with the megabytes done and their total, rounded up.

    Raises:
        DataError: It cannot be downloaded or written, or its SHA-256 is not ``sha256``.
    """
    part = _part(sha256, cache)
    if _has(part, sha256):
        return part
    if _receive(url, part, progress) and not _has(part, sha256):
        part.unlink()
        _receive(url, part, progress)
    if digest := _wrong(part, sha256):
        part.unlink()
        raise DataError(
            f"{shown_url(url)}: has the SHA-256 {digest}, not {sha256} of data.source.sha256; it was removed; "
            "check the address, or set the checksum if this is the file you mean"
        )
    return part


def _part(sha256: str, cache: Path) -> Path:
    return cache / f".url-{sha256[:16]}.part"


def shown_url(url: str) -> str:
    """Return ``url`` without its query, which may hold a secret."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _receive(url: str, part: Path, progress: Progress) -> bool:
    """Download the missing bytes of ``part``; return whether it is from more than one response."""
    import requests

    best, failures, is_mixed = _size(part), 0, False
    with requests.Session() as session, _no_addresses_in_logs():
        while True:
            try:
                return _request(session, url, part, progress) or is_mixed
            except _Interrupted as error:
                here = _size(part)
                failures = 1 if here > best else failures + 1
                best, is_mixed = max(here, best), True
                if failures >= _TRIES:
                    left = f"; run it again to resume after {_megabytes(here)} MB" if here else "; try again"
                    raise DataError(f"{shown_url(url)}: cannot be downloaded ({error}){left}") from error
                _pause(2.0 ** (failures - 1))


def _request(session: requests.Session, url: str, part: Path, progress: Progress) -> bool:
    """Download the rest in one request; return whether ``part`` already had a beginning."""
    have = _size(part)
    # With a content encoding, the bytes would not match the checksum.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _get(session, url, headers) as answer:
        total = int(answer.headers.get("Content-Length") or 0)
        if answer.status_code == 206:
            match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != have:
                part.unlink(missing_ok=True)
                raise _Interrupted("the server sent another range than requested")
            total = have + total
        elif answer.status_code == 416:
            if answer.headers.get("Content-Range") == f"bytes */{have}":
                return True
            part.unlink(missing_ok=True)
            raise _Interrupted("the file on the server is shorter than the part received before")
        elif answer.status_code == 200:
            have = 0  # the server does not support ranges: start from the beginning
        else:
            _refuse(url, answer)
        with _writing(part):
            free = shutil.disk_usage(part.parent).free
            if total - have > free:
                raise DataError(
                    f"{part.parent}: {shown_url(url)} needs {_megabytes(total - have)} MB, and {free // _MEGABYTE} MB "
                    "are free; free some space, or set VISIONOPS_HOME to another disk"
                )
            with part.open("ab" if have else "wb") as file:
                done = have
                progress(_megabytes(done), _megabytes(max(total, done)))
                for chunk in _chunks(answer):
                    file.write(chunk)
                    file.flush()  # received bytes survive the end of this process
                    done += len(chunk)
                    progress(_megabytes(done), _megabytes(max(total, done)))
    return have > 0


def _get(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    import requests

    try:
        return session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS)
    except requests.exceptions.SSLError as error:
        raise DataError(f"{shown_url(url)}: cannot be trusted ({_reason(error)}); see its certificate") from error
    except requests.TooManyRedirects as error:
        raise DataError(f"{shown_url(url)}: redirects without end; check data.source.url") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Interrupted(_reason(error)) from error
    except requests.RequestException as error:
        # The error's own message has the redirect address, which may be a signed one.
        raise DataError(
            f"{shown_url(url)}: redirects to an address that is not a web server's; check data.source.url"
        ) from error


def _refuse(url: str, answer: requests.Response) -> None:
    status = f"HTTP {answer.status_code} {answer.reason or ''}".rstrip()
    if answer.status_code in _COME_AGAIN:
        raise _Interrupted(status)
    fix = "check data.source.url"
    if answer.status_code in {401, 403}:
        fix = "check data.source.url, and that ~/.netrc has a login for its host"
    raise DataError(f"{shown_url(url)}: {status}; {fix}")


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    import urllib3

    try:
        # Not `stream`, which holds back received bytes until a chunk is full, and loses them with the connection.
        while chunk := answer.raw.read1(_CHUNK, decode_content=False):
            yield chunk
    except urllib3.exceptions.HTTPError as error:
        raise _Interrupted(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """Return the innermost cause: the errors that libraries put around it contain the whole address."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextlib.contextmanager
def _no_addresses_in_logs() -> Iterator[None]:
    """Keep urllib3 from logging addresses, which are signed if a server redirects to an object store."""
    logger = logging.getLogger("urllib3.connectionpool")

    def drop(_record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{place}: cannot be written ({describe_os_error(error)}); free it, or set VISIONOPS_HOME to another folder"
        ) from error


def _has(part: Path, sha256: str) -> bool:
    return part.is_file() and _wrong(part, sha256) is None


def _wrong(part: Path, sha256: str) -> str | None:
    """Return the checksum of the received file if it is not ``sha256``, else None."""
    with _writing(part), part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == sha256 else digest


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _megabytes(num_bytes: int) -> int:
    return math.ceil(num_bytes / _MEGABYTE)

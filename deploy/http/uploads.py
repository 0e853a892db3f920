"""Read request bodies within a limit, and refuse a larger one while it arrives, before it fills the memory."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncGenerator, Mapping

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from deploy.http.errors import BadRequest, UnsupportedMedia, UploadTooLarge

__all__ = ["Form", "content_type", "read_body", "read_form", "read_upload", "read_uploads"]

_FORM_OVERHEAD = 64 * 1024
"""Bytes allowed for boundaries, part headers and small text fields around the file."""
_DRAIN_SECONDS = 2.0
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^;"]*)')
"""Pattern of a header parameter, which captures its name and skips the content of quoted strings."""


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, with or without a file."""

    texts: Mapping[str, str]
    file: bytes | None = None
    name: str = ""
    """File name that the client sent."""


async def read_form(request: Request, limit: int, text_limit: int) -> Form:
    """Read the text fields of a multipart form, and its file, the field ``file``.

    Args:
        limit: Largest accepted file, in bytes.
        text_limit: Largest accepted text field, in bytes.

    Raises:
        UploadTooLarge: The file, a text or the form exceeds its limit.
        BadRequest: The form is malformed, names a field twice, or has a file of another name.
    """
    form = await _read_form(request, limit, max_files=1, setting="max_upload_bytes", text_limit=text_limit)
    texts: dict[str, str] = {}
    file, name = None, ""
    try:
        for field, value in form.multi_items():
            if field in texts or (field == "file" and file is not None):
                raise BadRequest(f"the form has the field {field[:80]!r} twice; send one", "bad_form")
            if isinstance(value, str):
                texts[field] = value
                continue
            if field != "file":
                raise BadRequest(f"the form's field {field[:80]!r} is a file; call it 'file'", "bad_form")
            if (value.size or 0) > limit:
                raise _too_large(limit, "max_upload_bytes")
            file, name = await value.read(), value.filename or ""
    finally:
        await form.close()
    return Form(texts, file, name)


async def read_upload(request: Request, limit: int) -> bytes:
    """Read the image of a request: the whole body, or the form field ``file``.

    Args:
        limit: Largest accepted file, in bytes.

    Raises:
        UploadTooLarge: The file or the form exceeds the limit.
        UnsupportedMedia: The body is neither an image nor a multipart form.
        BadRequest: The form is malformed, or has no file named ``file``.
    """
    kind = content_type(request)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await read_body(request, limit, setting="max_upload_bytes")
    if kind != "multipart/form-data":
        raise UnsupportedMedia(
            f"content type {kind or 'none'!r}; send a form: curl -F file=@part.jpg …, or the image as it is: "
            "curl -H 'Content-Type: image/jpeg' --data-binary @part.jpg …"
        )
    form = await _read_form(request, limit, max_files=1, setting="max_upload_bytes")
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise BadRequest(f"the form has {_what_it_has(form)}: curl -F file=@part.jpg …", "missing_file")
        if (upload.size or 0) > limit:
            raise _too_large(limit, "max_upload_bytes")
        return await upload.read()
    finally:
        await form.close()


def _what_it_has(form: FormData) -> str:
    """Return what a form has instead of a file named ``file``."""
    if "file" in form:
        return "a text named 'file', which must be a file"
    names = ", ".join(repr(name[:80]) for name in list(form)[:3])
    return f"no file named 'file', but {names}" if names else "no file named 'file'"


async def read_uploads(request: Request, limit: int, max_files: int) -> list[bytes]:
    """Read the images of a form, its fields ``files`` and ``file``, in the order sent.

    Args:
        limit: Largest accepted form, in bytes.
        max_files: Maximum number of files in a form.

    Raises:
        UploadTooLarge: The form exceeds the limit.
        UnsupportedMedia: The body is not a multipart form.
        BadRequest: The form is malformed, has no file, or has too many.
    """
    kind = content_type(request)
    if kind != "multipart/form-data":
        raise UnsupportedMedia(
            f"content type {kind or 'none'!r}; send a form: curl -F files=@one.jpg -F files=@two.jpg …"
        )
    form = await _read_form(request, limit, max_files, setting="max_batch_bytes")
    try:
        images = []
        for name, upload in form.multi_items():
            if name in {"file", "files"}:
                if not isinstance(upload, UploadFile):
                    raise BadRequest(
                        f"the form's {name!r} is text, not a file: curl -F files=@part.jpg …", "missing_file"
                    )
                images.append(await upload.read())
                await upload.close()  # frees the form's own copy
    finally:
        await form.close()
    if not images:
        raise BadRequest("the form has no file named 'files': curl -F files=@part.jpg …", "missing_file")
    return images


async def read_body(request: Request, limit: int, *, setting: str = "") -> bytes:
    """Read the whole body.

    Args:
        setting: Name of the setting that raises the limit, for the error message.

    Raises:
        UploadTooLarge: The body exceeds ``limit`` bytes.
    """
    return b"".join([chunk async for chunk in _limited(request, limit, limit, setting)])


def content_type(request: Request) -> str:
    """Return the content type of a request's body in lower case, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_form(
    request: Request, limit: int, max_files: int, *, setting: str, text_limit: int | None = None
) -> FormData:
    most = limit + _FORM_OVERHEAD + (text_limit or 0)
    parser = _FormParser(request.headers, _limited(request, most, limit, setting), max_files=max_files, max_fields=8)
    if text_limit is not None:
        parser.max_part_size = text_limit
    # Files stay in memory, which the limit bounds, instead of in a temporary file for each image.
    parser.spool_max_size = most
    try:
        return await parser.parse()
    except MultiPartException as error:
        if text_limit is not None and error.message.startswith("Part exceeded"):
            await _drain(request, most)
            raise UploadTooLarge(f"a text of the form exceeds {text_limit} bytes; send less") from error
        raise BadRequest(f"malformed multipart form: {error.message}", "bad_form") from error


class _FormParser(MultiPartParser):
    """Parser that treats a part with only ``filename*`` (RFC 8187) as a file.

    RFC 7578 forbids this in a form, and python-multipart ignores it, so the part would be a text field. Some clients
    send it for file names that are not ASCII. The file name does not matter here.
    """

    def on_header_end(self) -> None:
        if self._current_partial_header_name.lower() == b"content-disposition":
            names = {name.lower() for name in _PARAMETER.findall(self._current_partial_header_value)}
            if b"filename" not in names and any(name.startswith(b"filename*") for name in names):
                self._current_partial_header_value += b'; filename="file"'
        super().on_header_end()


async def _limited(request: Request, most: int, limit: int, setting: str) -> AsyncGenerator[bytes, None]:
    """Yield the body's chunks, up to ``most`` bytes; the error message names ``limit``."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > most:
        if request.headers.get("expect", "").lower() != "100-continue":  # such a client has not begun to send
            await _drain(request, most)
        raise _too_large(limit, setting)
    seen = 0
    stream = request.stream()
    async for chunk in stream:
        seen += len(chunk)
        if seen > most:
            await _drain(request, most)
            raise _too_large(limit, setting)
        yield chunk


async def _drain(request: Request, at_most: int) -> None:
    """Read and discard the body for a while: a client that is cut off while sending never reads the error."""
    dropped = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while dropped < at_most:
                message = await request.receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
                dropped += len(message.get("body", b""))
    except TimeoutError:
        return


def _too_large(limit: int, setting: str) -> UploadTooLarge:
    return UploadTooLarge(f"the upload exceeds {limit} bytes; send less{f' or raise {setting}' if setting else ''}")

"""Read XML files of annotation tools without entities: their type, the whole tree, or child by child."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from visionops.data.files import describe_os_error
from visionops.data.listing import Listing
from visionops.errors import AnnotationError

__all__ = ["first_tag", "head_of", "iterate_children", "number", "parse_xml", "printable"]

_HEAD_BYTES = 8192
_CHUNK_BYTES = 1 << 20
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_.-]+)["']""")
_MULTI_BYTE = frozenset(
    {"gbk", "gb2312", "gb18030", "cp936", "big5", "cp950", "shift_jis", "sjis", "cp932", "euc-jp", "euc-kr", "cp949"}
)
"""Multi-byte encodings that Python reads but expat does not."""
_TAG = re.compile(r"<([^\W\d][\w.:-]*)")


class _Plain(ET.TreeBuilder):
    """Builds a tree, and refuses a document type, because its entities may expand to gigabytes."""

    def doctype(self, *_: str | None) -> None:
        raise ValueError(_NO_DOCTYPE)


_NO_DOCTYPE = "it defines entities or a document type"


def head_of(listing: Listing, name: str) -> str:
    """Return the first 8 KiB of a file as text, with non-ASCII letters undecoded; ``""`` if it cannot be read."""
    try:
        with listing.path(name).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return ""
    if b"\0" in head[:4]:
        order = "utf-16-be" if head[:1] == b"\0" or head[:2] == b"\xfe\xff" else "utf-16-le"
        return head.decode(order, "replace").lstrip("\ufeff")
    return head.removeprefix(b"\xef\xbb\xbf").decode("latin-1")


def first_tag(head: str) -> str:
    """Return the tag of the root of an XML file, from its `head_of`; ``""`` if there is none."""
    rest = head.lstrip()
    while rest.startswith(("<?", "<!")):
        if rest.startswith("<!--"):
            end = "-->"
        elif rest.startswith("<?"):
            end = "?>"
        else:
            end = "]>" if "[" in rest.partition(">")[0] else ">"
        rest = rest.partition(end)[2].lstrip()
    tag = _TAG.match(rest)
    return tag[1] if tag else ""


def parse_xml(listing: Listing, name: str) -> ET.Element:
    """Parse a small XML file.

    Raises:
        AnnotationError: It cannot be read, is not XML, or defines entities.
    """
    data = listing.read_bytes(name)
    parser = ET.XMLParser(target=_Plain())  # noqa: S314 - see _Plain
    try:
        parser.feed(_text(data))
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise _not_xml(listing, name, error) from error
    return root


def iterate_children(listing: Listing, name: str) -> Iterator[ET.Element]:
    """Yield the root of an XML file without its children, and then each complete child; only a few are in memory.

    Raises:
        AnnotationError: As in `parse_xml`, when reading reaches the problem.
    """
    target = _Children()
    parser = ET.XMLParser(target=target)  # noqa: S314 - see _Children.doctype
    try:
        with listing.path(name).open("rb") as file:
            encoded = _ENCODING.match(file.read(256))
            file.seek(0)
            if encoded and encoded[1].decode().lower() in _MULTI_BYTE:
                chunks: Iterator[bytes | str] = iter([_text(file.read())])
            else:
                chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
            for chunk in chunks:
                parser.feed(chunk)
                yield from target.take()
            parser.close()
        yield from target.take()
    except OSError as error:
        raise AnnotationError(f"{listing.path(name)}: cannot be read ({describe_os_error(error)})") from error
    except (ET.ParseError, ValueError, LookupError) as error:
        raise _not_xml(listing, name, error) from error


class _Children:
    """Collects the root and its children as they end."""

    def __init__(self) -> None:
        self.depth = 0
        self.done: list[ET.Element] = []
        self.builder = ET.TreeBuilder()

    def take(self) -> list[ET.Element]:
        done, self.done = self.done, []
        return done

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if self.depth == 0:
            self.done.append(ET.Element(tag, attributes))
        else:
            self.builder.start(tag, attributes)
        self.depth += 1

    def end(self, tag: str) -> None:
        self.depth -= 1
        if self.depth:
            self.builder.end(tag)
        if self.depth == 1:
            self.done.append(self.builder.close())
            self.builder = ET.TreeBuilder()

    def data(self, text: str) -> None:
        if self.depth > 1:
            self.builder.data(text)

    def doctype(self, *_: str | None) -> None:
        raise ValueError(_NO_DOCTYPE)

    def close(self) -> None:
        """Do nothing; the parser requires this method."""


def number(text: str | None) -> float | None:
    """Return a decimal number, which may be infinite or NaN; None for anything else."""
    try:
        return float(text) if text is not None and "_" not in text else None
    except ValueError:
        return None


def printable(name: str) -> str:
    """Return a name from the disk as storable text: bytes that are not Unicode are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _text(data: bytes) -> bytes | str:
    """Decode encodings that expat does not support, from Chinese, Japanese and Korean systems."""
    encoding = _ENCODING.match(data[:256])
    if encoding and encoding[1].decode().lower() in _MULTI_BYTE:
        return data.decode(encoding[1].decode())
    return data


def _not_xml(listing: Listing, name: str, error: Exception) -> AnnotationError:
    path = listing.path(name)
    if str(error) == _NO_DOCTYPE:
        return AnnotationError(f"{path}: {_NO_DOCTYPE}; remove the <!DOCTYPE …>")
    line, _ = error.position if isinstance(error, ET.ParseError) else (0, 0)
    fix = "save it as UTF-8" if "invalid token" in str(error) or isinstance(error, UnicodeError | LookupError) else ""
    fix = fix or "export the annotations again"
    return AnnotationError(f"{path}{f':{line}' if line else ''}: not valid XML ({error}); {fix}")

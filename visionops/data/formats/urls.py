"""Match names of images that are URLs: storage buckets, web servers, the files that Label Studio serves.

A URL's path is longer than that of the local file, so it is matched from its end.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.formats.names import Bases, Level, Match, NameIndex, plain_name
from visionops.data.listing import suffix_of

__all__ = ["declared_path", "find_declared", "find_paths", "path_of_url"]

_LOCAL_FILES = "/local-files/?d="
_FILE_URI = re.compile(r"[?&]fileuri=")


def path_of_url(url: str) -> str:
    """Return the path of a URL, percent-decoded and without a leading slash."""
    _, found, local = url.partition(_LOCAL_FILES)
    if found:
        return unquote(_cut(local, "&")).lstrip("/")
    if encoded := _FILE_URI.search(url):
        try:
            url = base64.b64decode(unquote(_cut(url[encoded.end() :], "&")), altchars=b"-_").decode()
        except (binascii.Error, ValueError):
            return ""
    scheme, found, rest = url.partition("://")
    if found and scheme.isalnum():
        rest = rest.partition("/")[2]
        return unquote(rest.partition("#")[0].partition("?")[0]) if scheme.startswith("http") else rest.lstrip("/")
    if url[:5] == "data:":
        return ""
    return unquote(_cut(_cut(url, "#"), "?")).lstrip("/") if url[:1] == "/" else _cut(url, "?")


def _cut(url: str, mark: str) -> str:
    """Cut a URL at the mark, unless it is already the name of an image."""
    return url if suffix_of(url) in IMAGE_SUFFIXES else url.partition(mark)[0]


def declared_path(declared: str) -> str | None:
    """Return a declared name like `plain_name`, or the path of a URL."""
    return plain_name((path_of_url(declared) or declared) if "://" in declared else declared)


def find_declared(index: NameIndex, declared: Iterable[str], names: Sequence[str], bases: Bases) -> list[Match]:
    """Find the file of each name; match URLs from the end of their paths.

    Args:
        declared: Names as written.
        names: The names that `declared_path` returns for them.
        bases: Folders that they may be relative to.
    """
    if not any("://" in name for name in declared):
        return index.match(names, bases)
    found = find_paths(index, names, bases)
    return [found[name] for name in names]


def find_paths(index: NameIndex, names: Sequence[str], bases: Bases) -> dict[str, Match]:
    """Find the file of each path: by the whole path, else by as much of its end as possible, at least the name."""
    unique = list(dict.fromkeys(names))
    found = {name: _closest(name, m) for name, m in zip(unique, index.match(unique, bases), strict=True)}
    taken = {match.file for match in found.values()}
    rest = [name for name, match in found.items() if not match.file and not match.rivals and "/" in name]
    tails = [name.rpartition("/")[2] for name in rest]
    by_tail = {name: _closest(name, m) for name, m in zip(rest, index.match(tails, bases), strict=True)}
    claims: dict[str | None, list[str]] = {}
    for name, match in by_tail.items():
        claims.setdefault(match.file, []).append(name)
    for name, match in by_tail.items():
        rivals = claims[match.file]
        if match.file and len(rivals) > 1:
            by_tail[name] = Match(None, Level.SUBFOLDER, tuple(sorted(rivals)), shared=True)
        elif match.file in taken:
            by_tail[name] = Match(None)
        elif match.file and "upload/" not in name:
            by_tail[name] = match._replace(level=Level.SUBFOLDER)
    return found | by_tail


def _closest(name: str, match: Match) -> Match:
    """Return which of several files has most of its path in common."""
    if match.shared or not match.rivals:
        return match
    wanted = name.casefold().split("/")[::-1]

    def common(file: str) -> int:
        parts = file.casefold().split("/")[::-1]
        pairs = enumerate(zip(parts, wanted, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(parts), len(wanted)))

    best = max(map(common, match.rivals))
    closest = [file for file in match.rivals if common(file) == best]
    return Match(closest[0], Level.SUBFOLDER) if len(closest) == 1 else match

"""Match the names in annotations to files, by one rule for all readers.

Tools write names from other machines: with backslashes, in another Unicode normal form, percent-encoded, in another
case, with a folder or an upload hash in front, or without the folder of the file. Each kind of difference is a `Level`,
tried in order of trust, and includes those before it. Names are only searched among the listed files, so none can point
outside the data set.
"""

from __future__ import annotations

import collections
import enum
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from typing import NamedTuple
from urllib.parse import unquote

from visionops.data.files import safe_name

__all__ = ["EXACT_BASES", "Bases", "Level", "Match", "NameIndex", "plain_name", "resolve_name"]

Bases = Sequence[Sequence[str]]
"""Folders that names may be relative to: ranks, best first, of prefixes such as ``""`` or ``"images/train/"``.

Prefixes within a rank are equal."""

EXACT_BASES: Bases = (("",),)
"""Names relative to the root."""


class Level(enum.IntEnum):
    """Largest permitted difference between a name and its file."""

    EXACT = 0
    SLASHES = 1
    UNICODE = 2
    PERCENT = 3
    CASE = 4
    PREFIX = 5
    SUBFOLDER = 6

    @property
    def difference(self) -> str:
        """Name of the difference for messages."""
        return _DIFFERENCES[self]


_DIFFERENCES = {
    Level.EXACT: "nothing",
    Level.SLASHES: "backslashes",
    Level.UNICODE: "Unicode normal form",
    Level.PERCENT: "percent-encoding",
    Level.CASE: "upper and lower case",
    Level.PREFIX: "a folder or upload hash in front",
    Level.SUBFOLDER: "the folder",
}


class Match(NamedTuple):
    """The file that a name matches, or why there is none."""

    file: str | None
    level: Level = Level.EXACT
    rivals: tuple[str, ...] = ()
    """Several files that the name matches equally well, or names that match this one file equally well."""
    shared: bool = False
    """Whether ``rivals`` are names rather than files."""


_PREFIX_FOLDERS = frozenset(
    {"images", "image", "imgs", "img", "data", "dataset", "jpegimages", "obj_train_data", "obj_valid_data"}
)
_UPLOAD_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")


def plain_name(declared: str) -> str | None:
    """Return a declared name as a relative POSIX path, or None if it must not be used: absolute, or with ``..``."""
    return safe_name(declared.replace("\\", "/"))


def resolve_name(folder: str, declared: str) -> str | None:
    """Return a path relative to a folder as one relative to the root; None if it points outside the data set.

    For tools that write ``../images/a.jpg``. Only names are compared, links are not followed.
    """
    text = declared.replace("\\", "/")
    if text.startswith("/") or text[1:2] == ":":
        return None
    parts = folder.split("/") if folder else []
    for part in text.split("/"):
        if part not in ("", ".", ".."):
            parts.append(part)
        elif part == "..":
            if not parts:
                return None
            parts.pop()
    return safe_name("/".join(parts))


class NameIndex:
    """The files of a data set, indexed by the names that annotations may give them."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = dict.fromkeys(files)
        self._tables: dict[Level, dict[str, list[str]]] = {}
        self._by_tail: dict[str, list[str]] = {}
        self._hashed: dict[str, list[str]] = {}
        self._reserved: set[str] = set()
        self._to_reserve: list[tuple[Iterable[str], Bases]] = []

    def reserve(self, names: Iterable[str], bases: Bases = EXACT_BASES) -> None:
        """Reserve the files that these names match, up to percent-encoding, against names with larger differences.

        For data sets with several annotation files: an image that is missing in one split must not match an image with
        the same name in another.

        Args:
            names: Names from `plain_name`.
            bases: Folders that they may be relative to.
        """
        self._to_reserve.append((names, bases))  # searched when a name is matched loosely, which is rare

    def _reserve(self) -> set[str]:
        for names, bases in self._to_reserve:
            rest = set(names)
            exact = self._exact(rest, bases)
            self._reserved.update(*exact.values())
            for name in rest - exact.keys():
                files: list[str] = []
                for level in (Level.SLASHES, Level.UNICODE, Level.PERCENT):
                    files = files or self._at(level, name, bases, frozenset())
                self._reserved.update(files)
        self._to_reserve.clear()
        return self._reserved

    def match(self, names: Sequence[str], bases: Bases = EXACT_BASES, *, up_to: Level = Level.SUBFOLDER) -> list[Match]:
        """Find the file of each name.

        A stricter match comes first for all names: a file with an exact match is not a match for another name that
        differs from it in case, prefix or folder.

        Args:
            names: Names from `plain_name`, with any number of duplicates.
            bases: Folders that they may be relative to.
            up_to: Largest difference that counts as a match.

        Returns:
            Matches in the order of ``names``.
        """
        found: dict[str, Match] = {}
        taken: Set[str] = frozenset()
        rest = list(dict.fromkeys(names))
        for level in Level:
            if not rest or level > up_to:
                break
            claims: dict[str, int] = {}
            if level is Level.EXACT:
                matches = self._exact(rest, bases)
                self._add_twins(matches)
            else:
                if level >= Level.CASE:
                    taken = self._reserve().union(m.file for m in found.values() if m.file)
                matches = {name: files for name in rest if (files := self._at(level, name, bases, taken))}
                claims = collections.Counter(files[0] for files in matches.values() if len(files) == 1)
            one_each = level >= Level.CASE
            for name, files in matches.items():
                if len(files) > 1:
                    found[name] = Match(None, level, tuple(sorted(files)))
                elif one_each and claims[files[0]] > 1:
                    rivals = tuple(sorted(other for other, also in matches.items() if also == files))
                    found[name] = Match(None, level, rivals, shared=True)
                else:  # up to percent-encoding, two spellings are one name: a duplicate gets the same match
                    found[name] = Match(files[0], level)
            rest = [name for name in rest if name not in found]
        nothing = Match(None)
        return [found.get(name, nothing) for name in names]

    def _at(self, level: Level, name: str, bases: Bases, taken: Set[str]) -> list[str]:
        if level is Level.SUBFOLDER:
            return _prefer(self._by_folder(name, taken), bases)
        table = self._table(level)
        free = taken if level >= Level.CASE else frozenset()
        form = _FORMS[level]
        for rank in bases:
            hits = {
                file: None
                for base in rank
                for candidate in _variants(level, base + name)
                for file in table.get(form(candidate), ())
                if file not in free
            }
            if level is Level.PREFIX:
                hits |= {
                    file: None for base in rank for file in self._hashed.get(form(base + name), ()) if file not in free
                }
            if hits:
                return list(hits)
        return []

    def _exact(self, names: Collection[str], bases: Bases) -> dict[str, list[str]]:
        """Return the files of each name with a match, below the best rank."""
        files = self._files
        found: dict[str, list[str]] = {}
        for rank in bases:
            if len(found) == len(names):
                break
            rest = [name for name in names if name not in found] if found else names
            if len(rank) == 1:  # the common case, for a hundred thousand names
                found.update({name: [file] for name in rest if (file := rank[0] + name) in files})
            else:
                hits = {name: [file for base in rank if (file := base + name) in files] for name in rest}
                found.update({name: hit for name, hit in hits.items() if hit})
        return found

    def _add_twins(self, matches: dict[str, list[str]]) -> None:
        """Add unnamed files whose names look the same as a matched one: they cannot be distinguished."""
        others = [files for files in matches.values() if len(files) == 1 and not files[0].isascii()]
        named = {file for files in matches.values() for file in files} if others else set()
        for files in others:
            alike = self._table(Level.UNICODE)[_FORMS[Level.UNICODE](files[0])]
            files.extend(file for file in alike if file not in named)

    def _table(self, level: Level) -> dict[str, list[str]]:
        if level not in self._tables:
            table: dict[str, list[str]] = {}
            form = _FORMS[level]
            for file in self._files:
                table.setdefault(form(file), []).append(file)
                if level is Level.PREFIX and (short := _without_hash(file)):
                    self._hashed.setdefault(form(short), []).append(file)
            self._tables[level] = table
        return self._tables[level]

    def _by_folder(self, name: str, taken: Set[str]) -> list[str]:
        if not self._by_tail:
            for file in self._files:
                self._by_tail.setdefault(_tail(_folded(file)), []).append(file)
        # In order of trust here, too: a%20b is not "a b" if there is a file a%20b.
        forms = [(form, form) for form in (_slashed, _composed, _unquoted, _folded)]
        for of_name, of_file in [*forms, (_bare, _folded), (_bare_without_hash, _folded)]:
            wanted = f"/{of_name(name)}"
            files = (file for file in self._by_tail.get(_tail(_folded(wanted[1:])), ()) if file not in taken)
            found = [f for f in files if (lies := f"/{of_file(f)}").endswith(wanted) or wanted.endswith(lies)]
            if found:
                return found
        return []


def _prefer(files: list[str], bases: Bases) -> list[str]:
    """Return those of several files that are below the best folder with any."""
    for rank in bases:
        inside = [file for file in files if any(base and file.startswith(base) for base in rank)]
        if len(inside) == 1:
            return inside
    return files


def _slashed(name: str) -> str:
    return safe_name(name.replace("\\", "/")) or name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", _slashed(name))


def _unquoted(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(_composed(name))) if "%" in name else _composed(name)


def _folded(name: str) -> str:
    return _unquoted(name).casefold()


def _bare(name: str) -> str:
    parts = _folded(name).split("/")
    while len(parts) > 1 and parts[0] in _PREFIX_FOLDERS:
        parts.pop(0)
    return "/".join(parts)


def _bare_without_hash(name: str) -> str:
    return _bare(_without_hash(name) or name)


_FORMS: dict[Level, Callable[[str], str]] = {
    Level.SLASHES: _slashed,
    Level.UNICODE: _composed,
    Level.PERCENT: _unquoted,
    Level.CASE: _folded,
    Level.PREFIX: _bare,
}


def _variants(level: Level, name: str) -> list[str]:
    """Return the variants of a name; only one side loses its hash: two uploads of one name are two files."""
    short = _without_hash(name) if level is Level.PREFIX else None
    return [name] if short is None else [name, short]


def _without_hash(name: str) -> str | None:
    head, slash, tail = name.rpartition("/")
    short = _UPLOAD_HASH.sub("", tail)
    return None if short == tail else head + slash + short


def _tail(name: str) -> str:
    return name.rpartition("/")[2]

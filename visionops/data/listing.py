"""List the files of a data set once, for all readers and checks."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from visionops.data.fast_json import parse_json, paused_gc, require_unicode
from visionops.data.files import IMAGE_SUFFIXES, FileInfo, describe_os_error, walk_files
from visionops.errors import AnnotationError

__all__ = ["Listing", "folder_of", "is_hidden", "load_yaml", "stem_of", "suffix_of"]

_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which Python uses for bytes of a name that is not UTF-8."""
_MOST_OF_ALIASES = 1_000_000
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


class Listing:
    """Every file below a folder, by relative POSIX name, except hidden and system files."""

    def __init__(self, root: Path) -> None:
        """List ``root``.

        Raises:
            DataError: A folder cannot be listed.
        """
        self.root = root
        hidden: list[str] = []
        garbled: list[str] = []
        self.files: dict[str, FileInfo] = {}
        """Files in the order of a walk: folder by folder, names sorted."""
        for file in walk_files(root, hidden):
            folder, _, name = file.name.rpartition("/")
            if name.casefold() in _SYSTEM_FILES or _lies_in_system_folder(folder):
                hidden.append(file.name)
            elif not file.name.isascii() and _SURROGATE.search(file.name):
                garbled.append(file.name)
            else:
                self.files[file.name] = file
        self.hidden = tuple(sorted(hidden))
        """Hidden files and folders, and files that macOS, Windows and file servers leave behind."""
        self.masks: dict[str, str] | None = None
        """Maps a mask to its image; None until `visionops.data.formats.beside.find_masks` has run."""
        self.garbled = tuple(sorted(garbled))
        """Files whose names are not Unicode, which no table can hold."""
        self._parsed: dict[str, Any] = {}
        self._yaml: dict[str, Any] = {}

    @functools.cached_property
    def images(self) -> dict[str, FileInfo]:
        """Files with an image suffix."""
        return {
            name: file
            for (name, file), suffix in zip(self.files.items(), self._suffixes, strict=True)
            if suffix in IMAGE_SUFFIXES
        }

    @functools.cached_property
    def by_suffix(self) -> dict[str, list[str]]:
        """Maps a lower-case suffix (".xml") to the files that have it."""
        names: dict[str, list[str]] = {}
        for name, suffix in zip(self.files, self._suffixes, strict=True):
            names.setdefault(suffix, []).append(name)
        return names

    @functools.cached_property
    def _suffixes(self) -> list[str]:
        return list(map(suffix_of, self.files))

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that contains a file at any depth, as ``a/b``."""
        found: set[str] = set()
        for name in self.files:
            folder = folder_of(name)
            while folder and folder not in found:
                found.add(folder)
                folder = folder_of(folder)
        return frozenset(found)

    @functools.cached_property
    def _folded(self) -> dict[str, str]:
        return {name.casefold(): name for name in self.files}

    def find(self, name: str) -> str | None:
        """Return the file with that name, or else the one whose name differs only in case."""
        return name if name in self.files else self._folded.get(name.casefold())

    def below(self, folder: str) -> Iterator[str]:
        """Yield the names of the files below a folder; all for ``""``."""
        start = f"{folder}/" if folder else ""
        return (name for name in self.files if name.startswith(start))

    def path(self, name: str) -> Path:
        """Return the path of a file on this machine."""
        return self.root / name

    def read_bytes(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            AnnotationError: The file cannot be read.
        """
        try:
            return self.path(name).read_bytes()
        except (OSError, ValueError) as error:
            reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
            raise AnnotationError(f"{self.path(name)}: cannot be read ({reason})") from error

    def read_text(self, name: str) -> str:
        """Return the content of a UTF-8 text file, without its byte-order mark.

        Raises:
            AnnotationError: The file cannot be read, or is not UTF-8.
        """
        try:
            return self.read_bytes(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{self.path(name)}: not a UTF-8 text file; export the labels again") from error

    def read_lines(self, name: str) -> list[str]:
        """Return the lines of a UTF-8 text file. Only line feeds end a line: file names may hold Unicode line breaks.

        Raises:
            AnnotationError: As `read_text`.
        """
        lines = [line.rstrip("\r") for line in self.read_text(name).split("\n")]
        return lines[:-1] if lines[-1] == "" else lines

    def read_json(self, name: str, *, keep: bool = False, cut: Callable[[bytes], bytes] | None = None) -> Any:
        """Return the parsed content of a JSON file.

        Args:
            keep: Whether to cache it, because it is needed again soon.
            cut: Removes bytes that must not be parsed.

        Raises:
            AnnotationError: The file cannot be read or is not JSON.
        """
        if name in self._parsed:
            return self._parsed[name] if keep else self._parsed.pop(name)
        try:
            with paused_gc():
                data = self.read_bytes(name)
                parsed = parse_json(cut(data) if cut else data)
                require_unicode(data, parsed)
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise AnnotationError(
                f"{self.path(name)}: not valid JSON ({reason}); export the annotations again"
            ) from error
        if keep:
            self._parsed[name] = parsed
        return parsed

    def read_yaml(self, name: str) -> Any:
        """Return the parsed content of a YAML file, with every scalar as its text: ``no`` and ``007`` stay.

        Raises:
            AnnotationError: The file cannot be read or is not YAML.
        """
        if name not in self._yaml:  # readers need it several times, and deep nesting takes seconds to parse
            try:
                self._yaml[name] = self._load_yaml(name)
            except AnnotationError as error:
                self._yaml[name] = error
        known = self._yaml[name]
        if isinstance(known, AnnotationError):
            raise known
        return known

    def _load_yaml(self, name: str) -> Any:
        file = self.path(name)
        try:
            return load_yaml(self.read_text(name))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise AnnotationError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise AnnotationError(f"{file}: not a YAML text; write train, val and names") from error


def load_yaml(text: str) -> Any:
    """Parse YAML into texts, lists and mappings. Aliases refer to one shared value.

    Raises:
        yaml.YAMLError: The text is not YAML.
        ValueError: Its aliases expand it far beyond its size, or make it contain itself.
        RecursionError: It is nested too deeply.
    """
    value = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - creates only texts, lists and mappings
    if _size_of(value, {}) > len(text) + _MOST_OF_ALIASES:  # walking through it or printing it would not end
        raise ValueError("its aliases expand too far")
    return value


def _size_of(value: Any, known: dict[int, int]) -> int:
    """Return the number of values and characters, counting aliases each time they occur."""
    if not isinstance(value, list | dict):
        return 1 + len(value or "")  # None in an empty file
    if id(value) not in known:
        known[id(value)] = 1 << 60  # for a value that contains itself
        parts = itertools.chain(value, value.values()) if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size_of(part, known) for part in parts)
    return known[id(value)]


def folder_of(name: str) -> str:
    """Return the folder of a name: ``a/b`` for ``a/b/c.jpg``, ``""`` for ``c.jpg``."""
    return name.rpartition("/")[0]


def stem_of(name: str) -> str:
    """Return a name without its suffix: ``a/b.x/c.d`` for ``a/b.x/c.d.jpg``."""
    head, slash, tail = name.rpartition("/")
    stem, dot, _ = tail.rpartition(".")
    return head + slash + (stem if dot and stem else tail)


def suffix_of(name: str) -> str:
    """Return the lower-case suffix of a name: ``.jpg`` for ``a/b.JPG``, ``""`` if there is none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > name.rfind("/") + 1 else ""


def is_hidden(folder: str) -> bool:
    """Return whether a folder with that name is skipped: a hidden folder, or one that a system creates for itself."""
    return folder.startswith(".") or folder.casefold() in _SYSTEM_FOLDERS


@functools.lru_cache(maxsize=16)
def _lies_in_system_folder(folder: str) -> bool:
    return not _SYSTEM_FOLDERS.isdisjoint(folder.casefold().split("/"))

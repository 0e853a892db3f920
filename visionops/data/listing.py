"""The files of a data set, listed once and shared by everything that looks at them."""

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
"""Half of a pair, by which Python writes a byte of a name that is no UTF-8."""
_MOST_OF_ALIASES = 1_000_000
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


class Listing:
    """Every file below a folder, by relative POSIX name, without what systems and people hide there."""

    def __init__(self, root: Path) -> None:
        """List ``root``.

        Raises:
            DataError: A folder cannot be listed.
        """
        self.root = root
        hidden: list[str] = []
        garbled: list[str] = []
        self.files: dict[str, FileInfo] = {}
        """In the order of a walk: folder by folder, names sorted."""
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
        """Mask to its image, once `visionops.data.formats.beside.find_masks` has looked."""
        self.garbled = tuple(sorted(garbled))
        """Files whose names are no Unicode, which no table holds."""
        self._parsed: dict[str, Any] = {}
        self._yaml: dict[str, Any] = {}

    @functools.cached_property
    def images(self) -> dict[str, FileInfo]:
        """The files that are images by their suffix."""
        return {
            name: file
            for (name, file), suffix in zip(self.files.items(), self._suffixes, strict=True)
            if suffix in IMAGE_SUFFIXES
        }

    @functools.cached_property
    def by_suffix(self) -> dict[str, list[str]]:
        """Lower-case suffix (".xml") to the names that have it."""
        names: dict[str, list[str]] = {}
        for name, suffix in zip(self.files, self._suffixes, strict=True):
            names.setdefault(suffix, []).append(name)
        return names

    @functools.cached_property
    def _suffixes(self) -> list[str]:
        return list(map(suffix_of, self.files))

    @functools.cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that holds a file at some depth, as ``a/b``."""
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
        """The file of that name, or else the one whose name differs in case only."""
        return name if name in self.files else self._folded.get(name.casefold())

    def below(self, folder: str) -> Iterator[str]:
        """Names of the files below a folder; all for ``""``."""
        start = f"{folder}/" if folder else ""
        return (name for name in self.files if name.startswith(start))

    def path(self, name: str) -> Path:
        """Where a file lies on this machine."""
        return self.root / name

    def read_bytes(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            AnnotationError: It cannot be read.
        """
        try:
            return self.path(name).read_bytes()
        except (OSError, ValueError) as error:
            reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
            raise AnnotationError(f"{self.path(name)}: cannot be read ({reason})") from error

    def read_text(self, name: str) -> str:
        """The content of a UTF-8 text file, without its byte-order mark.

        Raises:
            AnnotationError: It cannot be read, or is not UTF-8.
        """
        try:
            return self.read_bytes(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{self.path(name)}: not a UTF-8 text file; export the labels again") from error

    def read_lines(self, name: str) -> list[str]:
        """The lines of a UTF-8 text file. Only line feeds end one: file names may hold what Unicode calls a break.

        Raises:
            AnnotationError: As `read_text`.
        """
        lines = [line.rstrip("\r") for line in self.read_text(name).split("\n")]
        return lines[:-1] if lines[-1] == "" else lines

    def read_json(self, name: str, *, keep: bool = False, cut: Callable[[bytes], bytes] | None = None) -> Any:
        """The parsed content of a JSON file.

        Args:
            keep: Whether to hold on to it, because it is asked for again soon.
            cut: Takes out of the bytes what is not to be parsed.

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
        """The parsed content of a YAML file, every scalar as the text that stands there: ``no`` and ``007`` stay.

        Raises:
            AnnotationError: The file cannot be read or is not YAML.
        """
        if name not in self._yaml:  # readers ask for it several times, and what is nested deep takes seconds
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
    """Parse YAML into texts, lists and mappings. What aliases name is there once, wherever they stand.

    Raises:
        yaml.YAMLError: It is not YAML.
        ValueError: Aliases make it much larger than its text, or a part of itself.
        RecursionError: It is nested too deep.
    """
    value = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes text, lists, mappings
    if _size_of(value, {}) > len(text) + _MOST_OF_ALIASES:  # whoever walks through it or prints it would not end
        raise ValueError("its aliases swell")
    return value


def _size_of(value: Any, known: dict[int, int]) -> int:
    """Values and characters, those of an alias each time that it stands there."""
    if not isinstance(value, list | dict):
        return 1 + len(value or "")  # nothing at all in an empty file
    if id(value) not in known:
        known[id(value)] = 1 << 60  # for a part that holds itself
        parts = itertools.chain(value, value.values()) if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size_of(part, known) for part in parts)
    return known[id(value)]


def folder_of(name: str) -> str:
    """``a/b/c.jpg`` -> ``a/b``; ``c.jpg`` -> ``""``."""
    return name.rpartition("/")[0]


def stem_of(name: str) -> str:
    """``a/b.x/c.d.jpg`` -> ``a/b.x/c.d``."""
    head, slash, tail = name.rpartition("/")
    stem, dot, _ = tail.rpartition(".")
    return head + slash + (stem if dot and stem else tail)


def suffix_of(name: str) -> str:
    """``a/b.JPG`` -> ``.jpg``; ``""`` where there is none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > name.rfind("/") + 1 else ""


def is_hidden(folder: str) -> bool:
    """Whether a folder of that name is passed over: a hidden one, or one that a system makes for itself."""
    return folder.startswith(".") or folder.casefold() in _SYSTEM_FOLDERS


@functools.lru_cache(maxsize=16)
def _lies_in_system_folder(folder: str) -> bool:
    return not _SYSTEM_FOLDERS.isdisjoint(folder.casefold().split("/"))

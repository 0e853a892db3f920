"""Share the handling of files and values between trackers."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["OWN", "FileByFile", "is_page", "is_picture", "plain"]

OWN = "visionops"
"""Key in a run's config below which adapters store values that are not parameters."""

_PICTURES = {".png", ".jpg", ".jpeg"}


def is_picture(path: Path) -> bool:
    """Return whether trackers show this file as a picture."""
    return path.suffix.lower() in _PICTURES


def is_page(path: Path) -> bool:
    """Return whether trackers show this file as an HTML page."""
    return path.suffix.lower() == ".html"


def plain(value: Any) -> Any:
    """Return a parameter as a JSON value: a number, a boolean, text or null; other types as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


class FileByFile(abc.ABC):
    """Base of a `RunTracker` that logs one file at a time and stores links as tags."""

    @abc.abstractmethod
    def artifact(self, path: Path, folder: str = "") -> None:
        """See `RunTracker`."""

    @abc.abstractmethod
    def tags(self, tags: Mapping[str, str]) -> None:
        """See `RunTracker`."""

    def artifacts(self, source: Path, folder: str) -> None:
        """Log the files of a folder."""
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            self.artifact(path, "/".join([folder, *path.relative_to(source).parts[:-1]]))

    def link(self, name: str, url: str) -> None:
        """Set the tag ``link.NAME``."""
        self.tags({f"link.{name}": url})

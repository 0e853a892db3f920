"""Use cases that can be trained: the files of one folder, by the name that each gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from visionops.config import load_config
from visionops.errors import ConfigError, one_line
from visionops.review.errors import NotFound

__all__ = ["UseCaseFile", "UseCases"]


@dataclasses.dataclass(frozen=True, slots=True)
class UseCaseFile:
    """A use case and what the service needs of its file."""

    name: str
    path: Path
    cooldown_hours: float


class UseCases:
    """The use cases of a folder, read again when a file changes. No name of a client's becomes a path.

    Raises:
        ConfigError: The folder is not there.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"--configs: {folder} is no folder; give the folder of the use-case files")
        self._folder = folder.absolute()
        self._read: dict[Path, tuple[int, UseCaseFile | ConfigError]] = {}

    def all(self) -> tuple[list[UseCaseFile], list[str]]:
        """Return the use cases by name, and a line for each file that cannot be used."""
        found: dict[str, UseCaseFile] = {}
        problems = []
        for path in sorted(self._folder.glob("*.yaml")):
            try:
                read = self._of(path)
            except OSError as error:
                problems.append(f"{path.name}: {error.strerror}")
                continue
            if isinstance(read, ConfigError):
                problems.append(str(read))
            elif read.name in found:
                problems.append(f"{path.name}: names {read.name}, as {found[read.name].path.name} does; rename one")
            else:
                found[read.name] = read
        return sorted(found.values(), key=lambda one: one.name), problems

    def find(self, name: str) -> UseCaseFile:
        """Return a use case.

        Raises:
            NotFound: No file of the folder has this name.
        """
        known, problems = self.all()
        for one in known:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in known) or "none"
        wrong = f"; {len(problems)} cannot be used, the first: {one_line(problems[0])}" if problems else ""
        raise NotFound(f"use case {name}: no file has it; known are {names}{wrong}")

    def _of(self, path: Path) -> UseCaseFile | ConfigError:
        changed = path.stat().st_mtime_ns
        seen = self._read.get(path)
        if seen is None or seen[0] != changed:
            try:
                config = load_config(path)
            except ConfigError as error:
                seen = changed, error
            else:
                cooldown = config.monitoring.policy.cooldown_hours
                seen = changed, UseCaseFile(config.name, path, cooldown)
            self._read[path] = seen
        return seen[1]

"""Read and write the use-case files of one folder, by the use-case name in each file."""

from __future__ import annotations

import dataclasses
import re
import shutil
import uuid
from pathlib import Path

from visionops.config import Config, load_config, parse_settings
from visionops.errors import ConfigError, one_line
from visionops.review.errors import Conflict, Invalid, NotFound, Unavailable

__all__ = ["UseCaseFile", "UseCases"]

_FILE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.yaml")


@dataclasses.dataclass(frozen=True, slots=True)
class UseCaseFile:
    """A use case, with the settings of its file that the service needs."""

    name: str
    path: Path
    cooldown_hours: float
    metric: str
    """Metric of the gate, by which models are compared."""


class UseCases:
    """The use cases of a folder, read again when a file changes. A name from a client is never used as a path.

    Raises:
        ConfigError: The folder does not exist.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"--configs: {folder} is not a folder; set the folder of the use-case files")
        self._folder = folder.absolute()
        self._read: dict[Path, tuple[int, UseCaseFile | ConfigError]] = {}

    def all(self) -> tuple[list[UseCaseFile], list[str]]:
        """Return the use cases sorted by name, and an error line for each file that cannot be used."""
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
            NotFound: No file of the folder defines this use case.
        """
        known, problems = self.all()
        for one in known:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in known) or "none"
        wrong = f"; {len(problems)} cannot be used, the first: {one_line(problems[0])}" if problems else ""
        raise NotFound(f"use case {name}: unknown; expected one of {names}{wrong}")

    def text(self, name: str) -> str:
        """Return the text of a use case's file.

        Raises:
            NotFound: No file of the folder defines this use case, or it cannot be read any more.
        """
        path = self.find(name).path
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(f"{path.name}: cannot be read ({type(error).__name__})") from error

    def check(self, text: str, file: str) -> UseCaseFile:
        """Check a text and return the use case that it defines.

        Args:
            file: File name for the text, with which errors begin.

        Raises:
            ConfigError: The text is invalid; the message has file, line and the fix.
        """
        return _file_of(parse_settings(text, Path(file), Config), self._folder / file)

    def save(self, text: str, file: str, *, replace: bool = False) -> UseCaseFile:
        """Save a text atomically as a file of the folder.

        Args:
            replace: Overwrite the file if it exists.

        Raises:
            ConfigError: The text is not a valid use case, or another file defines the same name.
            Invalid: The file name is invalid.
            Conflict: The file exists, and ``replace`` is not set.
            Unavailable: The folder cannot be written.
        """
        if not _FILE.fullmatch(file):
            raise Invalid(f"{file!r}: a file name has lower-case letters, digits and dashes, such as steel-2.yaml")
        found = self.check(text, file)
        for other in self.all()[0]:
            if other.name == found.name and other.path != found.path:
                raise ConfigError(f"{file}: names {found.name}, as {other.path.name} does; change its line `name:`")
        draft = self._folder / f".{uuid.uuid4().hex}.draft"
        try:
            draft.write_text(text, encoding="utf-8")
            if replace and found.path.exists():
                shutil.copymode(found.path, draft)
                draft.replace(found.path)
            else:
                found.path.hardlink_to(draft)  # unlike a rename, this never replaces a file
        except FileExistsError as error:
            raise Conflict(f"{file}: exists; choose another name, or replace it") from error
        except OSError as error:
            raise Unavailable(f"{self._folder}: cannot be written ({error.strerror}); see who owns it") from error
        finally:
            draft.unlink(missing_ok=True)
        return found

    def _of(self, path: Path) -> UseCaseFile | ConfigError:
        changed = path.stat().st_mtime_ns
        seen = self._read.get(path)
        if seen is None or seen[0] != changed:
            try:
                config = load_config(path)
            except ConfigError as error:
                seen = changed, error
            else:
                seen = changed, _file_of(config, path)
            self._read[path] = seen
        return seen[1]


def _file_of(config: Config, path: Path) -> UseCaseFile:
    return UseCaseFile(config.name, path, config.monitoring.policy.cooldown_hours, config.gate.metric)

"""Pull missing files of a DVC-tracked folder with the user's own DVC, then check every file.

DVC writes the MD5 of a list of files beside a tracked folder (``data/parts.dvc``), or into the ``dvc.lock`` of the
stage that makes it; the list is in DVC's cache and has the MD5 of each file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from visionops.data.dvc_command import dvc_reason, find_repository, run_dvc
from visionops.data.files import describe_os_error, walk_files
from visionops.errors import DataError

__all__ = ["pull", "tracked_digest"]

_DIGEST = re.compile(r"[0-9a-f]{32}\.dir")
_READERS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class _Tracked:
    """A folder as its repository describes it."""

    path: Path
    """The requested folder: ``output`` or a folder below it."""
    repository: Path
    output: Path
    digest: str
    """MD5 of the list of its files, with ``.dir``."""
    source_file: Path


def tracked_digest(path: Path) -> str:
    """Return the digest that the repository has for the folder, without pulling or reading anything.

    Raises:
        DataError: The folder is not in a DVC repository, or not tracked.
    """
    tracked = _find(path)
    return f"{tracked.digest} {tracked.path}"


def pull(path: Path, remote: str | None) -> Path:
    """Update the folder to exactly the files in its repository; do not pull existing files again.

    Args:
        path: A tracked folder, or one below it.
        remote: Name of a DVC remote; the repository's default if None.

    Returns:
        The folder's absolute path.

    Raises:
        DataError: The folder is not in a DVC repository or not tracked, DVC is not installed or cannot pull it, or a
            file differs from what was tracked.
    """
    tracked = _find(path)
    # Only DVC itself knows of other cache locations, and takes seconds to report them.
    if unlike := _problem(tracked, tracked.repository / ".dvc" / "cache"):
        _pull(tracked, remote, unlike)
        if problem := _problem(tracked, _cache(tracked)):
            raise DataError(f"{tracked.path}: {problem}")
    return tracked.path


def _find(path: Path) -> _Tracked:
    path = _normal(path.expanduser())
    repository = find_repository(path)
    if repository is None:
        raise DataError(f"{path}: not in a DVC repository; set data.source.path, or data.source.kind to folder")
    for output, digest, source_file in _outputs(path, repository):
        if path == output or path.is_relative_to(output):
            if not _DIGEST.fullmatch(digest):
                raise DataError(f"{output}: is tracked by {source_file} as a file; track the folder of the data set")
            return _Tracked(path, repository, output, digest, source_file)
    raise DataError(f"{path}: not tracked by DVC in {repository}; track it with dvc add, or fix data.source.path")


def _outputs(path: Path, repository: Path) -> Iterator[tuple[Path, str, Path]]:
    """Yield tracked paths that may hold ``path``, each with its MD5 and the file that records it."""
    folders = [folder for folder in path.parents if folder.is_relative_to(repository)]
    for folder in folders:
        for file in sorted(folder.glob("*.dvc")):
            if file.is_file():
                record = _read(file)
                yield from _of_stage(record, folder / str(record.get("wdir", ".")), file)
        if (lock := folder / "dvc.lock").is_file():
            pipeline = _read(folder / "dvc.yaml").get("stages", {}) if (folder / "dvc.yaml").is_file() else {}
            for name, stage in _read(lock).get("stages", {}).items():
                wdir = (pipeline.get(name.partition("@")[0]) or {}).get("wdir", ".")
                yield from _of_stage(stage, folder / str(wdir), lock)


def _of_stage(stage: dict[str, Any], folder: Path, file: Path) -> Iterator[tuple[Path, str, Path]]:
    try:
        for out in stage.get("outs", ()):
            yield _normal(Path(folder, out["path"])), str(out.get("md5", "")), file
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: not a DVC file ({error!r}); fix it") from error


def _normal(path: Path) -> Path:
    """Make a path absolute and remove ``..``; keep links, as DVC does."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _read(file: Path) -> dict[str, Any]:
    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({describe_os_error(error)})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not valid YAML; fix it") from error
    if not isinstance(record, dict):
        raise DataError(f"{file}: not a DVC file; fix it")
    return record


def _problem(tracked: _Tracked, cache: Path) -> str | None:
    """Return how the folder differs from its repository; None if it does not."""
    output = shlex.quote(str(tracked.output))
    files = _files(tracked, cache)
    if files is None:
        return f"the list of its files ({tracked.digest}) is not in {cache}; dvc pull {output}"
    present = {file.name for file in walk_files(tracked.path)} if tracked.path.is_dir() else set()
    if missing := sorted(files.keys() - present):
        return f"{len(missing)} files are missing, {missing[0]} first; dvc pull {output}"
    # Hidden files are tracked, too, but no reader opens them.
    if others := sorted(present - files.keys()):
        fix = f"dvc add {output}, or remove them"
        return f"DVC does not track {len(others)} of its files, {others[0]} first; {fix}"
    names = sorted(present)
    with ThreadPoolExecutor(_READERS) as pool:
        for name, found in zip(names, pool.map(lambda name: _md5(tracked.path / name), names), strict=True):
            if files[name] not in found:
                return (
                    f"{name} has MD5 {found[0]}, {tracked.source_file.name} says {files[name]}; "
                    f"dvc checkout --force {output}, or dvc add it"
                )
    return None


def _md5(path: Path) -> tuple[str, ...]:
    """Return the MD5 of a file, and as DVC 2 computed it for text files, with Unix line ends."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe_os_error(error)})") from error
    texts = (data, data.replace(b"\r\n", b"\n")) if b"\0" not in data[:512] else (data,)
    return tuple(hashlib.md5(text, usedforsecurity=False).hexdigest() for text in texts)


def _files(tracked: _Tracked, cache: Path) -> dict[str, str] | None:
    """Map names below the folder, except hidden ones, to their MD5; return None if the list is not in the cache."""
    listed = _listed(tracked, cache)
    if listed is None:
        return None
    try:
        data = listed.read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != tracked.digest.removesuffix(".dir"):
            raise DataError(f"{listed}: is damaged; remove it and run again")
        entries = {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(data)}
    except OSError as error:
        raise DataError(f"{listed}: cannot be read ({describe_os_error(error)})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{listed}: not a DVC file list; remove it and run again") from error
    below = "" if tracked.path == tracked.output else f"{tracked.path.relative_to(tracked.output).as_posix()}/"
    files = {name.removeprefix(below): md5 for name, md5 in entries.items() if name.startswith(below)}
    files = {name: md5 for name, md5 in files.items() if not any(part.startswith(".") for part in name.split("/"))}
    if not files:
        raise DataError(f"{tracked.path}: {tracked.source_file} tracks no file in it; fix data.source.path")
    return files


def _listed(tracked: _Tracked, cache: Path) -> Path | None:
    name = f"{tracked.digest[:2]}/{tracked.digest[2:]}"
    places = cache / "files" / "md5" / name, cache / name  # layouts of DVC 3, and of earlier versions
    return next((place for place in places if place.is_file()), None)


def _cache(tracked: _Tracked) -> Path:
    """Return the cache folder of the repository."""
    cache = tracked.repository / ".dvc" / "cache"
    if _listed(tracked, cache):
        return cache
    done = run_dvc(tracked.repository, "cache", "dir")
    return Path(done.stdout.strip()) if done.returncode == 0 else cache


def _pull(tracked: _Tracked, remote: str | None, unlike: str) -> None:
    done = run_dvc(tracked.repository, "pull", *(["--remote", remote] if remote else []), str(tracked.path))
    if "unsaved files" in done.stderr:  # files that DVC refuses to overwrite
        raise DataError(f"{tracked.path}: {unlike}")
    if done.returncode:
        raise DataError(
            f"{tracked.path}: dvc pull failed ({dvc_reason(done.stderr)}); check the remote with dvc remote list, and "
            "its credentials"
        )

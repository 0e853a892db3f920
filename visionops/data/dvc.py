"""A folder that DVC tracks: pulled by the user's own DVC where something is missing, then checked file by file.

DVC writes beside a tracked folder (``data/parts.dvc``), or into the ``dvc.lock`` of a stage that makes it, the MD5 of a
list of its files; the list lies in DVC's cache and has the MD5 of each.
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
    """A folder as its repository says it is."""

    path: Path
    """What is wanted: ``output`` or a folder below it."""
    repository: Path
    output: Path
    digest: str
    """MD5 of the list of its files, with ``.dir``."""
    told_by: Path


def tracked_digest(path: Path) -> str:
    """What the repository says the folder holds; nothing is pulled or read.

    Raises:
        DataError: It is in no DVC repository, or not tracked.
    """
    tracked = _find(path)
    return f"{tracked.digest} {tracked.path}"


def pull(path: Path, remote: str | None) -> Path:
    """Make the folder hold what its repository says, and nothing else; what is there already is not pulled.

    Args:
        path: Of a tracked folder, or one below it.
        remote: Name of a DVC remote; the repository's default when None.

    Returns:
        Its absolute path.

    Raises:
        DataError: It is in no DVC repository or not tracked, DVC is not installed or cannot pull it, or a file is not
            what was tracked.
    """
    tracked = _find(path)
    # Of where else the cache may be only DVC knows, which takes seconds to tell.
    if unlike := _problem(tracked, tracked.repository / ".dvc" / "cache"):
        _pull(tracked, remote, unlike)
        if problem := _problem(tracked, _cache(tracked)):
            raise DataError(f"{tracked.path}: {problem}")
    return tracked.path


def _find(path: Path) -> _Tracked:
    path = _normal(path.expanduser())
    repository = find_repository(path)
    if repository is None:
        raise DataError(f"{path}: is in no DVC repository; set data.source.path, or data.source.kind to folder")
    for output, digest, told_by in _outputs(path, repository):
        if path == output or path.is_relative_to(output):
            if not _DIGEST.fullmatch(digest):
                raise DataError(f"{output}: is tracked by {told_by} as a file; track the folder of the data set")
            return _Tracked(path, repository, output, digest, told_by)
    raise DataError(f"{path}: is not tracked by DVC in {repository}; dvc add it, or mend data.source.path")


def _outputs(path: Path, repository: Path) -> Iterator[tuple[Path, str, Path]]:
    """Tracked paths with the MD5 of each and the file that says so, as far as they may hold ``path``."""
    folders = [folder for folder in path.parents if folder.is_relative_to(repository)]
    for folder in folders:
        for file in sorted(folder.glob("*.dvc")):
            if file.is_file():
                told = _read(file)
                yield from _of_stage(told, folder / str(told.get("wdir", ".")), file)
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
        raise DataError(f"{file}: is no file of DVC ({error!r}); mend it") from error


def _normal(path: Path) -> Path:
    """Absolute and without ``..``; links stay, as they do in DVC."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _read(file: Path) -> dict[str, Any]:
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({describe_os_error(error)})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: is no YAML; mend it") from error
    if not isinstance(told, dict):
        raise DataError(f"{file}: is no file of DVC; mend it")
    return told


def _problem(tracked: _Tracked, cache: Path) -> str | None:
    """Why the folder is not what it should be; None when it is."""
    output = shlex.quote(str(tracked.output))
    files = _files(tracked, cache)
    if files is None:
        return f"the list of its files ({tracked.digest}) is not in {cache}; dvc pull {output}"
    present = {file.name for file in walk_files(tracked.path)} if tracked.path.is_dir() else set()
    if missing := sorted(files.keys() - present):
        return f"{len(missing)} files are missing, {missing[0]} first; dvc pull {output}"
    # Hidden ones are tracked, too, but no reader looks at them.
    if others := sorted(present - files.keys()):
        mend = f"dvc add {output}, or remove them"
        return f"DVC does not track {len(others)} of its files, {others[0]} first; {mend}"
    names = sorted(present)
    with ThreadPoolExecutor(_READERS) as pool:
        for name, found in zip(names, pool.map(lambda name: _md5(tracked.path / name), names), strict=True):
            if files[name] not in found:
                return (
                    f"{name} has MD5 {found[0]}, {tracked.told_by.name} says {files[name]}; "
                    f"dvc checkout --force {output}, or dvc add it"
                )
    return None


def _md5(path: Path) -> tuple[str, ...]:
    """Of a file as it is; and as DVC 2 did of a text, with the line ends of Unix."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe_os_error(error)})") from error
    texts = (data, data.replace(b"\r\n", b"\n")) if b"\0" not in data[:512] else (data,)
    return tuple(hashlib.md5(text, usedforsecurity=False).hexdigest() for text in texts)


def _files(tracked: _Tracked, cache: Path) -> dict[str, str] | None:
    """Names below the folder, hidden ones left out, to their MD5; None where the list is not in the cache."""
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
        raise DataError(f"{listed}: is no list of DVC; remove it and run again") from error
    below = "" if tracked.path == tracked.output else f"{tracked.path.relative_to(tracked.output).as_posix()}/"
    files = {name.removeprefix(below): md5 for name, md5 in entries.items() if name.startswith(below)}
    files = {name: md5 for name, md5 in files.items() if not any(part.startswith(".") for part in name.split("/"))}
    if not files:
        raise DataError(f"{tracked.path}: {tracked.told_by} tracks no file in it; mend data.source.path")
    return files


def _listed(tracked: _Tracked, cache: Path) -> Path | None:
    name = f"{tracked.digest[:2]}/{tracked.digest[2:]}"
    places = cache / "files" / "md5" / name, cache / name  # of DVC 3, and of those before
    return next((place for place in places if place.is_file()), None)


def _cache(tracked: _Tracked) -> Path:
    """Where the repository has its cache."""
    cache = tracked.repository / ".dvc" / "cache"
    if _listed(tracked, cache):
        return cache
    done = run_dvc(tracked.repository, "cache", "dir")
    return Path(done.stdout.strip()) if done.returncode == 0 else cache


def _pull(tracked: _Tracked, remote: str | None, unlike: str) -> None:
    done = run_dvc(tracked.repository, "pull", *(["--remote", remote] if remote else []), str(tracked.path))
    if "unsaved files" in done.stderr:  # which DVC does not overwrite
        raise DataError(f"{tracked.path}: {unlike}")
    if done.returncode:
        raise DataError(
            f"{tracked.path}: dvc pull failed ({dvc_reason(done.stderr)}); check the remote with dvc remote list, and "
            "its credentials"
        )

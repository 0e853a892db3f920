"""Track a new folder with DVC and push it; if either fails, leave it untracked."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from visionops.data.dvc_command import dvc_reason, find_repository, run_dvc
from visionops.errors import DataError

__all__ = ["require_repository", "track"]

_FLAG = "--dvc"


def require_repository(folder: Path) -> Path:
    """Return the DVC repository in which a new folder will be.

    Raises:
        DataError: It is in no repository, is tracked already, or DVC is not installed.
    """
    repository = find_repository(folder)
    if repository is None:
        raise DataError(f"{folder}: not in a DVC repository; choose a folder below one, or run dvc init above it")
    if (tracked := _tracked_by(folder)).exists():
        raise DataError(f"{tracked}: exists, so the folder is already tracked; choose another folder")
    run_dvc(repository, "--version", needed_by=_FLAG)
    return repository


def track(folder: Path, *, push: bool, remote: str | None = None) -> Path:
    """Track an existing folder, and push it. If either fails, the folder is removed and not tracked.

    Args:
        folder: Absolute path in a repository (`require_repository`).
        push: Whether to send its files to a remote.
        remote: Name of a DVC remote; the repository's default if None.

    Returns:
        The file to commit to Git, beside the folder.

    Raises:
        DataError: DVC cannot track or push it.
    """
    repository, tracked = require_repository(folder), _tracked_by(folder)
    with _all_or_nothing(folder, tracked):
        done = run_dvc(repository, "add", str(folder), needed_by=_FLAG)
        if done.returncode:
            raise DataError(f"{folder}: dvc add failed ({dvc_reason(done.stderr)}); nothing is tracked")
        if push:
            done = run_dvc(repository, "push", *(["--remote", remote] if remote else []), str(tracked), needed_by=_FLAG)
            if done.returncode:
                raise DataError(
                    f"{folder}: dvc push failed ({dvc_reason(done.stderr)}), so it is not tracked; check the remote "
                    "with dvc remote list, and its credentials"
                )
    return tracked


def _tracked_by(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.dvc")


@contextlib.contextmanager
def _all_or_nothing(folder: Path, tracked: Path) -> Iterator[None]:
    """Put ``.gitignore`` back and remove the folder and its file, unless the block ends well."""
    ignore = folder.with_name(".gitignore")
    before = ignore.read_bytes() if ignore.is_file() else None
    try:
        yield
    except BaseException:
        tracked.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            ignore.unlink(missing_ok=True)
        else:
            ignore.write_bytes(before)
        raise

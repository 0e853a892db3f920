"""Compute the version of the domain code: part of every cache key, so that an upgrade never reuses old results."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

__all__ = ["code_version"]


@functools.cache
def code_version() -> str:
    """Return the SHA-256 of the sources of `visionops`, in lower-case hex."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(p for p in package.rglob("*") if p.suffix in {".py", ".j2"}):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()

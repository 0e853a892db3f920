"""Steps in containers run the code of their image: it must be that of the client which started them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from visionops.errors import StackError

__all__ = ["CODE_VARIABLE", "code_digest", "require_same_code"]

CODE_VARIABLE = "VISIONOPS_CODE"
"""Of a step's pod: the client's `code_digest`."""
_REVISION_VARIABLE = "VISIONOPS_IMAGE_REVISION"
_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("materializers", "pipelines", "stacks", "steps", "visionops")
_SOURCES = frozenset({".py", ".j2"})


def code_digest(root: Path = _ROOT) -> str:
    """SHA-256 over the sources that steps run; the first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted(p for p in (root / package).rglob("*") if p.suffix in _SOURCES):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def require_same_code() -> None:
    """Before a step's first line: see that this is the code of the client that started the run.

    Raises:
        StackError: It is not. What a step of another version makes would be taken for this one's.
    """
    wanted = os.environ.get(CODE_VARIABLE)
    here = code_digest()
    if wanted and wanted != here:
        revision = os.environ.get(_REVISION_VARIABLE, "unknown")
        raise StackError(
            f"the image holds other code ({here}, revision {revision}) than the client that started this run "
            f"({wanted}); build the image from the client's code and push it (make images), or check out {revision}"
        )

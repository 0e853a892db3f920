"""Check that the image of a step has the same code as the client that started the run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from visionops.errors import StackError

__all__ = ["CODE_VARIABLE", "code_digest", "require_same_code"]

CODE_VARIABLE = "VISIONOPS_CODE"
"""Variable in a step's pod with the client's `code_digest`."""
_REVISION_VARIABLE = "VISIONOPS_IMAGE_REVISION"
_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("materializers", "pipelines", "stacks", "steps", "visionops")
_SOURCES = frozenset({".py", ".j2"})


def code_digest(root: Path = _ROOT) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 over the sources that steps run."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted(p for p in (root / package).rglob("*") if p.suffix in _SOURCES):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def require_same_code() -> None:
    """Check at the start of a step that this is the code of the client that started the run.

    Raises:
        StackError: The code differs, so ZenML would cache its output as the client's version.
    """
    wanted = os.environ.get(CODE_VARIABLE)
    here = code_digest()
    if wanted and wanted != here:
        revision = os.environ.get(_REVISION_VARIABLE, "unknown")
        raise StackError(
            f"the image has other code ({here}, revision {revision}) than the client that started this run "
            f"({wanted}); build the image from the client's code and push it (make images), or check out {revision}"
        )

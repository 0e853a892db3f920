"""Cache an index as a graph in a file; the database keeps the original data.

The file has one line of JSON, then the graph as USearch writes it. The line has a digest of the images whose
embeddings are in the graph, in order, and a digest of the graph, because USearch would crash on a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionops.data.files import describe_os_error
from visionops.similarity.index import VectorIndex

__all__ = ["DamagedCache", "read_cache", "write_cache"]

_FORMAT = 1
_MOST_HEADER = 4096


class DamagedCache(Exception):
    """The file cannot be used, for the reason in the message. It is built again from the database."""


def write_cache(path: Path, kind: str, index: VectorIndex, images: str) -> None:
    """Replace the file atomically; a killed process leaves the earlier one.

    Args:
        images: Digest of the SHA-256 of the images, in the order of their positions.

    Raises:
        OSError: It cannot be written.
    """
    graph = index.to_bytes()
    header = {
        "format": _FORMAT,
        "usearch": version("usearch"),
        "kind": kind,
        "size": index.size,
        "count": len(index),
        "images": images,
        "graph": hashlib.sha256(graph).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        stale.unlink(missing_ok=True)  # drafts of a process that was killed
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(graph)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_cache(path: Path, kind: str, size: int) -> tuple[VectorIndex, str] | None:
    """Return the index in a file and the digest of its images; None where there is no file.

    Raises:
        DamagedCache: It cannot be read, is damaged, or has another version, kind or size.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(_MOST_HEADER)
            graph = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedCache(f"cannot be read ({describe_os_error(error)})") from error
    header = _header(line)
    wanted = {"format": _FORMAT, "usearch": version("usearch"), "kind": kind, "size": size}
    for name, value in wanted.items():
        if header.get(name) != value:
            raise DamagedCache(f"has {name} {header.get(name)!r}, expected {value!r}")
    if hashlib.sha256(graph).hexdigest() != header.get("graph"):
        raise DamagedCache("its digest does not match its content")
    index = VectorIndex.from_bytes(size, graph)
    if len(index) != header.get("count"):
        raise DamagedCache(f"has {len(index)} embeddings, expected {header.get('count')}")
    return index, str(header.get("images"))


def _header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise DamagedCache("its first line is not JSON") from error
    if not isinstance(header, dict):
        raise DamagedCache("its first line is not a JSON object")
    return header

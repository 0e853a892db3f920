"""Damage to annotation files, from a seed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from typing import Any

from tests.helpers.datasets import read_as
from visionops.data.dataset import Dataset
from visionops.errors import DataError

__all__ = ["mutate_bytes", "mutate_json", "reads_or_refuses"]

_HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, 1e308, -1e308, float("nan"), float("inf"), 2**63, "", "x", "\ud800", "../../x.png"),
    *("/etc/passwd", "C:\\x.png", "a\nb.png", [], {}, [[]], [None], {"": None}, "1e400", "a" * 3000),
)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Flip, cut, double or insert a few bytes."""
    raw = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(raw) + 1)
        action = random.randrange(4)
        if action == 0 and at < len(raw):
            raw[at] = random.randrange(256)
        elif action == 1:
            del raw[at : at + random.randint(1, 20)]
        elif action == 2:
            raw[at:at] = raw[max(0, at - 20) : at]
        else:
            raw[at:at] = random.choice([b'"', b",", b";", b"\n", b"\0", b"nan", b"1e400", b"[", b"\xff"])
    return bytes(raw)


def mutate_json(data: bytes, random: Random) -> bytes:
    """Put another value in some places of the JSON, drop keys, or damage its bytes."""
    if random.random() < 0.15:
        return mutate_bytes(data, random)
    tree = json.loads(data)
    for _ in range(random.randint(1, 3)):
        places = list(_places(tree))
        owner, key = random.choice(places)
        if isinstance(owner, dict) and random.random() < 0.2:
            del owner[key]
        else:
            owner[key] = random.choice(_HOSTILE)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Any:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def reads_or_refuses(root: Path, format_: str) -> None:
    """Assert that a folder is read or refused in one line, soon."""
    start = time.monotonic()
    said = ""
    try:
        dataset = read_as(root, format_)
    except DataError as error:
        said = str(error)
    else:
        assert isinstance(dataset, Dataset)
        inside = [path for path in dataset.images.column("path").to_pylist() if path]
        assert all(path.startswith(f"{root}/") and ".." not in path.split("/") for path in inside)
    assert "\n" not in said
    assert time.monotonic() - start < 5

"""Mutations of valid JSON: other values anywhere, lost keys, other bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.helpers.damage import reads_or_refuses

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 0.5, 1e308, float("nan"), float("-inf"), 10**400, -(2**63), "", " ", "x" * 5000, "\ud800",
    "../../etc/passwd", "C:\\x.png", "\\\\host\\x", "/etc/passwd", "0.png", "%2e%2e/x", [], {}, [[]], [1, "a"],
    [[1, 2], [3]], {"a": {"b": []}}, "polygon", "circle", "mask", "point",
)  # fmt: skip
_TOKENS = (b"nan", b"1e999", b"{", b"]", b'"', b"\\", b"\xff", b"\x00", b"\xed\xa0\x80", b"[" * 3000, b",", b"9" * 30)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _mutated(valid: Any, chance: random.Random) -> Any:
    value = copy.deepcopy(valid)
    for _ in range(chance.randint(1, 4)):
        places = list(_places(value))
        if not places:
            break
        owner, key = chance.choice(places)
        if chance.random() < 0.2:
            del owner[key]
        elif chance.random() < 0.1 and isinstance(owner, dict):
            owner[str(chance.choice(_VALUES))[:40]] = owner.pop(key)
        else:
            owner[key] = chance.choice(_VALUES)
    return value


def fuzz_json(root: Path, file: Path, format_: str, count: int = 150, seed: int = 14) -> None:
    """Read mutations of a JSON file: each is a data set or an error of one line, within five seconds."""
    text = file.read_bytes()
    valid = json.loads(text)
    chance = random.Random(seed)
    for number in range(count):
        if number % 3:
            data = json.dumps(_mutated(valid, chance)).encode()
        else:
            changed = bytearray(text)
            at = chance.randrange(len(changed))
            changed[at : at + chance.choice((0, 1, 5, 40))] = chance.choice(_TOKENS)
            data = bytes(changed)
        file.write_bytes(data)
        reads_or_refuses(root, format_)
    file.write_bytes(text)

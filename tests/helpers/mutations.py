"""Damage copies of annotation files with a seeded generator: other bytes, other values and shapes, other names.

`fuzz_file` reads a data set with one file damaged many times; `tests.helpers.fuzzing` does so for every format.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.helpers.datasets import read_as
from visionops.data.dataset import Dataset
from visionops.errors import DataError

__all__ = ["fuzz_file", "mutate_content", "mutate_names", "reads_or_refuses"]

_NUMBERS = (
    b"nan", b"NaN", b"inf", b"-Infinity", b"1e400", b"-1e400", b"1e308", b"-1", b"-0.0", b"0", b"0.5", b"2147483648",
    b"9223372036854775808", b"9" * 400, b"", b"1_0", b"0x10", b"1,5", b"1e-400", b"true", b"null", b"\xd9\xa1",
)  # fmt: skip
_PIECES = (
    b"../", b"../../outside.png", b"/etc/passwd", b"C:\\", b"C:/x.png", b"\\\\host\\share\\", b"file:///etc/passwd",
    b"http://localhost:1/x", b"\x00", b"\xed\xa0\x80", b"\xff", b"\xef\xbb\xbf", b"\n", b"\r", b"\r\n", b"\x0b",
    b"\x1b[31m",
    b"\xe2\x80\xa8", b"\xc2\x85", b"%2e%2e%2f", b"%00", b"%", b"&a *a", b"*a", b"!!python/object:os.system x",
    b"<<: ", b"- ", b": ", b"{", b"}", b"[", b"]", b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b'"', b"'", b",", b";",
    b"\t", b" ", b"#", b"&#0;", b"&x;", b"<", b">", b"]]>", b"<!--", b'<!DOCTYPE a [<!ENTITY b "c">]>', b"x" * 70000,
    b"<object/>", b"<bndbox/>", b"<image/>", b"<box/>", b"</annotation>", b"&#x202e;",
    b"-", b"---\n", b"...\n", b"|", b"\\u0000", b"\\ud800", b"\xe2\x80\xae", b"NULL", b"=1+1",
)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TEXTS = (
    "", " ", "../x.png", "../../outside.png", "/etc/passwd", "C:\\a\\0.png", "\\\\host\\share\\0.png", "0.png",
    "images",
    "nan", "inf", "-1", "1e400", "9" * 400, "x" * 5000, "a\nb", "a\u2028b", "a\rb", "\x1b[2J", "\0", "\ud800",
    "%2e%2e/0.png",
    "%", "?", "null", "no", "007", "é", "e\u0301", "\u202e", "train", "bbox", "person_keypoints", "rle", "{}", "[]",
    ".", "..",
    "./", "//", "a/", "http://localhost:1/0.png", "s3://x/0.png", "/data/local-files/?d=../../outside.png", "?d=",
    "a" * 300,
    "/" * 300, "rectangle", "polygon", "circle", "mask", "ellipse", "point", "rect", "polyline", "brushlabels",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**6, 2**31, 2**63, 2**64, 10**30, -(10**400), 0.5, -0.5, 1e300, -1e300, 1e-320,
    float("nan"), float("inf"), float("-inf"), [], {}, [[]], [{}], [None], {"": None}, [1, 2, 3, 4], [0] * 5, [[1,
    2], [3, 4]],
    [[1e300, 1, 2, float("nan"), 3, 4]], {"size": [10**9, 10**9], "counts": "1"}, {"size": [16, 20], "counts": [1,
    319]},
    {"size": [16, 20], "counts": "\u00e9~~~"}, {"counts": []}, {"bbox": 1}, {"x": "a", "y": None}, {"name": "rect"},
    ["a", "a"], "a", b"\xff",
)  # fmt: skip


def mutate_content(name: str, data: bytes, chance: random.Random) -> bytes:
    """Damage a file: half of the time its bytes, else its parsed content."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        structured = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower())
        if structured is not None and chance.random() < 0.6:
            try:
                data = structured(data, chance)
                continue
            except Exception:  # noqa: BLE001 - an earlier round left no such file; each library has its own word
                pass
        data = _bytes(data, chance)
    return data


def fuzz_file(root: Path, file: Path, format_: str, count: int = 150, seed: int = 14) -> None:
    """Read a folder with a file damaged in many ways: each must give a data set or a one-line error, soon."""
    valid = file.read_bytes()
    chance = random.Random(seed)
    for _ in range(count):
        file.write_bytes(mutate_content(file.name, valid, chance))
        reads_or_refuses(root, format_)
    file.write_bytes(valid)


def reads_or_refuses(root: Path, format_: str) -> None:
    """Assert that a folder is read or refused in one line, within five seconds, without naming anything outside it."""
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


def mutate_names(root: Path, chance: random.Random) -> None:
    """Rename, move, copy, remove or empty one file or folder; some names are not valid Unicode."""
    paths = sorted(root.rglob("*"))
    if not paths:
        return
    path = chance.choice(paths)
    name = path.name
    suffix = path.suffix
    new = chance.choice(
        (
            name.upper(), f" {name}", f"{name} ", f"{path.stem}é{suffix}", f"{path.stem}e\u0301{suffix}",
            f"a\\{name}", f"a\n{name}",
            f"a\x1b{name}", f"a\u2028{name}", f"\udcff{name}", f"C:{name}", f".{name}", path.stem or "x",
            f"{name}{suffix}",
            f"{path.stem}.json", f"{path.stem}.txt", f"{path.stem}.png", f"{path.stem}.XML", "train", "val",
            "images", "labels",
            "classes.txt", "data.yaml", "annotations.json", "metadata.jsonl", "x" * 240, "%2e%2e", "..x",
            f"{path.stem}_mask{suffix}",
            "0123abcd-" + name, f"{path.stem}%20{suffix}", "Thumbs.db", "__MACOSX", f"{path.stem}.csv", f"{path.stem}.",
        )
    )  # fmt: skip
    action = chance.random()
    target = path.with_name(new)
    try:
        if action < 0.15:
            _remove(path)
        elif action < 0.25 and path.is_file():
            path.write_bytes(b"")
        elif action < 0.35 and path.is_file():
            chance.choice(paths).parent.joinpath(new).write_bytes(path.read_bytes())
        elif action < 0.45:
            path.rename(root / new)
        elif action < 0.5 and path.is_file():
            _remove(path)
            path.mkdir()
        elif action < 0.55:
            target.symlink_to(chance.choice((".", name, "nowhere")))
        else:
            path.rename(target)
    except (OSError, ValueError):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _bytes(data: bytes, chance: random.Random) -> bytes:
    size = len(data)
    at = chance.randrange(size + 1)
    end = min(size, at + chance.choice((1, 1, 2, 5, 40)))
    kind = chance.randrange(12)
    if kind == 0 and size:
        at = chance.randrange(size)
        return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:at] + chance.choice(_PIECES) + data[at:]
    if kind == 3:
        return data[:at]
    if kind == 4:
        return data[:end] + data[at:]
    if kind == 5:
        return data[:at] + data[at:end] * chance.choice((2, 50)) + data[end:]
    if kind == 6:
        return data.replace(b"/", b"\\") if b"/" in data else data.replace(b"\\", b"/")
    if kind == 7:
        text = data.decode("utf-8", "replace")
        return chance.choice(
            (
                b"\xef\xbb\xbf" + data,
                text.encode("utf-16"),
                text.encode("utf-16-le"),
                text.encode("utf-32"),
                b"\xff\xfe" + data,
            )
        )
    if kind == 8:
        return chance.choice(
            (b"", b"\0" * 64, b" ", b"\n", bytes(chance.randrange(256) for _ in range(64)), b"null", b"[]", b"{}")
        )
    if kind == 9:
        return data[:at] + bytes([chance.randrange(256)]) + data[end:]
    numbers = list(_NUMBER.finditer(data))
    if kind == 10 and numbers:
        match = chance.choice(numbers)
        return data[: match.start()] + chance.choice(_NUMBERS) + data[match.end() :]
    return data[:at] + chance.choice(_PIECES) + data[end:]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object that may have a key twice."""


def _json(data: bytes, chance: random.Random) -> bytes:
    return _dump(_mutated(json.loads(data, object_pairs_hook=_Pairs), chance)).encode("utf-8", "surrogatepass")


def _json_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    lines[at] = _json(lines[at], chance)
    return b"\n".join(lines)


def _dump(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {_dump(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_dump, value)) + "]"
    if isinstance(value, bytes):
        return json.dumps(value.decode("latin-1"))
    return json.dumps(value, ensure_ascii=False)


def _mutated(value: Any, chance: random.Random) -> Any:
    """Return a tree with one of its nodes changed: replaced, removed, doubled, renamed, moved or buried."""
    if not isinstance(value, list) or not value or chance.random() < 0.12:
        return _other(value, chance)
    at = chance.randrange(len(value))
    kind = chance.random()
    if kind < 0.06:
        return type(value)(item for i, item in enumerate(value) if i != at)
    if kind < 0.12:
        return type(value)([*value, value[at]])
    if kind < 0.15:
        return type(value)(reversed(value))
    if kind < 0.18 and len(value) > 1:
        other = chance.randrange(len(value))
        swapped = list(value)
        if isinstance(value, _Pairs):
            swapped[at], swapped[other] = (value[at][0], value[other][1]), (value[other][0], value[at][1])
        else:
            swapped[at], swapped[other] = value[other], value[at]
        return type(value)(swapped)
    result = type(value)(value)
    if isinstance(value, _Pairs):
        key, item = value[at]
        if kind < 0.24:
            new = chance.choice((*(k for k, _ in value), *_TEXTS, key.upper()))
            result[at] = (new, item)
        else:
            result[at] = (key, _mutated(item, chance))
    else:
        result[at] = _mutated(value[at], chance)
    return result


def _other(value: Any, chance: random.Random) -> Any:
    if chance.random() < 0.05:
        depth = chance.choice((3, 200, 2000))
        for _ in range(depth):
            value = [value] if depth != 200 else _Pairs([("a", value)])
        return value
    if isinstance(value, str) and chance.random() < 0.4:
        return chance.choice((value + chance.choice(_TEXTS), chance.choice(_TEXTS) + value, value.upper(), [value]))
    if isinstance(value, int | float) and chance.random() < 0.3:
        return chance.choice((-value, value * 1e6, str(value), value + 0.5, [value]))
    return chance.choice((chance.choice(_VALUES), chance.choice(_TEXTS)))


_BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n"


def _yaml(data: bytes, chance: random.Random) -> bytes:
    if _BOMB in data:  # which would expand here
        raise ValueError
    if chance.random() < 0.15:
        letters, depth = "abcdefghi", chance.choice((1, 8))
        bomb = _BOMB.decode() + "".join(
            f"b{i}: &{letters[i]} [{', '.join([f'*{letters[i - 1]}'] * 9)}]\n" for i in range(1, depth + 1)
        )
        key = chance.choice(("names", "nc", "path", "train", "val", "task", "kpt_shape", "x"))
        value = chance.choice((f"*{letters[depth]}", f"[*{letters[depth]}]", "&n [*n]", "{? [a] : b}"))
        return bomb.encode() + data + f"\n{key}: {value}\n".encode()

    def pairs(value: Any) -> Any:
        if isinstance(value, dict):
            return _Pairs((str(key), pairs(item)) for key, item in value.items())
        return [pairs(item) for item in value] if isinstance(value, list) else value

    text = _dump(_mutated(pairs(yaml.safe_load(data)), chance))  # JSON is a subset of YAML, except for some details
    return text.encode("utf-8", "surrogatepass")


def _table(data: bytes, chance: random.Random) -> bytes:
    text = data.decode("utf-8")
    delimiter = "\t" if "\t" in text else ";" if ";" in text else ","
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    _mutate_rows(rows, chance)
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _mutate_rows(rows: list[list[str]], chance: random.Random) -> None:
    at = chance.choice((0, chance.randrange(len(rows)), chance.randrange(len(rows))))
    column = chance.randrange(len(rows[at]))
    kind = chance.randrange(12)
    if kind == 0:
        del rows[at]
    elif kind == 1:
        rows.append(list(rows[at]))
    elif kind == 2:
        del rows[at][column]
    elif kind == 3:
        rows[at].insert(column, chance.choice(_TEXTS))
    elif kind == 4:
        for row in rows:
            del row[column]
    elif kind == 5:
        for row in rows[1:]:
            row[column] = chance.choice(_TEXTS)
    elif kind == 6:
        other = chance.randrange(len(rows))
        rows[at][column], rows[other][column] = rows[other][column], rows[at][column]
    else:
        number = chance.choice(_NUMBERS).decode()
        rows[at][column] = chance.choice((chance.choice(_TEXTS), number, rows[at][column] + chance.choice(_TEXTS)))


def _parquet(data: bytes, chance: random.Random) -> bytes:
    rows = pq.read_table(io.BytesIO(data)).to_pylist()

    def pairs(value: Any) -> Any:
        if isinstance(value, dict):
            return _Pairs((key, pairs(item)) for key, item in value.items())
        return [pairs(item) for item in value] if isinstance(value, list) else value

    def plain(value: Any) -> Any:
        if isinstance(value, _Pairs):
            return {key: plain(item) for key, item in value}
        return [plain(item) for item in value] if isinstance(value, list) else value

    mutated = plain(pairs(rows))
    if chance.random() < 0.5:  # a table needs one type for each column
        key = chance.choice(list(rows[0]))
        new = chance.choice(_VALUES)
        mutated = [{**row, key: new} for row in mutated]
    else:
        mutated = plain(_mutated(pairs(rows), chance))
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(mutated), out)
    return out.getvalue()


def _excel(data: bytes, chance: random.Random) -> bytes:
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(data))
    sheet = book.worksheets[0]
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    cell = sheet.cell(chance.randrange(len(rows)) + 1, chance.randrange(len(rows[0]) + 1) + 1)
    value = chance.choice(
        (chance.choice(_TEXTS), chance.choice([v for v in _VALUES if not isinstance(v, list | dict)]))
    )
    cell.value = value if isinstance(value, str | int | float | bool | None) else ""
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.decode("utf-8").split("\n")
    at = chance.randrange(len(lines))
    tokens = re.split(r"(\s|=|,|/)", lines[at])
    token = chance.randrange(len(tokens))
    kind = chance.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, chance.choice(lines))
    elif kind == 2:
        lines[at] = chance.choice(_TEXTS)
    else:
        tokens[token] = chance.choice((chance.choice(_TEXTS), chance.choice(_NUMBERS).decode()))
        lines[at] = "".join(tokens)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _xml(data: bytes, chance: random.Random) -> bytes:
    root = ET.fromstring(data)
    parents = {child: parent for parent in root.iter() for child in parent}
    nodes = list(root.iter())
    node = chance.choice(nodes)
    kind = chance.randrange(8)
    text = chance.choice((chance.choice(_TEXTS), chance.choice(_NUMBERS).decode()))
    if kind == 0 and node in parents:
        parents[node].remove(node)
    elif kind == 1 and node in parents:
        parents[node].append(node)
    elif kind == 2:
        node.tag = chance.choice(
            (chance.choice(nodes).tag, "object", "box", "image", "track", "polygon", "meta", "mask")
        )
    elif kind == 3:
        inner = node
        for _ in range(chance.choice((1, 300))):
            inner = ET.SubElement(inner, chance.choice((node.tag, "a")))
    elif kind == 4 and node.attrib:
        del node.attrib[chance.choice(list(node.attrib))]
    elif kind in (5, 6) and node.attrib:
        node.attrib[chance.choice(list(node.attrib))] = text
    else:
        node.text = text
    return ET.tostring(root, encoding="unicode").encode("utf-8", "surrogatepass")


_BY_SUFFIX = {
    ".json": _json,
    **dict.fromkeys((".jsonl", ".ndjson", ".manifest"), _json_lines),
    ".yaml": _yaml,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _parquet,
    ".xlsx": _excel,
    ".txt": _lines,
    ".data": _lines,
    ".names": _lines,
    ".xml": _xml,
}

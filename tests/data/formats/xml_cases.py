"""Made-up data sets with any names, and mutations of valid XML files."""

from __future__ import annotations

import random
import re
import unicodedata
from pathlib import Path

from hypothesis import strategies as st

from tests.helpers.damage import reads_or_refuses
from tests.helpers.exports import Made

_TOKENS = (
    b"nan", b"-1", b"1e999", b"99999999999999999999", b"", b"<", b">", b"&#0;", b"&x;", b"\xff", b"\x00", b"/",
    b"../../etc/passwd", b"C:\\x.png", b"\\\\host\\x", b"<object/>", b"<bndbox/>", b'"', b"<image/>", b"<a>" * 2000,
    b'<!DOCTYPE a [<!ENTITY b "c">]>', b"\xed\xa0\x80", b"0", b" ", b"1_0", b"<box/>", b"</annotation>",
)  # fmt: skip


_FIELD = re.compile(rb">[^<>]*<|\"[^\"]*\"|<[a-z0-9]+")
_VALUES = (
    b"nan", b"inf", b"-1", b"1e999", b"-1e308", b"9" * 400, b"", b" ", b"0", b"0.5", b"1_0", b"1,5",
    b"../../etc/passwd",
    b"C:\\x.png", b"\\\\host\\x", b"/etc/passwd", b"0.png", b"%2e%2e/x", b"\xef\xbf\xbd", b"x" * 5000, b"1;2;3",
    b"object", b"box",
    b"track", b"image", b"meta", b"polygon", b"robndbox", b"mask", b"points", b"&#x202e;",
)  # fmt: skip


def _with_other_values(valid: bytes, chance: random.Random) -> bytes:
    """Some texts, attributes and tags replaced; mostly XML still."""
    for _ in range(chance.randint(1, 4)):
        fields = list(_FIELD.finditer(valid))
        field = chance.choice(fields) if fields else None
        if field is not None:
            first, last = field[0][:1], b"" if field[0][:1] == b"<" else field[0][-1:]
            valid = valid[: field.start()] + first + chance.choice(_VALUES) + last + valid[field.end() :]
    return valid


def _with_other_bytes(valid: bytes, chance: random.Random) -> bytes:
    data = bytearray(valid)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 1, 3, 30)))
        data[at:end] = chance.choice((*_TOKENS, bytes([chance.randrange(256)])))
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def fuzz(root: Path, file: Path, format_: str, count: int = 150, seed: int = 14) -> None:
    """Read mutations of a file: each is a data set or an error of one line, within five seconds."""
    valid = file.read_bytes()
    chance = random.Random(seed)
    for number in range(count):
        mutate = _with_other_values if number % 3 else _with_other_bytes
        data = mutate(valid, chance)
        file.write_bytes(data)
        reads_or_refuses(root, format_)


def _is_name(text: str) -> bool:
    return text.isprintable() and text == text.strip() and not text.startswith(".") and text[1:2] != ":"


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFC", text).casefold()).replace(" ", "")


_NAMES = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=12
)
_CLASSES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=12)


@st.composite
def made_images(draw: st.DrawFn) -> tuple[list[Made], list[str]]:
    """Some images and their classes, all of which have a box."""
    names = draw(st.lists(_NAMES.filter(_is_name), min_size=2, max_size=5, unique_by=_folded))
    classes = draw(st.lists(_CLASSES.filter(lambda t: t == t.strip()), min_size=1, max_size=4, unique_by=_folded))
    corner = st.floats(0, 40, allow_subnormal=False)
    extent = st.floats(1, 60, allow_subnormal=False)
    images = []
    for i, name in enumerate(names):
        boxes = []
        for class_name in classes if i == 0 else draw(st.lists(st.sampled_from(classes), max_size=3)):
            x, y = draw(corner), draw(corner)
            boxes.append((class_name, (x, y, x + draw(extent), y + draw(extent))))
        images.append(Made(f"{name}.png", 100, 100, boxes, ("train", "val", "test")[i % 3]))
    return images, classes

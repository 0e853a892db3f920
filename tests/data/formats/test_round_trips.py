"""Export a data set like each annotation tool, and read back the same classes, names, splits and boxes."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.helpers import exports
from tests.helpers.datasets import read_as
from tests.helpers.exports import Made
from visionops.data.files import safe_name
from visionops.data.formats.assembly import fold_name

_PRINTABLE = st.characters(exclude_categories=["Cc", "Cs", "Cn", "Co", "Zl", "Zp"], exclude_characters="/\\")
"""Any printable character, including those that join emoji and mark directions, except the two slashes."""
_ODD = (
    "caf\u00e9", "cafe\u0301", "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f52c", "a b", " a", "a ", "100%",
    "a%20b", "%41", "#1", "a&b", "a&amp;b", "<a>", "a,b", "a;b", "it's", '"a"', "007", "1 0", "-1", "no", "null",
    "~", "a: b", "- a",
    "a.b", "[a]", "{a}", "*a", "&a", "!a", "@a", "a|b", "?", "0123abcd-a", "A", "a", "train", "images", "\u3000a",
    "\u202eabc", "=1+1", "$x",
)  # fmt: skip
_TEXTS = st.one_of(st.sampled_from(_ODD), st.text(_PRINTABLE, min_size=1, max_size=10))


def _is_name(stem: str) -> bool:
    """Return whether a name is not hidden, accepted by `safe_name` (no drive letter), and short enough for file
    systems."""
    return not stem.startswith(".") and safe_name(f"{stem}.png") is not None and len(stem.encode()) < 100


def _is_class(name: str) -> bool:
    """Return whether a name is a class: readers strip surrounding spaces, and labelme reserves two words."""
    return name == name.strip() != "" and name not in ("__ignore__", "_background_")


_STEMS = _TEXTS.filter(_is_name)
_FOLDERS = st.one_of(st.just(""), st.just(""), _STEMS.filter(lambda t: t.casefold() not in _WORDS))
_WORDS = frozenset({"train", "val", "test", "images", "masks", "labels"})
"""Folder names with another meaning for a reader."""


def _in_a_list(name: tuple[str, str]) -> str:
    """Return the part of a name that a VOC list keeps: no spaces at its ends, no numbers after it."""
    return re.sub(r"(\s+[-\d.]+)+$", "", "/".join(name).strip())


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[list[Made], list[str]]:
    """Draw images and their classes, each of which has a box."""
    stems = draw(st.lists(st.tuples(_FOLDERS, _STEMS), min_size=2, max_size=5, unique_by=_in_a_list))
    classes = draw(st.lists(_TEXTS.filter(_is_class), min_size=1, max_size=4, unique_by=fold_name))
    splits = draw(st.sampled_from([("train", "val"), ("train", "val", "test")]))
    corner, extent = st.floats(0, 40, allow_subnormal=False), st.floats(1, 60, allow_subnormal=False)
    images = []
    for i, (folder, stem) in enumerate(stems):
        boxes = []
        for class_name in classes if i == 0 else draw(st.lists(st.sampled_from(classes), max_size=3)):
            x, y = draw(corner), draw(corner)
            boxes.append((class_name, (x, y, x + draw(extent), y + draw(extent))))
        name = f"{folder}/{stem}.png" if folder else f"{stem}.png"
        images.append(Made(name, 100, 101, boxes, splits[i % len(splits)]))
    return images, classes


def _all_odd(folder: str, split: str, class_name: str) -> tuple[list[Made], list[str]]:
    stems = [stem for stem in _ODD if _is_name(stem)]
    return [Made(f"{folder}{stem}.png", 100, 101, [(class_name, (1, 2, 3, 4))], split) for stem in stems], [class_name]


class Tool(NamedTuple):
    """A format, and the folder in which its tool puts an image."""

    format: str
    export: Callable[[Path, Sequence[Made], Sequence[str]], Any]
    place: str = "images/{split}/{name}"
    has_splits: bool = True
    has_order: bool = True


TOOLS = [
    Tool("coco", exports.export_coco),
    Tool("yolo", exports.export_yolo),
    Tool("voc", exports.export_voc, "JPEGImages/{name}", has_order=False),
    Tool("cvat", exports.export_cvat),
    Tool("labelme", exports.export_labelme, "{split}/{name}"),
    Tool("fiftyone", exports.export_fiftyone, "{split}/data/{name}"),
    Tool("label_studio", exports.export_label_studio, "{name}", has_splits=False, has_order=False),
]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.format)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=data_sets())
@example(made=_all_odd("", "train", "no"))
@example(made=_all_odd("x/", "val", "\u00e9"))
@example(made=([Made("a.png", 9, 9, [("b", (1, 2, 3, 4))], "train"), Made(" /a.png", 9, 9, [], "val")], ["b"]))
@example(made=([Made("a.png", 100, 101, [(name, (1, 2, 3, 4)) for name in _ODD[2:5]])], list(_ODD[2:5])))
def test_exports_are_read_back(tool, made):
    images, classes = made
    root = Path(tempfile.mkdtemp()).resolve()
    try:
        tool.export(root, images, classes)
        for format_ in (tool.format, "auto"):
            _assert_same(read_as(root, format_), tool, images, classes)
    finally:
        shutil.rmtree(root)


def _assert_same(dataset, tool: Tool, images: list[Made], classes: list[str]) -> None:
    assert not dataset.findings
    assert list(dataset.class_names) == (classes if tool.has_order else sorted(classes))
    rows = {key: row for row, key in enumerate(dataset.column("key"))}
    keys = [tool.place.format(split=image.split, name=image.name).replace("//", "/").lstrip("/") for image in images]
    assert sorted(rows) == sorted(keys)
    splits, boxes_of = dataset.column("split"), dataset.boxes_by_image()
    lone = len({image.split for image in images}) == 1  # a single split is none, unless a file declares it
    for image, key in zip(images, keys, strict=True):
        found = boxes_of[rows[key]]
        if tool.has_splits and not lone:
            assert splits[rows[key]] == image.split
        assert [dataset.class_names[i] for i in found.class_ids] == [name for name, _ in image.boxes]
        assert found.xyxy.tolist() == [pytest.approx(box, abs=1e-4) for _, box in image.boxes]

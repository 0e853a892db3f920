"""Generate data sets with arbitrary names, for hypothesis."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

from tests.helpers.exports import Made

__all__ = ["made_images"]


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
    """Return some images and their classes, all of which have a box."""
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

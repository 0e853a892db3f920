"""Coordinates in another convention than the format's are reported, and valid ones are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionops.data.coordinates import suspect_coordinates

WIDTH, HEIGHT = 96, 64


def valid_boxes(seed: int, count: int = 40) -> np.ndarray:
    """Return boxes inside the image, xyxy; some touch its borders."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 1, (count, 2, 2)) * (WIDTH, HEIGHT)
    low, high = corners.min(axis=1), corners.max(axis=1)
    boxes = np.hstack([np.floor(low), np.minimum(np.ceil(high) + 2, (WIDTH, HEIGHT))])
    boxes[::7, 2], boxes[3::7, 3], boxes[::9, 0] = WIDTH, HEIGHT, 0
    return boxes


def said(boxes: np.ndarray) -> list[str]:
    keys = [f"{i}.png" for i in range(len(boxes))]
    sizes = np.tile([WIDTH, HEIGHT], (len(boxes), 1))
    return [f.message for f in suspect_coordinates(keys, np.arange(len(boxes)), boxes, sizes)]


@given(st.integers(0, 2**31))
def test_valid_boxes_give_no_finding(seed):
    assert said(valid_boxes(seed)) == []
    some_over = valid_boxes(seed)
    some_over[5] += 3  # a single mistake
    assert said(some_over) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b / (WIDTH, HEIGHT, WIDTH, HEIGHT), "within the first pixel"),
        (lambda b: np.vstack([b[:-1], [[0.2, 0.1, 0.5, 0.4]]]), "1 box of 40 lie within the first pixel"),
        (lambda b: b[:, [1, 0, 3, 2]], "only with x and y swapped"),
        (lambda b: np.hstack([b[:, :2], b[:, :2] + b[:, 2:]]), "only as x1, y1, x2, y2"),
        (lambda b: b + 1, "one pixel beyond the image and none begins at 0"),
    ],
)
@given(seed=st.integers(0, 2**31))
def test_a_pattern_is_named(change, words, seed):
    messages = said(change(valid_boxes(seed)))
    assert len(messages) == 1
    assert words in messages[0]

"""Test the rules that `benchmarks.tiles` compares, and their results on simulated crowds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import tiles
from visionops.inference.preprocessing import Window
from visionops.inference.preprocessing_spec import Tiling

WINDOWS = (Window(0, 0, 100, 100), Window(60, 0, 100, 100))


def test_connected_components_let_a_weak_box_make_one_object_of_two():
    """The old rule merges two objects; ours keeps both."""
    boxes = np.array([(10, 0, 30, 40), (20, 0, 40, 40), (15, 0, 35, 40)], np.float32)
    found = [
        (boxes, np.array([0.9, 0.85, 0.3], np.float32), np.zeros(3, np.int32)),
        (boxes[:0], np.empty(0, np.float32), np.empty(0, np.int32)),
    ]
    rules = tiles.rules(WINDOWS)
    assert rules["  components (dropped)"](found)[1] == pytest.approx([0.9])
    assert rules["tiles"](found)[1] == pytest.approx([0.9, 0.85, 0.3])
    above = tiles.rules(WINDOWS, 0.5)
    assert above["  components (dropped)"](found)[1] == pytest.approx([0.9, 0.85])


def test_tiles_score_as_one_look_on_parts_that_touch(monkeypatch):
    monkeypatch.setattr(tiles, "CROWDS", 1)
    rows = tiles.crowded(Tiling(size=640, overlap=128))
    assert rows["tiles"] == rows["one look"] == dict.fromkeys(rows["tiles"], 1.0)
    assert max(rows["  components (dropped)"].values()) < 0.5

"""Test how the drift benchmark evaluates its counts, without measuring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.drift import Cell, draw_plot, least_detected, print_table, write_table
from benchmarks.drift_peer import pixel_features


def cell(kind: str, label: str, ours: tuple[int, ...], peer: tuple[int, ...], *, is_target: bool = False) -> Cell:
    return Cell(kind, label, is_target, 20, {"ours": ours, "Evidently": peer}, {}, "")


CELLS = [
    cell("clean", "", (0, 1), (3, 1), is_target=True),
    cell("blur", "0.3", (19, 20), (20, 20)),
    cell("blur", "0.5", (20, 18), (20, 20)),
    cell("blur", "1", (19, 20), (20, 0)),
    cell("blur", "3", (20, 20), (20, 19), is_target=True),
]


def test_the_least_severity_is_the_one_from_which_on_all_are_caught_at_every_seed():
    assert least_detected(CELLS[1:], "ours") == "1"
    assert least_detected(CELLS[1:], "Evidently") == "3"
    assert least_detected(CELLS[1:3], "ours") == "-"


def test_a_target_that_one_seed_misses_is_missed(capsys: pytest.CaptureFixture[str]):
    assert print_table(CELLS)
    assert not print_table([cell("clean", "", (0, 2), (0, 0), is_target=True)])
    assert not print_table([CELLS[0], cell("blur", "3", (20, 18), (20, 20), is_target=True)])
    assert "MISSED: blur 3, (20, 18) of 20" in capsys.readouterr().out


def test_the_table_and_the_plot_show_both_side_by_side(tmp_path: Path):
    write_table(CELLS, tmp_path / "drift.md")
    lines = (tmp_path / "drift.md").read_text().splitlines()
    assert "| clean | 0, 1 of 20 | 3, 1 of 20 |" in lines
    assert "| blur | 1 | 3 |" in lines
    assert "| ours | 19, 20 | 20, 18 | 19, 20 | 20 |" in lines
    draw_plot(CELLS, tmp_path / "drift.png")
    assert (tmp_path / "drift.png").stat().st_size > 10_000


def test_the_pixel_features_of_a_known_image():
    rgb = np.zeros((4, 4, 3), np.uint8)
    rgb[:, 2:] = 255
    features = pixel_features(rgb)
    assert features["brightness_mean"] == features["brightness_std"] == features["contrast"] == 0.5
    # Along each row the slopes are 0, 0.5, 0.5 and 0; along columns they are 0.
    assert features["sharpness"] == pytest.approx(0.125)

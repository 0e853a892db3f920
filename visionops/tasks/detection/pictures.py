"""Draw charts and example images for a detector's evaluation, readable at 100 % and without red-green distinctions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from visionops.data.audit import draw_boxes
from visionops.evaluation.drawing import (
    BLUE,
    GREEN,
    LEGEND_ROWS,
    LIGHT_ORANGE,
    ORANGE,
    PURPLE,
    Picture,
    draw_confusion,
    figure,
    finish_unit_axes,
    fit_panel,
    line_style,
    place_legend,
    save,
    side_by_side,
)
from visionops.inference.image import decode_image
from visionops.inference.preprocessing_spec import FULL_WHITE
from visionops.tasks.detection.matching import Matches
from visionops.tasks.detection.scoring import CONFIDENCES, Scores

__all__ = ["EXAMPLE_COLOURS", "Example", "draw_charts", "draw_examples"]

_FOUND, _MISSED, _RIGHT, _WRONG = (0, 114, 178), (204, 121, 167), (0, 158, 115), (213, 94, 0)
EXAMPLE_COLOURS = (
    (BLUE, "true, found"),
    (PURPLE, "true, missed"),
    (GREEN, "predicted, right"),
    (ORANGE, "predicted, wrong"),
)
"""Colours of the same boxes, for a legend."""


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A test image with the outcome of its boxes."""

    key: str
    path: Path
    matches: Matches
    white: int = FULL_WHITE
    """White level of 16-bit files."""


def draw_charts(
    scores: Scores,
    confusion: npt.NDArray[np.int64],
    names: Sequence[str],
    serving_confidence: float,
    folder: Path,
) -> list[Picture]:
    """Write ``pr_curves``, ``f1_confidence``, ``per_class`` and ``confusion_matrix`` as PNG.

    Args:
        confusion: int64 (K + 1, K + 1) of `confusion_matrix`.
        serving_confidence: Confidence marked in the F1 curve.
    """
    best = float(CONFIDENCES[scores.best])
    return [
        Picture(
            _pr_curves(scores, names, folder / "pr_curves.png"),
            "Precision over recall",
            "IoU 0.5, interpolated as COCO does, the best 100 detections of an image; the area under a curve is the "
            "class's AP50.",
        ),
        Picture(
            _f1_curves(scores, names, serving_confidence, folder / "f1_confidence.png"),
            "F1 over confidence",
            f"The mean is best at {best:.2f}; the server answers above {serving_confidence:g}.",
        ),
        Picture(
            _per_class(scores, names, folder / "per_class.png"),
            "Per class",
            "AP50 and AP50-95; beside each name the number of its boxes in the test split.",
        ),
        Picture(
            _confusion(confusion, names, folder / "confusion_matrix.png"),
            "Confusion matrix",
            "At the serving threshold, IoU 0.5. Count, and share of the row. Background in the last column: missed; "
            "in the last row: false positives.",
        ),
    ]


def draw_examples(examples: Sequence[Example], names: Sequence[str], folder: Path, stem: str) -> list[Picture]:
    """Write each example as ``<stem>_NN.jpg``: truth on the left, prediction on the right."""
    pictures = []
    for number, example in enumerate(examples):
        path = folder / f"{stem}_{number:02d}.jpg"
        _side_by_side(example, names).save(path, quality=85)
        pictures.append(Picture(path, example.key, _why(example.matches, names)))
    return pictures


def _curves(axes: Any, x: Any, curves: Any, scores: Scores, names: Sequence[str], notes: Sequence[str]) -> None:
    """Draw one line for each class; above `LEGEND_ROWS` classes they are grey and only the mean is named."""
    many = len(scores.present) > LEGEND_ROWS
    for position, k in enumerate(scores.present):
        style = {"color": "0.75", "linewidth": 0.8} if many else line_style(position)
        axes.plot(x, curves[k], label=None if many else f"{names[k]}  {notes[k]}", **style)


def _pr_curves(scores: Scores, names: Sequence[str], path: Path) -> Path:
    made = figure(7.6, 4.2)
    axes = made.add_subplot()
    notes = [f"{ap:.3f}" for ap in scores.ap50]
    _curves(axes, scores.recall_points, scores.precision_at_recall, scores, names, notes)
    mean = scores.precision_at_recall[scores.present].mean(axis=0)
    label = f"mean  {np.nanmean(scores.ap50):.3f}"
    axes.plot(scores.recall_points, mean, color="black", linewidth=3, alpha=0.55, label=label)
    finish_unit_axes(axes, "recall", "precision")
    return save(made, path)


def _f1_curves(scores: Scores, names: Sequence[str], serving: float, path: Path) -> Path:
    made = figure(7.6, 4.2)
    axes = made.add_subplot()
    notes = [f"{f1[scores.best]:.3f}" for f1 in scores.f1]
    _curves(axes, CONFIDENCES, scores.f1, scores, names, notes)
    mean = scores.f1[scores.present].mean(axis=0)
    label = f"mean  {mean[scores.best]:.3f}"
    axes.plot(CONFIDENCES, mean, color="black", linewidth=3, alpha=0.55, label=label)
    axes.axvline(serving, color="0.35", linewidth=1, linestyle=(0, (4, 3)), label=f"serving threshold {serving:g}")
    finish_unit_axes(axes, "confidence", "F1")
    return save(made, path)


def _per_class(scores: Scores, names: Sequence[str], path: Path) -> Path:
    order = sorted(scores.present, key=lambda k: scores.ap50_95[k])
    made = figure(7.6, 1.0 + 0.38 * len(order))
    axes = made.add_subplot()
    rows = np.arange(len(order))
    for offset, values, colour, label in (
        (0.19, scores.ap50, BLUE, "AP50"),
        (-0.19, scores.ap50_95, LIGHT_ORANGE, "AP50-95"),
    ):
        bars = axes.barh(rows + offset, values[order], height=0.36, color=colour, label=label)
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_yticks(rows, [f"{names[k]} ({scores.instances[k]})" for k in order])
    axes.set(xlim=(0, 1.08), ylim=(-0.6, len(order) - 0.4))
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    place_legend(axes)
    return save(made, path)


def _confusion(counts: npt.NDArray[np.int64], names: Sequence[str], path: Path) -> Path:
    labels = [*names, "background"]
    size = min(max(4.6, 1.8 + 0.72 * len(labels)), 16)
    made = figure(size, size * 0.88)
    axes = made.add_subplot()
    made.colorbar(draw_confusion(axes, counts, labels), ax=axes, shrink=0.8, label="share of the row")
    return save(made, path)


def _side_by_side(example: Example, names: Sequence[str]) -> Image.Image:
    pixels = decode_image(example.path.read_bytes(), where=example.key, white=example.white)
    base = fit_panel(pixels)
    gain = max(base.shape[:2]) / max(pixels.shape[:2])
    m = example.matches
    missed, correct = m.missed, m.correct
    truth = draw_boxes(
        base,
        m.truth.xyxy * gain,
        [f"missed {names[k]}" if gone else names[k] for k, gone in zip(m.truth.class_ids, missed, strict=True)],
        [_MISSED if gone else _FOUND for gone in missed],
    )
    rows = zip(m.prediction.class_ids, m.prediction.scores, correct, strict=True)
    prediction = draw_boxes(
        base,
        m.prediction.boxes * gain,
        [f"{'' if right else 'wrong '}{names[k]} {confidence:.2f}" for k, confidence, right in rows],
        [_RIGHT if right else _WRONG for right in correct],
    )
    return side_by_side([("truth", truth), ("prediction", prediction)])


def _why(m: Matches, names: Sequence[str]) -> str:
    """Return the errors as text: ``score 2.41: missed 2 scratches; wrong: patches 0.41``."""
    if m.badness == 0:
        return f"all {len(m.partner)} found" if len(m.partner) != 1 else "the one found"
    parts = []
    missed = Counter(names[k] for k in m.truth.class_ids[m.missed])
    if missed:
        parts.append("missed " + ", ".join(f"{count} {name}" for name, count in missed.items()))
    wrong = ~m.correct
    if wrong.any():
        rows = zip(m.prediction.class_ids[wrong], m.prediction.scores[wrong], m.partner[wrong], strict=True)
        parts.append("; ".join(_mistake(names, m, int(k), float(s), int(t)) for k, s, t in list(rows)[:4]))
        if wrong.sum() > 4:
            parts.append(f"and {int(wrong.sum()) - 4} more wrong")
    return f"score {m.badness:.2f}: " + "; ".join(parts)


def _mistake(names: Sequence[str], m: Matches, class_id: int, confidence: float, partner: int) -> str:
    if partner >= 0:
        return f"took {names[m.truth.class_ids[partner]]} for {names[class_id]} {confidence:.2f}"
    return f"{names[class_id]} {confidence:.2f} fits no true box"

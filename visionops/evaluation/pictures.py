"""Charts and example images of an evaluation, readable at 100 % and without telling red from green."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from visionops.data.audit import draw_boxes
from visionops.evaluation.matching import Matches
from visionops.evaluation.scoring import CONFIDENCES, Scores
from visionops.inference.image import decode_image

__all__ = ["Example", "Picture", "draw_charts", "draw_examples"]

# Okabe and Ito's palette: told apart with every kind of colour vision.
_BLUE, _GREEN, _ORANGE, _PURPLE, _SKY = "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
_LINES = (_BLUE, "#E69F00", _GREEN, _ORANGE, _PURPLE, _SKY, "#000000")
_STYLES = ("-", "--", ":", "-.")
_FOUND, _MISSED, _RIGHT, _WRONG = (0, 114, 178), (204, 121, 167), (0, 158, 115), (213, 94, 0)
"""Of true boxes and of predicted ones, in the examples."""
_PANEL = 480
"""Pixels of the longer side of an example."""
_HEAD = 22
_LEGEND_ROWS = 14
"""More classes than this are not named in a chart."""


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A test image and what became of its boxes."""

    key: str
    path: Path
    matches: Matches


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A file in the evaluation's folder, and what it shows."""

    path: Path
    title: str
    caption: str


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
        serving_confidence: Marked in the F1 curve.
    """
    best = float(CONFIDENCES[scores.best])
    return [
        Picture(
            _pr_curves(scores, names, folder / "pr_curves.png"),
            "Precision over recall",
            "IoU 0.5, interpolated as COCO does; the area under a curve is the class's AP50.",
        ),
        Picture(
            _f1_curves(scores, names, serving_confidence, folder / "f1_confidence.png"),
            "F1 over confidence",
            f"The mean is best at {best:.2f}; the server answers above {serving_confidence:g}.",
        ),
        Picture(
            _per_class(scores, names, folder / "per_class.png"),
            "Per class",
            "AP50 and AP50-95; beside each name its boxes in the test split.",
        ),
        Picture(
            _confusion(confusion, names, folder / "confusion_matrix.png"),
            "Confusion matrix",
            "At the serving threshold, IoU 0.5. Count, and share of the row. Background in the last column: missed; "
            "in the last row: found where nothing is.",
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


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # Not pyplot: it keeps global state and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _curves(axes: Any, x: Any, curves: Any, scores: Scores, names: Sequence[str], notes: Sequence[str]) -> None:
    """One line a class; above `_LEGEND_ROWS` classes they are grey and only the mean is named."""
    many = len(scores.present) > _LEGEND_ROWS
    for position, k in enumerate(scores.present):
        style = {"color": "0.75", "linewidth": 0.8} if many else _line(position)
        axes.plot(x, curves[k], label=None if many else f"{names[k]}  {notes[k]}", **style)


def _line(position: int) -> dict[str, Any]:
    style = _STYLES[position // len(_LINES) % len(_STYLES)]
    return {"color": _LINES[position % len(_LINES)], "linestyle": style, "linewidth": 1.6}


def _finish(axes: Any, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)


def _pr_curves(scores: Scores, names: Sequence[str], path: Path) -> Path:
    figure, axes = _figure(7.6, 4.2)
    notes = [f"{ap:.3f}" for ap in scores.ap50]
    _curves(axes, scores.recall_points, scores.precision_at_recall, scores, names, notes)
    mean = scores.precision_at_recall[scores.present].mean(axis=0)
    label = f"mean  {np.nanmean(scores.ap50):.3f}"
    axes.plot(scores.recall_points, mean, color="black", linewidth=3, alpha=0.55, label=label)
    _finish(axes, "recall", "precision")
    figure.savefig(path)
    return path


def _f1_curves(scores: Scores, names: Sequence[str], serving: float, path: Path) -> Path:
    figure, axes = _figure(7.6, 4.2)
    notes = [f"{f1[scores.best]:.3f}" for f1 in scores.f1]
    _curves(axes, CONFIDENCES, scores.f1, scores, names, notes)
    mean = scores.f1[scores.present].mean(axis=0)
    label = f"mean  {mean[scores.best]:.3f}"
    axes.plot(CONFIDENCES, mean, color="black", linewidth=3, alpha=0.55, label=label)
    axes.axvline(serving, color="0.35", linewidth=1, linestyle=(0, (4, 3)), label=f"serving threshold {serving:g}")
    _finish(axes, "confidence", "F1")
    figure.savefig(path)
    return path


def _per_class(scores: Scores, names: Sequence[str], path: Path) -> Path:
    order = sorted(scores.present, key=lambda k: scores.ap50_95[k])
    figure, axes = _figure(7.6, 1.0 + 0.38 * len(order))
    rows = np.arange(len(order))
    for offset, values, colour, label in (
        (0.19, scores.ap50, _BLUE, "AP50"),
        (-0.19, scores.ap50_95, "#E69F00", "AP50-95"),
    ):
        bars = axes.barh(rows + offset, values[order], height=0.36, color=colour, label=label)
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_yticks(rows, [f"{names[k]} ({scores.instances[k]})" for k in order])
    axes.set(xlim=(0, 1.08), ylim=(-0.6, len(order) - 0.4))
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    figure.savefig(path)
    return path


def _confusion(counts: npt.NDArray[np.int64], names: Sequence[str], path: Path) -> Path:
    labels = [*names, "background"]
    size = max(4.6, 1.8 + 0.72 * len(labels))
    figure, axes = _figure(min(size, 16), min(size, 16) * 0.88)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = share[row, column] > 0.55
        text = f"{counts[row, column]}\n{share[row, column]:.0%}" if len(labels) <= 20 else str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the row")
    figure.savefig(path)
    return path


def _side_by_side(example: Example, names: Sequence[str]) -> Image.Image:
    pixels = decode_image(example.path.read_bytes(), where=example.key)
    gain = _PANEL / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * gain)), max(1, round(pixels.shape[0] * gain)))
    base = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
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
    sheet = Image.new("RGB", (size[0] * 2 + 6, size[1] + _HEAD), "white")
    draw = ImageDraw.Draw(sheet)
    for left, panel, title in ((0, truth, "truth"), (size[0] + 6, prediction, "prediction")):
        sheet.paste(panel, (left, _HEAD))
        draw.text((left + 2, 2), title, fill="#333333", font=ImageFont.load_default(size=15))
    return sheet


def _why(m: Matches, names: Sequence[str]) -> str:
    """What went wrong in words: ``score 2.41: missed 2 scratches; wrong: patches 0.41``."""
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

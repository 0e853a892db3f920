"""Draw the charts of the card as SVG: size and position of boxes, and brightness of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset
from visionops.data.validation.report import ValidationReport

__all__ = ["draw_charts"]


def draw_charts(dataset: Dataset, report: ValidationReport) -> list[dict[str, str]]:
    """Return each chart's ``title`` and ``svg``; those of boxes only if there are boxes."""
    facts = report.facts
    usable = np.array([not problem for problem in facts.column("problem").to_pylist()], dtype=bool)
    charts = []
    rows, _, boxes = dataset.box_arrays()
    if len(rows):
        areas = facts.column("width").to_numpy().astype(np.float64) * facts.column("height").to_numpy()
        inside = areas[rows] > 0
        sides = (boxes[:, 2:] - boxes[:, :2])[inside]
        with np.errstate(invalid="ignore", over="ignore"):
            relative = np.sqrt(np.clip(sides, 0, None).prod(axis=1) / areas[rows][inside])
        relative = relative[np.isfinite(relative)].clip(0, 1) * 100
        title = "Box size: side of the square of the same area, in % of the image's"
        charts.append({"title": title, "svg": _histogram(relative, 0, 100, "boxes", "%", "#0072b2")})
        charts.append({"title": "Position of boxes: their centres in the image", "svg": _centres(boxes, rows, facts)})
    brightness = facts.column("brightness").to_numpy()[usable]
    title = "Brightness of images: mean grey value, 0 to 255"
    charts.append({"title": title, "svg": _histogram(brightness, 0, 255, "images", "", "#6c757d")})
    return charts


def _histogram(values: npt.NDArray[Any], low: float, high: float, noun: str, unit: str, colour: str) -> str:
    counts, edges = np.histogram(values, bins=25, range=(low, high))
    width, height, left, base = 420, 170, 40, 145
    step = (width - left) / len(counts)
    top = int(counts.max()) or 1
    bars = []
    for i, count in enumerate(counts.tolist()):
        tall = (base - 14) * count / top
        tip = f"{edges[i]:.0f} to {edges[i + 1]:.0f}{unit}: {count:,} {noun}"
        bars.append(
            f'<rect x="{left + i * step + 0.5:.1f}" y="{base - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}" '
            f'fill="{colour}"><title>{tip}</title></rect>'
        )
    ticks = "".join(
        f'<text x="{left + (width - left) * share:.0f}" y="{base + 16}" text-anchor="{anchor}">'
        f"{low + (high - low) * share:.0f}{unit}</text>"
        for share, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    )
    axis = f'<path d="M{left} {base + 0.5}H{width}" stroke="#adb5bd"/>'
    scale = "".join(f'<text x="{left - 6}" y="{y}" text-anchor="end">{n:,}</text>' for y, n in ((22, top), (base, 0)))
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(bars)}{axis}{ticks}{scale}</svg>'


def _centres(boxes: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], facts: Any) -> str:
    """Return a heat map of 16 x 16 cells over the image."""
    sizes = np.column_stack([facts.column("width").to_numpy(), facts.column("height").to_numpy()])[rows]
    known = (sizes > 0).all(axis=1) & np.isfinite(boxes).all(axis=1)
    centre = ((boxes[known, :2] + boxes[known, 2:]) / 2 / sizes[known]).clip(0, 1)
    cells = 16
    counts, _, _ = np.histogram2d(centre[:, 1], centre[:, 0], bins=cells, range=((0, 1), (0, 1)))
    top = counts.max() or 1
    side = 10
    squares = [
        f'<rect x="{x * side}" y="{y * side}" width="{side}" height="{side}" fill="#0072b2" '
        f'fill-opacity="{counts[y, x] / top:.2f}"><title>{int(counts[y, x]):,} boxes</title></rect>'
        for y in range(cells)
        for x in range(cells)
        if counts[y, x]
    ]
    frame = (
        f'<rect x="0.5" y="0.5" width="{cells * side - 1}" height="{cells * side - 1}" fill="none" stroke="#adb5bd"/>'
    )
    return f'<svg viewBox="0 0 420 {cells * side}" role="img">{"".join(squares)}{frame}</svg>'

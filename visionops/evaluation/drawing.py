"""Draw the pictures of evaluations: colours, axes, panels and examples that all tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = [
    "BLUE",
    "GREEN",
    "LEGEND_ROWS",
    "LIGHT_ORANGE",
    "ORANGE",
    "PURPLE",
    "Picture",
    "draw_confusion",
    "figure",
    "finish_unit_axes",
    "fit_panel",
    "line_style",
    "place_legend",
    "save",
    "side_by_side",
]

# Okabe and Ito's palette: distinguishable with every kind of colour vision.
BLUE, GREEN, ORANGE, PURPLE, SKY, LIGHT_ORANGE = "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00"
_LINES = (BLUE, LIGHT_ORANGE, GREEN, ORANGE, PURPLE, SKY, "#000000")
_STYLES = ("-", "--", ":", "-.")
_PANEL = 480
"""Length of the longer side of an example, in pixels."""
_HEAD = 30
LEGEND_ROWS = 14
"""Maximum number of lines that a chart names in its legend."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A picture file in the evaluation's folder, and its description."""

    path: Path
    title: str
    caption: str
    is_wide: bool = False
    """Whether it takes the whole width of the report."""


def figure(width: float, height: float) -> Any:
    """Return a figure of ``width`` x ``height`` inches, at 100 pixels per inch."""
    # Not pyplot, which keeps global state and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: Any, path: Path) -> Path:
    """Write a figure; return its path."""
    made.savefig(path)
    return path


def line_style(position: int) -> dict[str, Any]:
    """Return colour and dashes of the line at ``position``; the first 28 styles all differ."""
    style = _STYLES[position // len(_LINES) % len(_STYLES)]
    return {"color": _LINES[position % len(_LINES)], "linestyle": style, "linewidth": 1.6}


def finish_unit_axes(axes: Any, x: str, y: str) -> None:
    """Set axes from 0 to 1 with these names, a grid and a legend beside them."""
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    place_legend(axes)


def place_legend(axes: Any) -> None:
    """Place the legend to the right of the axes, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)


def draw_confusion(axes: Any, counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Any:
    """Draw a confusion matrix with count and share of the row in each cell; return the image, for a colour bar."""
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
    return image


def fit_panel(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Scale an image to the panel size of an example, uint8 (h, w, 3)."""
    gain = _PANEL / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * gain)), max(1, round(pixels.shape[0] * gain)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def side_by_side(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Place panels of one size side by side, each under its title."""
    width, height = panels[0][1].size
    sheet = Image.new("RGB", ((width + 6) * len(panels) - 6, height + _HEAD), "white")
    draw = ImageDraw.Draw(sheet)
    for position, (title, panel) in enumerate(panels):
        left = position * (width + 6)
        sheet.paste(panel, (left, _HEAD))
        draw.text((left + 2, 2), title, fill="#333333", font=ImageFont.load_default(size=21))
    return sheet

"""The result of `benchmarks.serving` as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.serving import Cell, Result

__all__ = ["draw"]

_COLOURS = {"ours": "#c1272d", "fastapi": "#4477aa", "bentoml": "#999999", "litserve": "#777777"}
_COLOURS |= {"mlserver": "#555555", "seldon": "#333333"}


def draw(results: Mapping[Cell, Sequence[Result]], path: Path) -> None:
    """A row per input size: share of the limit, and latency from p50 to p99."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted({cell.size for cell in results}, reverse=True)
    figure, axes = plt.subplots(len(sizes), 2, figsize=(13, 4 * len(sizes)), squeeze=False, layout="constrained")
    for (share, latency), size in zip(axes, sizes, strict=True):
        cells = sorted(cell for cell in results if cell.size == size)
        named: set[str] = set()
        for place, cell in enumerate(cells):
            limit = next(r.throughput for r in results[cell] if r.contestant == "limit")
            bars = [r for r in results[cell] if r.contestant != "limit" and r.was_there]
            width = 0.8 / max(len(bars), 1)
            for number, bar in enumerate(bars):
                x = place - 0.4 + (number + 0.5) * width
                # Peers change their tuning from cell to cell; one entry of the legend each.
                label = bar.title if bar.contestant == "fastapi" else bar.contestant
                style = {"color": _COLOURS[bar.contestant], "label": None if label in named else label}
                if "throughput" in bar.title and bar.contestant == "fastapi":
                    style["color"] = "#88bbdd"
                named.add(label)
                share.bar(x, bar.throughput / limit, width * 0.9, **style)
                if not bar.p50:
                    continue
                latency.plot([x, x], [bar.p50, bar.p99], color=style["color"], linewidth=3, solid_capstyle="butt")
                latency.plot(x, bar.p50, "o", color=style["color"], markersize=5)
        share.axhline(1, color="black", linewidth=0.8)
        share.axhline(0.92, color="black", linewidth=0.8, linestyle=":")
        share.set(ylabel="share of the limit", title=f"{size} px: throughput")
        latency.set(ylabel="ms", yscale="log", title=f"{size} px: latency, p50 (dot) to p99")
        for axis in (share, latency):
            axis.set_xticks(range(len(cells)), [f"{cell.clients} client{'s' * (cell.clients > 1)}" for cell in cells])
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", linewidth=0.3)
            axis.set_axisbelow(True)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)

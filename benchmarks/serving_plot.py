"""Draw the result of `benchmarks.serving`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contestants import BASELINE, OURS, PEERS
from benchmarks.serving import LIMIT, TARGET, Cell, Result, best, ratio
from benchmarks.spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_COLOURS = {
    "ours": "#c1272d",
    "ours, started busy": "#e8863a",
    "fastapi, latency hint": "#4477aa",
    "fastapi, throughput hint": "#88bbdd",
    "bentoml": "#999999",
    "litserve": "#777777",
    "mlserver": "#555555",
    "seldon": "#333333",
}


def draw(results: Mapping[Cell, Sequence[Result]], path: Path) -> None:
    """Draw a row per input size: share of the limit, latency, and ours next to the best other server, with spreads."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted({cell.size for cell in results}, reverse=True)
    figure, axes = plt.subplots(len(sizes), 3, figsize=(17, 4 * len(sizes)), squeeze=False, layout="constrained")
    for (share, latency, ratios), size in zip(axes, sizes, strict=True):
        cells = sorted(cell for cell in results if cell.size == size)
        named: set[str] = set()
        for place, cell in enumerate(cells):
            limit = next(r for r in results[cell] if r.contestant == LIMIT)
            bars = [r for r in results[cell] if r.contestant != LIMIT and r.rounds]
            width = 0.8 / max(len(bars), 1)
            for number, bar in enumerate(bars):
                x = place - 0.4 + (number + 0.5) * width
                # Peers change their tuning between cells; the legend has one entry each.
                label = bar.contestant if bar.contestant in PEERS else bar.title
                colour, found = _COLOURS[label], ratio(bar, limit)
                share.bar(x, found.median, width * 0.9, color=colour, label=None if label in named else label)
                named.add(label)
                _draw_spread(share, x, found, "black")
                latency.plot([x, x], [bar.p50, bar.p99], color=colour, linewidth=3, solid_capstyle="butt")
                latency.plot(x, bar.p50, "o", color=colour, markersize=5)
            other = best(results[cell], (BASELINE, *PEERS))
            for number, ours in enumerate(r for r in bars if r.contestant == OURS and other):
                assert other
                x, found = place - 0.1 + 0.2 * number, ratio(ours, other)
                _draw_spread(ratios, x, found, _COLOURS[ours.title])
                ratios.plot(x, found.median, "o", color=_COLOURS[ours.title], markersize=6)
        share.axhline(1, color="black", linewidth=0.8)
        share.axhline(0.92, color="black", linewidth=0.8, linestyle=":")
        ratios.axhline(TARGET, color="black", linewidth=0.8, linestyle=":")
        share.set(ylabel="share of the limit", title=f"{size} px: throughput")
        latency.set(ylabel="ms", yscale="log", title=f"{size} px: latency, p50 (dot) to p99")
        ratios.set(ylabel="ours / best other server", title=f"{size} px: paired rounds, median with 95 % interval")
        for axis in (share, latency, ratios):
            axis.set_xticks(range(len(cells)), [f"{cell.clients} client{'s' * (cell.clients > 1)}" for cell in cells])
            axis.set_xlim(-0.5, len(cells) - 0.5)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", linewidth=0.3)
            axis.set_axisbelow(True)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(len(labels), 1), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_spread(axis: Axes, x: float, spread: Spread, colour: str) -> None:
    axis.plot([x, x], [spread.low, spread.high], color=colour, linewidth=1.5, solid_capstyle="butt")

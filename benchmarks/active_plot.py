"""Draw the result of `benchmarks.active_learning`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.active_learning import Run

__all__ = ["draw"]

# Okabe and Ito's blue and vermilion, which are distinct for colour-blind people, with different line styles for print.
_STYLES = {"random": ("#0072b2", "--", "in random order"), "ours": ("#d55e00", "-", "in our order")}


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw a panel per data set: the metric on test by number of labels, as median and range of the seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(run.use_case for run in runs))
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.8), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        goals = []
        for arm, (colour, line, label) in _STYLES.items():
            found = [run for run in runs if (run.use_case, run.arm) == (name, arm)]
            if not found:
                continue
            goals = [0.95 * run.full for run in found]
            # Only as far as all seeds go: good seeds stop earlier, and the median would drop without them.
            rounds = min(len(run.labels) for run in found)
            x = np.median([run.labels[:rounds] for run in found], axis=0)
            rows = np.array([run.figures[:rounds] for run in found])
            axis.plot(x, np.median(rows, axis=0), color=colour, linestyle=line, label=label)
            axis.fill_between(x, rows.min(axis=0), rows.max(axis=0), color=colour, alpha=0.15, linewidth=0)
            needed = float(np.median([run.needed for run in found]))
            axis.axvline(needed, color=colour, linestyle=line, linewidth=0.8)
        axis.axhline(float(np.mean(goals)), color="black", linewidth=0.8, linestyle=":")
        axis.set(title=name, xlabel="labelled images", ylabel="balanced accuracy, held out")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(linewidth=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)

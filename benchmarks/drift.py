"""Measure which changes of real images monitoring detects, at which severity, and its rate of false alarms.

    python -m benchmarks.drift --bundle DIR              # the steel champion, three seeds: 23 minutes, two busy cores
    python -m benchmarks.drift --bundle DIR --out truth  # also write the tables and the plot to this folder
    python -m benchmarks.drift --scale                   # only the cost of the drift step for 100,000 records
    python -m benchmarks.drift --bundle DIR --only sources --images DIR --size 300   # two cameras and their mix

The reference is the bundle's predictions on the val images of ``configs/steel.yaml``, in the pipeline's split. Windows
are drawn from its unseen test images: each without repetition, but they overlap. Every kind of change is applied to the
same windows. *Shuffled*: val and test are mixed and split again each time, so that differences between the two do not
count. *Repeated*: half of a window comes from as few images as one class has, but of all classes; repetition alone must
not trigger an alarm. *Class share*: the share of each class in turn, by the class of most boxes of an image, a sixth
in the data; *class shown*: the share of images with any box of the class, 0.16 to 0.23 in the data.

The table compares our tests with the same tests inside Evidently, whose verdicts and p-values must be equal, and with
Evidently's ``DataDriftPreset``, by its own verdict (half of the columns) and by any column. The preset runs on the
columns of our record, as with ``monitoring.drift.method: evidently``, and on four pixel features of a reference system.
The exit status is 1 if ours misses a target, or Evidently's values differ from ours. ``--no-peer`` skips Evidently,
which takes most of the time.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.drift_peer import PeerVerdicts, evidently_verdicts
from benchmarks.drift_sources import measure_sources, print_sources
from benchmarks.drift_windows import CLEAN, Group, Scenes, draw_groups, load_data
from benchmarks.rows import Row, cores, print_rows
from visionops.config import load_config
from visionops.inference.bundle import ModelBundle
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.features import FEATURE_NAMES
from visionops.monitoring.settings import DriftSettings

__all__ = ["Cell", "draw_plot", "least_detected", "main", "print_table", "write_table"]

_CAUGHT = 0.95
"""Required share of detected windows: 19 of 20."""
OURS, THROUGH = "ours", "ours in Evidently"
PRESET, ANY_COLUMN = "Evidently", "Evidently, any column"
RECORD, RECORD_ANY = "Evidently on our columns", "any of our columns"
_ANY = (ANY_COLUMN, RECORD_ANY)
_COLOURS = {
    OURS: "#0072B2",
    THROUGH: "#56B4E9",
    PRESET: "#D55E00",
    ANY_COLUMN: "#E69F00",
    RECORD: "#009E73",
    RECORD_ANY: "#CC79A7",
}
_EQUAL = 1e-12
"""Largest difference between two equal p-values."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """Results of the windows of one kind and severity."""

    kind: str
    label: str
    is_target: bool
    windows: int
    """Number of windows per seed."""
    alarms: Mapping[str, tuple[int, ...]]
    """Windows with an alarm per seed, by judge."""
    columns: Mapping[str, int]
    """Number of windows with drift over all seeds, by column of our record."""
    sentence: str
    """Explanation of our first window."""

    @property
    def is_clean(self) -> bool:
        """Whether an alarm would be false."""
        return self.kind.startswith(CLEAN)

    def worst(self, judge: str) -> int:
        """Return the windows with an alarm of the worst seed: the fewest, or without a change the most."""
        return (max if self.is_clean else min)(self.alarms[judge])

    def is_good(self, judge: str) -> bool:
        """Return whether every seed has at most one alarm in 20 clean windows, or at least 19 of 20 detections."""
        worst = self.worst(judge)
        return worst <= (1 - _CAUGHT) * self.windows if self.is_clean else worst >= _CAUGHT * self.windows


def measure(options: argparse.Namespace) -> tuple[list[Cell], float, float]:
    """Return the results, the median seconds of a report, and the largest difference from Evidently's p-values."""

    def show_progress(what: str) -> None:
        print(f"\r{what:60}", end="", file=sys.stderr, flush=True)

    show_progress("reading")
    config = load_config(options.config, [f"data.source.path={options.data / 'vision'}"])
    bundle = ModelBundle.load(options.bundle)
    scenes = Scenes(bundle, load_data(config), options.data, show_progress)
    by_seed = [
        list(draw_groups(scenes, options.windows, options.size, options.shuffles, seed)) for seed in options.seeds
    ]
    size = len(by_seed[0][0].pairs[0][1])
    print(f"\rreference: {len(scenes.reference)} val images; windows: {size} of {len(scenes.test())} test images")
    reports: list[list[list[DriftReport]]] = []
    seconds: list[float] = []
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        for seed, groups in zip(options.seeds, by_seed, strict=True):
            compare = functools.partial(_compare, DriftSettings(seed=seed))
            found = []
            for group in groups:
                show_progress(f"comparing: seed {seed}, {group.kind} {group.label}")
                answers = list(pool.map(compare, group.pairs))
                found.append([report for report, _ in answers])
                seconds += [took for _, took in answers]
            reports.append(found)
    alarms = {OURS: [[sum(r.drifted for r in group) for group in found] for found in reports]}
    distance = 0.0
    if not options.no_peer:
        show_progress("Evidently")
        peer_alarms, distance = _ask_peer(by_seed, options.seeds)
        alarms |= peer_alarms
    show_progress("")
    cells = [
        Cell(
            kind=group.kind,
            label=group.label,
            is_target=group.is_target,
            windows=len(group.pairs),
            alarms={judge: tuple(counts[row] for counts in of_seeds) for judge, of_seeds in alarms.items()},
            columns=dict(Counter(c.name for f in reports for r in f[row] for c in r.drifted_columns).most_common()),
            sentence=reports[0][row][0].explain(),
        )
        for row, group in enumerate(by_seed[0])
    ]
    return cells, float(np.median(seconds)), distance


def _compare(settings: DriftSettings, pair: tuple[pa.Table, pa.Table]) -> tuple[DriftReport, float]:
    start = time.perf_counter()
    report = detect_drift(*pair, settings)
    return report, time.perf_counter() - start


def _ask_peer(by_seed: Sequence[Sequence[Group]], seeds: Sequence[int]) -> tuple[dict[str, list[list[int]]], float]:
    found: list[list[list[PeerVerdicts]]] = []
    for seed, groups in zip(seeds, by_seed, strict=True):
        verdicts = iter(
            evidently_verdicts([pair for group in groups for pair in group.pairs], DriftSettings(seed=seed))
        )
        found.append([[next(verdicts) for _ in group.pairs] for group in groups])
    judges: dict[str, Callable[[PeerVerdicts], bool]] = {
        THROUGH: lambda v: bool(v.ours),
        PRESET: lambda v: v.pixels_drifted,
        ANY_COLUMN: lambda v: bool(v.pixels),
        RECORD: lambda v: v.preset_drifted,
        RECORD_ANY: lambda v: bool(v.preset),
    }
    alarms = {
        judge: [[sum(map(is_alarm, group)) for group in groups] for groups in found]
        for judge, is_alarm in judges.items()
    }
    return alarms, max(verdict.p_distance for groups in found for group in groups for verdict in group)


def least_detected(cells: Sequence[Cell], judge: str) -> str:
    """Return the weakest change of a kind above which enough windows are detected; "-" for none."""
    least = "-"
    for cell in reversed(cells):
        if not cell.is_good(judge):
            break
        least = cell.label
    return least


def _kinds(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {kind: [c for c in cells if c.kind == kind] for kind in dict.fromkeys(cell.kind for cell in cells)}


def print_table(cells: Sequence[Cell]) -> bool:
    """Print the windows with an alarm of the worst seed, in 80 columns; return whether ours meets all targets."""
    for kind, row in _kinds(cells).items():
        if row[0].is_clean:
            counts = "; ".join(f"{judge} {row[0].worst(judge)}" for judge in row[0].alarms)
            print(f"\n  {kind}, alarms in {row[0].windows}: {counts}", end="")
            continue
        print(f"\n\n  {kind:17}" + "".join(f"{cell.label:>7}" for cell in row) + "  least")
        for judge in row[0].alarms:
            title = {ANY_COLUMN: "  any column", RECORD: "  ours, preset", RECORD_ANY: "  any of ours"}.get(
                judge, judge
            )
            counts = "".join(f"{cell.worst(judge):>7}" for cell in row)
            print(f"  {title:17}{counts}  {least_detected(row, judge)}")
    missed = [cell for cell in cells if cell.is_target and not cell.is_good(OURS)]
    print("\n" + "".join(f"\n  MISSED: {c.kind} {c.label}, {c.alarms[OURS]} of {c.windows}" for c in missed))
    return not missed


def write_table(cells: Sequence[Cell], path: Path) -> None:
    """Write the table as Markdown: the lowest severity by kind, then all counts per seed."""
    judges = list(cells[0].alarms)
    lines = [f"| | {' | '.join(judges)} |", "|---|" + "---|" * len(judges)]
    for kind, row in _kinds(cells).items():
        if row[0].is_clean:
            found = [f"{_counts(row[0].alarms[judge])} of {row[0].windows}" for judge in judges]
        else:
            found = [least_detected(row, judge) for judge in judges]
        lines.append(f"| {kind} | {' | '.join(found)} |")
    for kind, row in _kinds(cells).items():
        if not row[0].is_clean:
            labels = [f"**{cell.label}**" if cell.is_target else cell.label for cell in row]
            lines += ["", f"| {kind} | {' | '.join(labels)} |", "|---|" + "---|" * len(row)]
            lines += [f"| {j} | {' | '.join(_counts(cell.alarms[j]) for cell in row)} |" for j in judges]
    path.write_text("\n".join(lines) + "\n")


def _counts(by_seed: Sequence[int]) -> str:
    return ", ".join(map(str, by_seed)) if len(set(by_seed)) > 1 else str(by_seed[0])


def draw_plot(cells: Sequence[Cell], path: Path) -> None:
    """Draw the share of windows with an alarm for each kind, from no change to strong changes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    kinds = {kind: [cells[0], *row] for kind, row in _kinds(cells).items() if not row[0].is_clean}
    figure, axes = plt.subplots(
        2, -(-len(kinds) // 2), figsize=(13, 6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (kind, row) in zip(axes.flat, kinds.items(), strict=False):
        for judge in row[0].alarms:
            shares = [sum(cell.alarms[judge]) / (cell.windows * len(cell.alarms[judge])) for cell in row]
            style = {"color": _COLOURS[judge], "linestyle": "--" if judge in _ANY else "-"}
            axis.plot(range(len(row)), shares, marker="o", markersize=4, label=judge, **style)
        axis.axhline(_CAUGHT, color="black", linewidth=0.8, linestyle=":")
        axis.set_xticks(range(len(row)), [CLEAN, *(cell.label for cell in row[1:])], fontsize=8, rotation=45)
        axis.set(title=kind, ylim=(-0.04, 1.04))
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes.flat)[len(kinds) :]:
        axis.set_axis_off()
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of windows with an alarm")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def measure_scale(images: int) -> list[Row]:
    """Measure time and memory of a report over synthetic records, and of the step with Evidently, in own processes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        seconds, before, peak, columns = pool.apply(_report_at_scale, (images,))
    with context.Pool(1) as pool:
        step, imported, busy, step_peak, page = pool.apply(_step_at_scale, (images,))
    return [
        Row("images, in each table", images, ""),
        Row("columns", columns, ""),
        Row("a report", seconds, "s", "<= 30", seconds <= 30),
        Row("memory at most", peak, "MB", "<= 1000", peak <= 1000),
        Row("of it libraries and the two tables", before, "MB"),
        Row("the step, with Evidently", step, "s", "<= 45", step <= 45),
        Row("of it importing Evidently", imported, "s"),
        Row("of it processor time", busy, "s"),
        Row("memory at most", step_peak, "MB", "<= 1500", step_peak <= 1500),
        Row("page", page, "MB", "<= 5", page <= 5),
    ]


def _report_at_scale(images: int) -> tuple[float, float, float, int]:
    before, after = (_made_up(images, seed) for seed in (0, 1))
    start_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    report = detect_drift(before, after, DriftSettings())
    seconds = time.perf_counter() - start
    return seconds, start_memory, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(report.columns)


def _step_at_scale(images: int) -> tuple[float, float, float, float, float]:
    """Return the total, import and CPU seconds, and the MB of peak memory and of the page."""
    before, after = (_made_up(images, seed) for seed in (0, 1))
    start, idle = time.perf_counter(), time.process_time()
    from visionops.monitoring.evidently.comparison import compare_with_evidently

    imported = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        findings = compare_with_evidently(before, after, DriftSettings(), "made-up", folder)
    seconds, busy = time.perf_counter() - start, time.process_time() - idle
    assert findings.report.snapshot, findings.problem
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seconds, imported, busy, peak, len(findings.page.encode()) / 1e6


def _made_up(images: int, seed: int) -> pa.Table:
    """Return synthetic records with drifted brightness, so that permutation tests do not all stop early."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2, images)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    names = np.array([f"class-{i}" for i in range(6)])[rng.choice(6, counts.sum(), p=np.roll([0.5] + [0.1] * 5, seed))]

    def per_box() -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(rng.random(counts.sum()), pa.float32()))

    vectors = rng.normal(seed, 1, images * 64).astype(np.float32)
    rows = pa.array(np.arange(images + 1) * 64, pa.int32())
    return pa.table(
        {
            **{f"feature_{name}": pa.array(rng.normal(seed, 1, images), pa.float32()) for name in FEATURE_NAMES},
            "count": pa.array(counts, pa.int32()),
            "labels": pa.ListArray.from_arrays(offsets, pa.array(names)),
            **{name: per_box() for name in ("confidences", "areas", "centres_x", "centres_y")},
            "embedding": pa.ListArray.from_arrays(rows, pa.array(vectors)),
        }
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="folder of the model's bundle")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real images: %(default)s")
    parser.add_argument("--config", type=Path, default=Path("configs/steel.yaml"))
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--size", type=int, default=100, help="images per window: %(default)s")
    parser.add_argument("--shuffles", type=int, default=200, help="clean windows of val and test mixed: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="folder for drift.md, drift.json and drift.png")
    parser.add_argument("--no-peer", action="store_true", help="without Evidently")
    parser.add_argument("--scale", action="store_true", help="measure the cost instead")
    parser.add_argument("--only", choices=["sources"], help="sources: two cameras with a changing mix or light")
    parser.add_argument("--images", type=Path, help="with --only sources: a folder that the model was not trained on")
    parser.add_argument("--most", type=int, default=1500, help="with --only sources: most images to use: %(default)s")
    options = parser.parse_args(arguments)
    if options.scale:
        rows = measure_scale(100_000)
        print_rows(f"drift report  ({cores()} cores, load {os.getloadavg()[0]:.1f})", rows)
        return int(any(row.met is False for row in rows))
    if options.bundle is None:
        parser.error("--bundle DIR is needed: the folder of a trained model's bundle")
    start = time.monotonic()
    if options.only:
        return _sources(options)
    cells, seconds, distance = measure(options)
    met = print_table(cells)
    if not options.no_peer:
        is_same = distance <= _EQUAL and all(cell.alarms[OURS] == cell.alarms[THROUGH] for cell in cells)
        print(
            f"  p-values of our tests in Evidently differ by {distance:.1g} at most" + ("" if is_same else ": MISSED")
        )
        met &= is_same
    load = f"load {os.getloadavg()[0]:.1f} on {cores()} cores"
    print(f"  a report took {seconds * 1000:.0f} ms (median), all {time.monotonic() - start:.0f} s; {load}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_table(cells, options.out / "drift.md")
        draw_plot(cells, options.out / "drift.png")
        (options.out / "drift.json").write_text(json.dumps([dataclasses.asdict(cell) for cell in cells], indent=1))
    return 0 if met else 1


def _sources(options: argparse.Namespace) -> int:
    def show_progress(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    folder = options.images or options.data / "vision" / "Steel"
    bundle = ModelBundle.load(options.bundle)
    found = measure_sources(
        bundle, folder, options.most, options.windows, options.size, options.seeds, options.out, show_progress
    )
    met = print_sources(found)
    print(f"  {found[-2].sentence}")
    if options.out:
        (options.out / "sources.json").write_text(json.dumps([dataclasses.asdict(cell) for cell in found], indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())

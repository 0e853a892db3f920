"""Which changes of real images monitoring sees, from which severity on, and how often it sees one where there is none.

    python -m benchmarks.drift --bundle DIR              # the steel champion, three seeds: 23 minutes, two busy cores
    python -m benchmarks.drift --bundle DIR --out truth  # keep the tables and the plot there
    python -m benchmarks.drift --scale                   # only: what the drift step over 100,000 records costs
    python -m benchmarks.drift --bundle DIR --only sources --images DIR --size 300   # two cameras and their mix

The reference is the bundle's own predictions on the val images of ``configs/steel.yaml``, split as the pipeline splits
them. Windows are drawn from its test images, which it has not seen either: each without repetition, but they overlap.
Every kind of change is made to the same windows. *Shuffled*: val and test are mixed and dealt anew each time, so that
what differs between the two does not count. *Repeated*: half of a window comes from as few images as a class has, but
of all classes: what moving the share of a class must not be caught by. *Class share*: of each class in turn, which is
what most boxes of an image show, as on a sixth of all; *class shown*: on any image, as 0.16 to 0.23 of them.

Beside ours stand our tests inside Evidently, whose verdicts and p-values must be equal, and Evidently's
``DataDriftPreset`` by its own verdict, which takes half of the columns, and by any column: on the columns of our
record, as ``monitoring.drift.method: evidently`` has it, and on four features of the pixels of a reference system. The
exit status is 1 when ours misses a target, or Evidently's figures are not ours. ``--no-peer`` leaves Evidently out,
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

from benchmarks.drift_peer import PeerVerdicts, ask_evidently
from benchmarks.drift_sources import measure_sources, print_sources
from benchmarks.drift_windows import CLEAN, Group, Scenes, draw_groups, load_data
from benchmarks.rows import Row, cores, print_rows
from visionops.config import load_config
from visionops.inference.bundle import ModelBundle
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.features import FEATURE_NAMES
from visionops.monitoring.settings import DriftSettings

__all__ = ["Cell", "draw_plot", "least_caught", "main", "print_table", "write_table"]

_CAUGHT = 0.95
"""Share of the windows that must be caught: 19 of 20."""
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
"""Largest difference between two p-values that are the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """The windows of one kind and severity."""

    kind: str
    label: str
    asked: bool
    windows: int
    """Of each seed."""
    alarms: Mapping[str, tuple[int, ...]]
    """Who judges, to the windows with an alarm by seed."""
    columns: Mapping[str, int]
    """Of ours, to the number of windows in which it drifted, of all seeds."""
    sentence: str
    """Of our first window."""

    @property
    def is_clean(self) -> bool:
        """Whether an alarm is a false one."""
        return self.kind.startswith(CLEAN)

    def worst(self, judge: str) -> int:
        """Windows with an alarm, of the seed with the fewest; without a change, of the one with the most."""
        return (max if self.is_clean else min)(self.alarms[judge])

    def is_good(self, judge: str) -> bool:
        """At every seed at most one alarm in 20 clean windows, or at least 19 of 20 caught."""
        worst = self.worst(judge)
        return worst <= (1 - _CAUGHT) * self.windows if self.is_clean else worst >= _CAUGHT * self.windows


def measure(told: argparse.Namespace) -> tuple[list[Cell], float, float]:
    """The truth table, the median seconds of a report, and how far Evidently's p-values of our tests are from ours."""

    def tell(what: str) -> None:
        print(f"\r{what:60}", end="", file=sys.stderr, flush=True)

    tell("reading")
    config = load_config(told.config, [f"data.source.path={told.data / 'vision'}"])
    bundle = ModelBundle.load(told.bundle)
    scenes = Scenes(bundle, load_data(config), told.data, tell)
    by_seed = [list(draw_groups(scenes, told.windows, told.size, told.shuffles, seed)) for seed in told.seeds]
    size = len(by_seed[0][0].pairs[0][1])
    print(f"\rreference: {len(scenes.reference)} val images; windows: {size} of {len(scenes.test())} test images")
    reports: list[list[list[DriftReport]]] = []
    seconds: list[float] = []
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        for seed, groups in zip(told.seeds, by_seed, strict=True):
            compare = functools.partial(_compare, DriftSettings(seed=seed))
            found = []
            for group in groups:
                tell(f"comparing: seed {seed}, {group.kind} {group.label}")
                answers = list(pool.map(compare, group.pairs))
                found.append([report for report, _ in answers])
                seconds += [took for _, took in answers]
            reports.append(found)
    alarms = {OURS: [[sum(r.drifted for r in group) for group in found] for found in reports]}
    distance = 0.0
    if not told.no_peer:
        tell("Evidently")
        peer_alarms, distance = _ask_peer(by_seed, told.seeds)
        alarms |= peer_alarms
    tell("")
    cells = [
        Cell(
            kind=group.kind,
            label=group.label,
            asked=group.asked,
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
        verdicts = iter(ask_evidently([pair for group in groups for pair in group.pairs], DriftSettings(seed=seed)))
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


def least_caught(cells: Sequence[Cell], judge: str) -> str:
    """The weakest change of a kind from which on enough windows are caught; "-" for none."""
    least = "-"
    for cell in reversed(cells):
        if not cell.is_good(judge):
            break
        least = cell.label
    return least


def _kinds(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {kind: [c for c in cells if c.kind == kind] for kind in dict.fromkeys(cell.kind for cell in cells)}


def print_table(cells: Sequence[Cell]) -> bool:
    """Windows with an alarm, of the worst seed, in 80 columns. Returns whether ours meets all that was asked."""
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
            print(f"  {title:17}{counts}  {least_caught(row, judge)}")
    missed = [cell for cell in cells if cell.asked and not cell.is_good(OURS)]
    print("\n" + "".join(f"\n  MISSED: {c.kind} {c.label}, {c.alarms[OURS]} of {c.windows}" for c in missed))
    return not missed


def write_table(cells: Sequence[Cell], path: Path) -> None:
    """The same as Markdown: the least severity by kind, then all counts, seed by seed."""
    judges = list(cells[0].alarms)
    lines = [f"| | {' | '.join(judges)} |", "|---|" + "---|" * len(judges)]
    for kind, row in _kinds(cells).items():
        if row[0].is_clean:
            found = [f"{_counts(row[0].alarms[judge])} of {row[0].windows}" for judge in judges]
        else:
            found = [least_caught(row, judge) for judge in judges]
        lines.append(f"| {kind} | {' | '.join(found)} |")
    for kind, row in _kinds(cells).items():
        if not row[0].is_clean:
            labels = [f"**{cell.label}**" if cell.asked else cell.label for cell in row]
            lines += ["", f"| {kind} | {' | '.join(labels)} |", "|---|" + "---|" * len(row)]
            lines += [f"| {j} | {' | '.join(_counts(cell.alarms[j]) for cell in row)} |" for j in judges]
    path.write_text("\n".join(lines) + "\n")


def _counts(by_seed: Sequence[int]) -> str:
    return ", ".join(map(str, by_seed)) if len(set(by_seed)) > 1 else str(by_seed[0])


def draw_plot(cells: Sequence[Cell], path: Path) -> None:
    """Of each kind the share of windows with an alarm, from none over weak to strong."""
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
    """Seconds and memory of a report over made-up records, and of the step with Evidently, each in its own process."""
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
    """Seconds of all, of the import and of the processor; MB of memory at most and of the page."""
    before, after = (_made_up(images, seed) for seed in (0, 1))
    start, idle = time.perf_counter(), time.process_time()
    from visionops.monitoring.evidently.comparison import look_for_drift

    imported = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        findings = look_for_drift(before, after, DriftSettings(), "made-up", folder)
    seconds, busy = time.perf_counter() - start, time.process_time() - idle
    assert findings.report.snapshot, findings.problem
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seconds, imported, busy, peak, len(findings.page.encode()) / 1e6


def _made_up(images: int, seed: int) -> pa.Table:
    """Brightness drifted, so that no permutation test stops early everywhere."""
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
    """Print the table; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="folder of the model's bundle")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real images: %(default)s")
    parser.add_argument("--config", type=Path, default=Path("configs/steel.yaml"))
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--size", type=int, default=100, help="images of a window: %(default)s")
    parser.add_argument("--shuffles", type=int, default=200, help="clean windows of val and test mixed: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="folder for drift.md, drift.json and drift.png")
    parser.add_argument("--no-peer", action="store_true", help="ours alone")
    parser.add_argument("--scale", action="store_true", help="measure the cost instead")
    parser.add_argument("--only", choices=["sources"], help="sources: two cameras, whose mix or light changes")
    parser.add_argument("--images", type=Path, help="with --only sources: a folder that the model was not trained on")
    parser.add_argument("--most", type=int, default=1500, help="with --only sources: images that are used: %(default)s")
    told = parser.parse_args(arguments)
    if told.scale:
        rows = measure_scale(100_000)
        print_rows(f"drift report  ({cores()} cores, load {os.getloadavg()[0]:.1f})", rows)
        return int(any(row.met is False for row in rows))
    if told.bundle is None:
        parser.error("--bundle DIR is needed: the folder of a trained model's bundle")
    start = time.monotonic()
    if told.only:
        return _sources(told)
    cells, seconds, distance = measure(told)
    met = print_table(cells)
    if not told.no_peer:
        is_same = distance <= _EQUAL and all(cell.alarms[OURS] == cell.alarms[THROUGH] for cell in cells)
        print(
            f"  p-values of our tests in Evidently differ by {distance:.1g} at most" + ("" if is_same else ": MISSED")
        )
        met &= is_same
    told_by = f"load {os.getloadavg()[0]:.1f} on {cores()} cores"
    print(f"  a report took {seconds * 1000:.0f} ms (median), all {time.monotonic() - start:.0f} s; {told_by}")
    if told.out:
        told.out.mkdir(parents=True, exist_ok=True)
        write_table(cells, told.out / "drift.md")
        draw_plot(cells, told.out / "drift.png")
        (told.out / "drift.json").write_text(json.dumps([dataclasses.asdict(cell) for cell in cells], indent=1))
    return 0 if met else 1


def _sources(told: argparse.Namespace) -> int:
    def tell(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    if told.out:
        told.out.mkdir(parents=True, exist_ok=True)
    folder = told.images or told.data / "vision" / "Steel"
    bundle = ModelBundle.load(told.bundle)
    found = measure_sources(bundle, folder, told.most, told.windows, told.size, told.seeds, told.out, tell)
    met = print_sources(found)
    print(f"  {found[-2].sentence}")
    if told.out:
        (told.out / "sources.json").write_text(json.dumps([dataclasses.asdict(cell) for cell in found], indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())

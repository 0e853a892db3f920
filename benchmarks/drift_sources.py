"""Check with two cameras that a new mix causes no alarm, and that a changed camera is named.

Camera ``a`` takes the images unchanged; ``b`` has the response of another camera (`Kind.CAMERA`, severity 1), in the
reference and in windows. Each image is predicted as from either camera, and as from ``b`` with half the light. Images
are split once: a third is the reference, half of it by each camera, and windows are drawn from the rest without
repetition. *Pooled* is the same window compared without its sources.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import cores
from visionops.data.files import walk_files
from visionops.inference.bundle import ModelBundle
from visionops.inference.image import decode_image
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Load, Predictor
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.expansion import expand_records
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.features import describe_image
from visionops.monitoring.record import record_of, record_schema
from visionops.monitoring.settings import DriftSettings
from visionops.monitoring.simulate import Kind, modify

__all__ = ["SourceCell", "measure_sources", "print_sources"]

_Rows = npt.NDArray[np.int64]
_Changes = tuple[tuple[Kind, float], ...]

_RESPONSES: Mapping[str, _Changes] = {
    "a": (),
    "b": ((Kind.CAMERA, 1.0),),
    "b, half the light": ((Kind.CAMERA, 1.0), (Kind.BRIGHTNESS, 1.0)),
}
_CAUGHT = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class _Case:
    """Windows of one kind."""

    title: str
    share_of_a: float
    b: str = "b"
    """State of camera ``b`` in the window."""
    knows_sources: bool = True
    """Whether the reference has sources; otherwise each source is compared with its own earlier traffic."""
    counts: str = "alarms"
    """Target: no ``alarms`` of a source, or only ``b`` ``named``; "" for none."""


_CASES = (
    _Case("clean, 1:1", 0.5),
    _Case("clean, the mix moves to 9:1", 0.9),
    _Case("the same, by earlier traffic", 0.9, knows_sources=False),
    _Case("b at half the light, 1:1", 0.5, "b, half the light", counts="named"),
    _Case("b at half the light, 9:1", 0.9, "b, half the light", counts=""),
)


@dataclasses.dataclass(frozen=True, slots=True)
class SourceCell:
    """Results of the windows of one case, by seed."""

    title: str
    counts: str
    windows: int
    named_a: tuple[int, ...]
    """Windows with drift in a column of ``a``."""
    named_b: tuple[int, ...]
    only_b: tuple[int, ...]
    """Windows with drift in columns of ``b`` and none of ``a``."""
    clean: tuple[int, ...]
    """Windows without an alarm of either source."""
    mix: tuple[int, ...]
    """Windows with drift in the column ``source``."""
    pooled: tuple[int, ...]
    """Windows with an alarm without sources; empty if not counted."""
    sentence: str

    @property
    def is_met(self) -> bool:
        """Whether every seed has at least 19 of 20."""
        counted = {"alarms": self.clean, "named": self.only_b}.get(self.counts)
        return counted is None or min(counted) >= _CAUGHT * self.windows


def measure_sources(
    bundle: ModelBundle,
    folder: Path,
    images: int,
    windows: int,
    size: int,
    seeds: Sequence[int],
    kept: Path | None = None,
    show_progress: Callable[[str], None] = lambda _: None,
) -> list[SourceCell]:
    """Count alarms by source.

    Args:
        folder: Images that the model was not trained on.
        images: Maximum number of images to use.
        windows: Windows per case and seed.
        size: Images per window.
        kept: Folder for the records of each camera, so that a run with other seeds does not predict again.
    """
    files = sorted(folder / file.name for file in walk_files(folder) if file.is_image)
    order = np.random.default_rng(0).permutation(len(files))[:images]
    paths = [files[row] for row in order]
    predictor = Predictor(bundle, streams=cores(), load=Load(images=1))
    tables = {}
    for name, changes in _RESPONSES.items():
        show_progress(f"predicting {len(paths)} images of {name}")
        file = (
            kept / f"{bundle.digest[:8]}-{len(paths)}-{'-'.join(name.replace(',', '').split())}.parquet"
            if kept
            else None
        )
        if file is None or not file.exists():
            tables[name] = _predict(predictor, paths, changes, name[0])
            if file is not None:
                pq.write_table(tables[name], file)
        else:
            tables[name] = pq.read_table(file)
    rows = np.arange(len(paths))
    third = len(rows) // 3
    reference = _take(tables, rows[: third // 2], rows[third // 2 : third])
    found: dict[str, list[list[DriftReport]]] = {case.title: [] for case in _CASES}
    pooled: dict[str, list[int]] = {case.title: [] for case in _CASES}
    for seed, case in itertools.product(seeds, _CASES):
        show_progress(f"seed {seed}: {case.title}")
        rng, settings = np.random.default_rng(seed), DriftSettings(seed=seed)
        reports, alarms = [], 0
        is_pooled = case.counts == "alarms" and case.knows_sources
        for _ in range(windows):
            drawn = third + rng.permutation(len(rows) - third)[:size]
            cut = round(case.share_of_a * size)
            window = _take(tables, drawn[:cut], drawn[cut:], case.b)
            history = None if case.knows_sources else reference
            known = reference if case.knows_sources else reference.drop_columns(["source"])
            reports.append(detect_drift(known, window, settings, history))
            if is_pooled:
                unnamed, unnamed_window = (table.drop_columns(["source"]) for table in (reference, window))
                alarms += detect_drift(unnamed, unnamed_window, settings).drifted
        found[case.title].append(reports)
        if is_pooled:
            pooled[case.title].append(alarms)
        named = [",".join(report.drifted_sources) or "none" for report in reports]
        show_progress(f"seed {seed}: {case.title}: {dict(Counter(named))}")
    return [_count(case, found[case.title], pooled[case.title], windows) for case in _CASES]


def print_sources(cells: Sequence[SourceCell]) -> bool:
    """Print a line per case with windows by seed; return whether all targets are met."""
    print(f"\n  {'windows with':32}{'alarm of a':>12}{'alarm of b':>12}{'b alone':>10}{'mix':>12}{'pooled':>12}")
    for cell in cells:
        counts = (cell.named_a, cell.named_b, cell.only_b, cell.mix, cell.pooled)
        shown = [",".join(map(str, of_seeds)) or "-" for of_seeds in counts]
        widths = (12, 12, 10, 12, 12)
        line = "".join(f"{text:>{width}}" for text, width in zip(shown, widths, strict=True))
        print(f"  {cell.title:32}{line}  of {cell.windows}{'' if cell.is_met else '  MISSED'}")
    return all(cell.is_met for cell in cells)


def _count(case: _Case, found: list[list[DriftReport]], pooled: list[int], windows: int) -> SourceCell:
    def count(is_one: Callable[[DriftReport], bool]) -> tuple[int, ...]:
        return tuple(sum(map(is_one, reports)) for reports in found)

    return SourceCell(
        title=case.title,
        counts=case.counts,
        windows=windows,
        named_a=count(lambda report: "a" in report.drifted_sources),
        named_b=count(lambda report: "b" in report.drifted_sources),
        only_b=count(lambda report: report.drifted_sources == ("b",)),
        clean=count(lambda report: not report.drifted_sources),
        mix=count(lambda report: any(column.drifted and column.name == "source" for column in report.columns)),
        pooled=tuple(pooled),
        sentence=found[0][0].explain(),
    )


def _take(tables: Mapping[str, pa.Table], of_a: _Rows, of_b: _Rows, b: str = "b") -> pa.Table:
    return pa.concat_tables([tables["a"].take(of_a), tables[b].take(of_b)])


def _predict(predictor: Predictor, paths: Sequence[Path], changes: _Changes, source: str) -> pa.Table:
    def record(number: int, path: Path) -> dict[str, Any]:
        rgb = decode_image(path.read_bytes(), where=str(path))
        for step, (kind, severity) in enumerate(changes):
            rgb = modify(rgb, kind, severity, np.random.default_rng([number, step]))
        records: list[dict[str, Any]] = []

        def watch(pixels: npt.NDArray[np.uint8], prediction: Prediction) -> None:
            records.append(record_of(prediction, *describe_image(pixels), source=source))

        predictor.predict(rgb, where=str(path), watch=watch)
        return records[0]

    with ThreadPoolExecutor(cores()) as pool:
        rows = list(pool.map(record, itertools.count(), paths))
    table = pa.Table.from_pylist(rows, schema=record_schema())
    return expand_records([table], predictor.bundle.card)[0]

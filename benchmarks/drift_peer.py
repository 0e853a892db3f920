"""Run Evidently for comparison: our tests inside it, and its preset on our columns and on a reference system's.

All three run in a separate process, since Evidently takes seconds to import.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.rows import cores
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.settings import DriftSettings

__all__ = ["PIXEL_FEATURES", "PeerVerdicts", "evidently_verdicts", "pixel_features"]

PIXEL_FEATURES = ("brightness_mean", "brightness_std", "contrast", "sharpness")


@dataclasses.dataclass(frozen=True, slots=True)
class PeerVerdicts:
    """Verdicts on a window."""

    ours: tuple[str, ...]
    """Columns with drift by our tests inside Evidently."""
    p_distance: float
    """Largest difference between Evidently's p-values and ours."""
    preset: tuple[str, ...]
    """Columns of the record with drift by `DataDriftPreset`."""
    preset_drifted: bool
    """Verdict of the preset on the record: drift in half of the columns or more."""
    pixels: tuple[str, ...]
    """Pixel features with drift by `DataDriftPreset`."""
    pixels_drifted: bool


def pixel_features(rgb: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the features of the reference system by name.

    Mean and standard deviation of all values, standard deviation of the mean of the channels (on grey images the same
    once more), and its mean squared gradient; of values from 0 to 1.

    Args:
        rgb: uint8 (H, W, 3), at least 2 x 2.
    """
    values = rgb.astype(np.float32) / 255
    grey = values.mean(axis=2)
    energy = sum(float(np.square(slope).mean()) for slope in np.gradient(grey))
    found = (values.mean(dtype=np.float64), values.std(dtype=np.float64), grey.std(dtype=np.float64), energy)
    return dict(zip(PIXEL_FEATURES, map(float, found), strict=True))


def evidently_verdicts(pairs: Sequence[tuple[pa.Table, pa.Table]], settings: DriftSettings) -> list[PeerVerdicts]:
    """Return Evidently's verdicts on each (reference, window)."""
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn"), initializer=_draw_nothing) as pool:
        return list(pool.map(partial(_ask, settings), pairs, chunksize=4))


def _draw_nothing() -> None:
    """Disable Evidently's plots, which take most of its time and do not affect verdicts."""
    from evidently.metrics.column_statistics import ValueDriftCalculation
    from evidently.presets import DataDriftPreset

    import visionops.monitoring.evidently  # noqa: F401 (disables telemetry before the import of Evidently)

    ValueDriftCalculation._render = lambda *_: []
    DataDriftPreset.render = lambda *_, **__: []


def _ask(settings: DriftSettings, pair: tuple[pa.Table, pa.Table]) -> PeerVerdicts:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    from visionops.monitoring.evidently.preset import detect_by_preset
    from visionops.monitoring.evidently.report import drift_scores, quietly, run_report

    report = detect_drift(*pair, settings)
    through = run_report(*pair, report, has_summary=False)
    ours = {column.name: column.p_value for column in report.columns if column.p_value is not None}
    theirs = drift_scores(through)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    preset = detect_by_preset(*pair, settings, has_summary=False)[1]
    with quietly():
        reference, current = (table.select(PIXEL_FEATURES).to_pandas() for table in pair)
        pixels = Report([DataDriftPreset()], include_tests=True).run(current, reference)
    judged = _failed(through), _failed(preset), _failed(pixels)
    return PeerVerdicts(
        ours=judged[0][0],
        p_distance=max((abs(p - theirs[name]) for name, p in ours.items()), default=0.0),
        preset=judged[1][0],
        preset_drifted=judged[1][1],
        pixels=judged[2][0],
        pixels_drifted=judged[2][1],
    )


def _failed(snapshot: object) -> tuple[tuple[str, ...], bool]:
    """Return the columns with drift, and whether enough have it, from the status of the tests."""
    tests = snapshot.dict()["tests"]  # type: ignore[attr-defined]
    failed = [test["metric_config"]["params"] for test in tests if test["status"].value == "FAIL"]
    columns = tuple(params["column"] for params in failed if params["type"].endswith("ValueDrift"))
    return columns, any(params["type"].endswith("DriftedColumnsCount") for params in failed)

"""Write and read `evaluation.json`, and write the self-contained `report.html`."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from visionops.data.files import atomic_folder
from visionops.errors import DataError
from visionops.evaluation.drawing import Picture
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan

__all__ = ["NO_GALLERY", "Page", "load_evaluation", "write_report", "writing"]

NO_GALLERY = "Not drawn: evaluation.worst_images is 0."
"""Text in place of the worst images."""

_JSON = "evaluation.json"
_TITLES = {
    "map50": "mAP50",
    "map50_95": "mAP50-95",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
}
_MAX_EMBEDDED = 3_400_000
"""Maximum size of the report's pictures in bytes: 4.6 MB after encoding, which a dashboard's frame opens at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Texts that a task shows around the metrics."""

    notes: str
    """Definition of the metrics: a paragraph below them."""
    table: str
    """Heading for a row of ``per_class``: "class", "attribute"."""
    columns: tuple[tuple[str, str], ...]
    """Metrics of a row and their titles; ``instances`` is a count."""
    charts: Sequence[Picture]
    worst: Sequence[Picture]
    worst_notes: str
    """How the worst images are ranked, or that there are none."""
    best: Sequence[Picture]
    legend: tuple[tuple[str, str], ...] = ()
    """Colours in the pictures, as CSS values, and their meaning."""


@contextlib.contextmanager
def writing(evaluation: Evaluation) -> Iterator[Evaluation]:
    """Yield the evaluation in a temporary folder, which replaces its own folder if the block succeeds.

    Raises:
        DataError: The folder cannot be written.
    """
    try:
        evaluation.folder.mkdir(parents=True, exist_ok=True)
        # Write new files, never into the old ones: those may be hard links into the artifact of an earlier run.
        with atomic_folder(evaluation.folder, replace=True) as folder:
            yield dataclasses.replace(evaluation, folder=folder)
    except OSError as error:
        place = error.filename or evaluation.folder
        raise DataError(f"{place}: the evaluation cannot be written ({error.strerror}); free or open it") from error


def write_report(evaluation: Evaluation, scoring: EvaluationPlan, page: Page) -> None:
    """Write ``evaluation.json`` and ``report.html`` into the evaluation's folder."""
    raw = {k: v for k, v in dataclasses.asdict(evaluation).items() if k != "folder"}
    raw["per_class"] = {
        name: {key: _none_for_nan(value) for key, value in row.items()} for name, row in evaluation.per_class.items()
    }
    raw["replicates"] = {name: [_none_for_nan(v) for v in row] for name, row in evaluation.replicates.items()}
    text = json.dumps(raw, ensure_ascii=False, allow_nan=False)
    (evaluation.folder / _JSON).write_text(text, encoding="utf-8")
    (evaluation.folder / "report.html").write_text(_render(evaluation, scoring, page), encoding="utf-8")


def load_evaluation(folder: Path) -> Evaluation:
    """Read what `write_report` wrote.

    Raises:
        DataError: The folder has no usable ``evaluation.json``.
    """
    try:
        raw = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        raw["per_class"] = {
            name: {key: _nan_for_none(value) for key, value in row.items()} for name, row in raw["per_class"].items()
        }
        raw["headline"] = tuple(raw["headline"])
        raw["intervals"] = {name: (low, high) for name, (low, high) in raw["intervals"].items()}
        raw["replicates"] = {n: tuple(map(_nan_for_none, row)) for n, row in raw["replicates"].items()}
        return Evaluation(folder=folder, **raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / _JSON}: not a saved evaluation ({error}); evaluate again") from error


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _nan_for_none(value: float | None) -> float:
    return math.nan if value is None else value


def _render(evaluation: Evaluation, scoring: EvaluationPlan, page: Page) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.evaluation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"figure": _figure_text, "interval": _interval_text, "title": _title}
    return environment.get_template("report.html.j2").render(
        evaluation=evaluation, scoring=scoring, page=page, sources=_embed([*page.charts, *page.worst, *page.best])
    )


def _title(metric: str) -> str:
    return _TITLES.get(metric, metric.replace("_", " "))


def _figure_text(value: float, metric: str = "") -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if metric == "instances" else f"{value:.3f}"


def _interval_text(evaluation: Evaluation, metric: str) -> str:
    low, high = evaluation.intervals.get(metric, (math.nan, math.nan))
    return "" if math.isnan(low) else f"{low:.3f} to {high:.3f}"


def _embed(pictures: Sequence[Picture]) -> dict[Path, str]:
    """Return data URLs of the pictures, in order, until the size limit; the others stay files beside the report."""
    sources: dict[Path, str] = {}
    left = _MAX_EMBEDDED
    for picture in pictures:
        data = picture.path.read_bytes()
        left -= len(data)
        if left < 0:
            break
        kind = "png" if picture.path.suffix == ".png" else "jpeg"
        sources[picture.path] = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return sources

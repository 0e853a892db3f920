"""`evaluation.json` and the self-contained `report.html` of an evaluation."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from visionops.config import Config
from visionops.errors import DataError
from visionops.evaluation.pictures import Picture
from visionops.tasks.base import Evaluation

__all__ = ["load_evaluation", "write_report"]

_JSON = "evaluation.json"
_MAX_EMBEDDED = 3_400_000
"""Bytes of pictures in the report: 4.6 MB once encoded, so that a dashboard's frame still opens it at once."""


def write_report(
    evaluation: Evaluation,
    config: Config,
    charts: Sequence[Picture],
    worst: Sequence[Picture],
    best: Sequence[Picture],
) -> None:
    """Write ``evaluation.json`` and ``report.html`` into the evaluation's folder."""
    raw = {k: v for k, v in dataclasses.asdict(evaluation).items() if k != "folder"}
    raw["per_class"] = {name: _without_nan(row) for name, row in evaluation.per_class.items()}
    text = json.dumps(raw, indent=1, ensure_ascii=False, allow_nan=False)
    (evaluation.folder / _JSON).write_text(text, encoding="utf-8")
    html = _render(evaluation, config, charts, worst, best)
    (evaluation.folder / "report.html").write_text(html, encoding="utf-8")


def load_evaluation(folder: Path) -> Evaluation:
    """Read what `evaluate` wrote.

    Raises:
        DataError: The folder has no usable ``evaluation.json``.
    """
    try:
        raw = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        raw["per_class"] = {
            name: {key: math.nan if value is None else value for key, value in row.items()}
            for name, row in raw["per_class"].items()
        }
        return Evaluation(folder=folder, **raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / _JSON}: not a saved evaluation ({error}); evaluate again") from error


def _without_nan(row: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in row.items()}


def _render(
    evaluation: Evaluation,
    config: Config,
    charts: Sequence[Picture],
    worst: Sequence[Picture],
    best: Sequence[Picture],
) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.evaluation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = _figure_text
    sources = _embed([*charts, *worst, *best])
    return environment.get_template("report.html.j2").render(
        evaluation=evaluation, config=config, charts=charts, worst=worst, best=best, sources=sources
    )


def _figure_text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _embed(pictures: Sequence[Picture]) -> dict[Path, str]:
    """Data URLs of the pictures, in order, as far as the budget goes; the others stay files beside the report."""
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

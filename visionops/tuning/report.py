"""Draw the pictures and write the report of a search, readable at 100 % and without red-green distinctions."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionops.tuning.result import Setting, Trial, TrialState, TuningResult
from visionops.tuning.settings import SearchRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["setting_text", "settings_text", "write_report"]

# Okabe and Ito's colours, distinguishable with every kind of colour vision.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#8c959f"
_FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Positions of the labels on a numeric axis."""
_MOST_LABELS = 12
"""Maximum number of values that are labelled on one axis."""


def setting_text(value: Setting) -> str:
    """Return a setting as text; four digits are enough to recognise a number."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def settings_text(settings: Mapping[str, Setting]) -> str:
    """Return settings as one line of text."""
    return ", ".join(f"{key}={setting_text(value)}" for key, value in settings.items()) or "none changed"


def write_report(result: TuningResult, ranges: Mapping[str, SearchRange], folder: Path) -> None:
    """Write ``history.png``, ``parallel_coordinates.png``, ``importance.png`` and ``report.html`` into a new folder.

    A picture without content is left out, such as importance where there are too few trials.

    Args:
        ranges: Searched range of each setting; empty for a grid.
    """
    import jinja2

    pictures = [
        _history(result, folder / "history.png"),
        _parallel_coordinates(result, ranges, folder / "parallel_coordinates.png"),
        _importance(result, folder / "importance.png"),
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.tuning", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["setting"] = setting_text
    keys = list(dict.fromkeys(key for trial in result.trials for key in trial.settings))
    html = environment.get_template("report.html.j2").render(
        result=result, keys=keys, pictures=[picture for picture in pictures if picture], source=_source
    )
    (folder / "report.html").write_text(html, encoding="utf-8")


@dataclasses.dataclass(frozen=True, slots=True)
class _Picture:
    path: Path
    title: str
    caption: str


def _source(picture: _Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.path.read_bytes()).decode()}"


def _complete(result: TuningResult) -> list[Trial]:
    return [trial for trial in result.trials if trial.state is TrialState.COMPLETE]


def _history(result: TuningResult, path: Path) -> _Picture:
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(8.0, 4.2)
    complete = _complete(result)
    numbers, values = [t.number for t in complete], [_of(t) for t in complete]
    axes.plot(numbers, values, "o", color=_BLUE, label="complete", zorder=3)
    pruned = [t for t in result.trials if t.state is TrialState.PRUNED and t.curve]
    last = [t.curve[max(t.curve)] for t in pruned]
    if pruned:
        axes.plot([t.number for t in pruned], last, "o", mfc="white", mec=_GREY, label="pruned (where it stopped)")
    best = (np.minimum if result.minimises else np.maximum).accumulate(values)
    axes.step([*numbers, result.trials[-1].number], [*best, best[-1]], where="post", color=_BLUE, lw=1.2, label="best")
    if result.default_value is not None:
        axes.axhline(result.default_value, color=_ORANGE, ls="--", lw=1.2, label="unchanged settings")
    failed = [t.number for t in result.trials if t.state is TrialState.FAILED]
    if failed:
        axes.plot(failed, [min(values + last)] * len(failed), "x", color="black", label="failed", clip_on=False)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{_words(result.metric)} on val")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=9, loc="outside upper center", ncols=5)
    return _Picture(_save(figure, path), "History", "Trials in the order of their start, and the best value so far.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Scale:
    """Map the values of one axis to 0 to 1."""

    label: str
    places: dict[str, float]
    """Positions of values that are not numbers, by their text."""
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: Setting) -> float:
        if self.places:
            return self.places[setting_text(value)]
        low, high, at = (self._measure(v) for v in (self.low, self.high, float(value)))  # type: ignore[arg-type]
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> dict[str, float]:
        if self.places:
            few = len(self.places) <= _MOST_LABELS
            return self.places if few else {}
        if not self.high > self.low:
            return {setting_text(self.low): 0.5}
        low, high = self._measure(self.low), self._measure(self.high)
        values = [low + (high - low) * f for f in _FRACTIONS]
        texts = [f"{math.exp(v):.2g}" if self.log else f"{v:.3g}" for v in values]
        return dict(zip(texts, _FRACTIONS, strict=True))

    def _measure(self, value: float) -> float:
        return math.log(value) if self.log else value


def _scale(key: str, values: list[Setting], *, log: bool) -> _Scale:
    label = key.replace(".", ".\n").replace("_", " ")
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) and len(set(values)) > 3:
        numbers = [float(v) for v in values if isinstance(v, int | float)]
        return _Scale(label, {}, min(numbers), max(numbers), log and min(numbers) > 0)
    texts = list(dict.fromkeys(setting_text(v) for v in sorted(values, key=_order)))
    places = {text: (i + 0.5) / len(texts) for i, text in enumerate(texts)}
    return _Scale(label, places)


def _order(value: Setting) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return (not is_number, float(value) if isinstance(value, int | float) else 0.0, str(value))


def _parallel_coordinates(result: TuningResult, ranges: Mapping[str, SearchRange], path: Path) -> _Picture | None:
    """Draw one line for each complete trial, over one axis for each setting, ending at its value."""
    import matplotlib as mpl

    complete = sorted(_complete(result), key=_of, reverse=result.minimises)
    keys = list(dict.fromkeys(key for trial in complete for key in trial.settings))
    if not keys:
        return None
    scales = [
        _scale(key, [t.settings.get(key) for t in complete], log=key in ranges and ranges[key].log) for key in keys
    ]
    values = [_of(t) for t in complete]
    scales.append(_Scale(f"{_words(result.metric)}\non val", {}, min(values), max(values)))
    figure, axes = _figure(max(1.6 * len(scales) + 1.5, 6.0), 4.6)
    colours = mpl.colormaps["cividis_r"]
    for trial in complete:
        heights = [s.place(trial.settings.get(k)) for s, k in zip(scales, keys, strict=False)]
        end = scales[-1].place(trial.value)
        is_best = trial.number == result.best
        axes.plot(
            range(len(scales)),
            [*heights, end],
            color=_ORANGE if is_best else colours(end),
            lw=2.6 if is_best else 1.2,
            alpha=1.0 if is_best else 0.75,
            zorder=4 if is_best else 2,
            label=f"best: trial {trial.number}" if is_best else None,
        )
    for at, scale in enumerate(scales):
        axes.axvline(at, color="#1b1f24", lw=0.8, zorder=3)
        for text, height in scale.ticks().items():
            axes.plot([at - 0.02, at + 0.02], [height, height], color="#1b1f24", lw=0.8, zorder=3)
            axes.text(at + 0.04, height, text, fontsize=8, va="center", zorder=5, bbox=_PAPER)
    axes.set_xticks(range(len(scales)), [scale.label for scale in scales], fontsize=9)
    axes.set_xlim(-0.15, len(scales) - 0.45)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    caption = "Each line is a complete trial; darker lines are better."
    return _Picture(_save(figure, path), "Parallel coordinates", caption)


_PAPER: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}


def _importance(result: TuningResult, path: Path) -> _Picture | None:
    if not result.importance:
        return None
    names, shares = list(result.importance), list(result.importance.values())
    figure, axes = _figure(8.0, 0.42 * len(names) + 1.2)
    bars = axes.barh(range(len(names)), shares, color=_BLUE)
    axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=3, fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, min(max(shares) * 1.15, 1.15))
    axes.set_xlabel(f"share of the variation of {_words(result.metric)}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    caption = f"fANOVA over {len(_complete(result))} complete trials; with few trials only an indication."
    return _Picture(_save(figure, path), "Importance of the settings", caption)


def _of(trial: Trial) -> float:
    assert trial.value is not None  # complete trials have a value
    return trial.value


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes: Axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path)
    return path

"""Draw charts and example images for an evaluation of labels, readable at 100 % and without red-green distinctions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visionops.evaluation.drawing import (
    BLUE,
    GREEN,
    LEGEND_ROWS,
    LIGHT_ORANGE,
    ORANGE,
    Picture,
    draw_confusion,
    figure,
    finish_unit_axes,
    fit_panel,
    line_style,
    place_legend,
    save,
    side_by_side,
)
from visionops.evaluation.resampling import Floats
from visionops.evaluation.result import Evaluation
from visionops.inference.bundle import Head
from visionops.inference.explain import Support, draw_saliency, explain
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Predictor
from visionops.tasks.classification.prediction import LabelPrediction
from visionops.tasks.classification.scoring import Outcome, areas, bin_reliability, threshold_counts

__all__ = ["LabelExample", "draw_label_charts", "draw_label_examples"]

_COLUMNS = 3
"""Number of panels beside each other, where each head has its own."""
_BINS = 25
_TICKS = tuple(step * 10**power for power in range(9) for step in (1, 2, 5))
_GRID = 6
"""Grid of the saliency, coarser than the server's, so that a gallery does not take longer than the figures."""
_NAMED = 4
"""Maximum number of classes of an answer, and of mistakes of an image, that are written out."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelExample:
    """A test image with the outcome of its labels."""

    key: str
    path: Path
    outcomes: Sequence[Outcome]
    row: int
    """Row of this image in the outcomes."""

    @property
    def truth(self) -> tuple[int, ...]:
        """Return the class id of each head; -1 where unknown."""
        return tuple(int(outcome.truth[self.row]) for outcome in self.outcomes)

    @property
    def is_known(self) -> bool:
        """Return whether any label of the image is known."""
        return max(self.truth) >= 0

    @property
    def mistakes(self) -> list[int]:
        """Return the wrong heads, that with the lowest probability of the truth first."""
        row = self.row
        wrong = [i for i, o in enumerate(self.outcomes) if o.is_known[row] and not o.is_right[row]]
        return sorted(wrong, key=lambda i: self.outcomes[i].true_probabilities[row])

    @property
    def is_wrong(self) -> bool:
        """Return whether any head is wrong."""
        return bool(self.mistakes)

    @property
    def badness(self) -> float:
        """Return 1 minus the probability of the truth, summed over the wrong heads."""
        return sum(1 - float(self.outcomes[i].true_probabilities[self.row]) for i in self.mistakes)

    @property
    def doubt(self) -> float:
        """Return the same sum over all heads whose truth is known."""
        return float(np.nansum([1 - outcome.true_probabilities[self.row] for outcome in self.outcomes]))


def draw_label_charts(outcomes: Sequence[Outcome], evaluation: Evaluation, folder: Path) -> list[Picture]:
    """Write ``confusion_matrix``, ``roc_curves``, ``pr_curves``, ``reliability`` and ``scores`` as PNG.

    Several heads also give ``per_attribute``. A chart without content is left out.
    """
    known = [outcome.known() for outcome in outcomes if outcome.is_known.any()]
    many = len(known) > 1
    pictures = [
        Picture(
            _confusions(known, folder / "confusion_matrix.png"),
            "Confusion matrix",
            "Count, and share of the row; with the server's answers.",
            is_wide=many,
        )
    ]
    if len(outcomes) > 1:
        pictures.append(
            Picture(
                _per_attribute(evaluation, folder / "per_attribute.png"),
                "Per attribute",
                "Accuracy, and balanced accuracy: the mean recall over classes."
                + (" Whiskers: 95 % confidence." if evaluation.intervals else ""),
            )
        )
    curves = list(_curves(known))
    if curves:
        pictures += [
            Picture(
                _roc(curves, folder / "roc_curves.png"),
                "ROC curves",
                "Each class against the others, with the area under its curve; of two classes the one looked for.",
            ),
            Picture(
                _pr(curves, folder / "pr_curves.png"),
                "Precision over recall",
                "Each class against the others, with its average precision.",
            ),
        ]
    return [
        *pictures,
        Picture(
            _reliability(known, folder / "reliability.png"),
            "Reliability",
            "How often the most probable class is true, by its probability. On the diagonal a confidence is a "
            "frequency; the area of a dot is its share of the images.",
        ),
        Picture(
            _scores(known, folder / "scores.png"),
            "Scores",
            "How the images spread over probabilities: of the class looked for, by the truth; of more classes, of the "
            "answer, by whether it is right. Heights are logarithmic, so that few are seen beside many.",
            is_wide=many,
        ),
    ]


def draw_label_examples(
    examples: Sequence[LabelExample], predictor: Predictor, folder: Path, stem: str
) -> list[Picture]:
    """Write each example as ``<stem>_NN.jpg``: the image on the left, its saliency on the right."""
    pictures = []
    for number, example in enumerate(examples):
        path = folder / f"{stem}_{number:02d}.jpg"
        _with_saliency(example, predictor).save(path, quality=85)
        pictures.append(Picture(path, example.key, _caption(example)))
    return pictures


def _with_saliency(example: LabelExample, predictor: Predictor) -> Image.Image:
    pixels = predictor.pixels(example.path.read_bytes(), where=example.key)
    head = example.mistakes[0] if example.mistakes else None
    heads = range(len(example.outcomes)) if head is None else [head]
    saliency, _ = explain(predictor, pixels, grid=_GRID, support=_support_of(heads), where=example.key)
    base = fit_panel(pixels)
    answer = "the answers" if len(heads) > 1 else _answer(example, heads[0])
    return side_by_side(
        [("image", Image.fromarray(base)), (f"for {answer}", Image.fromarray(draw_saliency(base, saliency)))]
    )


def _support_of(heads: Sequence[int]) -> Support:
    """Return a support function for only some of the heads' answers."""

    def support(ours: Prediction, theirs: Prediction) -> float:
        assert isinstance(ours, LabelPrediction)
        assert isinstance(theirs, LabelPrediction)
        some = [dataclasses.replace(p, answers=tuple(p.answers[i] for i in heads)) for p in (ours, theirs)]
        return some[0].support(some[1])

    return support


def _answer(example: LabelExample, head: int) -> str:
    outcome = example.outcomes[head]
    return _named(outcome, int(outcome.answers[example.row]), many=len(example.outcomes) > 1)


def _named(outcome: Outcome, class_id: int, *, many: bool) -> str:
    name = outcome.head.class_names[class_id]
    return f"{outcome.head.name}={name}" if many else name


def _caption(example: LabelExample) -> str:
    """Return the answer and the truth as text: ``said ok 0.91, is defective 0.09``."""
    row, many = example.row, len(example.outcomes) > 1
    if not example.mistakes:
        if many:
            least = min(float(np.nanmin(o.true_probabilities[[row]])) for o in example.outcomes if o.is_known[row])
            return f"all {sum(o.is_known[row] for o in example.outcomes)} right, the least sure with {least:.2f}"
        return f"is {_probabilities(example.outcomes[0], row)}"
    parts = []
    for head in example.mistakes[:_NAMED]:
        outcome = example.outcomes[head]
        said, true = int(outcome.answers[row]), int(outcome.truth[row])
        names, p = outcome.head.class_names, outcome.probabilities[row]
        prefix = f"{outcome.head.name}: " if many else ""
        parts.append(f"{prefix}said {names[said]} {p[said]:.2f}, is {names[true]} {p[true]:.2f}")
    if len(example.mistakes) > _NAMED:
        parts.append(f"and {len(example.mistakes) - _NAMED} more wrong")
    elif not many and len(example.outcomes[0].head.class_names) > 2:
        parts.append(f"all: {_probabilities(example.outcomes[0], row)}")
    return "; ".join(parts)


def _probabilities(outcome: Outcome, row: int) -> str:
    """Return the most probable classes as text: ``red 0.81, brown 0.12``."""
    p = outcome.probabilities[row]
    best = np.argsort(-p, kind="stable")[:_NAMED]
    return ", ".join(f"{outcome.head.class_names[k]} {p[k]:.2f}" for k in best)


def _panels(outcomes: Sequence[Outcome], side: Callable[[Outcome], float]) -> tuple[Any, list[Any]]:
    """Return a figure with a panel for each head, titled where there are several."""
    columns = min(_COLUMNS, len(outcomes))
    rows = -(-len(outcomes) // columns)
    width = max(side(outcome) for outcome in outcomes)
    width = min(width, 11.6 / columns)  # a wide picture fills the page
    made = figure(width * columns, width * 0.86 * rows)
    panels = [made.add_subplot(rows, columns, i + 1) for i in range(len(outcomes))]
    if len(outcomes) > 1:
        for axes, outcome in zip(panels, outcomes, strict=True):
            axes.set_title(outcome.head.name, fontsize=11, pad=24)
    return made, panels


def _confusions(outcomes: Sequence[Outcome], path: Path) -> Path:
    made, panels = _panels(outcomes, lambda o: min(max(4.2, 1.6 + 0.72 * len(o.head.class_names)), 16))
    for axes, outcome in zip(panels, outcomes, strict=True):
        names = outcome.head.class_names
        cells = np.bincount(outcome.truth * len(names) + outcome.answers, minlength=len(names) ** 2)
        image = draw_confusion(axes, cells.reshape(len(names), len(names)), names)
    if len(panels) == 1:
        made.colorbar(image, ax=panels, shrink=0.8, label="share of the row")
    return save(made, path)


def _per_attribute(evaluation: Evaluation, path: Path) -> Path:
    rows = sorted(evaluation.per_class.items(), key=lambda item: -item[1]["accuracy"])
    made = figure(7.6, 1.0 + 0.5 * len(rows))
    axes = made.add_subplot()
    lowest = 1.0
    for offset, metric, marker, colour in (
        (-0.14, "accuracy", "o", BLUE),
        (0.14, "balanced_accuracy", "s", ORANGE),
    ):
        for position, (name, row) in enumerate(rows):
            low, high = evaluation.intervals.get(f"{name}.{metric}", (row[metric], row[metric]))
            lowest = float(np.nanmin([lowest, low]))
            label = metric.replace("_", " ") if position == 0 else None
            axes.plot([low, high], [position + offset] * 2, color=colour, linewidth=1.6)
            axes.plot(row[metric], position + offset, marker, color=colour, markersize=6, label=label, linestyle="none")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(xlim=(max(0, lowest - 0.05), 1.005), ylim=(len(rows) - 0.5, -0.5))
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    place_legend(axes)
    return save(made, path)


@dataclasses.dataclass(frozen=True, slots=True)
class _Curve:
    """Curve of one class against the others, from the highest threshold to the lowest."""

    name: str
    recall: Floats
    fall_out: Floats
    """Share of the others that are predicted as the class (false positive rate)."""
    precision: Floats
    roc_auc: float
    pr_auc: float


def _curves(outcomes: Sequence[Outcome]) -> Iterator[_Curve]:
    """Return a curve for each class that F1 considers, where there are images of it and of others."""
    for outcome in outcomes:
        ones = np.ones((1, len(outcome.truth)))
        for class_id in outcome.judged_classes:
            (hits,), (misses,) = threshold_counts(outcome, class_id, ones)
            if hits[-1] and misses[-1]:
                (roc_auc,), (pr_auc,) = areas(outcome, class_id, ones)
                name = _named(outcome, class_id, many=len(outcomes) > 1)
                precision = hits / (hits + misses)
                yield _Curve(name, hits / hits[-1], misses / misses[-1], precision, float(roc_auc), float(pr_auc))


def _roc(curves: Sequence[_Curve], path: Path) -> Path:
    made = figure(7.6, 4.2)
    axes = made.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=(0, (4, 3)))
    for position, c in enumerate(curves):
        label = f"{c.name}  {c.roc_auc:.3f}"
        _draw_curve(axes, np.r_[0, c.fall_out], np.r_[0, c.recall], label, position, len(curves))
    finish_unit_axes(axes, "share of the others that are taken for it", "recall")
    return save(made, path)


def _pr(curves: Sequence[_Curve], path: Path) -> Path:
    made = figure(7.6, 4.2)
    axes = made.add_subplot()
    for position, c in enumerate(curves):
        label = f"{c.name}  {c.pr_auc:.3f}"
        # Draw steps: the precision of each threshold applies to the recall that it adds.
        recall, precision = np.r_[0, c.recall], np.r_[c.precision[0], c.precision]
        _draw_curve(axes, recall, precision, label, position, len(curves), drawstyle="steps-pre")
    finish_unit_axes(axes, "recall", "precision")
    return save(made, path)


def _draw_curve(axes: Any, x: Any, y: Any, label: str, position: int, count: int, **style: Any) -> None:
    if count > LEGEND_ROWS:
        axes.plot(x, y, color="0.6", linewidth=0.8, **style)
    else:
        axes.plot(x, y, label=label, **line_style(position) | style)


def _reliability(outcomes: Sequence[Outcome], path: Path) -> Path:
    made = figure(7.6, 4.2)
    axes = made.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=(0, (4, 3)))
    for position, outcome in enumerate(outcomes):
        counts, confidence, accuracy = bin_reliability(outcome)
        filled = counts > 0
        style = line_style(position)
        size = 12 + 380 * counts[filled] / counts.sum()
        axes.scatter(confidence[filled], accuracy[filled], s=size, color=style["color"], alpha=0.45, linewidths=0)
        label = outcome.head.name if len(outcomes) <= LEGEND_ROWS else None
        axes.plot(confidence[filled], accuracy[filled], label=label, **style)
    finish_unit_axes(axes, "probability of the most probable class", "share that is true")
    return save(made, path)


def _scores(outcomes: Sequence[Outcome], path: Path) -> Path:
    made, panels = _panels(outcomes, lambda _: 4.6 if len(outcomes) == 1 else 4.2)
    bins = np.linspace(0, 1, _BINS + 1)
    for axes, outcome in zip(panels, outcomes, strict=True):
        head, answered = outcome.head, outcome.probabilities.max(axis=1)
        if head.positive is not None:
            positive = head.class_names.index(head.positive)
            values = outcome.probabilities[:, positive]
            groups = [(head.class_names[k], values[outcome.truth == k]) for k in (1 - positive, positive)]
            colours = (BLUE, ORANGE)
            axes.axvline(_cut(head), color="0.2", linewidth=1.2, linestyle=(0, (4, 3)), label=f"from {_cut(head):.2f}")
            axes.set_xlabel(f"probability of {head.positive}")
        else:
            groups = [("right", answered[outcome.is_right]), ("wrong", answered[~outcome.is_right])]
            colours = (GREEN, LIGHT_ORANGE)
            axes.set_xlabel("probability of the most probable class")
        for (name, values), colour in zip(groups, colours, strict=True):
            axes.hist(values, bins, color=colour, alpha=0.65, label=f"{name} ({len(values)})")
        axes.set(xlim=(0, 1), ylabel="images")
        axes.set_yscale("symlog", linthresh=1, linscale=0.3)
        top = axes.get_ylim()[1]
        ticks = [0, *(tick for tick in _TICKS if tick <= top)]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1)
    return save(made, path)


def _cut(head: Head) -> float:
    return 0.5 if head.threshold is None else head.threshold

"""Measure how often the gate is wrong, with simulated models, real resamples and the real `decide`.

```
python -m benchmarks.gate                         # both tables
python -m benchmarks.gate --runs 10               # a quick trial
python -m benchmarks.gate --detector --runs 60    # average precision instead of accuracy: slower, fewer cells
```

Champion and challenger answer the same images. On a share of the images (the disagreement) exactly one of the two is
right; the challenger is truly better, equal or worse by two points. Each run draws new test images, and the tables show
the share of runs that promote the challenger.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.data.layers import Boxes
from visionops.evaluation.resampling import resample
from visionops.evaluation.result import Evaluation
from visionops.gate.decision import decide
from visionops.gate.settings import GateConfig
from visionops.inference.bundle import Head
from visionops.tasks.classification.scoring import Outcome, figures
from visionops.tasks.detection.prediction import BoxPrediction
from visionops.tasks.detection.scoring import score

__all__ = ["GATE", "simulate", "simulate_detector"]

GATE = GateConfig(metric="accuracy", minimum=0)
"""Defaults of the gate."""

_BOTH_RIGHT = 0.85
"""Share of correct answers among agreements. The comparison depends only on the disagreements."""
_HEAD = Head(name="state", class_names=("ok", "defective"), positive="defective")
_EFFECTS = {"better": 0.02, "equal": 0.0, "worse": -0.02}
_DISAGREEMENTS = (0.03, 0.05, 0.08, 0.15)
_SIZES = (100, 200, 400, 800, 1600)
_FEW = (1, 3, 8, 15, 20, 25, 30, 50)


def simulate(images: int, disagreement: float, effect: float, runs: int, resamples: int, gate: GateConfig) -> float:
    """Return the share of runs that promote the challenger, for two classifiers.

    Args:
        images: Images of the test split.
        disagreement: Share of images on which exactly one of the two is right.
        effect: Difference of the challenger's true accuracy to the champion's.
    """
    random = np.random.default_rng([images, round(disagreement * 1000), round((1 + effect) * 1000)])
    weights = _weights(images, resamples)
    only_new, only_old = (disagreement + effect) / 2, (disagreement - effect) / 2
    both = _BOTH_RIGHT * (1 - disagreement)
    promoted = 0
    for run in range(runs):
        truth = random.integers(0, 2, images)
        kind = random.choice(4, images, p=[both, only_new, only_old, 1 - both - only_new - only_old])
        new, old = (np.isin(kind, [0, right]) for right in (1, 2))
        if not run:
            _check_accuracy(truth, new, weights)
        promoted += decide(_evaluated(new, weights), _evaluated(old, weights), gate).promote
    return promoted / runs


def simulate_detector(images: int, disagreement: float, effect: float, runs: int, resamples: int) -> float:
    """Return the share of runs that promote the challenger by mAP50, for two detectors.

    Each image has three objects, of which each detector finds most, with some false alarms of low confidence.

    Args:
        disagreement: Share of objects that exactly one of the two finds.
    """
    random = np.random.default_rng([images, round(disagreement * 1000), round((1 + effect) * 1000), 50])
    gate = GateConfig(metric="map50", minimum=0)
    only_new, only_old = (disagreement + effect) / 2, (disagreement - effect) / 2
    both = _BOTH_RIGHT * (1 - disagreement)
    promoted = 0
    for _ in range(runs):
        kind = random.choice(4, (images, 3), p=[both, only_new, only_old, 1 - both - only_new - only_old])
        truth = [Boxes(_PARTS, np.zeros(3, np.int32))] * images
        # Both find common objects with similar confidence.
        shared = random.uniform(0.3, 1, kind.shape)
        new, old = (
            _detected(truth, np.isin(kind, [0, right]), shared + random.normal(0, 0.05, kind.shape), random, resamples)
            for right in (1, 2)
        )
        promoted += decide(new, old, gate).promote
    return promoted / runs


_PARTS = np.array([[10, 10, 50, 50], [110, 10, 150, 50], [210, 10, 250, 50]], np.float64)
_FALSE = np.array([[10, 210, 50, 250]], np.float32)


def _detected(
    truth: Sequence[Boxes],
    found: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
    random: np.random.Generator,
    resamples: int,
) -> Evaluation:
    predictions = []
    for row, hits in enumerate(found):
        alarms = int(random.random() < 0.3)
        confidence = np.concatenate([np.clip(scores[row][hits], 0.01, 1), random.uniform(0.05, 0.5, alarms)])
        boxes = np.concatenate([_PARTS[hits].astype(np.float32), _FALSE[:alarms]])
        class_ids = np.zeros(len(boxes), np.int32)
        predictions.append(BoxPrediction(300, 300, boxes, confidence.astype(np.float32), class_ids, ("part",)))
    scored = score(truth, predictions, 1, resamples)
    return _evaluation({"map50": float(scored.ap50[0])}, {"map50": scored.replicates["map50"]}, len(truth))


@functools.lru_cache(maxsize=1)
def _weights(images: int, resamples: int) -> npt.NDArray[np.float64]:
    return np.concatenate(list(resample(images, resamples)))


def _accuracy(right: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return weights @ right / len(right)


def _check_accuracy(
    truth: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]
) -> None:
    """Compare `_accuracy` with a full evaluation, which is twenty times slower."""
    answers = np.where(right, truth, 1 - truth)
    outcome = Outcome(_HEAD, truth, np.eye(2)[answers], answers)
    np.testing.assert_array_equal(figures([outcome], weights)["accuracy"], _accuracy(right, weights))


def _evaluated(right: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]) -> Evaluation:
    return _evaluation({"accuracy": float(right.mean())}, {"accuracy": _accuracy(right, weights)}, len(right))


def _evaluation(metrics: dict[str, float], drawn: dict[str, npt.NDArray[np.float64]], images: int) -> Evaluation:
    return Evaluation(
        folder=Path(),
        metrics=metrics,
        per_class={},
        num_images=images,
        test_fingerprint="simulated",
        bundle_digest="",
        engine="openvino",
        precision="f32",
        replicates={name: tuple(values.tolist()) for name, values in drawn.items()},
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000, help="runs per cell")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--confidence", type=float, default=GATE.confidence)
    parser.add_argument("--detector", action="store_true", help="mAP50 of detectors instead of accuracy")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    gate = GATE.model_copy(update={"confidence": arguments.confidence})
    if arguments.detector:
        cells = [(n, d) for n in (200, 400) for d in (0.08,)]
        rows = _table(cells, lambda n, d, e: simulate_detector(n, d, e, arguments.runs, arguments.resamples), _EFFECTS)
    else:
        cells = [(n, d) for n in _SIZES for d in _DISAGREEMENTS]
        rows = _table(cells, lambda n, d, e: simulate(n, d, e, arguments.runs, arguments.resamples, gate), _EFFECTS)
        print("\nFew images, without gate.min_images: an equal challenger")
        any_number = gate.model_copy(update={"min_images": 1})
        cells = [(n, d) for n in _FEW for d in (0.05, 0.1, 0.2, 0.4, 0.7)]
        rows += _table(
            cells,
            lambda n, d, e: simulate(n, d, e, 2 * arguments.runs, arguments.resamples, any_number),
            {"equal": 0.0},
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1), encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class _Row:
    images: int
    disagreement: float
    promoted: dict[str, float]


def _table(
    cells: Sequence[tuple[int, float]], run: Callable[[int, float, float], float], effects: dict[str, float]
) -> list[_Row]:
    print("| images | disagreement |" + "".join(f" {name} |" for name in effects))
    print("|---|---|" + "---|" * len(effects))
    rows = []
    for images, disagreement in cells:
        shares = {name: run(images, disagreement, effect) for name, effect in effects.items()}
        print(
            f"| {images} | {disagreement:.2f} |" + "".join(f" {share:.3f} |" for share in shares.values()), flush=True
        )
        rows.append(_Row(images, disagreement, shares))
    return rows


if __name__ == "__main__":
    main()

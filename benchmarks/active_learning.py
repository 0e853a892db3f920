"""Measure how many labels the order of the review queue saves, on real images with labels revealed in rounds.

    python -m benchmarks.active_learning                             # plants, castings and steel
    python -m benchmarks.active_learning --ablation                  # also with each reason removed, added and alone
    python -m benchmarks.active_learning --only solar,tiles --ablation   # other data, for choosing weights
    python -m benchmarks.active_learning --only plants --seeds 2     # a quick trial

Each seed splits the data as the pipeline does and first labels the same random images for every order, twice as many as
there are classes, then 2.5 % of the train split per round. A round solves a head on the features of a frozen backbone,
sorts the queue with `order_queue` as `visionops review prioritize` does, including its random share, and labels the
first items. *Needed*: the number of labels from which a round reaches, on average, 95 % of the metric with all labels
of the train split. Heads train with the settings of the use case, on all views of an image, and are measured on test
and val. The shadow model is a head trained on a bootstrap sample of the same labels. Steel is classified by the defect
of most of its boxes, because a detector takes too long to train so often.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.active_data import USE_CASES, Images, Rows, read_images
from visionops.review.selection.candidates import Candidate, QuestionProbabilities
from visionops.review.selection.ordering import SelectionContext, order_queue
from visionops.review.settings import ReviewConfig, SelectionWeights
from visionops.tasks.classification.decoder import softmax
from visionops.tasks.classification.heads import fit_head
from visionops.tasks.classification.settings import Balance, LabelTraining

__all__ = ["Run", "arms", "main", "ratio", "simulate"]

RANDOM = "random"
OURS = "ours"
_FIRST = 2
"""Images labelled at the start, per class. Both orders pay for them, so they must be a small part of the needed
labels."""
_STEP = 0.025
"""Share of the train split to label in a round."""
_PARTS = 2
"""Measurements per round, for a finer resolution than whole rounds."""
_REACHED = 0.95
_SHOWN, _FEW = 0.3, 60
"""Share of the train split, and number of images, to label even after the goal is reached, for the plot."""
_L2 = 0.1
"""L2 regularization; fixed, because choosing it on val would use uncounted labels."""

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Run:
    """Result of one seed and order."""

    use_case: str
    arm: str
    seed: int
    pool: int
    full: float
    """Metric with all labels."""
    labels: list[int]
    """Number of labels at each measurement."""
    figures: list[float]

    @property
    def needed(self) -> int:
        """Number of labels from which a round's average metric reaches the goal; the whole pool if it never does.

        With so few test images a single value varies by chance, so the first one that reaches the goal is too early.
        """
        for place in range(len(self.figures) - _PARTS):
            if np.mean(self.figures[place : place + _PARTS + 1]) >= _REACHED * self.full:
                return self.labels[place]
        return self.pool


def arms(ablation: bool) -> dict[str, ReviewConfig | None]:
    """Return the compared orders; None is the random order."""
    found: dict[str, ReviewConfig | None] = {RANDOM: None, OURS: ReviewConfig()}
    if not ablation:
        return found
    weights = SelectionWeights().model_dump()
    for name, weight in weights.items():
        if weight and sum(weights.values()) > weight:
            found[f"without {name}"] = _config(weights | {name: 0.0})
        elif not weight:
            found[f"with {name}"] = _config(weights | {name: 1.0})
    for name in weights:
        found[f"{name} alone"] = _config(dict.fromkeys(weights, 0.0) | {name: 1.0})
    found["ours, nothing at random"] = ReviewConfig(random_share=0)
    return found


def _config(weights: dict[str, float]) -> ReviewConfig:
    return ReviewConfig(selection=SelectionWeights(**weights))


def simulate(
    images: Images, rows: Rows, arm: str, config: ReviewConfig | None, seed: int, start: float | None = None
) -> Run:
    """Label the pool round by round in one order.

    Args:
        start: Share of the pool to label at the start, instead of `_FIRST` images of each class.
    """
    rng = np.random.default_rng([17, seed])
    pool = rng.permutation(rows.pool)  # the same for every order
    first = max(4, _FIRST * len(images.class_names) if start is None else round(start * len(pool)))
    step = max(2, round(_STEP * len(pool)))
    balance = images.config.training.balance if isinstance(images.config.training, LabelTraining) else Balance.NONE
    learner = _Learner(images, rows, balance)
    full = learner.figure(learner.fit(pool))
    run = Run(images.name, arm, seed, len(pool), full, [], [])
    labelled, waiting = pool[:first], pool[first:]
    parts = [labelled]
    while True:
        for part in parts:
            head = learner.fit(part)
            run.labels.append(len(part))
            run.figures.append(learner.figure(head))
        is_shown = arm not in {RANDOM, OURS} or len(labelled) >= max(_SHOWN * len(pool), _FEW)
        if (run.needed < len(pool) and is_shown) or not len(waiting):
            return run
        if config is not None:
            drawn = rng.choice(labelled, len(labelled))
            shadow = learner.fit(drawn) if config.selection.disagreement else None
            waiting = learner.order(waiting, labelled, head, shadow, config, step)
        cuts = sorted({min(round(step * number / _PARTS), len(waiting)) for number in range(1, _PARTS + 1)})
        parts = [np.concatenate([labelled, waiting[:cut]]) for cut in cuts]
        labelled, waiting = np.concatenate([labelled, waiting[:step]]), waiting[step:]


class _Learner:
    def __init__(self, images: Images, rows: Rows, balance: Balance) -> None:
        self._images, self._rows, self._balance = images, rows, balance
        self._digests = images.dataset.column("sha256")

    def fit(self, rows: Ids) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """Return the weight and bias of a head with all classes; None if the images have only one class."""
        features, classes = self._images.features[rows], self._images.classes[rows]
        present, ids = np.unique(classes, return_inverse=True)
        if len(present) < 2:
            return None
        none = (features[:0, 0], np.empty(0, dtype=np.int64))
        train = (features, ids.astype(np.int64), np.ones(len(rows)))
        solved = fit_head(train, none, len(present), balance=self._balance, l2=_L2)
        weight = np.zeros((len(self._images.class_names), features.shape[2]), dtype=np.float32)
        bias = np.full(len(self._images.class_names), -50.0, dtype=np.float32)  # for unseen classes
        weight[present], bias[present] = solved.weight, solved.bias
        return weight, bias

    def probabilities(
        self, head: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None, rows: Ids
    ) -> npt.NDArray[np.floating]:
        if head is None:
            return np.full((len(rows), len(self._images.class_names)), 1 / len(self._images.class_names))
        return softmax(self._images.features[rows, 0] @ head[0].T + head[1])

    def figure(self, head: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None) -> float:
        """Return the mean recall of the classes on test."""
        truth = self._images.classes[self._rows.test]
        is_right = self.probabilities(head, self._rows.test).argmax(axis=1) == truth
        return float(np.mean([is_right[truth == k].mean() for k in np.unique(truth)]))

    def order(
        self,
        waiting: Ids,
        labelled: Ids,
        head: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None,
        shadow: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None,
        config: ReviewConfig,
        picks: int,
    ) -> Ids:
        """Return the pending rows in the order of the queue."""
        names, features = self._images.class_names, self._images.features[:, 0]
        probabilities = self.probabilities(head, waiting)
        others = self.probabilities(shadow, waiting).argmax(axis=1) if shadow else None
        answers = probabilities.argmax(axis=1)
        candidates = [
            Candidate(
                id=self._digests[row],
                labels=((names[answers[place]], float(probabilities[place].max())),),
                answered=(
                    QuestionProbabilities("", dict(zip(names, probabilities[place].clip(0, 1).tolist(), strict=True))),
                ),
                embedding=features[row],
                agreement=None if others is None else float(others[place] == answers[place]),
            )
            for place, row in enumerate(waiting)
        ]
        counts = np.bincount(self._images.classes[labelled], minlength=len(names)).tolist()
        known = SelectionContext(features[self._rows.val], features[labelled], dict(zip(names, counts, strict=True)))
        places = {self._digests[row]: row for row in waiting}
        queue = order_queue(candidates, known, config, picks=2 * picks)
        return np.array([places[one.id] for one in queue], dtype=np.int64)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.active_learning", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", default=",".join(USE_CASES), help="data sets, also solar and tiles: %(default)s")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real images: %(default)s")
    parser.add_argument("--kept", type=Path, required=True, help="folder that keeps features between runs")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each data set: %(default)s")
    parser.add_argument("--start", type=float, help=f"share labelled at the start; {_FIRST} of each class if absent")
    parser.add_argument("--ablation", action="store_true", help="also run with each reason removed, added and alone")
    parser.add_argument("--json", type=Path, help="write every round to this file")
    parser.add_argument("--plot", type=Path, help="draw the rounds to this file")
    options = parser.parse_args(arguments)
    runs: list[Run] = []
    head = f"{'':38}{'full':>6}{'needed':>8}{'least':>7}{'most':>6}{'of pool':>9}{'to random':>11}"
    print(f"{head}  95 % of the draws of seeds")
    for name in options.only.split(","):
        images = read_images(name, options.data, options.kept)
        cuts = [images.cut(seed) for seed in range(options.seeds)]
        for arm, config in arms(options.ablation).items():
            found = [simulate(images, rows, arm, config, seed, options.start) for seed, rows in enumerate(cuts)]
            runs += found
            _print(found, [run for run in runs if (run.use_case, run.arm) == (name, RANDOM)])
        if options.json:
            options.json.write_text(json.dumps([dataclasses.asdict(run) for run in runs]), encoding="utf-8")
    if options.plot:
        from benchmarks.active_plot import draw

        draw(runs, options.plot)
    return 0


def ratio(found: Sequence[Run], at_random: Sequence[Run], resamples: int = 2000) -> tuple[float, float, float]:
    """Return the ratio of the medians of needed labels, and its 95 % interval by a bootstrap of the seeds.

    Args:
        at_random: Runs of the same seeds in the same order, which start with the same labels of the same split.
    """
    needed = np.array([[run.needed for run in runs] for runs in (found, at_random)], dtype=np.float64)
    drawn = np.random.default_rng(17).integers(0, needed.shape[1], (resamples, needed.shape[1]))
    medians = np.median(needed[:, drawn], axis=2)
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    ours, theirs = np.median(needed, axis=1)
    return float(ours / theirs), float(low), float(high)


def _print(found: Sequence[Run], at_random: Sequence[Run]) -> None:
    needed = [run.needed for run in found]
    full = float(np.mean([run.full for run in found]))
    shares = f"{np.median(needed):8.0f}{min(needed):7d}{max(needed):6d}{np.median(needed) / found[0].pool:9.2f}"
    middle, low, high = ratio(found, at_random)
    name = f"{found[0].use_case:12}{found[0].arm:26}"
    print(f"{name}{full:6.3f}{shares}{middle:11.2f}  {low:.2f} to {high:.2f}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

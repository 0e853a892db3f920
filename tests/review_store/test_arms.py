"""A/B evaluation on labels: each model on the labelled images that it answered, and their difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from tests.helpers.review import ANNA, NOW
from visionops.canary.comparison import ArmComparison, arm_line, compare_arms, labelled_arms
from visionops.errors import MetricError
from visionops.evaluation.settings import EvaluationConfig, EvaluationPlan
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
from visionops.inference.settings import ServingConfig, UseCase
from visionops.review.items import RANDOM, Predicted, Reason
from visionops.review.items import UseCase as ReviewedCase
from visionops.review.service import Answer, Arrival, Origin, Review
from visionops.review.states import Verdict
from visionops.tasks.labelling import LabelScheme
from visionops.tasks.spec import task_for

CELLS = ReviewedCase("cells", "detection", LabelScheme(class_names=CLASSES))
SCORING = EvaluationPlan(
    use_case=UseCase(name="cells", task="detection"),
    evaluation=EvaluationConfig(worst_images=0, latency_images=1, resamples=200),
    serving=ServingConfig(),
    metric="map50",
)
TASK = task_for("detection")
PLACES = [(column, row) for column in range(4) for row in range(4)]


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def review(opened: Callable[[str, str], Review], sqlite_database: str, folder: str) -> Review:
    made = opened(sqlite_database, folder)
    made.put_use_case(CELLS)
    return made


def decide(
    review: Review, bundle: ModelBundle, version: str, cells: list[tuple[str, int, int]], kind: str = RANDOM
) -> None:
    """Label an image that ``version`` answered with its true content."""
    key, data = f"{cells} {kind} {version}", encode(picture(cells))
    answer = Predictor(bundle).predict(data).to_dict()
    arrival = Arrival(Origin.TRAFFIC, predicted=Predicted("cells", version, answer), reasons=(Reason(kind),))
    item = review.add("cells", data, arrival, ANNA, key=f"a {key}", now=NOW).item
    review.claim(item.id, ANNA, key=f"c {key}", now=NOW)
    review.decide(item.id, Answer(Verdict.CORRECT, label=TASK.label_of(answer)), ANNA, key=f"d {key}", now=NOW)


def compare(review: Review, bundle: ModelBundle, other: ModelBundle, cache: Path) -> ArmComparison:
    arms = labelled_arms(review, CELLS, ("1", "2"), cache)
    return compare_arms(TASK, ("1", bundle), ("2", other), arms, SCORING)


def test_each_arm_is_scored_on_its_own_images_that_were_drawn_at_random(review, bundle, tmp_path):
    # The candidate does not detect blue.
    blind = make_bundle(tmp_path / "blind", class_names=("red", "green", "x"))
    for place in PLACES[:6]:
        decide(review, bundle, "1", [("red", *place)])
        decide(review, bundle, "2", [("green", *place)])
    for place in PLACES[6:9]:
        decide(review, bundle, "2", [("red", *place)], kind="uncertainty")  # is not counted
        decide(review, bundle, "7", [("blue", *place)])  # nor is another version
    found = compare(review, bundle, blind, tmp_path / "cache")
    assert (found.champion.images, found.candidate.images) == (6, 6)
    assert (found.champion.value, found.candidate.value) == (pytest.approx(1), pytest.approx(1))
    assert found.interval == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert "may be chance" in found.explain()
    assert arm_line("champion", found.champion).startswith("champion version 1: 1.000 (1.000 to 1.000) on 6 labelled")


def test_a_worse_candidate_is_behind_by_more_than_chance(review, bundle, tmp_path):
    swapped = make_bundle(tmp_path / "swapped", class_names=("green", "red", "blue"))
    for number, place in enumerate(PLACES):
        cells = [(CLASSES[number % 3], *place)]
        decide(review, bundle, "1", cells)
        decide(review, bundle, "2", [*cells, ("red", *PLACES[(number + 5) % 16])])
    found = compare(review, bundle, swapped, tmp_path / "cache")
    assert found.difference == pytest.approx(found.candidate.value - found.champion.value)
    low, high = found.interval
    assert low <= found.difference <= high < 0
    assert "is more than chance" in found.explain()
    again = compare(review, bundle, swapped, tmp_path / "cache")
    assert again == found


def test_an_arm_without_labels_has_no_figure(review, bundle, tmp_path):
    decide(review, bundle, "1", [("red", 0, 0)])
    with pytest.raises(MetricError, match="version 2 has no labelled image of its own traffic") as refused:
        compare(review, bundle, bundle, tmp_path / "cache")
    assert "\n" not in str(refused.value)


def test_equal_models_differ_beyond_chance_once_in_twenty():
    """The interval of the difference of two independent means, on numbers with known means."""
    from visionops.canary.comparison import _difference

    rng = np.random.default_rng(7)
    misses = 0
    for _ in range(400):
        samples = [rng.normal(0, 1, 60) for _ in range(2)]
        draws = [s[rng.integers(0, 60, (300, 60))].mean(axis=1) for s in samples]
        low, high = _difference(*draws)
        misses += not low <= 0 <= high
    assert 8 <= misses <= 36  # 20 expected

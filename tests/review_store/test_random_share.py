"""Only the random share of a review measures a model's quality on its traffic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from tests.helpers.review import ANNA, NOW
from visionops.data.additions import mark_added
from visionops.data.history import SplitHistory
from visionops.data.settings import ReviewSource, ValidationPolicy
from visionops.errors import DataError
from visionops.evaluation.settings import EvaluationConfig, EvaluationPlan
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
from visionops.inference.settings import ServingConfig, UseCase
from visionops.monitoring.labelled import measure, unseen, untrained
from visionops.review.errors import NotFound
from visionops.review.items import RANDOM, Reason
from visionops.review.items import UseCase as ReviewedCase
from visionops.review.service import Answer, Arrival, Origin, Review
from visionops.review.states import Verdict
from visionops.review.versions import DecidedLabels, read_labels
from visionops.tasks.labelling import LabelScheme
from visionops.tasks.spec import task_for

CELLS = ReviewedCase("cells", "detection", LabelScheme(class_names=CLASSES))
POLICY = ValidationPolicy(min_images=1)
SCORING = EvaluationPlan(
    use_case=UseCase(name="cells", task="detection"),
    evaluation=EvaluationConfig(worst_images=0, latency_images=1, resamples=0),
    serving=ServingConfig(),
    metric="map50",
)


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def review(opened: Callable[[str, str], Review], sqlite_database: str, folder: str) -> Review:
    made = opened(sqlite_database, folder)
    made.put_use_case(CELLS)
    return made


def decide(review: Review, cells: list[tuple[str, int, int]], kind: str, label: dict) -> None:
    key = f"{cells} {kind}"
    arrival = Arrival(Origin.TRAFFIC, reasons=(Reason(kind),))
    item = review.add("cells", encode(picture(cells)), arrival, ANNA, key=f"a {key}", now=NOW).item
    review.claim(item.id, ANNA, key=f"c {key}", now=NOW)
    review.decide(item.id, Answer(Verdict.CORRECT, label=label), ANNA, key=f"d {key}", now=NOW)


def found_by(bundle: ModelBundle, cells: list[tuple[str, int, int]]) -> dict:
    """Return the model's answer as a label."""
    prediction = Predictor(bundle).predict(encode(picture(cells)))
    return task_for("detection").label_of(prediction.to_dict())


def figure(bundle: ModelBundle, labels: DecidedLabels) -> float:
    new = untrained(unseen(mark_added(labels.drawn), SplitHistory.empty(), POLICY), SplitHistory.empty(), POLICY)
    return measure(task_for("detection"), bundle, new, SCORING, 0.9).value


def test_what_was_chosen_by_the_models_doubts_does_not_move_its_figure(
    review: Review, bundle: ModelBundle, tmp_path: Path
):
    for number, cells in enumerate(([("red", 0, 0)], [("green", 2, 2)], [("blue", 1, 1)])):
        decide(review, cells, RANDOM, found_by(bundle, cells))
        before = read_labels(review, CELLS, tmp_path / "cache")
        assert before.drawn.num_images == number + 1
    assert figure(bundle, before) == pytest.approx(1)
    # Where it was unsure, it was always wrong.
    nothing = {"boxes": [{"class_name": "red", "box": [0.0, 0.0, 3.0, 3.0]}]}
    for cells in ([("red", 3, 3)], [("red", 2, 1)], [("red", 1, 3)]):
        decide(review, cells, "uncertainty", nothing)
    after = read_labels(review, CELLS, tmp_path / "cache")
    assert (after.decided, after.drawn.num_images, after.unused(0)) == (6, 3, 6)
    assert figure(bundle, after) == pytest.approx(1)
    decide(review, [("red", 0, 3)], RANDOM, nothing)  # the same mistake, drawn at random, counts
    assert figure(bundle, read_labels(review, CELLS, tmp_path / "cache")) < 0.99


def test_a_step_reads_a_review_on_postgresql_and_an_object_store(
    opened: Callable[[str, str], Review], postgres_database: str, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    from steps.review import read_decided_labels, read_reviewed

    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", postgres_database)
    monkeypatch.setenv("VISIONOPS_REVIEW_IMAGES", bucket)
    review = opened(postgres_database, bucket)
    review.put_use_case(CELLS)
    decide(review, [("red", 0, 0)], RANDOM, {"boxes": []})
    review.export("cells", ANNA, key="e", now=NOW)
    monkeypatch.setattr("steps.review.log_metadata", lambda _: None)  # no step is running
    source, use_case = ReviewSource(kind="review"), SCORING.use_case
    reviewed, version = read_reviewed.entrypoint(source, use_case, 4095, False)
    assert (version.number, version.images, reviewed.white_level) == (1, 1, 4095)
    assert reviewed.column("key") == [f"additions/{reviewed.column('sha256')[0]}.png"]
    assert reviewed.paths()[0].read_bytes() == encode(picture([("red", 0, 0)]))
    labels = read_decided_labels(source, use_case)
    assert (labels.unused(0), labels.unused(1)) == (1, 0)
    assert read_decided_labels(source, UseCase(name="glass", task="detection")) is None
    with pytest.raises(NotFound, match="use case glas: is not in review"):
        read_decided_labels(ReviewSource(kind="review", use_case="glas"), use_case)
    with pytest.raises(DataError, match="cells is reviewed as detection, not classification"):
        read_decided_labels(source, UseCase(name="cells", task="classification"))

"""Performance without labels: with known truth, with too few images, and the data in a bundle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from benchmarks.estimation import simulate
from tests.helpers.bundles import CLASSES, encode, filled, make_bundle, make_label_bundle
from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.layers import Attribute
from visionops.inference.bundle import Head
from visionops.monitoring.estimation.calibration import fit_calibration
from visionops.monitoring.estimation.estimating import Estimator, TooFewError
from visionops.monitoring.estimation.held_out import HELD_OUT_FILE, HeldOut, add_held_out, read_held_out, truth_of
from visionops.monitoring.estimation.probabilities import answers_of, probabilities_of
from visionops.monitoring.estimation.rendering import render_estimate_html
from visionops.monitoring.estimation.report import PerformanceEstimate
from visionops.monitoring.estimation.window import PARTS, estimate_window
from visionops.monitoring.policy import Performance
from visionops.monitoring.record import record_schema
from visionops.monitoring.reference import add_reference
from visionops.monitoring.settings import EstimationSettings
from visionops.tasks.classification.scoring import LABEL_METRICS, Outcome, figure_of, figures
from visionops.tasks.spec import task_for

TWO = Head(name="condition", class_names=("ok", "defective"), positive="defective", threshold=0.4)
THREE = Head(name="class", class_names=CLASSES)
QUICK = EstimationSettings(draws=100)
END = datetime(2026, 3, 2, tzinfo=UTC)
SPAN = (END - timedelta(days=1), END)


def draw(seed: int, images: int, classes: int, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and truths drawn from them."""
    rng = np.random.default_rng(seed)
    odds = np.exp(rng.normal(0, spread, (images, classes)))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return probabilities, (rng.random((images, 1)) >= probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)


def held_out(seed: int, images: int, *classes: int) -> HeldOut:
    parts = [draw(seed + number, images, count) for number, count in enumerate(classes)]
    return HeldOut(np.concatenate([p for p, _ in parts], axis=1), np.stack([t for _, t in parts], axis=1))


@pytest.mark.parametrize(
    ("metric", "classes", "calibrated_on", "images", "sharpness"),
    [
        ("accuracy", 2, 300, 200, 1.0),
        ("accuracy", 4, 300, 200, 1.0),
        ("balanced_accuracy", 2, 300, 200, 1.0),
        ("f1", 3, 300, 100, 1.0),
        ("roc_auc", 2, 300, 200, 1.0),
        ("accuracy", 2, 60, 500, 1.5),
    ],
)
def test_the_interval_holds_the_true_figure_of_nineteen_windows_in_twenty(
    metric, classes, calibrated_on, images, sharpness
):
    covered, error, _ = simulate(metric, classes, calibrated_on, images, runs=80, sharpness=sharpness, draws=150)
    assert covered >= 0.9, "95 % less two standard errors"
    assert abs(error) < 0.015


def test_an_interval_that_covers_is_not_just_wide():
    _, _, width = simulate("accuracy", 2, 300, 200, runs=20)
    share = 0.88  # the true accuracy of these windows
    assert width < 2 * 1.96 * np.sqrt(share * (1 - share) / 200)  # narrower than with as many labelled images


def test_the_value_is_the_metric_of_the_expected_confusion_matrix():
    seen, _ = draw(1, 400, 2)
    reference = held_out(2, 200, 2)
    calibrated = fit_calibration(reference.probabilities, reference.truth[:, 0], 1, np.random.default_rng(0)).apply(
        seen
    )
    said = answers_of(TWO, seen)
    truth, answers = np.tile([0, 1], 400), np.repeat(said, 2)  # scikit-learn weights each image once for each class
    scores, weights = np.repeat(seen[:, 1], 2), calibrated.ravel()
    expected = {
        "accuracy": calibrated[np.arange(400), said].mean(),
        "balanced_accuracy": balanced_accuracy_score(truth, answers, sample_weight=weights),
        "f1": f1_score(truth, answers, sample_weight=weights),
        "roc_auc": roc_auc_score(truth, scores, sample_weight=weights),
    }
    for metric, value in expected.items():
        guess = Estimator([TWO], reference, metric, QUICK).estimate(seen)
        assert guess.value == pytest.approx(value, abs=1e-9)
        assert guess.low <= guess.value <= guess.high


def test_a_calibration_on_many_images_is_the_logistic_regression_of_another_library():
    probabilities, _ = draw(3, 20_000, 2)
    sharp = np.stack([probabilities[:, 0] ** 1.5, probabilities[:, 1] ** 1.5], axis=1)
    sharp /= sharp.sum(axis=1, keepdims=True)
    truth = (np.random.default_rng(4).random(20_000) < probabilities[:, 1]).astype(np.int64)
    found = fit_calibration(sharp, truth, 200, np.random.default_rng(0))
    logits = np.log(np.clip(sharp[:, 1], 1e-6, 1 - 1e-6) / np.clip(sharp[:, 0], 1e-6, 1 - 1e-6))
    peer = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None], truth)
    slope, offset = found.parameters[0]
    assert [slope / found.temperature, offset] == pytest.approx([peer.coef_[0, 0], peer.intercept_[0]], abs=0.01)
    assert found.temperature == pytest.approx(1.5, abs=0.05), "what was sharpened is taken back"
    assert np.abs(found.drawn.mean(axis=0) - found.parameters).max() < 0.02


def test_without_an_error_the_held_out_images_do_not_make_certain():
    probabilities = np.tile([[0.02, 0.98], [0.98, 0.02]], (20, 1))
    truth = probabilities.argmax(axis=1)
    reference = HeldOut(probabilities, truth[:, None])
    guess = Estimator([TWO], reference, "accuracy", QUICK).estimate(probabilities)
    assert guess.low < 0.96
    assert guess.high == 1


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), images=st.integers(30, 200))
@settings(max_examples=25, deadline=None)
def test_an_estimate_is_a_share_within_its_interval_and_the_same_again(seed, classes, images):
    head = Head(name="class", class_names=tuple(f"c{k}" for k in range(classes)))
    reference, (seen, _) = held_out(seed, 60, classes), draw(seed + 1, images, classes)
    for metric in ("accuracy", "balanced_accuracy"):
        try:
            guess = Estimator([head], reference, metric, QUICK).estimate(seen)
            again = Estimator([head], reference, metric, QUICK).estimate(seen)
        except TooFewError:
            assert metric != "accuracy"
            continue
        assert 0 <= guess.low <= guess.value <= guess.high <= 1
        assert guess == again


def test_several_attributes_are_estimated_as_their_mean():
    reference, seen = held_out(5, 200, 2, 3), np.concatenate([draw(8, 300, 2)[0], draw(9, 300, 3)[0]], axis=1)
    both = Estimator([TWO, THREE], reference, "accuracy", QUICK).estimate(seen)
    one = Estimator([TWO], HeldOut(reference.probabilities[:, :2], reference.truth[:, :1]), "accuracy", QUICK)
    other = Estimator([THREE], HeldOut(reference.probabilities[:, 2:], reference.truth[:, 1:]), "accuracy", QUICK)
    assert both.value == pytest.approx((one.estimate(seen[:, :2]).value + other.estimate(seen[:, 2:]).value) / 2)


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_one_figure_is_what_all_figures_say(metric):
    outcomes = []
    for head, seed in ((TWO, 1), (THREE, 2)):
        seen, truth = draw(seed, 50, len(head.class_names))
        outcomes.append(Outcome(head, truth, seen, answers_of(head, seen)))
    weights = np.random.default_rng(0).integers(0, 3, (4, 50)).astype(np.float64)
    assert figure_of(outcomes, weights, metric) == pytest.approx(figures(outcomes, weights)[metric])


@pytest.mark.parametrize(
    ("images", "metric", "why"),
    [
        (0, "accuracy", "0 predictions are too few to estimate from (30 needed)"),
        (1, "accuracy", "1 prediction are too few"),
        (29, "balanced_accuracy", "29 predictions are too few"),
    ],
)
def test_a_window_of_a_few_images_is_too_few(images, metric, why):
    estimator = Estimator([TWO], held_out(1, 60, 2), metric, QUICK)
    with pytest.raises(TooFewError) as caught:
        estimator.estimate(draw(2, images, 2)[0])
    assert str(caught.value).startswith(why)


def test_a_window_of_one_class_has_an_accuracy_and_no_recall():
    surely_ok = np.tile([0.999, 0.001], (200, 1))
    reference = held_out(1, 100, 2)
    assert Estimator([TWO], reference, "accuracy", QUICK).estimate(surely_ok).value > 0.95
    for metric in ("balanced_accuracy", "f1", "roc_auc", "pr_auc"):
        with pytest.raises(TooFewError, match="of defective are too few to estimate"):
            Estimator([TWO], reference, metric, QUICK).estimate(surely_ok)


@pytest.mark.parametrize(
    ("reference", "metric", "why"),
    [
        (held_out(1, 24, 2), "accuracy", "24 labelled val images of condition are too few to calibrate on"),
        (HeldOut(draw(1, 60, 2)[0], np.full((60, 1), -1)), "accuracy", "0 labelled val images"),
        (HeldOut(draw(1, 60, 2)[0], np.zeros((60, 1), np.int64)), "accuracy", "all val images of condition have"),
        (held_out(1, 60, 2), "map50", "map50 cannot be estimated without labels"),
    ],
)
def test_what_cannot_be_calibrated_says_why(reference, metric, why):
    with pytest.raises(TooFewError, match=why):
        Estimator([TWO], reference, metric, QUICK)


def test_records_without_whole_probabilities_are_left_out():
    rows = [[0.1, 0.9], None, [], [0.5], [float("nan"), 0.2], [0.7, 0.3]]
    table = pa.table({"probabilities": pa.chunked_array([pa.array(rows[:3], pa.list_(pa.float32())), rows[3:]])})
    probabilities, rows = probabilities_of(table, [TWO])
    assert rows.tolist() == [0, 5]
    assert probabilities == pytest.approx(np.array([[0.1, 0.9], [0.7, 0.3]]))


# Data in a bundle, and a window of the log.


def colours(folder, images: int) -> Dataset:
    """Return images that are more or less red, green or blue; every tenth has another label."""
    rng, keys, labels = np.random.default_rng(0), [], []
    folder.mkdir()
    for number in range(images):
        colour = number % 3
        pixels = rng.integers(60, 140, 3)
        pixels[colour] += rng.integers(10, 60)
        keys.append(f"{number}.png")
        labels.append((colour + 1) % 3 if number % 10 == 0 else colour)
        (folder / keys[-1]).write_bytes(encode(filled(tuple(int(p) for p in pixels))))
    columns = {"key": keys, "path": [str(folder / key) for key in keys], "split": ["val"] * images}
    attribute = Attribute("colour", ("blue", "green", "red"))  # another order than in the bundle
    by_order = [("red", "green", "blue")[label] for label in labels]
    ids = [attribute.class_names.index(name) for name in by_order]
    return hash_images(Dataset.from_columns("colours", (), columns, {}, attributes=[attribute], labels={"colour": ids}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimation")
    dataset = colours(folder / "images", 60)
    return add_held_out(add_reference(make_label_bundle(folder / "bundle"), dataset), dataset), dataset


def traffic_of(trained, copies: int = 2, **columns) -> pa.Table:
    """Return records of the val split, spread over the window, without a label."""
    from visionops.monitoring.reference import read_reference

    reference = pa.concat_tables([read_reference(trained[0])] * copies)
    moments = [SPAN[0] + (SPAN[1] - SPAN[0]) * i / len(reference) for i in range(len(reference))]
    rows = reference.set_column(0, "time", pa.array(moments, reference.schema.field("time").type))
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    return rows.cast(record_schema())


def test_a_bundle_carries_the_labels_of_its_val_split_by_name(trained):
    bundle, dataset = trained
    kept = read_held_out(bundle)
    assert HELD_OUT_FILE in bundle.card.files
    assert kept.probabilities.shape == (60, 3)
    assert kept.truth[:, 0].tolist() == [(i % 3 + 1) % 3 if i % 10 == 0 else i % 3 for i in range(60)]
    assert add_held_out(bundle, dataset).digest == bundle.digest


def test_labels_that_a_bundle_does_not_know_are_not_known(trained):
    _, dataset = trained
    unknown = Head(name="colour", class_names=("red", "green"))
    assert set(truth_of(dataset, [unknown])[2::30, 0]) == {-1}
    assert (truth_of(dataset, [THREE, TWO]) == -1).all(), "two questions, neither of this name"


def test_a_detector_is_not_estimated_and_says_so(tmp_path, trained):
    bundle = make_bundle(tmp_path / "bundle")
    assert add_held_out(bundle, trained[1]) is bundle
    report = estimate_window(task_for("detection"), bundle, traffic_of(trained), SPAN, "map50", QUICK)
    assert report.explain() == (
        "map50 is not estimated: detection has no class probabilities; only classification and attributes have them"
    )
    assert "too few" not in render_estimate_html(report, None)


def test_a_window_is_estimated_as_a_whole_and_in_parts(trained):
    traffic = traffic_of(trained, copies=6)
    report = estimate_window(task_for("classification"), trained[0], traffic, SPAN, "accuracy", QUICK, at_test=0.9)
    assert report.is_estimate is True
    assert report.estimate.images == 360
    kept = read_held_out(trained[0])  # the same images, here with known truth
    accuracy = (kept.probabilities.argmax(axis=1) == kept.truth[:, 0]).mean()
    assert report.estimate.value == pytest.approx(accuracy, abs=0.05)
    assert report.estimate.interval[0] < accuracy < report.estimate.interval[1]
    assert [part.images for part in report.parts] == [45] * PARTS
    assert all(part.interval[0] < part.value < part.interval[1] for part in report.parts)
    assert report.explain().startswith("estimated accuracy 0.")
    assert report.explain().endswith("on 360 predictions without labels, 0.900 on the test split")
    assert PerformanceEstimate.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"settings": EstimationSettings(enabled=False)}, "monitoring.estimation.enabled is false"),
        ({"metric": "map50"}, "map50 cannot be estimated without labels"),
        ({"copies": 0}, "0 predictions are too few"),
    ],
)
def test_a_window_that_is_not_estimated_says_why(trained, change, why):
    traffic = traffic_of(trained, change.get("copies", 2)) if change.get("copies", 2) else record_schema().empty_table()
    metric, settings = change.get("metric", "accuracy"), change.get("settings", QUICK)
    report = estimate_window(task_for("classification"), trained[0], traffic, SPAN, metric, settings)
    assert report.estimate is None
    assert report.problem.startswith(why)
    assert why in render_estimate_html(report, None)


def test_a_log_without_probabilities_and_a_bundle_without_labels_say_so(trained, tmp_path):
    task, old = task_for("classification"), make_label_bundle(tmp_path / "old")
    report = estimate_window(task, old, traffic_of(trained), SPAN, "accuracy", QUICK)
    assert report.problem.endswith("train again")
    empty = pa.array([[]] * 120, pa.list_(pa.float32()))
    report = estimate_window(task, trained[0], traffic_of(trained, probabilities=empty), SPAN, "accuracy", QUICK)
    assert (report.left_out, report.problem[:13]) == (120, "0 predictions")
    some = pa.array([[0.6, 0.3, 0.1]] * 100 + [None] * 20, pa.list_(pa.float32()))
    report = estimate_window(task, trained[0], traffic_of(trained, probabilities=some), SPAN, "accuracy", QUICK)
    assert report.explain().endswith("; 20 predictions without probabilities left out")


def test_the_page_shows_the_estimate_and_the_labelled_figure_in_one_plot_and_loads_nothing(trained):
    traffic = traffic_of(trained, copies=6)
    report = estimate_window(task_for("classification"), trained[0], traffic, SPAN, "accuracy", QUICK, at_test=0.9)
    labelled = Performance(metric="accuracy", value=0.8, interval=(0.7, 0.88), at_test=0.9, images=50)
    page = render_estimate_html(report, labelled)
    assert page.count('<g class="estimate">') == PARTS + 1
    assert page.count('<g class="labelled">') == 1
    assert "labelled traffic: 0.800 (0.700 to 0.880)" in page
    assert "estimate, the whole window" in page
    assert "http" not in page
    assert "<script" not in page
    alone = render_estimate_html(report, None)
    assert '<g class="labelled">' not in alone
    assert "No labelled traffic to compare it with." in alone

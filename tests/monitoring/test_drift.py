import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.permutation import deal, permutation_p
from visionops.monitoring.drift.rendering import render_drift_html
from visionops.monitoring.drift.report import ColumnKind, DriftReport, Verdict
from visionops.monitoring.settings import DriftSettings

CLASSES = ("crack", "dent", "pit")
QUICK = DriftSettings(permutations=1999)


def records(
    n, seed=0, *, brightness=0.5, spread=0.1, shares=(1 / 3, 1 / 3, 1 / 3), boxes=2.0, area=0.1, embedding=0.0
) -> pa.Table:
    """Return records of ``n`` images, each with boxes of one class; in the record's types."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(boxes, n)
    names = rng.choice(CLASSES, n, p=shares)
    of_boxes = pa.list_(pa.float32())
    return pa.table(
        {
            "feature_brightness": pa.array(rng.normal(brightness, spread, n), pa.float32()),
            "feature_noise": pa.array(rng.exponential(1, n), pa.float32()),
            "feature_width": pa.array([640] * n, pa.float32()),
            "count": pa.array(counts, pa.int32()),
            "labels": pa.array([[c] * k for c, k in zip(names, counts, strict=True)], pa.list_(pa.string())),
            "confidences": pa.array([rng.uniform(0.3, 1, k) for k in counts], of_boxes),
            "areas": pa.array([rng.normal(area, 0.02, k) for k in counts], of_boxes),
            "centres_x": pa.array([rng.uniform(0, 1, k) for k in counts], of_boxes),
            "centres_y": pa.array([rng.uniform(0, 1, k) for k in counts], of_boxes),
            "embedding": pa.array(list(rng.normal(embedding, 1, (n, 8))), of_boxes),
        }
    )


def drifted(report) -> set[str]:
    return {column.name for column in report.columns if column.drifted}


def column(report, name):
    return next(c for c in report.columns if c.name == name)


def replace(table, name, values, kind=None) -> pa.Table:
    array = pa.array(values, kind or table.schema.field(name).type)
    return table.set_column(table.column_names.index(name), name, array)


# ---- drift


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"brightness": 0.6}, {"feature_brightness"}),
        ({"spread": 0.3}, {"feature_brightness"}),
        ({"area": 0.13}, {"areas"}),
        ({"embedding": 0.5}, {"embedding"}),
        ({"boxes": 4.0}, {"count"}),
        ({"shares": (0.8, 0.1, 0.1)}, {"class:crack", "class:dent", "class:pit", "labels"}),
    ],
)
def test_the_column_that_changed_is_the_one_that_drifted(change, expected):
    report = detect_drift(records(300), records(200, 1, **change), QUICK)
    found = drifted(report)
    assert found >= (expected if "shares" not in change else {"class:crack", "labels"})
    # More boxes also show every class on more images.
    assert found <= expected | ({"class:crack", "class:dent", "class:pit"} if "boxes" in change else set())
    assert report.drifted
    assert report.embedding_drifted == ("embedding" in expected)
    assert report.share == pytest.approx(len(found) / len(report.columns))


def test_windows_without_a_change_raise_no_more_alarms_than_alpha_allows():
    reference = records(200)
    alarms = sum(
        detect_drift(reference, records(100, seed), QUICK.model_copy(update={"alpha": 0.05})).drifted
        for seed in range(1, 41)
    )
    assert alarms <= 6  # 2 are expected; 7 or more of 40 happen once in 300


def test_boxes_of_an_image_count_as_one_witness():
    """Chi-square over boxes counts 20 boxes of an image as 20 observations, and reports drift nearly every time."""
    rng = np.random.default_rng(0)

    def crowded(n):
        names = rng.choice(CLASSES, n)
        table = records(n, 5)
        return replace(table, "labels", [[c] * int(rng.integers(1, 40)) for c in names])

    alarms = sum("labels" in drifted(detect_drift(crowded(60), crowded(60), QUICK)) for _ in range(20))
    assert alarms == 0


def test_a_difference_too_small_to_matter_is_none_however_many_images_show_it():
    before, after = records(15_000), records(15_000, 1, brightness=0.508, shares=(0.35, 0.33, 0.32))
    report = detect_drift(before, after, QUICK)
    brightness = column(report, "feature_brightness")
    assert brightness.p_adjusted < 1e-6
    assert not report.drifted
    finer = detect_drift(before, after, QUICK.model_copy(update={"min_gap": 0.01}))
    assert "feature_brightness" in drifted(finer)


def test_the_report_says_what_changed_in_a_sentence():
    report = detect_drift(records(300), records(200, 1, brightness=0.25, shares=(0.8, 0.1, 0.1)), QUICK)
    sentence = report.explain()
    assert sentence.startswith("Drift: ")
    assert "200 images against 300" in sentence
    assert "brightness fell from 0.5" in sentence
    assert "(d = 2." in sentence
    assert "images with crack rose from 3" in sentence
    assert "; and 1 more" in report.explain(most=len(drifted(report)) - 1)


def test_a_change_of_spread_alone_is_reported_as_one():
    report = detect_drift(records(300), records(200, 1, spread=0.3), QUICK)
    assert "brightness changed in shape, its spread from 0.1" in report.explain()


def test_the_report_survives_json_and_holds_no_nan():
    report = detect_drift(records(300), records(40, 1, boxes=0.3), QUICK)
    document = report.model_dump_json()
    assert "NaN" not in document
    assert DriftReport.model_validate_json(document) == report
    assert json.loads(document)["share"] == report.share


def test_the_page_shows_every_column_and_runs_nothing():
    before = replace(records(100), "labels", [["<b>"]] * 100)
    report = detect_drift(before, records(100, 1, brightness=0.3), QUICK)
    page = render_drift_html(report)
    assert report.explain().split("; ")[0].split(": ")[1] in page
    assert page.count('<tr class="drifted">') == len(drifted(report)) > 0
    assert page.count("<svg") == sum(c.kind is ColumnKind.NUMBER and c.p_value is not None for c in report.columns)
    assert "<script" not in page
    assert "images with &lt;b&gt;" in page
    assert "http" not in page


# ---- no drift


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.floats(0, 3))
def test_a_table_against_itself_is_never_drift(seed, n, boxes):
    table = records(n, seed, boxes=boxes)
    order = np.random.default_rng(seed).permutation(n)
    report = detect_drift(table, table.take(order), QUICK)
    assert not report.drifted
    assert report.share == 0


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.7))
def test_the_order_of_rows_changes_nothing(seed, brightness):
    rng = np.random.default_rng(seed)
    before, after = records(90, seed), records(60, seed + 1, brightness=brightness, boxes=3)
    few = QUICK.model_copy(update={"embedding_images": 40})
    mixed = [table.take(rng.permutation(len(table))) for table in (before, after)]
    assert detect_drift(before, after, few) == detect_drift(*mixed, few)


def test_how_numbers_are_encoded_is_no_drift():
    before = replace(records(100), "feature_width", [0.1] * 100)
    doubles = replace(before, "feature_width", [0.1] * 100, pa.float64())
    chunked = pa.concat_tables([doubles.slice(0, 30), doubles.slice(30)])
    report = detect_drift(before, chunked, QUICK)
    assert column(report, "feature_width").p_value == 1
    assert not report.drifted


def test_a_class_that_one_window_does_not_show_has_a_share_of_zero():
    before, after = records(100, shares=(0.5, 0.47, 0.03)), records(100, 1, shares=(0.5, 0.5, 0))
    report = detect_drift(before, after, QUICK.model_copy(update={"min_shown": 1}))
    assert column(report, "class:pit").after == 0
    assert column(report, "class:pit").verdict is Verdict.STABLE
    assert not report.drifted


def test_a_class_that_goes_missing_is_found():
    report = detect_drift(records(200), records(100, 1, shares=(0.5, 0.5, 0)), QUICK)
    assert "class:pit" in drifted(report)
    assert "images with pit fell from" in report.explain(most=20)
    assert "to 0% (h" in report.explain(most=20)


@pytest.mark.filterwarnings("error")
def test_predictions_that_are_all_empty():
    nothing = records(100, boxes=0)
    assert not detect_drift(nothing, records(60, 1, boxes=0), QUICK).drifted
    report = detect_drift(records(100), nothing, QUICK)  # a model that suddenly finds nothing has drifted
    assert {"count", "labels", "class:crack"} - drifted(report) == {"labels"}
    for name in ("areas", "confidences", "centres_x", "centres_y", "labels"):
        assert column(report, name).verdict is Verdict.TOO_FEW


@pytest.mark.parametrize("rows", [0, 1, 29])
def test_below_the_least_number_of_images_nothing_is_said(rows):
    for tables in [(records(200), records(rows, 1, brightness=9)), (records(rows, 1, brightness=9), records(200))]:
        report = detect_drift(*tables, QUICK)
        assert {c.verdict for c in report.columns} == {Verdict.TOO_FEW}
        assert not report.drifted
        assert report.share == 0
        assert report.explain().startswith("Too few to say: ")
        assert "too few to say" in render_drift_html(report)


def test_constant_columns():
    before, after = records(100), records(80, 1)
    for name in ("feature_brightness", "feature_noise"):
        before, after = replace(before, name, [0.0] * 100), replace(after, name, [0.0] * 80)
    same = [[1.0] * 8]
    before, after = replace(before, "embedding", same * 100), replace(after, "embedding", same * 80)
    assert not detect_drift(before, after, QUICK).drifted
    report = detect_drift(before, replace(after, "feature_width", [320] * 80), QUICK)
    assert drifted(report) == {"feature_width"}
    assert "width fell from 640 to 320" in report.explain()


def test_columns_that_hold_the_same_are_judged_once():
    before, after = records(200), records(100, 1, brightness=0.6)
    for name in ("red", "green"):  # for grey images
        before = before.append_column(f"feature_{name}", before["feature_brightness"])
        after = after.append_column(f"feature_{name}", after["feature_brightness"])
    report = detect_drift(before, after, QUICK)
    assert drifted(report) == {"feature_brightness"}
    assert column(report, "feature_brightness").same_as == ("feature_red", "feature_green")
    assert "the same: red, green" in render_drift_html(report)
    coloured = replace(after, "feature_red", [0.1] * 100)
    assert drifted(detect_drift(before, coloured, QUICK)) == {"feature_brightness", "feature_red"}


def test_a_few_odd_images_among_equal_ones_are_found():
    """Where nearly all numbers are equal, Kolmogorov-Smirnov's formula has no power: its p is 0.02 here."""
    sizes = [640.0] * 80 + [300.0] * 20
    report = detect_drift(records(135), replace(records(100, 1), "feature_width", sizes), QUICK)
    assert drifted(report) == {"feature_width"}


def test_many_equal_numbers_among_many_others_are_no_drift():
    """With ties and tables of unequal size, the Cramér-von Mises formula always reports drift."""
    rng = np.random.default_rng(0)

    def mostly_zero(n):
        noise = np.where(rng.random(n) < 0.85, 0.0, rng.random(n))
        return pa.table({"feature_noise": pa.array(noise, pa.float32())})

    report = detect_drift(mostly_zero(4000), mostly_zero(3000), QUICK)
    assert column(report, "feature_noise").test == "Cramér-von Mises"
    assert column(report, "feature_noise").p_value > 0.01


def test_what_is_missing_is_left_out_and_not_nan():
    before, after = records(200), records(100, 1)
    noise = after["feature_noise"].to_pylist()
    holes = [None if i % 2 else float("nan") if i % 5 == 0 else value for i, value in enumerate(noise)]
    after = replace(after, "feature_noise", holes)
    after = replace(after, "areas", [None if i % 3 == 0 else a for i, a in enumerate(after["areas"].to_pylist())])
    after = replace(after, "embedding", [None, [], [1.0], [float("nan")] * 8, *after["embedding"].to_pylist()[4:]])
    report = detect_drift(before, after, QUICK)
    assert not report.drifted
    assert column(report, "feature_noise").current_images == 40
    assert column(report, "embedding").current_images == 96
    assert "nan" not in render_drift_html(report).lower()


def test_a_column_of_one_table_alone_is_not_compared():
    report = detect_drift(records(100), records(100, 1).drop_columns(["labels", "embedding", "feature_noise"]), QUICK)
    names = {c.name for c in report.columns}
    assert not names & {"labels", "embedding", "feature_noise", "class:crack"}
    assert not report.drifted


def test_more_images_than_the_test_of_embeddings_draws():
    few = QUICK.model_copy(update={"embedding_images": 60})
    assert not detect_drift(records(500), records(400, 1), few).embedding_drifted
    report = detect_drift(records(500), records(400, 1, embedding=0.7), few)
    assert report.embedding_drifted
    assert column(report, "embedding").current_images == 400


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValidationError, match="alpah"):
        DriftSettings(alpah=0.1)
    with pytest.raises(ValidationError, match="alpha"):
        DriftSettings(alpha=0)


# ---- many columns


def many_columns(n, classes, seed=0, *, other=False) -> pa.Table:
    """Return records of ``n`` images with two boxes each; ``other``: other classes, size and embeddings."""
    rng = np.random.default_rng(seed)
    names = np.array([f"c{number:04d}" for number in range(classes)])
    half = names[classes // 2 :] if other else names[: classes // 2]
    return pa.table(
        {
            "feature_width": pa.array([320 if other else 640] * n, pa.float32()),
            "labels": pa.array(rng.choice(half, (n, 2)).tolist(), pa.list_(pa.string())),
            "embedding": pa.array(list(rng.normal(20.0 * other, 1, (n, 4))), pa.list_(pa.float32())),
        }
    )


@settings(deadline=None, max_examples=8)
@given(st.integers(2, 400), st.sampled_from([0.2, 0.05, 0.01]), st.integers(0, 99))
@example(400, 0.01, 0)
@example(30, 0.001, 0)
def test_a_maximal_change_is_found_at_any_number_of_columns(classes, alpha, seed):
    n = max(30, classes)  # with fewer images a class would occur once or never, which no test can detect
    every = DriftSettings(alpha=alpha, permutations=99, min_shown=1)
    report = detect_drift(many_columns(n, classes, seed), many_columns(n, classes, seed + 1, other=True), every)
    mix = {"labels"} if classes > 2 else {"class:c0000"}  # with two, the mix is redundant
    assert drifted(report) >= {"feature_width", "embedding"} | mix
    least = min(c.p_value for c in report.columns if "permutation" in c.test)
    tested = sum(c.p_value is not None for c in report.columns)
    assert least * tested <= alpha / 2  # one exchange that is as far apart does not change the verdict


def test_a_maximal_change_is_found_among_two_thousand_columns():
    before, after = (many_columns(1000, 2000, 1, other=other) for other in (False, True))
    both = before.select(["labels"]), after.select(["labels"])
    report = detect_drift(*both, DriftSettings(alpha=0.2, min_shown=1))
    assert sum(c.p_value is not None for c in report.columns) > 1500
    assert drifted(report) == {"labels"}


def test_without_a_change_few_of_many_columns_raise_an_alarm():
    alarms = 0
    for seed in range(60):
        before, after = many_columns(60, 120, seed), many_columns(45, 120, 1000 + seed)
        alarms += detect_drift(before, after, DriftSettings(alpha=0.1, permutations=99, min_shown=1)).drifted
    assert alarms <= 13  # 6 at most are expected; 14 or more of 60 happen once in 600


def test_p_values_of_exchanges_are_uniform_without_a_change():
    """At most a share p of p-values is p or less: for numbers with ties, the mix and embeddings."""
    found = {"count": [], "labels": [], "embedding": []}
    for seed in range(120):
        one = records(100, seed)
        report = detect_drift(one.slice(0, 55), one.slice(55), DriftSettings(permutations=499, alpha=0.5))
        for name, values in found.items():
            values.append(column(report, name).p_value)
    for values in found.values():
        for level in (0.02, 0.1, 0.5):
            share = np.mean(np.array(values) <= level)
            assert share <= level + 3.5 * np.sqrt(level * (1 - level) / len(values))
            assert share >= level - 3.5 * np.sqrt(level * (1 - level) / len(values))


def test_exchanges_are_all_equally_likely():
    """All draws of images are equally likely: for few or many patterns, few or many images."""
    rng = np.random.default_rng(0)
    for images in ([3, 1, 2], [1] * 80, [2] * 100, [1] * 600, [9] * 100):
        both = np.array(images)
        dealt = deal(both, both.sum() // 3, 400, rng)
        assert (dealt.sum(axis=1) == both.sum() // 3).all()
        assert (dealt <= both).all()
        share = (both.sum() // 3) / both.sum()
        spread = np.sqrt(both * share * (1 - share) / 400)
        assert (np.abs(dealt.mean(axis=0) - both * share) <= 5 * spread).all()


def test_exchanges_stop_where_the_answer_is_no():
    sizes = []

    def draw(size):
        sizes.append(size)
        return np.tile([1.0, 0.0], size // 2)

    assert permutation_p(1.0, draw, 1_000_000) == 20 / 39  # every other exchange is as far apart
    assert sum(sizes) == 500
    assert permutation_p(2.0, draw, 9999) == 1 / 10_000


# ---- the same information


def attributes(n, seed=0, *, glasses=0.5, hat=0.5, names=("glasses", "hat")) -> pa.Table:
    """Return records of ``n`` images with a label of each attribute, yes or no."""
    rng = np.random.default_rng(seed)
    shares = {"glasses": glasses, "hat": hat}
    labels = [[f"{name}={'yes' if rng.random() < shares[name] else 'no'}" for name in names] for _ in range(n)]
    noise = pa.array(rng.exponential(1, n), pa.float32())
    return pa.table({"feature_noise": noise, "labels": pa.array(labels, pa.list_(pa.string()))})


def test_of_two_classes_a_change_is_one_column():
    before, after = attributes(200, names=["glasses"]), attributes(150, 1, glasses=0.9, names=["glasses"])
    report = detect_drift(before, after, QUICK)
    assert [c.name for c in report.columns] == ["feature_noise", "class:glasses=no"]
    assert drifted(report) == {"class:glasses=no"}
    assert report.share == 1 / 2
    shown = column(report, "class:glasses=no")
    assert shown.same_as == ("class:glasses=yes", "labels")
    assert shown.p_adjusted == pytest.approx(2 * shown.p_value)  # Holm's correction for two columns
    assert "images with glasses=no fell from" in report.explain()
    assert "the same: glasses=yes, the mix of classes among boxes" in render_drift_html(report)


def test_each_attribute_of_two_values_is_one_column():
    report = detect_drift(attributes(300), attributes(200, 1, hat=0.9), QUICK)
    names = ["feature_noise", "class:glasses=no", "class:hat=no", "labels"]
    assert [c.name for c in report.columns] == names
    assert drifted(report) == {"class:hat=no", "labels"}
    assert report.share == 2 / 4
    assert column(report, "class:hat=no").same_as == ("class:hat=yes",)


def test_an_attribute_that_never_varies_leaves_the_other_all_there_is():
    report = detect_drift(attributes(300, hat=0), attributes(200, 1, hat=0, glasses=0.9), QUICK)
    assert drifted(report) == {"class:glasses=no"}
    assert column(report, "class:glasses=no").same_as == ("class:glasses=yes", "labels")
    assert [c.name for c in report.columns] == ["feature_noise", "class:glasses=no", "class:hat=no"]


def test_of_two_classes_the_one_shown_often_enough_is_judged():
    before = attributes(200, glasses=0, names=["glasses"])
    labels = [["glasses=no"]] * 4 + [["glasses=yes"]] * 196
    before = replace(before, "labels", [["glasses=yes"]] * 200)
    report = detect_drift(before, replace(before, "labels", labels), QUICK)
    assert column(report, "class:glasses=yes").p_value is not None
    assert column(report, "class:glasses=yes").same_as == ("class:glasses=no", "labels")


def test_classes_that_say_more_than_each_other_stay_apart():
    exclusive = detect_drift(records(200, boxes=40), records(100, 1, boxes=40), QUICK)  # one of three on each image
    assert {"class:crack", "class:dent", "class:pit", "labels"} <= {c.name for c in exclusive.columns}
    # With images that show none, two classes are not complementary, and the mix has only the others.
    two = [["a"], ["b"], []] * 30
    report = detect_drift(*(replace(records(90, seed), "labels", two) for seed in (0, 1)), QUICK)
    assert {"class:a", "class:b", "labels"} <= {c.name for c in report.columns}
    # On the same images, but in other numbers.
    pairs = [["bolt", "nut"], ["bolt", "nut", "nut"], []] * 30
    report = detect_drift(*(replace(records(90, seed), "labels", pairs) for seed in (0, 1)), QUICK)
    assert column(report, "class:bolt").same_as == ("class:nut",)
    assert column(report, "labels").same_as == ()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=3), min_size=60, max_size=90), st.integers(30, 45))
def test_each_class_is_judged_once(labels, cut):
    table = replace(records(len(labels)), "labels", labels)
    report = detect_drift(table.slice(0, cut), table.slice(cut), QUICK.model_copy(update={"min_images": 2}))
    named = [name for c in report.columns for name in (c.name, *c.same_as) if name.startswith(("class:", "labels"))]
    shown = {name for image in labels for name in image}
    assert sorted(named) == sorted([f"class:{name}" for name in shown] + ["labels"] * bool(shown))
    for c in report.columns:
        ours = [c.name.removeprefix("class:") in image for image in labels]
        for other in c.same_as if c.kind is ColumnKind.CLASS else ():
            theirs = [other.removeprefix("class:") in image for image in labels]
            assert other == "labels" or theirs in (ours, [not shows for shows in ours])


# ---- the package


def test_the_typed_report_needs_neither_the_statistics_nor_the_page():
    heavy = "{'jinja2', 'matplotlib', 'scipy', 'visionops.monitoring.drift.detection'}"
    code = f"import sys, visionops.monitoring.drift.report; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "set()"

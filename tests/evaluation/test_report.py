"""The report of an evaluation for people, and its JSON for programs."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from tests.helpers.bundles import make_bundle
from visionops.errors import DataError
from visionops.evaluation import report
from visionops.evaluation.report import load_evaluation
from visionops.tasks.detection.evaluation import evaluate

SHOWN = [[("red", 0, 0), ("green", 2, 2)], [("red", 3, 1)], [("green", 1, 1), ("red", 2, 3)], [("green", 0, 3)]]
LABELLED = [[("red", 0, 0), ("green", 2, 2)], [("green", 3, 1), ("red", 0, 3)], [("red", 2, 3)], [("green", 0, 3)]]


@pytest.fixture
def folder(tmp_path, make_dataset, scoring):
    """Return an evaluation with mistakes: 001.png is confused and misses one, 002.png has one too many."""
    evaluate(make_bundle(tmp_path / "bundle"), make_dataset(SHOWN, LABELLED), scoring, tmp_path / "evaluation")
    return tmp_path / "evaluation"


def test_it_is_read_back_unchanged(tmp_path, make_dataset, scoring):
    bundle = make_bundle(tmp_path / "bundle")
    evaluation = evaluate(bundle, make_dataset(SHOWN, LABELLED), scoring, tmp_path / "evaluation")
    loaded = load_evaluation(tmp_path / "evaluation")
    assert repr(loaded) == repr(evaluation)  # NaN, for the class without instances, equals nothing


def test_the_json_is_strict(folder):
    def refuse(constant):
        raise AssertionError(constant)

    raw = json.loads((folder / "evaluation.json").read_text(), parse_constant=refuse)
    assert raw["per_class"]["blue"]["map50"] is None
    assert "folder" not in raw


def test_the_worst_image_comes_first_with_its_reason(folder):
    html = (folder / "report.html").read_text()
    captions = re.findall(r"<b>(00\d\.png)</b><br>([^<]*)<", html)
    assert captions[0][0] == "001.png"
    assert captions[0][1] == "score 3.00: missed 1 green, 1 red; took green for red 1.00"
    assert captions[1] == ("002.png", "score 1.00: green 1.00 fits no true box")
    assert captions[2:] == [("000.png", "all 2 found"), ("003.png", "the one found")]


def test_the_report_needs_no_other_file(folder):
    html = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) == 4 + 4
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in sources)
    assert len(html) < 5_000_000
    assert "<script" not in html


def test_the_pictures_lie_beside_it(folder):
    names = {"pr_curves.png", "f1_confidence.png", "per_class.png", "confusion_matrix.png"}
    names |= {"worst_00.jpg", "worst_01.jpg", "best_00.jpg", "best_01.jpg"}
    assert {p.name for p in folder.iterdir()} == names | {"evaluation.json", "report.html"}
    for name in names:
        with Image.open(folder / name) as image:
            assert min(image.size) > 100


def test_no_more_worst_images_than_set(tmp_path, make_dataset, scoring):
    scoring = scoring.model_copy(update={"evaluation": scoring.evaluation.model_copy(update={"worst_images": 1})})
    evaluate(make_bundle(tmp_path / "bundle"), make_dataset(SHOWN, LABELLED), scoring, tmp_path / "evaluation")
    assert len(list((tmp_path / "evaluation").glob("worst_*"))) == 1


def test_without_a_gallery_no_image_is_drawn(tmp_path, make_dataset, scoring):
    scoring = scoring.model_copy(update={"evaluation": scoring.evaluation.model_copy(update={"worst_images": 0})})
    evaluate(make_bundle(tmp_path / "bundle"), make_dataset(SHOWN, LABELLED), scoring, tmp_path / "evaluation")
    assert not list((tmp_path / "evaluation").glob("*.jpg"))
    assert report.NO_GALLERY in (tmp_path / "evaluation" / "report.html").read_text()


def test_pictures_over_the_budget_stay_files(tmp_path, make_dataset, scoring, monkeypatch):
    monkeypatch.setattr(report, "_MAX_EMBEDDED", 100_000)
    evaluate(make_bundle(tmp_path / "bundle"), make_dataset(SHOWN, LABELLED), scoring, tmp_path / "evaluation")
    html = (tmp_path / "evaluation" / "report.html").read_text()
    assert len(html) < 150_000
    assert "Beside this report: <code>best_01.jpg</code>" in html


def test_names_are_escaped(tmp_path, make_dataset, scoring):
    names = ("<b>red</b>", "green", "blue")
    dataset = make_dataset([[]], [[("<b>red</b>", 0, 0)]], classes=names)
    evaluate(make_bundle(tmp_path / "bundle", class_names=names), dataset, scoring, tmp_path / "evaluation")
    html = (tmp_path / "evaluation" / "report.html").read_text()
    assert "<b>red</b>" not in html
    assert "&lt;b&gt;red&lt;/b&gt;" in html


def test_more_classes_than_a_legend_holds_still_draw(tmp_path, make_dataset, scoring):
    names = ("red", "green", "blue", *(f"class {i}" for i in range(30)))
    scene = [("red", 0, 0), *((f"class {i}", i % 4, i // 4) for i in range(1, 16))]
    dataset = make_dataset([[("red", 0, 0)]], [scene], classes=names)
    evaluate(make_bundle(tmp_path / "bundle", class_names=names), dataset, scoring, tmp_path / "evaluation")
    assert load_evaluation(tmp_path / "evaluation").metrics["serving_recall"] == pytest.approx(1 / 16)


def test_without_a_mistake_the_report_says_so(tmp_path, make_dataset, scoring):
    evaluate(make_bundle(tmp_path / "bundle"), make_dataset(SHOWN), scoring, tmp_path / "perfect")
    assert "every box was found and there were no false positives" in (tmp_path / "perfect" / "report.html").read_text()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"per_class": {}}', '{"per_class": {"a": 1}}'])
def test_a_folder_without_a_usable_evaluation_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(DataError, match=r"evaluation\.json: not a saved evaluation .*evaluate again"):
        load_evaluation(tmp_path)

"""User-defined columns: accepted functions and values, and that their failures never stop an answer."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.helpers.bundles import CLASSES, encode, make_bundle, picture
from visionops.data.dataset import Dataset
from visionops.errors import ConfigError, DataError
from visionops.inference.bundle import ModelBundle
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Predictor
from visionops.inference.record_rules import RESERVED, RecordRules
from visionops.monitoring.batches import BatchRecorder
from visionops.monitoring.columns import MOST_TEXT, UserColumns, encode_values
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.expansion import expand_records
from visionops.monitoring.drift.report import Verdict
from visionops.monitoring.features import FEATURE_NAMES
from visionops.monitoring.log import PredictionLog
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.record import OPTIONAL, RECORD
from visionops.monitoring.reference import REFERENCE_FILE, add_reference, read_reference
from visionops.monitoring.settings import DriftSettings, MonitoringConfig

ME = "tests.monitoring.test_columns"


# Functions that a use case could name.
def redness(image: np.ndarray) -> float:
    return float(image[:, :, 0].mean())


def first_class(prediction: dict) -> str | None:
    found = prediction["detections"]
    return found[0]["class_name"] if found else None


def both(image: np.ndarray, prediction: dict) -> int:
    return image.shape[0] + len(prediction["detections"])


def fails(image: np.ndarray) -> float:
    raise RuntimeError("no such lamp")


def leaves(image: np.ndarray) -> float:
    raise SystemExit(3)


def writes(image: np.ndarray) -> float:
    image[:] = 0
    return 0.0


def wants_more(image: np.ndarray, threshold: float) -> float:
    return threshold


not_callable = 3


@pytest.fixture
def answered(tmp_path) -> tuple[np.ndarray, Prediction]:
    rgb = picture([("red", 1, 1)])
    return rgb, Predictor(make_bundle(tmp_path / "bundle")).predict(rgb)


def test_a_function_gets_the_image_the_answer_or_both(answered):
    columns = UserColumns.load({"redness": f"{ME}:redness", "first": f"{ME}:first_class", "both": f"{ME}:both"})
    rgb, prediction = answered
    assert columns.values(rgb, prediction) == {"redness": rgb[:, :, 0].mean(), "first": "red", "both": 129.0}
    assert columns.names == ("redness", "first", "both")


def test_a_function_that_fails_costs_its_own_value(answered):
    failures, seconds = [], []
    columns = UserColumns.load(
        {"bad": f"{ME}:fails", "left": f"{ME}:leaves", "dark": f"{ME}:writes", "redness": f"{ME}:redness"}
    )
    rgb, prediction = answered
    values = columns.values(rgb, prediction, lambda *f: failures.append(f), lambda *s: seconds.append(s))
    assert list(values) == ["redness"]
    assert [(name, str(error)) for name, error in failures] == [
        ("bad", "no such lamp"),
        ("left", "3"),
        ("dark", "assignment destination is read-only"),
    ]
    assert [name for name, _ in seconds] == ["bad", "left", "dark", "redness"]
    assert rgb.any()
    assert rgb.flags.writeable


@given(
    st.one_of(
        st.floats(),
        st.integers(-(2**80), 2**80),
        st.booleans(),
        st.text(),
        st.none(),
        st.lists(st.integers(), max_size=2),
        st.floats(width=32).map(np.float32),
        st.integers(0, 255).map(np.uint8),
        st.binary(),
    )
)
def test_a_value_is_a_finite_number_a_short_text_or_missing(value):
    failures = []
    columns = UserColumns({"x": lambda image: value})
    prediction = type("Nothing", (), {"to_dict": staticmethod(dict)})()
    values = columns.values(np.zeros((1, 1, 3), np.uint8), prediction, lambda *f: failures.append(f))
    if "x" in values:
        kept = values["x"]
        assert not failures
        assert (0 < len(kept) <= MOST_TEXT and kept.isprintable()) if isinstance(kept, str) else math.isfinite(kept)
        again = json.loads(encode_values(values))["x"]
        assert again == kept if isinstance(kept, str) else again == pytest.approx(kept, rel=1e-5)
    else:
        assert (value is None) != bool(failures)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_package:f", r"x: no_such_package:f: cannot be imported \(ModuleNotFoundError: No module named"),
        (f"{ME}:no_such", r"has no function no_such; correct the name"),
        (f"{ME}:not_callable", r"has no function not_callable"),
        (f"{ME}:wants_more", r"expected a function of image, of prediction or of both \(got threshold\)"),
        ("os:system", r"\(got command\)"),
        ("builtins:exec", r"expected a function of image"),
    ],
)
def test_what_cannot_be_a_column_is_refused_in_one_line(place, message):
    with pytest.raises(ConfigError, match=message) as caught:
        UserColumns.load({"x": place})
    assert str(caught.value).startswith("monitoring.columns.x: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"Glare": "a:b"}, r"'Glare' cannot name a column: expected 1 to 40 of a-z, 0-9 and _"),
        ({"brightness": "a:b"}, r"'brightness' is already a column of every record; choose another name"),
        ({"glare": "plant.columns"}, r"glare: expected module:function, such as plant.columns:glare \(got 'plant"),
        ({"glare": "plant:a.b"}, r"expected module:function"),
        ({f"c{n}": "a:b" for n in range(21)}, r"has 21 columns, expected at most 20"),
    ],
)
def test_the_configuration_says_what_is_wrong(columns, message):
    with pytest.raises(ValidationError, match=message):
        MonitoringConfig(columns=columns)


def test_names_that_a_record_has_are_taken():
    assert {*RECORD.names, *FEATURE_NAMES} - RESERVED == {f"feature_{name}" for name in FEATURE_NAMES}


# ---- reference, log and comparison

RULES = RecordRules(
    columns={"redness": f"{ME}:redness", "first": f"{ME}:first_class"}, source_pattern="^(?P<source>cam[0-9])/"
)


def scenes(folder, number=36) -> Dataset:
    keys = [f"cam{n % 2}/{n}.png" for n in range(number)]
    for n, key in enumerate(keys):
        (folder / key).parent.mkdir(exist_ok=True, parents=True)
        (folder / key).write_bytes(encode(picture([(CLASSES[n % 3], n % 4, 1)])))
    images = {"key": keys, "path": [str(folder / key) for key in keys], "split": ["val"] * number}
    return Dataset.from_columns("cells", CLASSES, images, {})


def test_the_reference_and_the_log_have_the_same_columns(tmp_path):
    dataset = scenes(tmp_path / "images")
    bundle = add_reference(make_bundle(tmp_path / "bundle"), dataset, rules=RULES)
    assert ModelBundle.load(bundle.folder).card.records == RULES
    reference = read_reference(bundle)
    assert set(reference["source"].to_pylist()) == {"cam0", "cam1"}
    log = PredictionLog(tmp_path / "log")
    recorder = BatchRecorder(log, "run", bundle, "1", is_resumed=False)
    predictor = Predictor(bundle)
    for key, path in zip(dataset.column("key"), dataset.paths(), strict=True):
        predictor.predict(
            path.read_bytes(), watch=lambda *seen, k=key, p=path: recorder.record(p, k, k[-5:-4], *seen, 1.0)
        )
    log.close()
    traffic = read_log(tmp_path / "log")
    assert traffic["columns"].to_pylist() == reference["columns"].to_pylist()
    assert traffic["source"].to_pylist() == reference["source"].to_pylist()
    before, after = expand_records([reference, traffic], bundle.card)
    assert before["column:first"].type == pa.string()
    assert before["column:redness"].type == pa.float32()
    report = detect_drift(before.drop_columns(["source"]), after.drop_columns(["source"]), DriftSettings())
    verdicts = {column.name: column.verdict for column in report.columns if column.name.startswith("column:")}
    assert verdicts == {"column:redness": Verdict.STABLE, "column:first": Verdict.STABLE}
    assert not report.drifted


def test_a_text_column_drifts_by_its_shares(tmp_path):
    def rows(texts):
        return pa.Table.from_pylist([{"columns": encode_values({"shift": text})} for text in texts], schema=RECORD)

    card = make_bundle(tmp_path / "bundle").card
    tables = expand_records([rows(["day", "night"] * 60), rows(["day"] * 80)], card)
    report = detect_drift(*tables, DriftSettings())
    assert report.names() == "shift"
    mixed = expand_records([rows(["day"] * 40), rows([1.5] * 40)], card)
    assert detect_drift(*mixed, DriftSettings()).names() == "shift"  # a number in a column with texts becomes a text


def test_a_reference_without_the_column_is_said_and_counted(tmp_path):
    card = make_bundle(tmp_path / "bundle").card
    old = pa.Table.from_pylist([{"count": n % 3} for n in range(50)], schema=RECORD)
    new = pa.Table.from_pylist(
        [{"count": n % 3, "columns": encode_values({"glare": float(n), "shift": "day"})} for n in range(50)],
        schema=RECORD,
    )
    report = detect_drift(*expand_records([old, new], card), DriftSettings())
    assert report.explain() == (
        "No drift: none of 1 columns in 50 images against 50 of the reference. "
        "Not in the reference, so not compared: glare, shift; train again."
    )


@given(st.text(max_size=20) | st.sampled_from(["[1]", "7", '{"a": [1]}', '{"a": {}}', '{"a": 1e999}', "{", "null"]))
def test_what_another_program_wrote_there_stops_nothing(text):
    from visionops.monitoring.drift.expansion import _decode

    assert all(isinstance(value, str | float) for value in _decode(text).values())


def test_without_rules_a_bundle_is_what_it_was(tmp_path):
    bundle = add_reference(make_bundle(tmp_path / "bundle"), scenes(tmp_path / "images"))
    assert "records" not in json.loads((bundle.folder / "bundle.json").read_text())
    names = pa.parquet.read_schema(bundle.folder / REFERENCE_FILE).names
    assert names == [name for name in RECORD.names if name not in OPTIONAL]
    assert add_reference(bundle, scenes(tmp_path / "images"), rules=RecordRules()).digest == bundle.digest
    renewed = add_reference(bundle, scenes(tmp_path / "images"), rules=RULES)
    assert renewed.card.records == RULES
    assert read_reference(renewed)["columns"].null_count == 0


def test_a_column_that_fails_while_the_reference_is_made_stops_the_training(tmp_path):
    rules = RecordRules(columns={"bad": f"{ME}:fails"})
    with pytest.raises(DataError, match=r"^monitoring\.columns\.bad: the function failed on cam.*no such lamp.*; corr"):
        add_reference(make_bundle(tmp_path / "bundle"), scenes(tmp_path / "images", 2), rules=rules)


def test_a_batch_goes_on_without_the_value_and_says_so_once(tmp_path, answered, caplog):
    rules = RecordRules(columns={"bad": f"{ME}:fails", "redness": f"{ME}:redness"})
    made = make_bundle(tmp_path / "other")
    bundle = ModelBundle.create(made.folder, made.card.model_copy(update={"records": rules}))
    log = PredictionLog(tmp_path / "log")
    recorder = BatchRecorder(log, "run", bundle, "1", is_resumed=False)
    with caplog.at_level(logging.WARNING, "visionops.monitoring"):
        for n in range(3):
            recorder.record(tmp_path / f"{n}.png", f"{n}.png", str(n), *answered, 1.0)
    log.close()
    assert len(read_log(tmp_path / "log")) == 3
    assert all('"redness"' in text and "bad" not in text for text in read_log(tmp_path / "log")["columns"].to_pylist())
    assert [record.message for record in caplog.records] == [
        "monitoring.columns.bad: the function failed; affected records have no value"
    ]

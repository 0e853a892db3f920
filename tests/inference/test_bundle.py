"""A bundle loads only if it is complete and unchanged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.helpers.bundles import make_bundle, make_label_bundle
from visionops.errors import BundleError
from visionops.inference.bundle import BundleCard, Head, ModelBundle
from visionops.inference.preprocessing_spec import PreprocessingSpec, Resize, Tiling
from visionops.inference.settings import Precision


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def edit(bundle, **changes):
    path = bundle.folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_sealed_bundle_loads_with_the_same_identity(bundle):
    loaded = ModelBundle.load(bundle.folder)
    assert loaded == bundle
    assert loaded.digest == bundle.digest
    assert set(loaded.card.files) == {"model.onnx"}


def test_identity_changes_with_a_file(tmp_path, bundle):
    assert make_bundle(tmp_path / "other", gain=3.0).digest != bundle.digest


def test_a_bundle_from_before_there_were_tiles_keeps_its_identity():
    written = (
        '{"bundle_version":1,"task":"detection","name":"plates","architecture":"yolov8n","class_names":["red"],"heads":[],'
        '"preprocessing":{"width":64,"height":64,"resize":"letterbox","pad_value":114,"scale":0.00392156862745098,'
        '"mean":[0.0,0.0,0.0],"std":[1.0,1.0,1.0],"interpolation":"linear","crop":null},"decode":"yolo",'
        '"thresholds":{"confidence":0.25,"iou":0.7,"max_detections":300},"precision":"f32","metrics":{},'
        '"data_fingerprint":"","training":{},"files":{}}'
    )
    card = BundleCard.model_validate_json(written)
    assert card.preprocessing.tiles is None
    assert ModelBundle(Path(), card).digest == hashlib.sha256(written.encode()).hexdigest()


def test_tiles_stand_in_the_card(tmp_path):
    tiles = Tiling(size=96, overlap=20)
    bundle = make_bundle(tmp_path / "tiled", tiles=tiles)
    assert ModelBundle.load(bundle.folder).card.preprocessing.tiles == tiles
    assert bundle.digest != make_bundle(tmp_path / "whole").digest


def test_labels_have_no_tiles(tmp_path):
    spec = PreprocessingSpec(width=32, height=32, resize=Resize.STRETCH, tiles=Tiling(size=96, overlap=20))
    with pytest.raises(ValidationError, match="classification answers for whole images; only detectors have tiles"):
        make_label_bundle(tmp_path / "labels", preprocessing=spec)


def test_sealing_needs_a_model(tmp_path, bundle):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"has no model\.onnx; export"):
        ModelBundle.create(tmp_path / "empty", bundle.card)


def test_a_folder_without_a_card_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        ModelBundle.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "\xff", '"a"', "[]"])
def test_a_card_that_is_no_card_is_refused(bundle, text):
    (bundle.folder / "bundle.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        ModelBundle.load(bundle.folder)


def test_a_card_of_another_version_is_refused(bundle):
    edit(bundle, bundle_version=99)
    with pytest.raises(BundleError, match="version 99, this VisionOps reads 1"):
        ModelBundle.load(bundle.folder)


def test_a_card_with_a_wrong_value_names_the_key(bundle):
    edit(bundle, class_names=[])
    with pytest.raises(BundleError, match="class_names"):
        ModelBundle.load(bundle.folder)


def test_a_changed_file_is_corrupt(bundle):
    bundle.model_path.write_bytes(bundle.model_path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=r"model\.onnx: sha256 differs"):
        ModelBundle.load(bundle.folder)


def test_a_missing_file_is_named(bundle):
    bundle.model_path.unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: listed in bundle\.json but missing"):
        ModelBundle.load(bundle.folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b"])
def test_a_file_outside_the_bundle_is_refused(bundle, name):
    edit(bundle, files=bundle.card.files | {name: "0" * 64})
    with pytest.raises(BundleError, match="leaves the bundle"):
        ModelBundle.load(bundle.folder)


def test_a_card_must_list_the_model(bundle):
    edit(bundle, files={})
    with pytest.raises(BundleError, match=r"model\.onnx is missing in its list of files"):
        ModelBundle.load(bundle.folder)


# Heads

TWO = ("ok", "defective")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"class_names": ("a", "a")}, "names a class twice"),
        ({"class_names": ("a",)}, "class_names"),
        ({"name": ""}, "name"),
        ({"positive": "bad"}, "'bad' is not one of two classes"),
        ({"class_names": ("a", "b", "c"), "positive": "a"}, "'a' is not one of two classes"),
        ({"threshold": 0.5}, "has a threshold but no positive class"),
        ({"positive": "ok", "threshold": 1.5}, "threshold"),
        ({"positive": "ok", "threshold": float("nan")}, "threshold"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperatur": 2}, "temperatur"),
    ],
)
def test_a_head_that_contradicts_itself_is_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        Head.model_validate({"name": "state", "class_names": TWO} | fields)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "detection"}, "task detection does not decode logits"),
        ({"decode": "yolo"}, "task classification does not decode yolo"),
        ({"heads": []}, "task classification has 0 heads"),
        ({"task": "attributes", "heads": []}, "task attributes has 0 heads"),
        ({"class_names": ["red", "green"]}, "differ in number"),
        ({"task": "detection", "decode": "yolo"}, "a detector has no heads"),
    ],
)
def test_a_card_whose_task_and_heads_disagree_is_refused(tmp_path, changes, words):
    labels = make_label_bundle(tmp_path / "labels")
    edit(labels, **changes)
    with pytest.raises(BundleError, match=rf"bundle\.json: .*{words}"):
        ModelBundle.load(labels.folder)


def test_a_classification_has_one_head(tmp_path):
    heads = [Head(name="a", class_names=TWO), Head(name="b", class_names=TWO)]
    with pytest.raises(ValidationError, match="task classification has 2 heads"):
        make_label_bundle(tmp_path / "labels", heads=heads, task="classification")


def test_heads_live_in_the_card(tmp_path):
    heads = (
        Head(name="state", class_names=TWO, positive="defective", threshold=0.3, temperature=1.7),
        Head(name="size", class_names=("s", "m", "l")),
    )
    card = ModelBundle.load(make_label_bundle(tmp_path / "labels", heads=heads).folder).card
    assert card.heads == heads
    assert card.class_names == ("state=ok", "state=defective", "size=s", "size=m", "size=l")


def test_a_quantized_bundle_serves_its_other_graph_and_keeps_the_first(bundle):
    for name in ("model.int8.xml", "model.int8.bin"):
        (bundle.folder / name).write_bytes(b"another graph")
    sealed = ModelBundle.create(bundle.folder, bundle.card.model_copy(update={"precision": Precision.INT8}))
    loaded = ModelBundle.load(sealed.folder)
    assert loaded.model_path.name == "model.int8.xml"
    assert loaded.in_precision(Precision.F32).model_path.name == "model.onnx"
    assert loaded.digest != bundle.digest


def test_a_precision_without_its_graph_is_refused(bundle):
    with pytest.raises(BundleError, match=r"has no model\.int8\.xml; run --pipeline quantize"):
        bundle.in_precision(Precision.INT8)
    with pytest.raises(BundleError, match=r"has no model\.int8\.xml"):
        ModelBundle.create(bundle.folder, bundle.card.model_copy(update={"precision": Precision.INT8}))
    edit(bundle, precision="int8")
    with pytest.raises(BundleError, match=r"model\.int8\.xml is missing in its list of files"):
        ModelBundle.load(bundle.folder)

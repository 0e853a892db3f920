"""The champion in INT8: both graphs in one bundle, reproducible, and one clear line if it fails."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers.bundles import CELL, CLASSES, encode, make_bundle, make_label_bundle, picture
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.layers import Attribute
from visionops.data.settings import DataConfig, SampleSource
from visionops.errors import BundleError, DataError, QuantizationError
from visionops.gate.settings import GateConfig
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import load_engine
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing import preprocess
from visionops.inference.preprocessing_spec import Tiling
from visionops.inference.settings import EngineName, Precision
from visionops.quantization.int8 import _quantize, _Tensors, calibration_images, quantize_bundle
from visionops.quantization.settings import QuantizationConfig
from visionops.tasks.spec import task_for

CONFIG = Config(name="cells", data=DataConfig(source=SampleSource(kind="sample")))
SCENES = [[("red", 0, 0), ("green", 2, 2)], [("red", 3, 1)], [("green", 1, 1), ("blue", 2, 3)], [("blue", 0, 3)]]


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle", metrics={"map50": 0.5})


@pytest.fixture
def dataset(tmp_path):
    """Return four val images that the colour-cell detector predicts correctly."""
    rows = [(i, CLASSES.index(c), x * CELL, y * CELL) for i, cells in enumerate(SCENES) for c, x, y in cells]
    image, class_id, x, y = zip(*rows, strict=True)
    boxes = {"image": image, "class_id": class_id, "x1": x, "y1": y}
    boxes |= {"x2": [v + CELL for v in x], "y2": [v + CELL for v in y]}
    paths = [tmp_path / f"{i}.png" for i in range(len(SCENES))]
    for path, cells in zip(paths, SCENES, strict=True):
        path.write_bytes(encode(picture(cells)))
    images = {
        "key": [p.name for p in paths],
        "path": [str(p) for p in paths],
        "sha256": [f"{i:064x}" for i in range(4)],
        "width": [128] * 4,
        "height": [128] * 4,
        "split": ["val"] * 4,
    }
    return Dataset.from_columns("cells", CLASSES, images, boxes)


def quantize(bundle, dataset, folder):
    done = []
    made = quantize_bundle(bundle, dataset, task_for(bundle.card.task), CONFIG.quantization_plan, folder, done.append)
    assert done[-1] == len(done) == dataset.num_images
    return made


def test_the_bundle_serves_int8_and_keeps_the_float_graph(tmp_path, bundle, dataset):
    made = quantize(bundle, dataset, tmp_path / "int8")
    assert ModelBundle.load(made.folder) == made
    assert made.card.precision is Precision.INT8
    assert made.card.files.items() > bundle.card.files.items()
    assert made.card.metrics["map50"] == pytest.approx(1)  # on val, measured with the graph that is served
    assert made.card.training["quantization"]["of"] == bundle.digest

    image = picture(SCENES[0])
    whole = Predictor(bundle).predict(image)
    served = Predictor(made).predict(image)
    np.testing.assert_allclose(served.boxes, whole.boxes, atol=0.01)  # after the last layer all is float
    np.testing.assert_allclose(served.scores, whole.scores, atol=0.03)
    again = Predictor(made.in_precision(Precision.F32), EngineName.ONNXRUNTIME).predict(image)
    np.testing.assert_allclose(again.scores, whole.scores, atol=1e-5)
    with pytest.raises(BundleError, match="precision int8 needs the openvino engine"):
        Predictor(made, EngineName.ONNXRUNTIME)
    with pytest.raises(QuantizationError, match="the champion is INT8 already"):
        quantize(made, dataset, tmp_path / "again")
    assert kinds_of_convolution(made) <= {"u8", "i8"}
    assert kinds_of_convolution(bundle) == {"f32"}


def kinds_of_convolution(bundle):
    """Return the precisions in which the engine really computes convolutions."""
    operations = load_engine(bundle)._first.model.get_runtime_model().get_ops()
    facts = [{k: str(v.astype(str)) for k, v in op.get_rt_info().items()} for op in operations]
    return {fact["runtimePrecision"] for fact in facts if fact["layerType"] == "Convolution"}


def test_labels_of_a_class_that_the_champion_does_not_know_do_not_count(tmp_path, dataset):
    old = make_bundle(tmp_path / "old", class_names=CLASSES[:2])
    assert quantize(old, dataset, tmp_path / "int8").card.metrics["map50"] == pytest.approx(1)


def test_the_same_images_give_the_same_bundle_and_others_another(tmp_path, bundle, dataset):
    first = quantize(bundle, dataset, tmp_path / "int8").digest
    assert quantize(bundle, dataset, tmp_path / "int8").digest == first  # it replaces the first one
    assert quantize(bundle, dataset.take([0, 1]), tmp_path / "other").digest != first


def test_calibration_uses_the_engine_inputs_of_service(bundle, dataset):
    tensors = list(_Tensors(bundle, dataset, lambda _: None))
    for tensor, cells in zip(tensors, SCENES, strict=True):
        np.testing.assert_array_equal(tensor, preprocess(picture(cells), bundle.card.preprocessing)[0])


def test_of_an_image_in_tiles_every_tile_counts(tmp_path, bundle, dataset):
    tiled = bundle.card.preprocessing.model_copy(update={"tiles": Tiling(size=96, overlap=32)})
    cut = ModelBundle.create(bundle.folder, bundle.card.model_copy(update={"preprocessing": tiled}))
    tensors = list(_Tensors(cut, dataset.take([0]), lambda _: None))
    assert len(tensors) == 4
    taken = []
    _quantize(cut, (taken.append(tensor) or tensor for tensor in tensors))
    assert len(taken) == 4


def test_labels_are_quantized_too(tmp_path):
    bundle = make_label_bundle(tmp_path / "bundle", size=32)
    paths = [tmp_path / f"{name}.png" for name in CLASSES]
    for path, name in zip(paths, CLASSES, strict=True):
        path.write_bytes(encode(picture([(name, 0, 0)], width=CELL, height=CELL)))
    images = {"key": [p.name for p in paths], "path": [str(p) for p in paths], "split": ["val"] * 3}
    attributes = [Attribute("class", CLASSES)]
    dataset = Dataset.from_columns("colours", [], images, {}, attributes=attributes, labels={"class": [0, 1, 2]})
    config = CONFIG.model_copy(update={"task": "classification", "gate": GateConfig(metric="accuracy")})
    made = quantize_bundle(bundle, dataset, task_for("classification"), config.quantization_plan, tmp_path / "int8", id)
    assert made.card.metrics["accuracy"] == 1


def test_images_are_spread_over_val_and_no_more_than_there_are(dataset):
    many = dataset.take([0, 1, 2, 3] * 25)
    assert calibration_images(many, 300).num_images == 100
    assert calibration_images(many, 5).num_images == 5
    assert calibration_images(many.replace_column("split", ["train", "val"] * 50), 300).num_images == 50


def test_missing_val_images_are_reported(bundle, dataset, tmp_path):
    with pytest.raises(QuantizationError, match="cells: the val split has no images"):
        quantize(bundle, dataset.replace_column("split", ["test"] * 4), tmp_path / "int8")


def test_a_graph_without_a_layer_is_refused_and_nothing_is_written(tmp_path, dataset):
    bundle = make_label_bundle(tmp_path / "bundle")
    spec = bundle.card.preprocessing
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["images"], ["logits"], axes=[2, 3], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, spec.height, spec.width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, bundle.model_path)
    with pytest.raises(QuantizationError, match=r"model\.onnx: has no layer that NNCF quantizes") as caught:
        quantize(ModelBundle.create(bundle.folder, bundle.card), dataset, tmp_path / "int8")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "int8").exists()


def test_a_missing_image_is_named_and_nothing_is_written(tmp_path, bundle, dataset):
    dataset.paths()[2].unlink()
    with pytest.raises(DataError, match=r"2\.png: cannot be read \(No such file"):
        quantize(bundle, dataset, tmp_path / "int8")
    assert not (tmp_path / "int8").exists()


SCRIPT = """
import sys
from pathlib import Path
from tests.helpers.bundles import make_bundle
from visionops.data.dataset import Dataset
from visionops.quantization.int8 import _quantize, _Tensors

bundle = make_bundle(Path(sys.argv[1]))
images = {"key": ["0.png"], "path": [sys.argv[2]], "split": ["val"]}
_quantize(bundle, _Tensors(bundle, Dataset.from_columns("cells", bundle.card.class_names, images, {}), id))
"""


def test_nncf_prints_nothing_and_leaves_nothing_in_the_users_home(tmp_path, dataset):
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME"}}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "other"), str(dataset.paths()[0])],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert [p for p in home.rglob("*") if p.is_file()] == []


def test_the_settings_are_checked():
    assert QuantizationConfig().max_loss == 0.01
    with pytest.raises(ValueError, match="less than or equal to 1"):
        QuantizationConfig(max_loss=2)

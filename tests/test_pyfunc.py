"""The logged model predicts on raw images anywhere, with the code it was logged with."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.bundles import encode, filled, make_bundle, make_label_bundle, picture
from tests.helpers.tracking import make_tracking
from visionops.errors import ImageError, OptionError
from visionops.inference.bundle import Head
from visionops.inference.predictor import Predictor

# MLflow warns about one of its own type hints when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

IMAGE = picture([("red", 2, 1)])
RED = {"class_id": 0, "class_name": "red", "confidence": 1.0, "box": [64.0, 32.0, 96.0, 64.0]}
RESULT = {"width": 128, "height": 128, "detections": [RED]}


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """Restore the path, because MLflow adds the code of each loaded model to it."""
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.fixture
def model(tmp_path):
    from visionops.pyfunc import VisionOpsModel

    return VisionOpsModel(Predictor(make_bundle(tmp_path / "bundle")))


def text(image: np.ndarray) -> str:
    return base64.b64encode(encode(image)).decode()


@pytest.mark.parametrize(
    "images",
    [
        [encode(IMAGE), encode(IMAGE)],
        [text(IMAGE), text(IMAGE)],
        [IMAGE, IMAGE],
        np.stack([IMAGE, IMAGE]),
        [encode(IMAGE), IMAGE],
        [IMAGE.tolist(), {"image": text(IMAGE)}],
    ],
    ids=["bytes", "base64", "arrays", "one array", "mixed", "as JSON has them"],
)
def test_a_batch_gives_one_result_per_image(model, images):
    assert model.predict(images) == [RESULT, RESULT]


@pytest.mark.parametrize("image", [encode(IMAGE), text(IMAGE), IMAGE], ids=["bytes", "base64", "array"])
def test_a_data_frame_holds_images_in_its_column(model, image):
    import pandas as pd

    assert model.predict(pd.DataFrame({"id": [7, 8], "image": [image, image]})) == [RESULT, RESULT]


def test_no_images_no_results(model):
    assert model.predict([]) == []


def test_thresholds_are_parameters(model):
    assert model.predict([IMAGE], {"confidence": 1.0})[0]["detections"] == []
    assert model.predict([IMAGE], {"confidence": -1.0, "iou": -1.0}) == [RESULT]


@pytest.mark.parametrize(
    "bad",
    [b"text", "no base64!", text(IMAGE)[:40], np.zeros((4, 4), np.uint8), [[[300, 0, 0]]], [], None, 3],
    ids=["bytes", "no base64", "cut base64", "grey array", "numbers over 255", "no pixels", "nothing", "a number"],
)
def test_a_bad_image_is_named_by_its_index(model, bad):
    with pytest.raises(ImageError, match=r"^image 1: "):
        model.predict([encode(IMAGE), bad, encode(IMAGE)])


def test_a_data_frame_without_the_column_is_refused(model):
    import pandas as pd

    with pytest.raises(ImageError, match='has the columns picture; put the images into "image"'):
        model.predict(pd.DataFrame({"picture": [encode(IMAGE)]}))


@pytest.mark.parametrize("one", [encode(IMAGE), text(IMAGE)], ids=["bytes", "base64"])
def test_a_single_image_outside_a_list_is_refused(model, one):
    with pytest.raises(ImageError, match="expected a list of images"):
        model.predict(one)


@pytest.fixture
def log(tmp_path):
    """Return a function that logs a bundle to its own tracking database, whose address is its ``uri``."""
    import mlflow

    from visionops.pyfunc import log_pyfunc

    def log_bundle(bundle):
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(log_bundle.uri)
        try:
            experiment = mlflow.get_experiment_by_name("cells").experiment_id
            with mlflow.start_run(experiment_id=experiment):
                return log_pyfunc(bundle, "cells")
        finally:
            mlflow.set_tracking_uri(before)

    log_bundle.uri = make_tracking(tmp_path, "cells")
    return log_bundle


def test_the_logged_model_loads_and_answers_elsewhere(tmp_path, log):
    bundle = make_bundle(tmp_path / "bundle")
    info, uri = log(bundle), log.uri

    assert info.metadata["bundle_digest"] == bundle.digest
    assert [p.name for p in info.signature.params] == ["confidence", "iou"]
    logged = next((tmp_path / "artifacts").rglob("MLmodel")).parent
    requirements = (logged / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert not any(line.startswith(("torch", "ultralytics", "zenml")) for line in requirements)
    assert not list(logged.rglob("*.pkl"))

    images = tmp_path / "images"
    images.mkdir()
    (images / "part.png").write_bytes(encode(IMAGE))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = f"""
import base64, io, json, sys
from pathlib import Path
import mlflow, numpy as np, pandas as pd
from PIL import Image
mlflow.set_tracking_uri({uri!r})
data = Path({str(images / "part.png")!r}).read_bytes()
pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
answers = []
for config in ({{}}, {{"engine": "onnxruntime"}}):
    model = mlflow.pyfunc.load_model({info.model_uri!r}, model_config=config)
    answers += model.predict([data, base64.b64encode(data).decode(), pixels])
    answers += model.predict(pd.DataFrame({{"image": [data]}}), params={{"confidence": 0.5}})
import visionops
print(json.dumps({{"answers": answers, "code": visionops.__file__, "torch": "torch" in sys.modules}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, check=True, capture_output=True, text=True, timeout=300
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["answers"] == [RESULT] * 8
    assert Path(said["code"]).is_relative_to(tmp_path)
    assert not said["torch"]


# Labels

HEADS = (
    Head(name="state", class_names=("ok", "defective"), positive="defective", threshold=0.2),
    Head(name="colour", class_names=("x", "y", "z")),
)
REDDISH = filled((200, 160, 0))


@pytest.fixture(params=[None, HEADS], ids=["one label", "attributes"])
def labels(request, tmp_path):
    return make_label_bundle(tmp_path / "labels", heads=request.param)


def test_labels_answer_in_the_form_of_the_server(labels):
    from visionops.pyfunc import VisionOpsModel

    predictor = Predictor(labels)
    expected = {"width": 32, "height": 32, **predictor.predict(REDDISH).to_dict()}
    assert set(expected) == {"width", "height", "attributes" if len(labels.card.heads) > 1 else "classification"}
    assert VisionOpsModel(predictor).predict([encode(REDDISH), REDDISH]) == [expected, expected]


def test_labels_take_no_thresholds(labels):
    from visionops.pyfunc import VisionOpsModel

    model = VisionOpsModel(Predictor(labels))
    with pytest.raises(OptionError, match="confidence: a model of labels takes its thresholds from its card"):
        model.predict([REDDISH], {"confidence": 0.5})
    assert model.predict([REDDISH], {"confidence": -1.0, "iou": -1.0})


def test_a_logged_model_of_labels_declares_its_outputs(labels, log):
    import mlflow

    info = log(labels)
    assert info.signature.params is None
    key = "attributes" if len(labels.card.heads) > 1 else "classification"
    assert info.signature.outputs.input_names() == ["width", "height", key]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(log.uri)
    try:
        model = mlflow.pyfunc.load_model(info.model_uri)
    finally:
        mlflow.set_tracking_uri(before)
    (answer,) = model.predict([encode(REDDISH)])
    assert answer == {"width": 32, "height": 32, **Predictor(labels).predict(REDDISH).to_dict()}
    probabilities = answer["attributes"]["colour"] if key == "attributes" else answer["classification"]
    assert sum(probabilities["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer:UserWarning")
def test_the_signature_fits_the_predictions(labels):
    import pandas as pd
    from mlflow.models import infer_signature

    from visionops.inference.task_registry import served_task
    from visionops.pyfunc import VisionOpsModel, _signature

    declared = {c.name: c.type for c in _signature(served_task(labels.card.task)).outputs.inputs}
    answers = pd.DataFrame(VisionOpsModel(Predictor(labels)).predict([REDDISH]))
    inferred = {c.name: c.type for c in infer_signature(answers).inputs.inputs}
    assert set(inferred) == set(declared)
    if "attributes" in declared:  # from a single prediction the library reads attributes as fields of an object
        said, promised = inferred["attributes"].properties[0].dtype, declared["attributes"].value_type
    else:
        said, promised = inferred["classification"], declared["classification"]
    kinds = {p.name: p.dtype for p in said.properties if p.name != "probabilities"}
    assert kinds == {p.name: p.dtype for p in promised.properties if p.name != "probabilities"}

"""Ingest, batch and server accept the same types of image."""

from __future__ import annotations

import pytest

from tests.helpers.bundles import make_bundle
from tests.inference.test_image_types import WRITABLE, example
from tests.serving.conftest import client_of, settings_of
from visionops.batch.images import list_images
from visionops.batch.inference import predict_batch
from visionops.config import Config
from visionops.data.formats import read_dataset
from visionops.data.hashing import hash_images
from visionops.data.output import open_output
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.judging import validate
from visionops.inference.image_types import preferred_suffix
from visionops.inference.predictor import Predictor
from visionops.tasks.spec import task_for

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def test_ingest_batch_and_server_accept_the_same_types(tmp_path):
    files = {f"{name.lower()}{preferred_suffix(name)}": example(name) for name in WRITABLE}
    files |= {"upper.JFIF": example("JPEG"), "mixed.Tga": example("TGA", 5)}
    files |= {"drawing.eps": example("EPS"), "text.svg": b"<svg/>", "photo.cr2": b"II*\0raw"}
    wanted = {name for name in files if not name.endswith((".eps", ".svg", ".cr2"))}
    for folder in ("red", "blue"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / "in" / "red" / name).write_bytes(data)
    (tmp_path / "in" / "blue" / "0.png").write_bytes(example("PNG", 9))
    config = Config.model_validate(
        {
            "name": "types",
            "task": "classification",
            "data": {"source": {"kind": "folder", "path": "in"}, "format": "folders"},
        }
    )

    dataset = read_dataset(tmp_path / "in", config.data, "types", task_for("classification").fit_dataset)
    assert {key.removeprefix("red/") for key in dataset.column("key")} - {"blue/0.png"} == wanted
    report = validate(dataset, ValidationPolicy())
    assert set(report.facts.column("problem").to_pylist()) == {""}

    bundle = make_bundle(tmp_path / "bundle", size=64)
    listed = hash_images(list_images(tmp_path / "in" / "red", "types"))
    summary = predict_batch(Predictor(bundle), listed, open_output(str(tmp_path / "out")), "1")
    assert (summary.images, summary.failed) == (len(wanted), 0)

    with client_of(settings_of(bundle.folder)) as client:
        for name, data in files.items():
            response = client.post("/predict", content=data, headers={"content-type": "application/octet-stream"})
            assert response.is_success is (name in wanted), (name, response.text)

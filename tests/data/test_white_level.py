"""The used range of 16-bit files: measured, reported, and the same from training to serving."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.helpers import images
from tests.helpers.bundles import make_bundle
from tests.inference.test_white_level import GREY
from tests.serving.conftest import client_of, settings_of
from visionops.batch.images import list_images
from visionops.batch.inference import predict_batch
from visionops.config import Config
from visionops.data.additions import join_additions
from visionops.data.audit import read_thumbnail
from visionops.data.cleaning import clean
from visionops.data.dataset import Dataset
from visionops.data.findings import Code, Severity
from visionops.data.formats import read_dataset
from visionops.data.formats.yolo_export import write_yolo
from visionops.data.hashing import hash_images
from visionops.data.output import open_output
from visionops.data.settings import DataConfig, FolderSource, Format, TrainingTiles, ValidationPolicy
from visionops.data.tiles import cut_tiles
from visionops.data.validation.inspected import inspect_shard
from visionops.data.validation.judging import validate, validate_inspected
from visionops.inference.image import decode_image
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing import to_canvas
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.tasks.classification.pixels import read_canvases

POLICY = ValidationPolicy(min_images=1, min_instances=0)
CASES = ROOT.parent / "shared" / "cases"


def deep(seed: int, largest: int, side: int = 64) -> np.ndarray:
    """Return a smooth uint16 (side, side) image from 0 to exactly ``largest``."""
    grey = np.asarray(images.picture(seed, side, side).convert("L"), dtype=np.float64)
    return ((grey - grey.min()) / (grey.max() - grey.min()) * largest).round().astype(np.uint16)


def dataset_of(folder, largest, kind="png", count=12, **columns) -> Dataset:
    suffix = {"tiff": "tif", "pgm": "pgm", "png": "png"}[kind]
    files = {f"{seed}.{suffix}": GREY[kind](deep(seed, largest)) for seed in range(count)}
    return hash_images(images.dataset_of(folder, files, **columns))


def white_findings(report):
    return [finding for finding in report.findings if finding.code is Code.WHITE_LEVEL]


@pytest.mark.parametrize(
    ("kind", "largest", "bits", "white"),
    [("png", 4000, 12, 4095), ("tiff", 1023, 10, 1023), ("pgm", 16000, 14, 16383), ("png", 200, 8, 255)],
)
def test_the_used_range_is_found_and_reported(tmp_path, kind, largest, bits, white):
    report = validate(dataset_of(tmp_path, largest, kind), POLICY)
    (finding,) = white_findings(report)
    assert finding.severity is Severity.INFO
    said = f"12 of 12 images are 16-bit files that use {bits} bits (largest value {largest}): scaled by {white}"
    assert finding.message == said
    assert report.white == white
    assert report.verdict.startswith("Usable")
    (message,) = {f.message for f in report.findings if f.code is Code.SIXTEEN_BIT}
    assert f"({white} becomes 255)" in message


def test_true_16_bits_stay_as_they_are(tmp_path):
    report = validate(dataset_of(tmp_path, 65000), POLICY)
    assert not white_findings(report)
    assert report.white == 65535


def test_8_bits_have_no_white_level(tmp_path):
    report = validate(images.dataset_of(tmp_path, {"a.png": images.encode(images.picture(), "PNG")}), POLICY)
    assert not white_findings(report)
    assert report.white == 65535


def test_one_bright_image_sets_the_level_and_is_named(tmp_path):
    files = {f"{seed}.png": GREY["png"](deep(seed, 4000)) for seed in range(11)}
    files["hot.png"] = GREY["png"](deep(20, 60000))
    report = validate(images.dataset_of(tmp_path, files), POLICY)
    (finding,) = white_findings(report)
    assert report.white == 65535
    assert "largest value 60000 in hot.png, while most use 12 bits" in finding.message
    assert "set data.white_level" in finding.message


def test_the_configuration_takes_precedence(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(GREY["png"](deep(seed, 4000)))
    source = FolderSource(kind="folder", path=tmp_path)
    data = DataConfig(source=source, format=Format.FOLDERS, white_level=2000)
    dataset = read_dataset(tmp_path, data, "parts")
    report = validate(dataset, POLICY)
    assert report.white == 2000
    assert white_findings(report)[0].message == (
        "2 of 2 images are 16-bit files that use 12 bits (largest value 4000): scaled by 2000, as data.white_level "
        "says; brighter values are clipped"
    )
    assert clean(dataset, report).white == 2000


@pytest.mark.parametrize("wrong", [0, 65536, -1])
def test_a_white_level_has_16_bits(wrong, tmp_path):
    with pytest.raises(ValueError, match="white_level"):
        DataConfig(source=FolderSource(kind="folder", path=tmp_path), white_level=wrong)


def test_the_level_travels_with_the_data_set(tmp_path):
    dataset = dataset_of(tmp_path / "in", 4000)
    report = validate(dataset, POLICY)
    report.save(tmp_path / "report")
    cleaned = clean(dataset, type(report).load(tmp_path / "report"))
    cleaned.save(tmp_path / "saved")
    loaded = Dataset.load(tmp_path / "saved")
    assert loaded.white == cleaned.white == 4095
    assert loaded.fingerprint() != dataclasses.replace(loaded, white_level=None).fingerprint()
    assert dataset.fingerprint() == dataclasses.replace(dataset, white_level=65535).fingerprint()


def test_an_old_data_set_without_a_level_has_the_full_range(tmp_path):
    dataset_of(tmp_path / "in", 4000).save(tmp_path / "saved")
    meta = json.loads((tmp_path / "saved" / "dataset.json").read_text())
    del meta["white_level"]
    (tmp_path / "saved" / "dataset.json").write_text(json.dumps(meta))
    assert Dataset.load(tmp_path / "saved").white == 65535


def test_training_serving_and_batch_see_the_same_pixels(tmp_path):
    splits = {f"{seed}.png": "train" for seed in range(12)}
    boxes = [("0.png", 0, (4.0, 4.0, 30.0, 30.0))]
    dataset = dataset_of(tmp_path / "in", 4000, splits=splits, boxes=boxes)
    cleaned = clean(dataset, validate(dataset, POLICY))
    bundle = make_bundle(tmp_path / "bundle", size=64, white=cleaned.white)
    predictor = Predictor(bundle)
    spec = PreprocessingSpec(width=64, height=64, white=cleaned.white)
    write_yolo(cleaned, tmp_path / "yolo")
    tiles = cut_tiles(cleaned, TrainingTiles(size=32, overlap=8, keep_empty=1.0), tmp_path / "tiles", seed=0)
    for row, (path, canvas) in enumerate(zip(cleaned.paths(), read_canvases(cleaned, spec, range(12)), strict=True)):
        served = predictor.pixels(path.read_bytes())
        assert served.max() > 240
        np.testing.assert_array_equal(to_canvas(served, spec)[0], canvas)
        np.testing.assert_array_equal(served, np.asarray(Image.open(tmp_path / f"yolo/images/train/{row}.png")))
        thumbnail = read_thumbnail(path, 64, cleaned.white)
        assert thumbnail is not None
        np.testing.assert_array_equal(thumbnail[0], served)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tiles.paths()[0])), predictor.pixels(cleaned.paths()[0].read_bytes())[:32, :32]
    )
    assert tiles.white == cleaned.white


def test_small_images_stay_files_of_16_bits_among_tiles(tmp_path):
    dataset = dataclasses.replace(
        dataset_of(tmp_path / "in", 4000, count=1, splits={"0.png": "train"}), white_level=4095
    )
    tiled = cut_tiles(dataset, TrainingTiles(size=64, overlap=8, keep_empty=1.0), tmp_path / "tiles", seed=0)
    assert tiled.paths() == dataset.paths()
    assert tiled.white == 4095


def test_server_and_batch_answer_by_the_level_of_the_bundle(tmp_path):
    samples = np.zeros((128, 128), dtype=np.uint16)
    samples[32:64, 64:96] = 3686  # 0.9 of 12 bits: a score of 0.8
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "part.png").write_bytes(GREY["png"](samples))
    confidences = {}
    for white in (4095, 65535):
        bundle = make_bundle(tmp_path / str(white), white=white)
        predictor = Predictor(bundle)
        mine = predictor.predict((tmp_path / "in" / "part.png").read_bytes())
        listed = hash_images(list_images(tmp_path / "in", "toy"))
        out = open_output(str(tmp_path / f"out{white}"))
        summary = predict_batch(predictor, listed, out, "1")
        assert (summary.failed, summary.lots["."].confidence) == (0, pytest.approx(_mean(mine.scores)))
        with client_of(settings_of(bundle.folder)) as client:
            answer = client.post("/predict", content=(tmp_path / "in" / "part.png").read_bytes(), headers=_BYTES)
        answered = [found["confidence"] for found in answer.json()["detections"]]
        assert answered == pytest.approx(mine.scores.tolist(), abs=1e-4)
        confidences[white] = answered
    assert confidences[4095] == pytest.approx([0.8] * len(confidences[4095]), abs=0.01)
    assert confidences[4095]
    assert not confidences[65535]


_BYTES = {"content-type": "application/octet-stream"}


def _mean(scores):
    return float(scores.mean()) if len(scores) else None


def test_brighter_values_in_serving_are_clipped(tmp_path):
    predictor = Predictor(make_bundle(tmp_path / "bundle", white=4095))
    samples = np.array([[0, 4095, 4096, 65535]] * 4, dtype=np.uint16)
    np.testing.assert_array_equal(predictor.pixels(GREY["png"](samples))[0, :, 0], [0, 255, 255, 255])


def test_brightness_and_looks_do_not_depend_on_the_depth(tmp_path):
    shallow = {
        f"{seed}.png": images.encode(Image.fromarray((deep(seed, 4080) >> 4).astype(np.uint8)), "PNG")
        for seed in range(4)
    }
    twelve = validate(dataset_of(tmp_path / "deep", 4080, count=4), POLICY).facts
    eight = validate(images.dataset_of(tmp_path / "shallow", shallow), POLICY).facts
    np.testing.assert_allclose(twelve["brightness"].to_numpy(), eight["brightness"].to_numpy(), atol=2)
    distance = [
        (a ^ b).bit_count() for a, b in zip(twelve["phash"].to_pylist(), eight["phash"].to_pylist(), strict=True)
    ]
    assert max(distance) <= 2


def test_an_image_is_recognized_when_the_level_changes(tmp_path):
    before = validate(dataset_of(tmp_path / "before", 4000, count=4), POLICY)
    files = {f"{seed}.png": GREY["png"](deep(seed, 4000)) for seed in range(4)} | {
        "bright.png": GREY["png"](deep(20, 60000))
    }
    after = validate(images.dataset_of(tmp_path / "after", files), POLICY)
    assert (before.white, after.white) == (4095, 65535)
    for column in ("phash", "look"):
        assert after.facts[column].to_pylist()[:4] == before.facts[column].to_pylist()
    # With the white level of the data set, like the pixels that the model gets.
    first, second = (report.facts["brightness"].to_numpy()[:4] for report in (before, after))
    np.testing.assert_allclose(second, first * 4095 / 65535, rtol=1e-4)


def test_shards_find_the_level_of_all_images(tmp_path):
    dataset = dataset_of(tmp_path, 4000, count=6)
    (tmp_path / "5.png").write_bytes(GREY["png"](deep(5, 16000)))
    dataset = dataset.replace_column("sha256", [""] * 6)
    parts = [inspect_shard(dataset.take([0, 1, 2]), POLICY), inspect_shard(dataset.take([3, 4, 5]), POLICY)]
    joined, alone = validate_inspected(dataset, parts, POLICY), validate(dataset, POLICY)
    assert joined.white == alone.white == 16383
    assert joined.facts == alone.facts
    assert joined.findings == alone.findings


def test_additions_may_be_brighter(tmp_path):
    base = dataset_of(tmp_path / "base", 4000, count=4)
    cleaned = clean(base, validate(base, POLICY))
    added = images.dataset_of(tmp_path / "new", {"additions/9.png": GREY["png"](deep(9, 16000))})
    assert join_additions(cleaned, added, POLICY).white == 16383
    fixed = dataclasses.replace(added, white_level=4095)
    assert join_additions(cleaned, fixed, POLICY).white == 4095


@pytest.mark.skipif(not (CASES / "twelve_bit_png").is_dir(), reason="needs ../shared/cases")
def test_the_case_of_12_bits_in_png():
    folder = CASES / "twelve_bit_png" / "data"
    config = Config.model_validate(
        {"name": "twelve", "data": {"source": {"kind": "folder", "path": str(folder)}, "format": "coco"}}
    )
    dataset = read_dataset(folder, config.data, "twelve")
    report = validate(dataset, config.validation)
    cleaned = clean(dataset, report)
    (finding,) = white_findings(report)
    assert finding.message.startswith("12 of 12 images are 16-bit files that use 12 bits (largest value ")
    assert finding.message.endswith("scaled by 4095")
    assert cleaned.white == 4095
    brightest = max(decode_image(path.read_bytes(), white=cleaned.white).max() for path in cleaned.paths())
    assert brightest > 128  # 13 of 255 with the full range

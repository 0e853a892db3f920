"""From bytes or pixels to detections in pixels of the original image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from tests.helpers.bundles import encode, make_bundle, picture
from visionops.errors import BundleError, ImageError
from visionops.inference.bundle import Decode, ModelBundle, Thresholds
from visionops.inference.predictor import Predictor
from visionops.inference.settings import EngineName

SCENE = [("red", 2, 1), ("blue", 0, 3)]
SHARES = st.sampled_from([0.05, 0.25, 0.5, 0.7, 0.9])


@pytest.fixture(params=[False, True], ids=["yolo", "end2end"])
def end2end(request):
    return request.param


@pytest.fixture(params=list(EngineName))
def predictor(request, tmp_path, end2end):
    return Predictor(make_bundle(tmp_path / "bundle", end2end=end2end), request.param)


def test_detections_are_where_the_cells_are(predictor):
    prediction = predictor.predict(picture(SCENE))
    assert (prediction.width, prediction.height) == (128, 128)
    assert prediction.boxes.dtype == prediction.scores.dtype == np.float32
    assert prediction.class_ids.dtype == np.int32
    assert prediction.to_dict()["detections"] == [
        {"class_id": 0, "class_name": "red", "confidence": 1.0, "box": [64.0, 32.0, 96.0, 64.0]},
        {"class_id": 2, "class_name": "blue", "confidence": 1.0, "box": [0.0, 96.0, 32.0, 128.0]},
    ]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_encoded_bytes_answer_like_their_pixels(predictor, kind):
    image = picture(SCENE)
    assert (
        predictor.predict(kind(encode(image))).to_dict()["detections"]
        == predictor.predict(image).to_dict()["detections"]
    )


def test_an_empty_scene_has_no_detections(predictor):
    prediction = predictor.predict(picture())
    assert prediction.boxes.shape == (0, 4)
    assert prediction.to_dict()["detections"] == []


def test_boxes_come_back_to_the_original_size(predictor):
    large = picture([("red", 2, 1)]).repeat(4, axis=0).repeat(4, axis=1)[:256]  # 512 x 256: a quarter, then padded
    prediction = predictor.predict(large)
    assert (prediction.width, prediction.height) == (512, 256)
    np.testing.assert_allclose(prediction.boxes, [[256, 128, 384, 256]], atol=0.01)


def test_boxes_are_in_pixels_after_exif_rotation(tmp_path):
    import io

    stored = PillowImage.fromarray(picture([("red", 0, 0)], width=128, height=64))
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # shown rotated by a quarter clockwise
    buffer = io.BytesIO()
    stored.save(buffer, format="PNG", exif=exif)
    prediction = Predictor(make_bundle(tmp_path / "bundle", thresholds=Thresholds(confidence=0.9))).predict(
        buffer.getvalue()
    )
    assert (prediction.width, prediction.height) == (64, 128)
    assert prediction.boxes.tolist() == [[32, 0, 64, 32]]


def test_best_first(predictor):
    image = picture(SCENE)
    image[32:64, 64:96] = (200, 0, 0)
    scores = predictor.predict(image).scores
    assert scores[0] == pytest.approx(1)
    assert scores[1] == pytest.approx(2 * 200 / 255 - 1, abs=1e-4)


def test_thresholds_come_from_the_call_the_constructor_or_the_card(tmp_path):
    image = picture(SCENE)
    image[32:64, 64:96] = (200, 0, 0)  # scores 0.57
    bundle = make_bundle(tmp_path / "bundle", thresholds=Thresholds(confidence=0.9))
    assert len(Predictor(bundle).predict(image).boxes) == 1
    lenient = Predictor(bundle, thresholds=Thresholds(confidence=0.5))
    assert len(lenient.predict(image).boxes) == 2
    assert len(lenient.predict(image, {"confidence": 0.95}).boxes) == 1
    assert len(Predictor(bundle, thresholds=Thresholds(confidence=0.1, max_detections=1)).predict(image).boxes) == 1


@settings(deadline=None, max_examples=30)
@given(
    cards=st.tuples(SHARES, SHARES, st.integers(1, 6)),
    edited=st.tuples(SHARES, SHARES, st.integers(1, 6)),
    options=st.fixed_dictionaries({}, optional={"confidence": SHARES, "iou": SHARES}),
)
def test_what_is_recorded_is_found_at_the_thresholds_of_the_card(tmp_path_factory, cards, edited, options):
    image = picture([])
    for column in range(4):  # scores 1, 0.8, 0.6 and 0.4, twice, on boxes that overlap each other
        image[:64, column * 32 : (column + 1) * 32, 0] = round(255 * (1 - column * 0.1))
    own, other = (Thresholds(confidence=c, iou=i, max_detections=n) for c, i, n in (cards, edited))
    bundle = make_bundle(tmp_path_factory.mktemp("card") / "bundle", box_scale=3.0, thresholds=own)
    seen = []
    predictor = Predictor(bundle, EngineName.ONNXRUNTIME, thresholds=other)
    answer = predictor.predict(image, options, watch=lambda rgb, prediction: seen.append((rgb, prediction)))
    ((rgb, recorded),) = seen
    assert np.array_equal(rgb, image)
    assert recorded.to_dict() == Predictor(bundle, EngineName.ONNXRUNTIME).predict(image).to_dict()
    # The answer still uses the requested options.
    assert answer.to_dict() == predictor.predict(image, options).to_dict()
    assert (answer.scores > options.get("confidence", other.confidence)).all()
    assert len(answer.scores) <= other.max_detections
    if own == other.model_copy(update=options):
        assert recorded is answer  # not decoded a second time


def test_overlapping_boxes_of_a_class_are_suppressed_by_iou(tmp_path):
    predictor = Predictor(make_bundle(tmp_path / "bundle", box_scale=3.0))
    neighbours = picture([("red", 1, 1), ("red", 2, 1), ("green", 2, 2)])
    assert len(predictor.predict(neighbours, {"iou": 0.3}).boxes) == 2
    assert len(predictor.predict(neighbours, {"iou": 0.7}).boxes) == 3


def test_one_class_a_box_unless_all_are_requested(tmp_path):
    predictor = Predictor(make_bundle(tmp_path / "bundle"))
    white = picture([("white", 1, 1)])
    assert predictor.predict(white).class_ids.tolist() == [0]
    every = predictor.decoder.decode(predictor.infer(white), {}, multi_label=True)
    assert sorted(every.class_ids.tolist()) == [0, 1, 2]


def test_timing_has_every_stage_in_milliseconds(predictor):
    timing: dict[str, float] = {}
    predictor.predict(encode(picture(SCENE)), timing=timing)
    assert list(timing) == ["decode", "preprocess", "inference", "postprocess"]
    assert all(0 < value < 10_000 for value in timing.values())


def test_many_images_answer_in_order_and_a_bad_one_is_named(predictor):
    left, right = picture([("red", 0, 0)]), picture([("red", 3, 0)])
    answers = predictor.predict_many([left, encode(right), left])
    assert [int(p.boxes[0, 0]) for p in answers] == [0, 96, 0]
    with pytest.raises(ImageError, match="image 1:"):
        predictor.predict_many([left, b"no image", left])


def test_threads_share_a_predictor(predictor):
    images = [picture([("red", i % 4, i // 4)]) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(predictor.predict, images * 8))
    assert [(int(a.boxes[0, 0]) // 32, int(a.boxes[0, 1]) // 32) for a in answers] == [
        (i % 4, i // 4) for i in range(16)
    ] * 8


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (np.zeros((4, 4), np.uint8), "unsupported_format"),
        (np.zeros((4, 4, 4), np.uint8), "unsupported_format"),
        (np.zeros((4, 4, 3), np.float32), "unsupported_format"),
        ("part.jpg", "unsupported_format"),
        (np.zeros((0, 4, 3), np.uint8), "empty_file"),
        (np.zeros((40, 40, 3), np.uint8), "too_many_pixels"),
        (b"", "empty_file"),
        (b"text", "not_an_image"),
    ],
)
def test_what_is_no_image_is_refused_by_kind(tmp_path, image, kind):
    predictor = Predictor(make_bundle(tmp_path / "bundle"), max_pixels=1000)
    with pytest.raises(ImageError, match=r"^upload: ") as caught:
        predictor.predict(image, where="upload")
    assert caught.value.kind == kind


def test_warming_up_leaves_no_trace(predictor):
    predictor.warm_up()
    assert predictor.predict(picture()).to_dict()["detections"] == []


@pytest.mark.parametrize("engine", list(EngineName))
def test_a_graph_that_contradicts_its_classes_is_refused_at_load(tmp_path, engine):
    with pytest.raises(BundleError, match=r"\(1, 7, 16\), but the card \(2 classes, yolo\) expects \(1, 6, N\)"):
        Predictor(make_bundle(tmp_path / "bundle", class_names=("a", "b"), graph_classes=3), engine)


def test_a_graph_of_the_other_kind_is_refused_at_load(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    lying = ModelBundle.create(bundle.folder, bundle.card.model_copy(update={"decode": Decode.YOLO_END2END}))
    with pytest.raises(BundleError, match=r"expects \(1, N, 6\)"):
        Predictor(lying)

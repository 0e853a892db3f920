import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tasks.classification.conftest import plates
from visionops.errors import DataError
from visionops.inference.image import decode_image
from visionops.inference.preprocessing import preprocess
from visionops.tasks.classification import pixels
from visionops.tasks.classification.backbones import build_backbone, preprocessing_of
from visionops.tasks.classification.features import FeatureStore
from visionops.tasks.classification.pixels import Canvases, look
from visionops.tasks.classification.settings import LabelTraining, Views

TRAINING = LabelTraining(model="resnet10t", learning="scratch", image_size=32)


@pytest.fixture
def dataset(tmp_path):
    return plates(tmp_path / "images", splits=("train",) * 6)


@pytest.fixture
def store():
    torch.manual_seed(0)
    spec = preprocessing_of(TRAINING)
    return FeatureStore(build_backbone(TRAINING, 32), "resnet10t", spec, "cpu")


def again(store, **settings):
    return FeatureStore(store._backbone, "resnet10t", store._spec, "cpu", **settings)


def test_features_are_those_of_the_torch_module(dataset, store):
    features = store.features(dataset)
    tensors = [preprocess(decode_image(p.read_bytes()), store._spec)[0] for p in dataset.paths()]
    with torch.inference_mode():
        expected = store._backbone.module(torch.from_numpy(np.concatenate(tensors))).numpy()
    assert features.shape == (6, 1, 512)
    np.testing.assert_allclose(features[:, 0], expected, atol=1e-4)


def test_kept_features_are_the_computed_ones_to_the_bit(dataset, store):
    computed = store.features(dataset, Views.MIRRORED)
    reported = []
    kept = again(store).features(dataset, Views.MIRRORED, progress=lambda *done: reported.append(done))
    np.testing.assert_array_equal(kept, computed)
    assert reported == []
    np.testing.assert_array_equal(again(store, keep=False).features(dataset, Views.MIRRORED), computed)


def test_only_what_is_missing_is_computed(dataset, store):
    store.features(dataset.take([0, 1]))
    reported = []
    features = again(store).features(dataset, progress=lambda *done: reported.append(done))
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]
    np.testing.assert_array_equal(features, again(store, keep=False).features(dataset))


def test_a_feature_does_not_depend_on_the_other_images(dataset, store):
    together = again(store, keep=False).features(dataset)
    alone = again(store, keep=False).features(dataset.take([4]))
    np.testing.assert_array_equal(together[4], alone[0])


def test_equal_images_are_computed_once(dataset, store):
    reported = []
    features = store.features(dataset.take([2, 2, 2]), progress=lambda *done: reported.append(done))
    assert reported == [(1, 1)]
    np.testing.assert_array_equal(features[0], features[2])


def test_other_weights_sizes_and_crops_have_folders_of_their_own(store):
    torch.manual_seed(1)
    other = FeatureStore(build_backbone(TRAINING, 32), "resnet10t", store._spec, "cpu")
    larger = FeatureStore(store._backbone, "resnet10t", store._spec.model_copy(update={"width": 64}), "cpu")
    assert len({store.folder, other.folder, larger.folder}) == 3
    assert again(store).folder == store.folder


def test_what_an_interruption_left_is_used(dataset, store, monkeypatch):
    from visionops.tasks.classification import features

    monkeypatch.setattr(features, "_SEGMENT", 2)
    lost = dataset.replace_column("path", [*dataset.column("path")[:4], "/nowhere/4.png", "/nowhere/5.png"])
    with pytest.raises(DataError, match=r"4\.png: cannot be read \(no such file or directory"):
        store.features(lost)
    reported = []
    again(store).features(dataset, progress=lambda *done: reported.append(done))
    assert reported == [(1, 2), (2, 2)]


def test_a_damaged_file_of_features_is_said_and_replaced(dataset, store, caplog):
    first = store.features(dataset)
    next(store.folder.glob("*.parquet")).write_bytes(b"PAR1 cut")
    np.testing.assert_array_equal(again(store).features(dataset), first)
    assert "its features are computed again" in caplog.text


def test_an_image_that_is_none(dataset, store, tmp_path):
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png"):
        store.features(dataset)


def test_the_eight_views_are_different_and_keep_every_pixel():
    canvas = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    seen = {look(canvas, view).tobytes() for view in range(8)}
    assert len(seen) == 8
    assert look(canvas, 0).tobytes() == canvas.tobytes()
    np.testing.assert_array_equal(look(canvas, 4), canvas[:, ::-1])


def test_views_come_after_the_image_itself(dataset, store):
    features = store.features(dataset, Views.DIHEDRAL)
    assert features.shape == (6, 8, 512)
    np.testing.assert_array_equal(features[:, :1], store.features(dataset))
    assert len(np.unique(features[0].round(4), axis=0)) == 8


@settings(max_examples=10, deadline=None)
@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=9), size=st.integers(1, 4))
def test_batches_are_the_same_kept_or_read_anew(tmp_path_factory, rows, size):
    data = plates(tmp_path_factory.mktemp("plates"), splits=("train",) * 6)
    spec = preprocessing_of(TRAINING)
    kept = list(Canvases(data, spec).batches(np.array(rows), size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "_MEMORY", 0)
        anew = list(Canvases(data, spec, workers=1).batches(np.array(rows), size))
    assert [part.tolist() for part, _ in kept] == [part.tolist() for part, _ in anew]
    for (_, a), (_, b) in zip(kept, anew, strict=True):
        np.testing.assert_array_equal(a, b)

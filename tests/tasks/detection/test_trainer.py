from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.errors import TrainingError
from visionops.inference.preprocessing import preprocess
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.tasks.detection import trainer
from visionops.tasks.detection.trainer import ServedDataset, clean_metrics, cut_epochs, read_epochs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("letterbox")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    return root


def served(folder, image, size):
    from ultralytics.cfg import get_cfg

    cv2.imwrite(str(folder / "images" / "a.png"), image[:, :, ::-1])
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "labels.cache").unlink(missing_ok=True)
    return ServedDataset(
        img_path=str(folder / "images"),
        imgsz=size,
        augment=False,
        hyp=get_cfg(),
        rect=False,
        task="detect",
        data={"names": {0: "a"}, "channels": 3, "nc": 1},
    )


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    size=st.sampled_from([32, 64, 96, 160]),
    seed=st.integers(0, 9),
)
def test_validation_sees_the_pixels_that_serving_makes(folder, height, width, size, seed):
    if min(height, width) < 10:  # Ultralytics refuses smaller images
        height, width = height + 10, width + 10
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    item = served(folder, image, size)[0]
    tensor, geometry = preprocess(image, PreprocessingSpec(width=size, height=size))
    np.testing.assert_array_equal(item["img"].numpy(), np.rint(tensor[0] * 255).astype(np.uint8))
    (gain_y, gain_x), (pad_x, pad_y) = item["ratio_pad"]
    assert (gain_x, gain_y) == pytest.approx((geometry.gain_x, geometry.gain_y))
    assert (pad_x, pad_y) == pytest.approx((geometry.pad_x, geometry.pad_y))


def test_an_image_that_vanished_is_named(folder):
    dataset = served(folder, np.zeros((20, 30, 3), np.uint8), 32)
    (folder / "images" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        dataset[0]


def test_names_are_clean_and_what_is_not_a_number_is_left_out():
    raw = {"metrics/mAP50(B)": "0.5", "val/box_loss": "nan", "train/cls_loss": 2, "lr/pg0": 0.1, "lr/pg1": 0.1}
    assert clean_metrics(raw) == {"val_map50": 0.5, "train_cls_loss": 2.0, "learning_rate": 0.1}


def test_results_are_read_but_for_a_line_that_was_cut(tmp_path):
    file = tmp_path / "results.csv"
    assert read_epochs(file) == {}
    file.write_text("epoch,time,metrics/mAP50(B)\n1,2.5,0.1\n2,5,0.2\n3,7")
    assert read_epochs(file)[2] == {"seconds": 5.0, "val_map50": 0.2}
    file.write_text("epoch,time,metrics/mAP50(B)\n1,2.5,0.1\n\nx,5,0.2\n")
    assert list(read_epochs(file)) == [1]


def test_epochs_after_the_checkpoint_are_dropped(tmp_path):
    file = tmp_path / "results.csv"
    cut_epochs(file, 1)
    assert not file.exists()
    file.write_text("epoch,time\n1,2\n2,4\n10,20\n")
    cut_epochs(file, 2)
    assert file.read_text() == "epoch,time\n1,2\n2,4\n"


def test_a_loss_that_is_not_finite_stops_the_first_epoch_only():
    import types

    import torch

    args = types.SimpleNamespace(lr0=3.0)
    state = types.SimpleNamespace(epoch=0, start_epoch=0, loss=torch.tensor(float("nan")), args=args)
    with pytest.raises(TrainingError, match=r"lower training\.learning_rate \(now 3\)"):
        trainer._refuse_divergence(state)
    state.epoch = 1
    trainer._refuse_divergence(state)

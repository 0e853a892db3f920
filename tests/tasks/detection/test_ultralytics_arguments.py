from __future__ import annotations

import pytest

from tests.tasks.detection.conftest import plates_plan
from visionops.errors import ConfigError
from visionops.tasks.detection import ultralytics_arguments as module
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.detection.ultralytics_arguments import AUGMENTATION, EXTRA, OWNED, trainer_settings


def settings_of(**training):
    return trainer_settings(plates_plan(**training).training)


def test_every_field_of_the_configuration_has_its_place():
    arguments = settings_of(patience=7, seed=3, workers=1, device="cpu", final_learning_rate=0.1)
    assert arguments["patience"] == 7
    assert arguments["seed"] == 3
    assert arguments["workers"] == 1
    assert arguments["device"] == "cpu"
    assert (arguments["lr0"], arguments["lrf"]) == (0.002, 0.1)
    assert (arguments["imgsz"], arguments["epochs"], arguments["batch"]) == (64, 2, 4)
    assert arguments["optimizer"] == "AdamW"


def test_augmentation_and_extra_are_passed_on():
    arguments = settings_of(
        augmentation={"mosaic": 0, "scale": 0.3}, extra={"cos_lr": True, "cache": "ram", "nms": False}
    )
    assert arguments["mosaic"] == 0
    assert arguments["scale"] == 0.3
    assert arguments["cos_lr"] is True
    assert arguments["cache"] == "ram"
    assert arguments["nms"] is False


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("augmentation", "mosiac", 1.0, "did you mean 'mosaic'?"),
        ("augmentation", "zzzz", 1.0, "known here: bgr, close_mosaic"),
        ("extra", "warmup_epoch", 1, "did you mean 'warmup_epochs'?"),
        ("extra", "mosaic", 1.0, "belongs under training.augmentation"),
        ("augmentation", "box", 7.5, "belongs under training.extra"),
        ("extra", "epochs", 5, "is set by training.epochs"),
        ("extra", "lr0", 0.1, "is set by training.learning_rate"),
        ("extra", "project", "x", "is set by VisionOps itself"),
        ("augmentation", "erasing", 0.4, "has no effect on the training of a detector"),
        ("extra", "tracker", "x", "has no effect on the training of a detector"),
    ],
)
def test_a_name_that_does_not_belong_is_refused_with_the_fix(section, name, value, message):
    with pytest.raises(ConfigError) as caught:
        settings_of(**{section: {name: value}})
    assert str(caught.value).startswith(f"training.{section}.{name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("augmentation", "mosaic", "a lot"),
        ("augmentation", "mosaic", True),
        ("augmentation", "mosaic", 1.5),
        ("augmentation", "degrees", float("nan")),
        ("augmentation", "hsv_h", -0.1),
        ("augmentation", "close_mosaic", 2.5),
        ("extra", "nbs", 0),
        ("extra", "cos_lr", 1),
        ("extra", "cos_lr", "yes"),
        ("extra", "box", "big"),
        ("extra", "freeze", True),
        ("extra", "cache", "disc"),
        ("extra", "cache", 1),
        ("extra", "nms", True),
        ("extra", "amp", "fp8"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused(section, name, value):
    with pytest.raises(ConfigError) as caught:
        settings_of(**{section: {name: value}})
    assert str(caught.value).startswith(f"training.{section}.{name}: ")
    assert "\n" not in str(caught.value)


def test_a_learning_rate_that_the_optimizer_would_ignore_is_refused():
    with pytest.raises(ConfigError, match="no effect with optimizer 'auto'"):
        settings_of(optimizer="auto", learning_rate=0.002)
    assert trainer_settings(DetectionTraining(device="cpu"))["optimizer"] == "auto"


def test_a_learning_rate_beyond_what_the_trainer_takes_is_refused():
    with pytest.raises(ConfigError, match=r"training\.learning_rate: 'lr0=2.0' is an invalid value"):
        settings_of(learning_rate=2.0)


def test_all_settings_of_ultralytics_are_sorted_into_ours_or_refused():
    from ultralytics.cfg import DEFAULT_CFG_DICT

    ours = {*AUGMENTATION, *EXTRA, *OWNED}
    assert len(ours) == len(AUGMENTATION) + len(EXTRA) + len(OWNED)
    assert ours <= {*DEFAULT_CFG_DICT, "save_dir"}


def test_mixed_precision_is_off_on_the_cpu_and_needs_no_download_on_a_gpu(monkeypatch):
    import torch

    assert module._mixed_precision("cpu") is False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert module._mixed_precision("auto") == "bf16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert module._mixed_precision("0") == "fp16"

"""Convert the configuration to Ultralytics' arguments, refusing unknown and ineffective settings.

Ultralytics has one flat list of some 120 settings for seven tasks and six modes. Accepted are those that affect the
training of a detector. Every other name is refused, because a setting without effect costs days.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from visionops.errors import ConfigError
from visionops.suggestions import suggest_name
from visionops.tasks.detection.library import prepare_library
from visionops.tasks.detection.settings import DetectionTraining

__all__ = ["AUGMENTATION", "EXTRA", "OWNED", "trainer_settings"]

Value = float | int | str | bool

AUGMENTATION = (
    "bgr",
    "close_mosaic",
    "cutmix",
    "degrees",
    "fliplr",
    "flipud",
    "hsv_h",
    "hsv_s",
    "hsv_v",
    "mixup",
    "mosaic",
    "multi_scale",
    "perspective",
    "scale",
    "shear",
    "translate",
)
"""Settings allowed in `training.augmentation`."""

EXTRA = (
    "amp",
    "box",
    "cache",
    "channels_last",
    "cls",
    "cls_pw",
    "cls_remap",
    "compile",
    "cos_lr",
    "deterministic",
    "dfl",
    "fraction",
    "freeze",
    "momentum",
    "nbs",
    "nms",
    "save_period",
    "warmup_bias_lr",
    "warmup_epochs",
    "warmup_momentum",
    "weight_decay",
)
"""Settings allowed in `training.extra`. ``nms: false`` uses the head that needs no NMS, where the model has one."""

OWNED = {
    "batch": "training.batch",
    "data": "data",
    "device": "training.device",
    "epochs": "training.epochs",
    "imgsz": "training.image_size",
    "lr0": "training.learning_rate",
    "lrf": "training.final_learning_rate",
    "model": "training.model",
    "optimizer": "training.optimizer",
    "patience": "training.patience",
    "pretrained": "training.weights",
    "seed": "training.seed",
    "workers": "training.workers",
    **dict.fromkeys(
        (
            "classes",
            "exist_ok",
            "mode",
            "name",
            "plots",
            "project",
            "rect",
            "resume",
            "save",
            "save_dir",
            "single_cls",
            "split",
            "task",
            "time",
            "val",
            "verbose",
        ),
        "VisionOps itself",
    ),
}
"""Settings allowed in neither, with the setting that sets each of them."""

_NUMBERS = ("freeze", "save_period", "multi_scale", "scale")
_CHOICES: dict[str, tuple[Value, ...]] = {"cache": (False, True, "ram", "disk"), "nms": (False,)}


def trainer_settings(training: DetectionTraining) -> dict[str, Any]:
    """Return Ultralytics' settings except for model, data and folders.

    Raises:
        ConfigError: A name in ``augmentation`` or ``extra`` is unknown, set elsewhere or without effect on a detector,
            or a value has the wrong type or range.
    """
    prepare_library()
    for name, value in training.augmentation.items():
        _check(f"training.augmentation.{name}", name, value, AUGMENTATION)
    for name, value in training.extra.items():
        _check(f"training.extra.{name}", name, value, EXTRA)
    default_rate = DetectionTraining.model_fields["learning_rate"].default
    if training.optimizer == "auto" and training.learning_rate != default_rate:
        raise ConfigError(
            f"training.learning_rate: {training.learning_rate} has no effect with optimizer 'auto', which chooses its "
            "own; name an optimizer, such as AdamW"
        )
    settings: dict[str, Any] = {
        "task": "detect",
        "mode": "train",
        "imgsz": training.image_size,
        "epochs": training.epochs,
        "patience": training.patience,
        "batch": training.batch,
        "optimizer": training.optimizer,
        "lr0": training.learning_rate,
        "lrf": training.final_learning_rate,
        "seed": training.seed,
        "workers": training.workers,
        "device": "" if training.device == "auto" else training.device,
        "amp": _mixed_precision(training.device),
        "plots": True,
        "verbose": False,
    }
    for name, known in settings.items():
        _check_value(OWNED.get(name, "training"), name, known)
    return {**settings, **training.augmentation, **training.extra}


def _check(where: str, name: str, value: Value, allowed: Iterable[str]) -> None:
    if name not in allowed:
        raise ConfigError(f"{where}: {_refusal(name, sorted(allowed))}")
    from ultralytics.cfg import CFG_FLOAT_KEYS, CFG_FRACTION_KEYS, CFG_INT_KEYS

    if name in _CHOICES:
        # True == 1 in Python, so compare the types, too.
        if not any(value == choice and type(value) is type(choice) for choice in _CHOICES[name]):
            raise ConfigError(f"{where}: must be one of {', '.join(map(repr, _CHOICES[name]))} (got {value!r})")
        return
    if name in {*CFG_FLOAT_KEYS, *CFG_FRACTION_KEYS, *CFG_INT_KEYS, *_NUMBERS} and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0
    ):
        raise ConfigError(f"{where}: must be a number of at least 0 (got {value!r})")
    _check_value(where, name, value)


def _check_value(where: str, name: str, value: Any) -> None:
    from ultralytics.cfg import check_cfg

    try:
        check_cfg({name: value})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error


def _refusal(name: str, allowed: list[str]) -> str:
    if name in OWNED:
        return f"is set by {OWNED[name]}; remove it here"
    for section, names in (("augmentation", AUGMENTATION), ("extra", EXTRA)):
        if name in names:
            return f"belongs under training.{section}"
    from ultralytics.cfg import DEFAULT_CFG_DICT

    if name in DEFAULT_CFG_DICT:
        return "has no effect on the training of a detector; remove it"
    return f"unknown setting; {suggest_name(name, allowed, 'known here')}"


def _mixed_precision(device: str) -> bool | str:
    """Return the mixed precision: bf16 where the GPU has it, because checking fp16 would fetch a model."""
    import torch

    if device in {"cpu", "mps"} or not torch.cuda.is_available():
        return False
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"

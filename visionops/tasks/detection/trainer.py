"""Run Ultralytics' trainer, validating on exactly the server's pixels and reporting each epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from ultralytics.data import YOLODataset
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import callbacks
from ultralytics.utils.patches import imread

from visionops.errors import TrainingError
from visionops.tasks.detection.library import cpu_threads

__all__ = [
    "Callbacks",
    "InspectionTrainer",
    "ServedDataset",
    "clean_metrics",
    "cut_epochs",
    "read_epochs",
    "trainer_callbacks",
]

Callbacks = dict[str, list[Callable[[Any], None]]]
Sizes = tuple[int, int]


class ServedDataset(YOLODataset):  # type: ignore[misc]
    """Validation images with the size and rounding of `visionops.inference.preprocessing.preprocess`.

    Ultralytics' own validation pads images to rectangles larger than the input size and rounds their sides up. It would
    select the checkpoint on other pixels than those that the served model gets.
    """

    def load_image(self, i: int, *_: Any, **__: Any) -> tuple[npt.NDArray[np.uint8], Sizes, Sizes]:
        """Return an image scaled to fit the input, BGR, with (height, width) before and after; `LetterBox` pads it."""
        image = imread(self.im_files[i], flags=self.cv2_flag)
        if image is None:
            raise FileNotFoundError(f"image not found: {self.im_files[i]}")
        height, width = image.shape[:2]
        gain = self.imgsz / max(height, width)
        new_height, new_width = max(round(height * gain), 1), max(round(width * gain), 1)
        if (new_height, new_width) != (height, width):
            image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        return image, (height, width), (new_height, new_width)


class InspectionTrainer(DetectionTrainer):  # type: ignore[misc]
    """Trainer that validates on `ServedDataset`, and avoids slow work beside training."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Return the data set of one split."""
        if mode == "train":
            return super().build_dataset(img_path, mode, batch)
        return ServedDataset(
            img_path=img_path,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=False,
            hyp=self.args,
            rect=False,
            stride=self.stride,
            prefix="val: ",
            task=self.args.task,
            data=self.data,
        )

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return Ultralytics' optimizer with PyTorch's fused kernel, which makes a step of Adam four times faster."""
        optimizer: torch.optim.Optimizer = super().build_optimizer(*args, **kwargs)
        if self.device.type == "cpu" and isinstance(optimizer, torch.optim.Adam):
            for group in optimizer.param_groups:
                group["fused"] = True
        return optimizer

    def plot_training_labels(self) -> None:
        """Do nothing: plotting takes seconds, and the label audit shows this better."""

    def plot_metrics(self) -> None:
        """Do nothing: plotting takes seconds, and the tracker draws the metrics per epoch."""


def trainer_callbacks(*, started: Callable[[dict[str, Any]], None], epoch_done: Callable[[Path], None]) -> Callbacks:
    """Return the callbacks of the trainer.

    Args:
        started: Called with the trainer's effective arguments, once before the first epoch.
        epoch_done: Called with the path of ``results.csv`` after each epoch.
    """
    made: Callbacks = callbacks.get_default_callbacks()
    made["on_train_start"] += [_use_all_cores, lambda trainer: started(dict(vars(trainer.args)))]
    made["on_val_start"].append(_use_all_cores)
    made["on_train_epoch_end"].append(_refuse_divergence)
    made["on_fit_epoch_end"].append(lambda trainer: epoch_done(trainer.csv))
    return made


def _use_all_cores(trainer: Any) -> None:
    # `select_device("cpu")` sets one thread fewer than cores each time it is called.
    if trainer.device.type == "cpu":
        torch.set_num_threads(cpu_threads())


def _refuse_divergence(trainer: Any) -> None:
    """Stop if the first epoch diverges: it has no checkpoint to return to, and Ultralytics would continue."""
    if trainer.epoch == trainer.start_epoch and not bool(torch.isfinite(trainer.loss)):
        raise TrainingError(
            "the loss is not a number in the first epoch; lower training.learning_rate "
            f"(now {trainer.args.lr0:g}), and check training.extra"
        )


_NAMES = {
    "metrics/precision(B)": "val_precision",
    "metrics/recall(B)": "val_recall",
    "metrics/mAP50(B)": "val_map50",
    "metrics/mAP50-95(B)": "val_map50_95",
    "lr/pg0": "learning_rate",
    "time": "seconds",
}


def clean_metrics(raw: dict[str, Any]) -> dict[str, float]:
    """Rename Ultralytics' metrics: ``metrics/mAP50(B)`` -> ``val_map50``, ``train/box_loss`` -> ``train_box_loss``."""
    named = {
        _NAMES.get(name, name.replace("/", "_")): float(value)
        for name, value in raw.items()
        if name in _NAMES or name.startswith(("train/", "val/"))
    }
    return {name: value for name, value in named.items() if math.isfinite(value)}


def read_epochs(file: Path) -> dict[int, dict[str, float]]:
    """Read the metrics of each epoch, from 1, from ``results.csv``, without a line cut by an interruption."""
    if not file.is_file():
        return {}
    epochs = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            try:
                epochs[int(row["epoch"])] = clean_metrics(row)
            except (TypeError, ValueError, KeyError):
                continue
    return epochs


def cut_epochs(file: Path, last: int) -> None:
    """Drop the epochs after ``last`` from ``results.csv``: an interruption prevented their checkpoints."""
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = lines[:1] + [line for line in lines[1:] if line.split(",")[0].strip() in map(str, range(1, last + 1))]
    file.write_text("".join(kept), encoding="utf-8")

"""Train a detector in a folder, resumable after an interruption.

    work/
    ├── training.json    identifies the training; leftovers of another one are removed
    ├── data/            links to the converted data set, in YOLO layout; with `training.tiles`, removed at the end
    ├── run/             Ultralytics' output: weights/last.pt after each epoch, weights/best.pt, results.csv, plots
    ├── trainer.log      Ultralytics' log
    └── bundle/          the result, complete or missing

Called again, it returns the finished bundle, resumes after the last epoch with a readable checkpoint, or restarts.
Optimizer, moving average and early stopping continue; the order of the images is drawn anew, so a resumed training is
as good as an uninterrupted one but not bit for bit the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionops.data.dataset import Dataset, Split
from visionops.data.files import atomic_folder
from visionops.data.findings import DEFAULT_SEVERITY, Code, Severity
from visionops.data.settings import ValidationPolicy
from visionops.errors import TrainingError
from visionops.inference.bundle import BundleCard, ModelBundle, Thresholds
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.tasks.base import TrainingLog
from visionops.tasks.converted import ConvertedDataset, require_converted_for
from visionops.tasks.detection.conversion import AUDIT_FILE, link_yolo
from visionops.tasks.detection.library import quiet_library
from visionops.tasks.detection.models import check_detector, find_weights
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.detection.ultralytics_arguments import AUGMENTATION, EXTRA, OWNED, trainer_settings
from visionops.tasks.settings import TrainingPlan
from visionops.tasks.workfolder import explained, finished_bundle, one_training_in, require_splits

__all__ = ["train_detector"]

_LOG = logging.getLogger("visionops.training")
_PLACES = frozenset({"data", "model", "pretrained"})  # paths of this machine; the last two are logged by name


def train_detector(converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
    """Train on the train split, keep the epoch with the best mAP50-95 on the val split, export it.

    Args:
        converted: Data from `visionops.tasks.detection.conversion.convert_boxes`.
        work: Folder of this training only.

    Raises:
        ConfigError: A setting is unknown to the trainer.
        TrainingError: The detector is unknown, weights or splits are unusable, or the trainer stopped; the message has
            the fix.
        DataError: The converted data set, or an image that it refers to, is missing.
    """
    assert isinstance(plan.training, DetectionTraining)
    dataset = converted.dataset
    settings = trainer_settings(plan.training)
    check_detector(plan.training.model)
    require_converted_for(converted, plan)
    _check_splits(converted, plan)
    weights = find_weights(plan.training.model, plan.training.weights)
    with (
        explained(plan.training, work, str(work / "trainer.log")),
        one_training_in(work, _identity(dataset, plan, weights)),
    ):
        report = _Report(log, plan.training.epochs)
        bundle = finished_bundle(work)
        if bundle is None:
            with quiet_library(work / "trainer.log"):
                _train(converted, plan, settings, weights, work, report)
                bundle = _seal(dataset, plan, work)
        if plan.training.tiles:  # as many as there are tiles
            shutil.rmtree(work / "data", ignore_errors=True)
        report.params(bundle.card.training)
        report.epochs(work / "run" / "results.csv")
        _report_files(work, converted.folder, log)
        return bundle


def _check_splits(converted: ConvertedDataset, plan: TrainingPlan) -> None:
    dataset = converted.dataset
    require_splits(dataset)
    _, class_ids, _ = dataset.select_split(Split.TRAIN).box_arrays()
    counts = np.bincount(class_ids, minlength=len(dataset.class_names)).tolist()
    _check_classes(dataset, counts, "label some, or exclude the class with data.categories", plan.validation)
    if not converted.facts:
        return
    for split in (Split.TRAIN, Split.VAL):
        if not converted.facts["images"].get(split.value):
            raise TrainingError(
                f"{dataset.name}: no tile of the {split.value} split has a box, and none without was kept; "
                "raise training.tiles.keep_empty"
            )
    fix = "label some, or lower training.tiles.min_visible"
    _check_classes(dataset, converted.facts["boxes"], fix, plan.validation)


def _check_classes(dataset: Dataset, counts: Sequence[int], fix: str, policy: ValidationPolicy) -> None:
    """Refuse classes without boxes, unless the policy allows classes with too few boxes; then warn.

    Args:
        counts: Number of boxes of each class that the trainer sees.
    """
    missing = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
    if not missing:
        return
    problem = f"{dataset.name}: no box of {', '.join(missing)} in the train split"
    severity = policy.severities.get(Code.TOO_FEW_INSTANCES, DEFAULT_SEVERITY[Code.TOO_FEW_INSTANCES])
    if severity is Severity.ERROR or len(missing) == len(dataset.class_names):
        raise TrainingError(f"{problem}; {fix}")
    _LOG.warning("%s: the model cannot learn to find it; %s", problem, fix)


def _identity(dataset: Dataset, plan: TrainingPlan, weights: Path | None) -> str:
    """Return the data that must be equal for one training to resume another."""
    import ultralytics

    start = hashlib.sha256(weights.read_bytes()).hexdigest() if weights else "none"
    return json.dumps(
        {
            "data": dataset.fingerprint(),
            "plan": plan.identity(),
            "weights": start,
            "ultralytics": ultralytics.__version__,
        },
        sort_keys=True,
    )


class _Report:
    """Report each epoch to the log once, whatever was reported before an interruption."""

    def __init__(self, log: TrainingLog, total: int) -> None:
        self._log = log
        self._total = total
        self._reported: set[int] = set()
        self._params_reported = False

    def params(self, params: dict[str, Any]) -> None:
        if not self._params_reported:
            self._log.params(params)
            self._params_reported = True

    def epochs(self, results: Path) -> None:
        from visionops.tasks.detection.trainer import read_epochs

        for epoch, metrics in read_epochs(results).items():
            if epoch not in self._reported:
                self._reported.add(epoch)
                self._log.metrics(metrics, epoch)
                self._log.progress(epoch, self._total, f"val mAP50 {metrics.get('val_map50', 0.0):.3f}")


def _train(
    converted: ConvertedDataset,
    plan: TrainingPlan,
    settings: dict[str, Any],
    weights: Path | None,
    work: Path,
    report: _Report,
) -> None:
    """Train, and leave the best checkpoint in ``run/weights``."""
    from visionops.tasks.detection.trainer import InspectionTrainer, cut_epochs, trainer_callbacks

    run = work / "run"
    assert isinstance(plan.training, DetectionTraining)
    point, epoch = _resume_point(run, plan.training.epochs)
    if point is not None and epoch >= plan.training.epochs:
        return
    data = link_yolo(converted, work / "data")
    places: dict[str, Any] = {"data": str(data), "save_dir": str(run)}
    if point is not None:
        _LOG.warning("training resumes after epoch %d, from %s", epoch, point)
        cut_epochs(run / "results.csv", epoch)
        report.epochs(run / "results.csv")
        # Ultralytics takes the other settings from the checkpoint; `training.json` ensures that they are equal.
        overrides = {"model": str(point), "resume": str(point), "device": settings["device"]}
    else:
        shutil.rmtree(run, ignore_errors=True)
        start = {"model": f"{plan.training.model}.yaml", "pretrained": str(weights) if weights else False}
        overrides = {**start, **settings}
    callbacks = trainer_callbacks(
        started=lambda args: report.params(_effective_settings(args, plan, weights)), epoch_done=report.epochs
    )
    InspectionTrainer(overrides={**overrides, **places}, _callbacks=callbacks).train()


def _effective_settings(args: dict[str, Any], plan: TrainingPlan, weights: Path | None) -> dict[str, Any]:
    """Return the trainer's effective settings, without paths of this machine."""
    names = sorted({*AUGMENTATION, *EXTRA, *(n for n, owner in OWNED.items() if owner != "VisionOps itself")} - _PLACES)
    start = weights.name if weights else "none"
    assert isinstance(plan.training, DetectionTraining)
    return {"model": plan.training.model, "weights": start} | {n: args[n] for n in names if n in args}


def _resume_point(run: Path, epochs: int) -> tuple[Path | None, int]:
    """Return the newest usable checkpoint and its number of epochs; (None, 0) to restart.

    `best.pt` has the state of an earlier epoch and is used when writing `last.pt` was interrupted.
    """
    from visionops.tasks.detection.export import read_checkpoint

    best, last = (read_checkpoint(run / "weights" / name) for name in ("best.pt", "last.pt"))
    if best is None:
        return None, 0
    for name, checkpoint in (("last.pt", last), ("best.pt", best)):
        if checkpoint is None:
            continue
        if checkpoint["epoch"] < 0:  # stripped: the training is over
            return run / "weights" / name, epochs
        if checkpoint.get("optimizer") is not None:
            return run / "weights" / name, checkpoint["epoch"] + 1
    return None, 0


def _seal(dataset: Dataset, plan: TrainingPlan, work: Path) -> ModelBundle:
    from visionops.tasks.detection.export import export_onnx, read_checkpoint, write_checkpoint

    checkpoint = read_checkpoint(work / "run" / "weights" / "best.pt")
    if checkpoint is None:
        raise TrainingError(f"{work / 'run' / 'weights'}: the training left no usable checkpoint; run it again")
    assert isinstance(plan.training, DetectionTraining)
    settings = _effective_settings(checkpoint["train_args"], plan, None) | {"weights": plan.training.weights}
    size, tiles = plan.training.image_size, plan.training.tiles
    with atomic_folder(work / "bundle", replace=True) as folder:
        write_checkpoint(checkpoint, settings, folder / "checkpoint.pt")
        decode = export_onnx(
            folder / "checkpoint.pt", folder / "model.onnx", image_size=size, nms_free=settings.get("nms") is False
        )
        card = BundleCard(
            task="detection",
            name=plan.name,
            architecture=plan.training.model,
            class_names=dataset.class_names,
            preprocessing=PreprocessingSpec(
                width=size, height=size, tiles=tiles.tiling if tiles else None, white=dataset.white
            ),
            decode=decode,
            thresholds=Thresholds(confidence=plan.serving.confidence, iou=plan.serving.iou),
            precision=plan.serving.precision,
            metrics=_val_metrics(checkpoint),
            data_fingerprint=dataset.fingerprint(),
            training=settings,
        )
        ModelBundle.create(folder, card)
    return ModelBundle.load(work / "bundle")


def _val_metrics(checkpoint: dict[str, Any]) -> dict[str, float]:
    """Return the validation metrics named as in `METRICS`."""
    from visionops.tasks.detection.trainer import clean_metrics

    return {
        name.removeprefix("val_"): value
        for name, value in clean_metrics(checkpoint.get("train_metrics") or {}).items()
        if not name.endswith("loss")
    }


def _report_files(work: Path, converted: Path, log: TrainingLog) -> None:
    for path in sorted((work / "run").glob("*")):
        if path.suffix in {".png", ".jpg", ".csv"}:
            log.artifact(path, "training")
    for path in (converted / AUDIT_FILE, work / "trainer.log"):
        if path.is_file():
            log.artifact(path, "training")

"""Train a classifier of whole images in a folder, resumable after an interruption.

    work/
    ├── training.json    identifies the training; leftovers of another one are removed
    ├── run/             state.pt after each epoch, history.csv (not for `frozen` learning)
    └── bundle/          the result, complete or missing

Called again, it returns the finished bundle, or resumes after the last epoch. Logits on val always come from the
exported graph in the serving engine, so temperature, threshold and metrics of the card are those of the bundle.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset, Split
from visionops.data.files import atomic_folder
from visionops.errors import TrainingError
from visionops.inference.bundle import BundleCard, Decode, Head, ModelBundle
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.suggestions import suggest_name
from visionops.tasks.base import TrainingLog
from visionops.tasks.classification.backbones import Backbone, build_backbone, check_backbone
from visionops.tasks.classification.calibration import choose_threshold, fit_temperature
from visionops.tasks.classification.conversion import preprocessing_for, read_features
from visionops.tasks.classification.decoder import softmax, split_heads
from visionops.tasks.classification.device import torch_device
from visionops.tasks.classification.prediction import Answer
from visionops.tasks.classification.scoring import Outcome, figures
from visionops.tasks.classification.settings import GoalMetric, LabelTraining, Learning
from visionops.tasks.converted import ConvertedDataset, require_converted_for
from visionops.tasks.settings import TrainingPlan
from visionops.tasks.spec import task_for
from visionops.tasks.workfolder import explained, finished_bundle, one_training_in, require_splits

__all__ = ["train_labels"]

_LOG = logging.getLogger("visionops.training")
_SAID_ELSEWHERE = frozenset({"task", "device", "workers", "resize", "crop"})


def train_labels(converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
    """Train on the train split, select on the val split, export.

    Args:
        converted: Data from `visionops.tasks.classification.conversion.convert_labels`.
        work: Folder of this training only.

    Raises:
        TrainingError: The backbone is unknown, weights are missing, splits are unusable, or the trainer stopped; the
            message has the fix.
        DataError: An image cannot be read, or the features are missing.
    """
    training, dataset = plan.training, converted.dataset
    assert isinstance(training, LabelTraining)
    check_backbone(training.model)
    require_converted_for(converted, plan)
    _check_data(dataset, training)
    device = torch_device(training.device)
    with explained(training, work):
        spec = preprocessing_for(training, dataset)
        backbone = _backbone(training, spec.width)
        with one_training_in(work, _identity(dataset, plan, backbone)):
            bundle = finished_bundle(work)
            if bundle is None:
                bundle = _Training(converted, plan, training, spec, backbone, device, work, log).run()
            log.params(bundle.card.training)
            if (work / "run" / "history.csv").is_file():
                log.artifact(work / "run" / "history.csv", "training")
            return bundle


def _check_data(dataset: Dataset, training: LabelTraining) -> None:
    require_splits(dataset)
    train = dataset.select_split(Split.TRAIN)
    counted = train.images.column("weight").to_numpy() > 0
    for attribute, labels in zip(dataset.attributes, train.label_array().T, strict=True):
        seen = np.bincount(labels[(labels >= 0) & counted], minlength=len(attribute.class_names))
        if missing := [name for name, count in zip(attribute.class_names, seen, strict=True) if not count]:
            raise TrainingError(
                f"{dataset.name}: no image of {attribute.name} {', '.join(missing)} in the train split; label some, or "
                "exclude the class with data.labels"
            )
    names = [attribute.name for attribute in dataset.attributes]
    for name in training.head_weights:
        if name not in names:
            hint = suggest_name(name, names)
            raise TrainingError(f"training.head_weights: {dataset.name} has no attribute {name!r}; {hint}")
    if training.threshold.metric is not GoalMetric.NONE and not any(a.positive for a in dataset.attributes):
        raise TrainingError(
            f"training.threshold: {dataset.name} has no attribute with a positive class; name one with "
            "data.labels.<attribute>.positive, or remove the threshold"
        )


def _backbone(training: LabelTraining, size: int) -> Backbone:
    from visionops.tasks.classification.loop import seeded

    with seeded(training.seed):
        return build_backbone(training, size)


def _identity(dataset: Dataset, plan: TrainingPlan, backbone: Backbone) -> str:
    """Return the data that must be equal for one training to resume another."""
    from visionops.tasks.classification.features import weights_digest

    identity = {
        "data": dataset.fingerprint(),
        "plan": plan.identity(),
        "weights": weights_digest(backbone.module),
        "torch": importlib.metadata.version("torch"),
        "timm": importlib.metadata.version("timm"),
    }
    return json.dumps(identity, sort_keys=True)


class _Training:
    """A training, from a backbone to a bundle."""

    def __init__(
        self,
        converted: ConvertedDataset,
        plan: TrainingPlan,
        training: LabelTraining,
        spec: PreprocessingSpec,
        backbone: Backbone,
        device: str,
        work: Path,
        log: TrainingLog,
    ) -> None:
        dataset = converted.dataset
        self._converted, self._dataset = converted, dataset
        self._plan, self._training, self._spec = plan, training, spec
        self._backbone, self._device, self._work, self._log = backbone, device, work, log
        self._train, self._val = dataset.select_split(Split.TRAIN), dataset.select_split(Split.VAL)
        self._heads = tuple(
            Head(name=a.name, class_names=a.class_names, positive=a.positive) for a in dataset.attributes
        )
        self._learned: dict[str, Any] = {}

    def run(self) -> ModelBundle:
        from visionops.tasks.classification.loop import learning_rate, seeded, train_network
        from visionops.tasks.classification.networks import LabelNetwork

        training = self._training
        with seeded(training.seed, 1):
            classes = [len(attribute.class_names) for attribute in self._dataset.attributes]
            network = LabelNetwork(self._backbone.module, self._backbone.width, classes, training.dropout)
        metric = task_for(training.task).metrics[0].name
        if training.learning is not Learning.SCRATCH:
            network.set_heads(self._solve_heads())
        if training.learning is not Learning.FROZEN:

            def report(epoch: int, figures: Mapping[str, float]) -> None:
                self._log.metrics({name: value for name, value in figures.items() if np.isfinite(value)}, epoch)
                self._log.progress(epoch, training.epochs, f"val {metric} {figures.get(f'val_{metric}', np.nan):.3f}")

            self._learned["best_epoch"] = train_network(
                network,
                self._train,
                self._val,
                training,
                self._spec,
                self._judge,
                metric,
                self._work / "run",
                self._device,
                report,
            )
            self._learned["learning_rate"] = learning_rate(training)
        bundle = self._seal(network)
        if training.learning is Learning.FROZEN:
            self._log.metrics({f"val_{name}": value for name, value in bundle.card.metrics.items()}, 1)
            self._log.progress(1, 1, f"val {metric} {bundle.card.metrics.get(metric, np.nan):.3f}")
        return bundle

    def _solve_heads(self) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        from visionops.tasks.classification.heads import fit_head

        training = self._training
        train, val = read_features(self._converted, self._backbone, training, self._spec)
        counts = self._train.images.column("weight").to_numpy().astype(np.float64)
        heads = []
        for column, attribute in enumerate(self._dataset.attributes):
            head = fit_head(
                (train, self._train.label_array()[:, column].astype(np.int64), counts),
                (val, self._val.label_array()[:, column].astype(np.int64)),
                len(attribute.class_names),
                balance=training.balance,
                l2=training.l2,
            )
            self._learned.setdefault("l2", {})[attribute.name] = head.l2
            heads.append((head.weight, head.bias))
        return heads

    def _judge(self, logits: npt.NDArray[np.float32]) -> dict[str, float]:
        return _figures(self._heads, logits, self._val.label_array())

    def _seal(self, network: Any) -> ModelBundle:
        """Export the network, and calibrate and measure the exported graph."""
        import torch

        from visionops.tasks.classification.export import export_graph

        with atomic_folder(self._work / "bundle", replace=True) as folder:
            export_graph(network, self._spec.width, folder / "model.onnx")
            settings = self._effective_settings()
            weights = {name: value.contiguous() for name, value in network.state_dict().items()}
            torch.save({"network": weights, "training": settings}, folder / "checkpoint.pt")
            card = BundleCard(
                task=self._plan.task,
                name=self._plan.name,
                architecture=self._training.model,
                class_names=self._dataset.all_class_names,
                heads=self._heads,
                preprocessing=self._spec,
                decode=Decode.LOGITS,
                precision=self._plan.serving.precision,
                data_fingerprint=self._dataset.fingerprint(),
                training=settings,
            )
            logits = self._served_logits(ModelBundle.create(folder, card))
            heads = _calibrated(self._heads, logits, self._val.label_array(), self._training)
            metrics = _figures(heads, logits, self._val.label_array())
            finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
            ModelBundle.create(folder, card.model_copy(update={"heads": heads, "metrics": finite}))
        return ModelBundle.load(self._work / "bundle")

    def _served_logits(self, bundle: ModelBundle) -> npt.NDArray[np.float32]:
        """Return (val images, sum of classes), float32, computed by the serving engine."""
        predictor = Predictor(bundle, self._plan.serving.engine)
        pairs = zip(self._val.paths(), self._val.column("key"), strict=True)
        return np.stack([predictor.infer(path.read_bytes(), where=key)[0].outputs[0][0] for path, key in pairs])

    def _effective_settings(self) -> dict[str, Any]:
        """Return the settings with an effect, without paths of this machine, and the values chosen during training."""
        training = self._training
        settings = training.model_dump(mode="json", exclude={*_SAID_ELSEWHERE, *training.idle_settings()})
        weights = training.weights if training.weights in {"auto", "none"} else Path(training.weights).name
        return settings | {"image_size": self._spec.width, "weights": weights, **self._learned}


def _figures(heads: Sequence[Head], logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> dict[str, float]:
    outcomes = []
    for column, (head, part) in enumerate(zip(heads, split_heads(heads, logits), strict=True)):
        probabilities = softmax(part / head.temperature)
        answers = np.array([Answer(head, row).class_id for row in probabilities], dtype=np.int64)
        truth = labels[:, column].astype(np.int64)
        outcomes.append(Outcome(head, truth, probabilities.astype(np.float64), answers))
    return {name: float(value[0]) for name, value in figures(outcomes, np.ones((1, len(labels)))).items()}


def _calibrated(
    heads: Sequence[Head],
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    training: LabelTraining,
) -> tuple[Head, ...]:
    done = []
    for column, (head, part) in enumerate(zip(heads, split_heads(heads, logits), strict=True)):
        known = np.flatnonzero(labels[:, column] >= 0)
        truth = labels[known, column].astype(np.int64)
        temperature = fit_temperature(part[known], truth) if training.calibrate else 1.0
        threshold = None
        if head.positive is not None and len(known):
            positive = head.class_names.index(head.positive)
            probabilities = softmax(part[known] / temperature)[:, positive]
            threshold = choose_threshold(probabilities, truth == positive, training.threshold, head.name)
        done.append(head.model_copy(update={"temperature": temperature, "threshold": threshold}))
    return tuple(done)

"""Train a whole network by epochs of gradient descent, with a checkpoint after each.

    run/state.pt       after each epoch: network, optimizer, scheduler, history, and the best network so far
    run/history.csv    a line for each epoch

The random numbers of an epoch depend only on the seed and the number of the epoch. So on a CPU, a training resumed
after an interruption gives the same result as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from visionops.data.dataset import Dataset
from visionops.errors import TrainingError
from visionops.inference.preprocessing import to_tensor
from visionops.inference.preprocessing_spec import PreprocessingSpec
from visionops.tasks.classification.augmentation import augment
from visionops.tasks.classification.heads import class_weights
from visionops.tasks.classification.networks import LabelNetwork
from visionops.tasks.classification.pixels import Canvases
from visionops.tasks.classification.settings import Balance, LabelTraining, Learning

__all__ = ["EpochReport", "learning_rate", "masked_loss", "seeded", "train_network"]

_LOG = logging.getLogger("visionops.training")
_PLATEAU_EPOCHS = 3

EpochReport = Callable[[int, Mapping[str, float]], None]
"""Function called with each epoch, from 1, and its figures; also for the epochs before an interruption."""

Judge = Callable[[npt.NDArray[np.float32]], Mapping[str, float]]
"""Function from logits (images, sum of classes) on val to figures."""


def learning_rate(training: LabelTraining) -> float:
    """Return the configured learning rate, or the default for the kind of learning."""
    return training.learning_rate or (0.0001 if training.learning is Learning.FINE_TUNE else 0.001)


@contextlib.contextmanager
def seeded(seed: int, *more: int) -> Iterator[None]:
    """Seed torch's random numbers while the block runs, and restore their state afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.SeedSequence([seed, *more]).generate_state(1, np.uint64)[0] >> 1))
        yield


def masked_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    of_class: list[torch.Tensor],
    of_head: torch.Tensor,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the cross entropy of all heads; unknown labels contribute nothing.

    Args:
        logits: (images, sum of classes).
        labels: Class ids (images, heads), -1 where unknown.
        weights: Weight of each image, (images,).
        of_class: For each head, weights of its classes, (classes,).
        of_head: Weight of each head, (heads,).

    Returns:
        Weighted mean over heads of the weighted mean over the images whose label is known.
    """
    parts = logits.split([len(w) for w in of_class], dim=1)
    total = logits.sum() * 0
    for column, (part, class_weight) in enumerate(zip(parts, of_class, strict=True)):
        known = weights * (labels[:, column] >= 0)
        target = labels[:, column].clamp(min=0)
        losses = nn.functional.cross_entropy(part, target, class_weight, reduction="none", label_smoothing=smoothing)
        total = total + of_head[column] * (losses * known).sum() / known.sum().clamp(min=torch.finfo(known.dtype).tiny)
    return total / of_head.sum()


@dataclasses.dataclass
class _State:
    """State that must survive an interruption."""

    epoch: int
    history: list[dict[str, float]]
    best: dict[str, Any]
    """Weights of the best epoch."""


def train_network(
    network: LabelNetwork,
    train: Dataset,
    val: Dataset,
    training: LabelTraining,
    spec: PreprocessingSpec,
    judge: Judge,
    metric: str,
    run: Path,
    device: str,
    report: EpochReport,
) -> int:
    """Train the network, and leave the weights of the best epoch in it.

    Args:
        metric: Figure of ``judge`` that selects the best epoch; ties go to the lower loss.
        run: Folder of `state.pt`; an existing one is resumed.

    Returns:
        The best epoch.

    Raises:
        TrainingError: The loss is not a number any more.
    """
    run.mkdir(parents=True, exist_ok=True)
    work = _Work(network, train, val, training, spec, device)
    state = work.resume(run / "state.pt")
    for row in state.history:
        report(int(row["epoch"]), _without_epoch(row))
    data = None
    while state.epoch < training.epochs and not _is_over(state.history, metric, training.patience):
        data = data or work.data()
        epoch = state.epoch + 1
        figures = work.epoch(epoch, data, judge)
        if _is_better(figures, state.history, metric):
            state.best = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        state.history.append({"epoch": float(epoch), **figures})
        state.epoch = epoch
        work.save(state, run / "state.pt")
        _write_history(state.history, run / "history.csv")
        report(epoch, figures)
    network.load_state_dict(state.best)
    network.to("cpu").eval()
    return _best(state.history, metric)


class _Work:
    """Network, optimizer and scheduler, with their inputs."""

    def __init__(
        self,
        network: LabelNetwork,
        train: Dataset,
        val: Dataset,
        training: LabelTraining,
        spec: PreprocessingSpec,
        device: str,
    ) -> None:
        self._train, self._val, self._training, self._spec, self._device = train, val, training, spec, device
        # twice as fast with many small convolutions, on a CPU as on a GPU
        self._network = network.to(device, memory_format=torch.channels_last)
        self._optimizer = _optimizer(network, training)
        self._scheduler = _scheduler(self._optimizer, training)
        self._labels = train.label_array().astype(np.int64)
        self._weights = train.images.column("weight").to_numpy().astype(np.float64)
        counts = [len(attribute.class_names) for attribute in train.attributes]
        self._balanced = [self._class_weights(column, count) for column, count in enumerate(counts)]
        is_weighted = training.balance is Balance.WEIGHTS
        self._of_class = [
            torch.tensor(w if is_weighted else np.ones_like(w), dtype=torch.float32, device=device)
            for w in self._balanced
        ]
        heads = [training.head_weights.get(attribute.name, 1.0) for attribute in train.attributes]
        self._of_head = torch.tensor(heads, dtype=torch.float32, device=device)

    def data(self) -> tuple[Canvases, Canvases]:
        """Return the canvases of train and val."""
        workers = self._training.workers
        return Canvases(self._train, self._spec, workers), Canvases(self._val, self._spec, workers)

    def resume(self, file: Path) -> _State:
        """Resume from ``file``, or start."""
        if file.is_file():
            try:
                saved = torch.load(file, map_location=self._device, weights_only=True)
                self._network.load_state_dict(saved["network"])
                self._optimizer.load_state_dict(saved["optimizer"])
                if self._scheduler is not None:
                    self._scheduler.load_state_dict(saved["scheduler"])
                _LOG.warning("training resumes after epoch %d, from %s", saved["epoch"], file)
                return _State(saved["epoch"], saved["history"], saved["best"])
            except Exception as error:  # a damaged file can raise any error
                raise TrainingError(
                    f"{file}: cannot resume from this checkpoint ({type(error).__name__}); delete it to restart"
                ) from error
        return _State(0, [], {})

    def save(self, state: _State, file: Path) -> None:
        """Write the state atomically."""
        content = dataclasses.asdict(state) | {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict() if self._scheduler is not None else None,
        }
        partial = file.with_suffix(".part")
        torch.save(content, partial)
        partial.replace(file)

    def epoch(self, number: int, data: tuple[Canvases, Canvases], judge: Judge) -> dict[str, float]:
        """Train on every image once, then evaluate on val."""
        random = np.random.default_rng([self._training.seed, number])
        with seeded(self._training.seed, number):
            loss = self._learn(data[0], random)
        if not math.isfinite(loss):
            rate = learning_rate(self._training)
            raise TrainingError(
                f"the training diverged in epoch {number} (the loss is {loss}); lower training.learning_rate (now "
                f"{rate:g})"
            )
        logits = self._logits(data[1])
        val_loss = self._val_loss(logits)
        rate = float(self._optimizer.param_groups[0]["lr"])
        if isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._scheduler.step(val_loss)
        elif self._scheduler is not None:
            self._scheduler.step()
        figures = {f"val_{name}": value for name, value in judge(logits).items()}
        return {"train_loss": loss, "val_loss": val_loss, "learning_rate": rate, **figures}

    def _learn(self, canvases: Canvases, random: np.random.Generator) -> float:
        settings, parameters = self._training, list(self._network.parameters())
        self._network.train()
        if settings.learning is Learning.FINE_TUNE:
            _keep_statistics(self._network)
        total = 0.0
        rows = self._draw(random)
        for part, batch in canvases.batches(rows, settings.batch):
            if len(part) == 1 and settings.batch > 1:
                continue  # skip a last batch of one image, whose own mean is no statistic
            inputs = self._tensor(augment(batch, settings.augmentation, random))
            logits, _ = self._network(inputs)
            loss = self._loss(logits, self._labels[part], self._weights[part], settings.label_smoothing)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if settings.gradient_clip:
                nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
            self._optimizer.step()
            total += float(loss.detach()) * len(part)
        return total / len(rows)

    def _draw(self, random: np.random.Generator) -> npt.NDArray[np.int64]:
        count = self._train.num_images
        if self._training.balance is not Balance.SAMPLER:
            return random.permutation(count)
        known = self._labels >= 0
        worth = np.stack([w[np.maximum(self._labels[:, i], 0)] for i, w in enumerate(self._balanced)], axis=1)
        chance = np.divide((worth * known).sum(axis=1), known.sum(axis=1), out=np.zeros(count), where=known.any(axis=1))
        return random.choice(count, size=count, p=chance / chance.sum())

    def _class_weights(self, column: int, count: int) -> npt.NDArray[np.float64]:
        rows = np.flatnonzero((self._labels[:, column] >= 0) & (self._weights > 0))
        return class_weights(self._labels[rows, column], self._weights[rows], count)

    def _loss(
        self,
        logits: torch.Tensor,
        labels: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
        smoothing: float = 0.0,
    ) -> torch.Tensor:
        truth = torch.from_numpy(labels).to(self._device)
        counts = torch.from_numpy(weights.astype(np.float32)).to(self._device)
        return masked_loss(logits, truth, counts, self._of_class, self._of_head, smoothing)

    def _tensor(self, canvases: npt.NDArray[np.uint8]) -> torch.Tensor:
        tensor = torch.from_numpy(to_tensor(canvases, self._spec))
        return tensor.to(self._device, memory_format=torch.channels_last)

    def _logits(self, canvases: Canvases) -> npt.NDArray[np.float32]:
        self._network.eval()
        rows = np.arange(self._val.num_images)
        with torch.inference_mode():
            parts = [self._network(self._tensor(batch))[0].cpu() for _, batch in canvases.batches(rows, 32)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def _val_loss(self, logits: npt.NDArray[np.float32]) -> float:
        labels = self._val.label_array().astype(np.int64)
        tensor = torch.from_numpy(logits).to(self._device)
        return float(self._loss(tensor, labels, np.ones(len(labels))))


def _keep_statistics(network: nn.Module) -> None:
    """Keep the pretrained backbone's normalization: it is more precise, and the heads were solved for its features."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _optimizer(network: LabelNetwork, training: LabelTraining) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": learning_rate(training), "weight_decay": training.weight_decay}
    if training.optimizer == "SGD":
        settings |= {"momentum": 0.9, "nesterov": True}
    kind = getattr(torch.optim, training.optimizer)
    optimizer: torch.optim.Optimizer = kind(network.parameters(), **settings)
    return optimizer


def _scheduler(optimizer: torch.optim.Optimizer, training: LabelTraining) -> Any:
    rate = learning_rate(training)
    if training.scheduler == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=1 / 3, patience=_PLATEAU_EPOCHS)
    if training.scheduler == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=training.epochs, eta_min=rate / 100)
    return None


def _rank(row: Mapping[str, float], metric: str) -> tuple[float, float]:
    value = row.get(f"val_{metric}", math.nan)
    return (value if math.isfinite(value) else -math.inf), -row["val_loss"]


def _is_better(figures: Mapping[str, float], history: list[dict[str, float]], metric: str) -> bool:
    return not history or _rank(figures, metric) > max(_rank(row, metric) for row in history)


def _best(history: list[dict[str, float]], metric: str) -> int:
    return int(max(history, key=lambda row: _rank(row, metric))["epoch"])


def _is_over(history: list[dict[str, float]], metric: str, patience: int) -> bool:
    return bool(patience and history) and int(history[-1]["epoch"]) - _best(history, metric) >= patience


def _without_epoch(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "epoch"}


def _write_history(history: list[dict[str, float]], file: Path) -> None:
    partial = file.with_suffix(f".{os.getpid()}")
    with partial.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, fieldnames=list(history[0]), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history)
    partial.replace(file)

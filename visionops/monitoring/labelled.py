"""Labelled traffic: which images a model has not seen, and how well it does on them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from visionops.config import Config
from visionops.data.additions import fit_classes
from visionops.data.dataset import Attribute, Dataset, Split
from visionops.data.findings import counted
from visionops.errors import BundleError
from visionops.inference.bundle import ModelBundle
from visionops.inference.bundle import Task as TaskKind
from visionops.monitoring.policy import Performance
from visionops.tasks.base import Task

__all__ = ["SEEN_FILE", "LabelledTraffic", "add_seen", "measure", "unseen"]

SEEN_FILE = "seen.parquet"
"""In a bundle: the SHA-256 of each labelled image that it was trained, selected or judged on, 32 bytes each."""
_SEEN = pa.schema([("sha256", pa.binary(32))])


class LabelledTraffic(BaseModel):
    """What people have said of images since the model was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    new_labels: int = 0
    """Images labelled since the last training."""
    performance: Performance | None = None
    """Of the champion, on those that it has not seen."""

    def explain(self) -> str:
        """One sentence."""
        count = f"{counted(self.new_labels, 'image')} labelled since the last training"
        seen = self.performance
        if seen is None:
            return count
        low, high = seen.interval
        return (
            f"{count}; {seen.metric} of the champion {seen.value:.3f} ({low:.3f} to {high:.3f}) on "
            f"{counted(seen.images, 'labelled image')} that it has not seen, {seen.at_test:.3f} on its test split"
        )


def add_seen(bundle: ModelBundle, dataset: Dataset) -> ModelBundle:
    """The bundle with `SEEN_FILE`; one that has it comes back as it is.

    Args:
        dataset: What it was trained on, with all splits.
    """
    if SEEN_FILE in bundle.card.files:
        return bundle
    pairs = zip(dataset.column("sha256"), dataset.column("split"), strict=True)
    hashes = sorted({bytes.fromhex(digest) for digest, split in pairs if split != Split.UNLABELLED.value})
    # Until the card names the file it is not there: a run that is killed here leaves a whole bundle.
    pq.write_table(pa.table([hashes], schema=_SEEN), bundle.folder / SEEN_FILE)
    ModelBundle.create(bundle.folder, bundle.card)
    return ModelBundle.load(bundle.folder)


def unseen(labelled: Dataset, bundle: ModelBundle) -> Dataset:
    """The images that are new to the model.

    Raises:
        BundleError: It does not say what it has seen, as a bundle of an earlier version.
    """
    if SEEN_FILE not in bundle.card.files:
        raise BundleError(f"{bundle.folder}: has no {SEEN_FILE} to tell new labels from old ones; train again")
    seen = set(pq.read_table(bundle.folder / SEEN_FILE, schema=_SEEN)["sha256"].to_pylist())
    hashes = labelled.column("sha256")
    return labelled.take([row for row, digest in enumerate(hashes) if bytes.fromhex(digest) not in seen])


def measure(task: Task, bundle: ModelBundle, labelled: Dataset, config: Config, at_test: float) -> Performance:
    """How well the model does on images that it has not seen, by the gate's metric.

    Args:
        labelled: At least one image; whatever their splits.
        at_test: The model's figure on its test split.

    Raises:
        MetricError: These images do not define the metric: nothing is on them, or one class alone.
        DataError: It has a class that the model does not know.
    """
    card = bundle.card
    attributes = [Attribute(head.name, head.class_names, head.positive) for head in card.heads]
    names = card.class_names if card.task is TaskKind.DETECTION else ()
    fitted = fit_classes(labelled, names, attributes)
    as_test = fitted.replace_column("split", [Split.TEST.value] * fitted.num_images)
    evaluation = task.evaluate(bundle, as_test, config, None)
    metric = config.gate.metric
    value = evaluation.metrics[metric]
    return Performance(
        metric=metric,
        value=value,
        interval=evaluation.intervals.get(metric, (value, value)),
        at_test=at_test,
        images=as_test.num_images,
    )

"""Convert a prepared data set for the trainer of its task."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from visionops.data.dataset import Dataset
from visionops.data.files import atomic_folder
from visionops.errors import TrainingError, VisionOpsError
from visionops.home import visionops_home
from visionops.tasks.conversion_plan import ConversionPlan
from visionops.tasks.converted import ConvertedDataset, Progress
from visionops.tasks.spec import task_for

__all__ = ["conversion_folder", "convert"]


def conversion_folder(dataset: Dataset, plan: ConversionPlan) -> Path:
    """Return the folder for the conversion before it becomes an artifact."""
    identity = f"{dataset.fingerprint()} {json.dumps(plan.model_dump(mode='json'), sort_keys=True)}"
    return visionops_home() / "conversion" / f"{dataset.name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def convert(
    dataset: Dataset, plan: ConversionPlan, folder: Path, progress: Progress = lambda _done, _total, _note: None
) -> ConvertedDataset:
    """Convert a data set for the trainer of its task.

    Args:
        dataset: Clean and split data; the images of train and val are on this machine.
        folder: Target folder, written atomically; an existing one is replaced.

    Raises:
        DataError: An image is missing or cannot be read, or the folder cannot be written.
        TrainingError: A split has no images, a setting is unknown to the trainer, or any other error stops it.
    """
    folder = folder.absolute()
    try:
        with atomic_folder(folder, replace=True) as temporary:
            converted = task_for(plan.task).convert(dataset, plan, temporary, progress)
    except VisionOpsError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise TrainingError(f"{dataset.name}: the conversion stopped: {type(error).__name__}: {text}") from error
    return converted.moved(folder)

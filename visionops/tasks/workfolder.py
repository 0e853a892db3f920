"""Shared parts of all trainings: checking splits, locking a work folder, and explaining errors in one line."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from visionops.data.dataset import Dataset, Split
from visionops.data.files import describe_os_error
from visionops.errors import BundleError, TrainingError, VisionOpsError
from visionops.inference.bundle import ModelBundle
from visionops.tasks.base import locked_folder
from visionops.tasks.training_settings import TrainingBase

__all__ = ["explained", "finished_bundle", "one_training_in", "require_splits"]

_LOCK = ".lock"
_IDENTITY = "training.json"
_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})


def require_splits(dataset: Dataset) -> None:
    """Check that there are images to train on, to select on and to test on.

    Raises:
        TrainingError: A split has no images.
    """
    counts = dataset.split_counts()
    for split in (Split.TRAIN, Split.VAL, Split.TEST):
        if not counts.get(split.value):
            raise TrainingError(f"{dataset.name}: the {split.value} split has no images; add some, or set data.split")


@contextlib.contextmanager
def one_training_in(work: Path, identity: str) -> Iterator[None]:
    """Lock ``work`` while the block runs, and remove leftovers of another training.

    Args:
        identity: Data that must be equal for one training to resume another.

    Raises:
        TrainingError: The same training is already running.
    """
    with locked_folder(work):
        note = work / _IDENTITY
        if note.is_file() and note.read_text(encoding="utf-8") != identity:
            _clear(work)
        note.write_text(identity, encoding="utf-8")
        yield


def _clear(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def finished_bundle(work: Path) -> ModelBundle | None:
    """Return the bundle that an earlier call completed, if any."""
    try:
        return ModelBundle.load(work / "bundle")
    except BundleError:
        return None


@contextlib.contextmanager
def explained(training: TrainingBase, work: Path, more: str = "") -> Iterator[None]:
    """Turn any error that stops a trainer into one line with a fix.

    Args:
        more: Place of the complete log, if any.

    Raises:
        TrainingError: Replaces every error that is not a `VisionOpsError`.
    """
    try:
        yield
    except VisionOpsError:
        raise
    except Exception as error:
        raise TrainingError(_explain(error, training, work, more)) from error


def _explain(error: Exception, training: TrainingBase, work: Path, more: str) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return f"{work}: cannot be written ({describe_os_error(error)}); free some space or set VISIONOPS_HOME"
    if isinstance(error, OSError) and error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return f"{work}: is not a folder ({describe_os_error(error)}); move the file that is in the way"
    if "PytorchStreamWriter" in text:
        return f"{work}: a checkpoint cannot be written (is the disk full?); free some space"
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        given = {name: getattr(training, name, None) for name in ("batch", "image_size")}
        size = f" at {given['image_size']} px" if given["image_size"] else ""
        return (
            f"the trainer ran out of memory with batch {given['batch']}{size}; lower "
            "training.batch or training.image_size"
        )
    if "NaN" in text:
        given_rate = getattr(training, "learning_rate", None)
        rate = f" (now {given_rate:g})" if given_rate else ""
        return f"the training diverged ({text}); lower training.learning_rate{rate}"
    return f"the trainer stopped: {type(error).__name__}: {text[:300]}{f' (more in {more})' if more else ''}"

"""What every training needs around it: its splits, a folder of its own, and one line for what stopped it."""

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
from visionops.tasks.base import alone_in
from visionops.tasks.training_settings import TrainingBase

__all__ = ["explained", "finished_bundle", "one_training_in", "require_splits"]

_LOCK = ".lock"
_IDENTITY = "training.json"
_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM})


def require_splits(dataset: Dataset) -> None:
    """See that there is something to learn from, to select by and to judge by.

    Raises:
        TrainingError: A split has no images.
    """
    counts = dataset.split_counts()
    for split in (Split.TRAIN, Split.VAL, Split.TEST):
        if not counts.get(split.value):
            raise TrainingError(
                f"{dataset.name}: the {split.value} split has no images; add some, or let data.split cut it"
            )


@contextlib.contextmanager
def one_training_in(work: Path, identity: str) -> Iterator[None]:
    """Hold ``work`` while the block runs; leftovers of another training are cleared.

    Args:
        identity: What two trainings share when one can go on where the other stopped.

    Raises:
        TrainingError: The same training runs already.
    """
    with alone_in(work):
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
    """What an earlier call left, if it came to its end."""
    try:
        return ModelBundle.load(work / "bundle")
    except BundleError:
        return None


@contextlib.contextmanager
def explained(training: TrainingBase, work: Path, more: str = "") -> Iterator[None]:
    """Whatever stops a trainer becomes one line with a mend.

    Args:
        more: Where the whole story is, if anywhere.

    Raises:
        TrainingError: Instead of what is no `VisionOpsError`.
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
        return f"{work}: is no folder ({describe_os_error(error)}); move what is in the way"
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

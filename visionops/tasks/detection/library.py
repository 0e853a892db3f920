"""Isolate Ultralytics: no telemetry, no look-ups, no installs, nothing on stdout, its files in our own folder."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionops.data.files import describe_os_error
from visionops.errors import TrainingError
from visionops.home import visionops_home
from visionops.inference.engines import available_cpus

__all__ = ["cpu_threads", "is_offline", "prepare_library", "quiet_library"]

_SETTINGS = {
    "sync": False,
    **dict.fromkeys(("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb"), False),
    "vscode_msg": False,
    "openvino_msg": False,
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FONTS = ("Arial.ttf", "Arial.Unicode.ttf")
_OFFLINE = os.environ.get("YOLO_OFFLINE", "")  # read before we set it ourselves below


def is_offline() -> bool:
    """Return whether the user set ``YOLO_OFFLINE``; then nothing is fetched."""
    return _OFFLINE.strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def prepare_library() -> None:
    """Import Ultralytics with all network access switched off. Cheap when called again.

    Raises:
        TrainingError: Its configuration folder cannot be written.
    """
    folder = visionops_home() / "ultralytics"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # read once, at its import
        os.environ.update(YOLO_OFFLINE="1", YOLO_AUTOINSTALL="0", YOLO_VERBOSE="0")
        os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
        threads = os.environ.get("OMP_NUM_THREADS")
        from ultralytics import utils

        if threads is None:  # Ultralytics sets it to 1, which would also limit the serving engine
            os.environ.pop("OMP_NUM_THREADS", None)
        utils.VERBOSE = False  # its progress bars write to stdout, and read this setting each time
        if any(utils.SETTINGS[key] != value for key, value in _SETTINGS.items()):
            utils.SETTINGS.update(_SETTINGS)
        _place_fonts(Path(utils.USER_CONFIG_DIR))
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot be written ({describe_os_error(error)}); set VISIONOPS_HOME to a folder that can"
        ) from error


def _place_fonts(folder: Path) -> None:
    """Copy its fonts, without which each data set costs a look-up on the network."""
    missing = [folder / name for name in _FONTS if not (folder / name).is_file()]
    if not missing:
        return
    import matplotlib

    source = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for target in missing:
        partial = target.with_suffix(f".{os.getpid()}")
        shutil.copyfile(source, partial)
        partial.replace(target)


def cpu_threads() -> int:
    """Return the number of threads to use. Ultralytics leaves one core idle, which halves the speed on two cores."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdigit() and int(chosen) > 0:
        return int(chosen)
    return available_cpus()


class _Forward(logging.Handler):
    """Forward the library's warnings to our own logger, in one line."""

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(_COLOUR.sub("", record.getMessage()).split())
        logging.getLogger("visionops.training").log(record.levelno, "%s", text)


class _Plain(logging.Formatter):
    """Format without the terminal colours that Ultralytics puts into its messages."""

    def format(self, record: logging.LogRecord) -> str:
        return _COLOUR.sub("", super().format(record))


@contextlib.contextmanager
def quiet_library(log_file: Path) -> Iterator[None]:
    """Redirect Ultralytics' output to ``log_file`` while the block runs; warnings also go to ``visionops.training``."""
    logger: Any = logging.getLogger("ultralytics")
    before = (list(logger.handlers), logger.level, logger.propagate)
    file = logging.FileHandler(log_file, encoding="utf-8")
    file.setLevel(logging.INFO)
    file.setFormatter(_Plain())
    forward = _Forward(level=logging.WARNING)
    logger.handlers, logger.propagate = [forward, file], False
    logger.setLevel(logging.INFO)
    try:
        yield
    except Exception:
        logger.info("the training stopped", exc_info=True)
        raise
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
        file.close()
